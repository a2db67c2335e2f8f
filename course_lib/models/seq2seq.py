"""The Transformer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762): encoder and decoder, for translation.

Shapes: B batch, S source length, T target length, N heads, H width of one head, D model width, V vocabulary.
"""

import dataclasses

import keras
from keras import ops

from course_lib.checkpoints.native import NativeFormat
from course_lib.layers.activations import activation_function
from course_lib.layers.positions import SinePositionEncoding, token_positions
from course_lib.layers.taps import inside
from course_lib.layers.transformer import TransformerStack
from course_lib.models.base import Backbone
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.validation import check_heads, check_rates, check_sizes, unpack


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """Everything that changes what a `Seq2Seq` computes. The defaults are those of the paper.

    Args:
        vocabulary_size: V, of source and target together.
        num_layers: number of blocks of the encoder, and of the decoder.
        num_heads: N.
        hidden_dim: D, an even number.
        intermediate_dim: width inside the feed-forward layers. Defaults to 4 D.
        dropout: fraction of the embeddings and of each sublayer's output dropped in training.
        attention_dropout: fraction of the attention weights dropped in training.
        activation: activation of the feed-forward layers, as in `course_lib.layers.activation_function`.
        norm_first: whether to normalise before the sublayers, and once more at the end of each stack.
        layer_norm_epsilon: added to the variance in every norm.
        max_wavelength: sets the longest wavelength of the sines, as in `SinePositionEncoding`.
        end_token_id: id of the token that ends a target, and that the decoder starts from. Defaults to V - 1.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), `num_heads` does not divide
            `hidden_dim`, `hidden_dim` is odd, the end token is not in the vocabulary, or the activation is unknown.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation: str = "relu"
    norm_first: bool = False
    layer_norm_epsilon: float = 1e-6
    max_wavelength: int = 10_000
    end_token_id: int | None = None

    def __post_init__(self):
        check_sizes(self, "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "max_wavelength")
        if self.intermediate_dim is None:
            object.__setattr__(self, "intermediate_dim", 4 * self.hidden_dim)
        if self.end_token_id is None:
            object.__setattr__(self, "end_token_id", self.vocabulary_size - 1)
        check_sizes(self, "intermediate_dim")
        check_rates(self, "dropout", "attention_dropout")
        check_heads(self.num_heads, self.hidden_dim)
        if self.hidden_dim % 2:
            raise ValueError(f"Expected an even hidden_dim, for pairs of sines and cosines; got {self.hidden_dim}.")
        if not 0 <= self.end_token_id < self.vocabulary_size:
            raise ValueError(f"Expected end_token_id in the vocabulary; got {self.end_token_id}.")
        activation_function(self.activation)


@keras.saving.register_keras_serializable("course_lib")
class Seq2Seq(Backbone):
    """The Transformer: the encoder reads the source, and the decoder attends to it while it reads the target.

    Source, target and output share one embedding table, which is multiplied by √D at the inputs (section 3.4).

    Args:
        config: a `Seq2SeqConfig`.
        tokenizer: the tokenizer whose ids the model reads and writes, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = Seq2SeqConfig
    tokenizer_class = BytePairTokenizer
    checkpoint_format = NativeFormat("course-seq2seq", Seq2SeqConfig)
    input_names = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids")
    hides_the_future = True  # whether later positions of a target are hidden

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(config, tokenizer, **kwargs)
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=config.hidden_dim**-0.5),
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.position_encoding = SinePositionEncoding(
            config.max_wavelength, dtype=self.dtype_policy, name="position_encoding"
        )
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy, name="dropout")
        self.encoder, self.decoder = (
            TransformerStack(
                config.num_layers,
                config.num_heads,
                config.intermediate_dim,
                cross_attention=name == "decoder",
                activation=config.activation,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                norm_first=config.norm_first,
                layer_norm_epsilon=config.layer_norm_epsilon,
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("encoder", "decoder")
        )

    def build_layers(self):
        """Creates every weight."""
        hidden = (None, None, self.config.hidden_dim)  # (B, T, D)
        self.token_embedding.build((None, None))
        for layer in (self.position_encoding, self.dropout, self.encoder, self.decoder):
            layer.build(hidden)

    def call(self, inputs, return_hidden_states=False, return_attention=False, tap=None, training=None):
        """Encodes sources, and decodes the target tokens that are known so far.

        Args:
            inputs: a dict of integers: `encoder_token_ids` (B, S); optionally `encoder_padding_mask` (B, S) (1 = a real
                token; 1 by default); and `decoder_token_ids` (B, T), the end token and then the target. Padding after a
                target needs no mask, since earlier positions do not see it.
            return_hidden_states: whether to return the hidden states.
            return_attention: whether to return the attention weights.
            tap: a function that sees and may replace activations, "encoder/block_0", "decoder/block_0" and so on; see
                `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            A dict of floats: `sequence_output` (B, T, D). On request, also tuples: `hidden_states` (B, T, D) and
            `encoder_hidden_states` (B, S, D), the embeddings first and then one entry per block; and `attention`
            (B, N, T, T), `cross_attention` (B, N, T, S) and `encoder_attention` (B, N, S, S), one entry per block.

        Raises:
            ValueError: if the inputs have unexpected names or shapes.
        """
        source_ids, source_mask, target_ids = self.input_names
        if not isinstance(inputs, dict) or not {source_ids, target_ids} <= inputs.keys() <= {*self.input_names}:
            got = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise ValueError(
                f"Expected a dict with {source_ids}, {target_ids} and optionally {source_mask}; got {got}."
            )
        source = {name.removeprefix("encoder_"): inputs[name] for name in (source_ids, source_mask) if name in inputs}
        asked = {"return_hidden_states": return_hidden_states, "return_attention": return_attention}
        encoded = self.encode(source, tap=inside(tap, "encoder"), training=training, **asked)
        outputs = self.decode(
            inputs["decoder_token_ids"],
            encoded.pop("sequence_output"),
            source.get("padding_mask"),
            tap=inside(tap, "decoder"),
            training=training,
            **asked,
        )
        return outputs | {f"encoder_{name}": states for name, states in encoded.items()}

    def embed(self, token_ids, positions=None, training=None):
        """Computes the input of a stack: the token embeddings times √D, plus the position encodings.

        Args:
            token_ids: integers (B, T).
            positions: integers (T,) or (B, T). Defaults to 0, …, T - 1.
            training: whether to apply dropout.

        Returns:
            Floats (B, T, D).
        """
        x = self.token_embedding(token_ids)
        x = self.position_encoding(x * ops.cast(self.config.hidden_dim**0.5, x.dtype), positions)
        return self.dropout(x, training=training)

    def encode(self, inputs, return_hidden_states=False, return_attention=False, tap=None, training=None):
        """Encodes sources.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, S) with `token_ids` and, optionally,
                `padding_mask`; or the token ids alone.
            return_hidden_states: as `TransformerStack` takes it.
            return_attention: as `TransformerStack` takes it.
            tap: as `TransformerStack` takes it.
            training: whether to apply dropout.

        Returns:
            A dict, as `TransformerStack` returns it.

        Raises:
            ValueError: if the inputs have unexpected names or shapes.
        """
        token_ids, padding_mask = unpack(inputs, "padding_mask")
        positions = None if padding_mask is None else token_positions(padding_mask)
        return self.encoder(
            self.embed(token_ids, positions, training),
            padding_mask=padding_mask,
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            tap=tap,
            training=training,
        )

    def decode(
        self,
        token_ids,
        source=None,
        source_padding_mask=None,
        cache=None,
        position=0,
        return_hidden_states=False,
        return_attention=False,
        tap=None,
        training=None,
    ):
        """Decodes targets, given the encoded sources.

        Args:
            token_ids: integers (B, T).
            source: floats (B, S, D), the output of the encoder. Not read if there is a cache.
            source_padding_mask: (B, S), nonzero where a source has a real token, or None.
            cache: keys and values of earlier positions and of the sources, as in `TransformerStack`.
            position: slot of the cache at which the T tokens are written, an integer or a scalar tensor.
            return_hidden_states: as `TransformerStack` takes it.
            return_attention: as `TransformerStack` takes it.
            tap: as `TransformerStack` takes it.
            training: whether to apply dropout.

        Returns:
            A dict, as `TransformerStack` returns it.

        Raises:
            ValueError: if the token ids do not have two axes.
        """
        unpack(token_ids)
        return self.decoder(
            self.embed(token_ids, ops.arange(ops.shape(token_ids)[1]) + position, training),
            source,
            use_causal_mask=self.hides_the_future or cache is not None,
            source_padding_mask=source_padding_mask,
            cache=cache,
            position=None if cache is None else position,
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            tap=tap,
            training=training,
        )
