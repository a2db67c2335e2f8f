"""The Transformer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762): encoder and decoder, for translation.

Shapes: B batch, S source length, T target length, N heads, H width of one head, D model width, V vocabulary.
"""

import dataclasses
import sys

import keras
import numpy as np
from keras import ops

from course_lib.activations import activation_function
from course_lib.attention import causal_mask, padding_mask
from course_lib.checkpoints.own import OwnFormat
from course_lib.decoder import Decoder
from course_lib.generation import Generator
from course_lib.inputs import check_heads, check_ids, check_rates, check_sizes, unpack
from course_lib.positions import SinePositionEncoding
from course_lib.preset import Preset
from course_lib.sampling import read_sampler
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.prompts import pad_rows, read_prompts, read_seed
from course_lib.transformer import Encoder

INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids")


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """Everything that changes what a `Seq2Seq` computes; the defaults are those of the paper.

    Args:
        vocabulary_size: V, of source and target together.
        num_layers: blocks of the encoder, and of the decoder.
        num_heads: N.
        hidden_dim: D, an even number.
        intermediate_dim: width inside the feed-forward layers; 4 D if None.
        dropout: share of the embeddings and of each sublayer's output dropped in training.
        attention_dropout: share of the attention weights dropped in training.
        activation: in the feed-forward layers, as `course_lib.activations.activation_function` knows it.
        norm_first: whether the norms stand before the sublayers, with one more at the end of each stack.
        layer_norm_epsilon: added to the variance in every norm.
        max_wavelength: of the sines, as in `SinePositionEncoding`.
        end_token_id: of the token that ends a target, and with which the decoder begins; V - 1 if None.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), the heads do not divide D, D is odd,
            the end token is not in the vocabulary, or the activation is unknown.
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
            raise ValueError(f"Expected an even hidden_dim, a sine and a cosine each; got {self.hidden_dim}.")
        if not 0 <= self.end_token_id < self.vocabulary_size:
            raise ValueError(f"Expected end_token_id in the vocabulary; got {self.end_token_id}.")
        activation_function(self.activation)


@keras.saving.register_keras_serializable("course_lib")
class Seq2Seq(Preset, keras.Model):
    """The Transformer: the encoder reads the source, and the decoder writes the target, with a look at it.

    Source, target and output share one table of embeddings, which is multiplied by √D on the way in (section 3.4).

    Args:
        config: a `Seq2SeqConfig`.
        tokenizer: the tokenizer whose ids the model reads and writes, or None.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Example:
        >>> model = Seq2Seq(Seq2SeqConfig(tokenizer.vocabulary_size, 2, 4, 128), tokenizer)
        >>> inputs, labels, weights = teacher_forcing(tokenizer, ["forty-two"], ["zweiundvierzig"])
        >>> model.compile("adam", **course_lib.objectives.seq2seq())
        >>> model.fit(inputs, labels, sample_weight=weights)
        >>> model.generate(["forty-two"])
        ['zweiundvierzig']
    """

    checkpoint_format = OwnFormat("course-seq2seq", Seq2SeqConfig)
    config_class = Seq2SeqConfig
    tokenizer_class = BytePairTokenizer

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.tokenizer = tokenizer
        common = {"dtype": self.dtype_policy}
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=config.hidden_dim**-0.5),
            name="token_embedding",
            **common,
        )
        self.position_encoding = SinePositionEncoding(config.max_wavelength, name="position_encoding", **common)
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout", **common)
        sizes = config.num_layers, config.num_heads, config.intermediate_dim
        stack = {
            "norm_first": config.norm_first,
            "activation": config.activation,
            "dropout": config.dropout,
            "attention_dropout": config.attention_dropout,
            "layer_norm_epsilon": config.layer_norm_epsilon,
            **common,
        }
        self.encoder = Encoder(*sizes, name="encoder", **stack)
        self.decoder = Decoder(*sizes, name="decoder", **stack)
        self.generator = Generator(self.prefill, self.step, lambda: self.variables)

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the config says it all.
        """
        if self.built:
            return
        shape = (None, None, self.config.hidden_dim)
        self.token_embedding.build()
        for layer in (self.position_encoding, self.encoder, self.decoder):
            layer.build(shape)
        self.built = True

    def __call__(self, inputs, *args, **kwargs):
        """Checks the token ids, where they are at hand as NumPy arrays, before they become tensors."""
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if name.endswith("token_ids") and isinstance(value, np.ndarray | list | tuple):
                check_ids(np.asarray(value), self.config.vocabulary_size)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, return_hidden_states=False, return_attention=False, training=None):
        """Scores each next token of the targets, given the sources and the tokens before it.

        Args:
            inputs: a dict of integers: `encoder_token_ids` (B, S); if it matters, `encoder_padding_mask` (B, S)
                (1 = a token; default 1); and `decoder_token_ids` (B, T), the end token and then the target. Padding
                behind a target needs no mask, since no earlier position sees it.
            return_hidden_states: whether the hidden states are returned.
            return_attention: whether the attention weights are returned.
            training: whether to drop out.

        Returns:
            A dict of floats: `logits` (B, T, V), where those at position t score the token at t + 1. With hidden states
            also `sequence_output` (B, T, D), whence the logits come, and as tuples, the embeddings first and then an
            entry for each block, `hidden_states` (B, T, D) and `encoder_hidden_states` (B, S, D). With attention, as
            tuples, `attention` (B, N, T, T), `cross_attention` (B, N, T, S) and `encoder_attention` (B, N, S, S).

        Raises:
            ValueError: if the inputs are not as said.
        """
        if not isinstance(inputs, dict) or not {*INPUTS[::2]} <= inputs.keys() <= {*INPUTS}:
            got = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise ValueError(f"Expected a dict with {INPUTS[0]}, {INPUTS[2]} and, if wanted, {INPUTS[1]}; got {got}.")
        source = {name.removeprefix("encoder_"): inputs[name] for name in INPUTS[:2] if name in inputs}
        asked = {"return_hidden_states": return_hidden_states, "return_attention": return_attention}
        encoded = self.encode(source, training=training, **asked)
        mask = _source_mask(source)
        outputs = self.decode(inputs["decoder_token_ids"], encoded.pop("sequence_output"), mask, training, **asked)
        if not return_hidden_states:
            del outputs["sequence_output"]  # Keras wants a target for each output in training
        return outputs | {f"encoder_{name}": states for name, states in encoded.items()}

    def embed(self, token_ids, position=0, training=None):
        """The embeddings times √D, and the positions added: what both stacks begin with.

        Args:
            token_ids: integers (B, T).
            position: where the first of the T stands.
            training: whether to drop out.

        Returns:
            (B, T, D).
        """
        x = self.token_embedding(token_ids)
        x = self.position_encoding(x * ops.cast(self.config.hidden_dim**0.5, x.dtype), position=position)
        return self.dropout(x, training=training)

    def encode(self, inputs, training=None, **asked):
        """Reads the sources.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, S) with `token_ids` and, if it matters,
                `padding_mask`; or the token ids alone.
            training: whether to drop out.
            **asked: `return_hidden_states` and `return_attention`, as `Encoder` takes them.

        Returns:
            A dict, as `Encoder` returns it.

        Raises:
            ValueError: if the inputs are not as said.
        """
        token_ids, _ = unpack(inputs, "padding_mask")
        return self.encoder(
            self.embed(token_ids, training=training), attention_mask=_source_mask(inputs), training=training, **asked
        )

    def decode(self, token_ids, source, source_mask=None, training=None, cache=None, position=0, **asked):
        """Scores each next token of the targets.

        Args:
            token_ids: integers (B, T).
            source: floats (B, S, D), what the encoder made of the sources; not read where there is a cache.
            source_mask: booleans that broadcast to (B, N, T, S), true where a source has a token, or None.
            training: whether to drop out.
            cache: of earlier positions and of the source, as in `Decoder`.
            position: where the first of the T stands, in the target and in the cache.
            **asked: `return_hidden_states` and `return_attention`, as `Decoder` takes them.

        Returns:
            A dict, as `Decoder` returns it, with `logits` (B, T, V).

        Raises:
            ValueError: if the token ids have not two axes.
        """
        unpack(token_ids)
        slots = None if cache is None else cache[0][0][0].shape[1]
        outputs = self.decoder(
            self.embed(token_ids, position, training=training),
            source,
            attention_mask=self.target_mask(ops.shape(token_ids)[1], slots, position),
            source_mask=source_mask,
            cache=cache,
            position=None if cache is None else position,
            training=training,
            **asked,
        )
        return outputs | {"logits": self.token_embedding(outputs["sequence_output"], reverse=True)}

    def target_mask(self, length, slots=None, position=0):
        """Which positions of a target the decoder sees at each: those so far.

        Args:
            length: T.
            slots: of the cache; None without one.
            position: where the first of the T stands.

        Returns:
            Booleans (T, T), or (T, slots) with a cache.
        """
        return causal_mask(length) if slots is None else causal_mask(length, slots, position)

    def generate(self, sources, max_new_tokens=50, sampler=None, seed=None):
        """Translates texts. Sources of any lengths share a batch; each gives what it gives alone.

        The first call for a number of sources, a length (to the next power of two) and a kind of sampler compiles.

        Args:
            sources: a string or a list of them; or token ids, or a list of lists of them.
            max_new_tokens: how many tokens a target may have.
            sampler: a `Greedy` (the default), a `Sampler` such as `TopP(0.9)`, or a `BeamSearch`.
            seed: an integer of 0 or more: source i draws as it does alone with `seed` + i. If None, a new one is drawn
                from NumPy, so that `course_lib.reproducible` settles it.

        Returns:
            A string, or for a list of sources a list; for token ids, token ids.

        Raises:
            ValueError: if a source is empty, or has a token id outside the vocabulary; if `max_new_tokens` is below 1,
                or the seed is negative; or if the model's scores are not finite.
        """
        self.build()
        config, sampler = self.config, read_sampler(sampler)
        sizes = config.vocabulary_size, sys.maxsize
        rows, are_texts, is_single = read_prompts(sources, self.tokenizer, *sizes, max_new_tokens)
        nothing = np.zeros((len(rows), config.vocabulary_size), bool)
        (targets,) = self.generator.run(
            pad_rows(rows, sys.maxsize),
            -(-max_new_tokens // 32) * 32,  # few different numbers
            max_new_tokens,
            sampler,
            read_seed(seed),
            self._end_token_id,
            seen=nothing if getattr(sampler, "repetition_penalty", None) is not None else None,
        )
        answers = [self.tokenizer.decode(target) for target in targets] if are_texts else targets
        return answers[0] if is_single else answers

    @property
    def _end_token_id(self):
        return (self.tokenizer or self.config).end_token_id

    def prefill(self, inputs, places):
        """Reads sources, padded on the right, for a `course_lib.generation.Generator`.

        Args:
            inputs: a dict of integers (B, S), `token_ids` and `padding_mask`.
            places: the slots of the cache: how many tokens a target may have.

        Returns:
            Logits (B, V) of each target's first token; and a dict: `cache`, `padding_mask`, and `position`, a scalar,
            the slot of the next token.
        """
        config, batch_size = self.config, inputs["token_ids"].shape[0]
        shape = batch_size, places, config.num_heads, config.hidden_dim // config.num_heads
        nothing = ops.zeros(shape, self.compute_dtype)
        of_source = self.decoder.read(self.encode(inputs)["sequence_output"])
        memory = {
            "cache": tuple(((nothing, nothing), pair) for pair in of_source),
            "padding_mask": ops.convert_to_tensor(inputs["padding_mask"]),
            "position": ops.zeros((), "int32"),
        }
        return self.step(ops.full((batch_size,), self._end_token_id, "int32"), memory)

    def step(self, token_ids, memory):
        """Writes one more token in each row.

        Args:
            token_ids: integers (B,), the tokens before.
            memory: what `prefill` or `step` returned.

        Returns:
            Logits (B, V) of the next token, and the new memory.
        """
        position = memory["position"]
        outputs = self.decode(
            token_ids[:, None], None, padding_mask(memory["padding_mask"]), cache=memory["cache"], position=position
        )
        return outputs["logits"][:, 0], memory | {"cache": outputs["cache"], "position": position + 1}


def _source_mask(inputs):
    is_token = inputs.get("padding_mask") if isinstance(inputs, dict) else None
    return None if is_token is None else padding_mask(is_token)


def teacher_forcing(tokenizer, sources, targets):
    """Pairs of texts as arrays to train a `Seq2Seq`: the decoder is given the right tokens so far, not its own.

    Args:
        tokenizer: a `BytePairTokenizer`, or another with `encode`, `end_token_id` and a call like its.
        sources: B strings.
        targets: B strings.

    Returns:
        Three dicts of arrays, for `fit`: the inputs of a `Seq2Seq`, whose `decoder_token_ids` (B, T) are the end token
        and then the target; `logits`, int32 (B, T), the target and then the end token; and `logits`, float32 (B, T),
        the weights, 0 where a row is padded. All rows are padded to the longest.

    Raises:
        ValueError: if there are more or fewer targets than sources, or none.
    """
    if len(sources) != len(targets):
        raise ValueError(f"Expected as many targets as sources, {len(sources)}; got {len(targets)}.")
    read, end = tokenizer(sources), tokenizer.end_token_id
    rows = [tokenizer.encode(target) for target in targets]
    labels = np.full((len(rows), max(map(len, rows)) + 1), end, "int32")
    weights = np.zeros(labels.shape, "float32")
    for index, row in enumerate(rows):
        labels[index, : len(row)] = row
        weights[index, : len(row) + 1] = 1
    before = np.concatenate([np.full((len(rows), 1), end, "int32"), labels[:, :-1]], axis=1)
    inputs = {
        "encoder_token_ids": read["token_ids"],
        "encoder_padding_mask": read["padding_mask"],
        "decoder_token_ids": before,
    }
    return inputs, {"logits": labels}, {"logits": weights}
