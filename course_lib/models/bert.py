"""BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805): the encoder.

Shapes: B batch, T length, N heads, D model width, V vocabulary.
"""

import dataclasses

import keras
from keras import ops

from course_lib.checkpoints import google_bert
from course_lib.checkpoints.files import read_json
from course_lib.checkpoints.huggingface import bert as huggingface
from course_lib.layers.activations import activation_function
from course_lib.layers.positions import PositionEmbedding, token_positions
from course_lib.layers.transformer import TransformerStack
from course_lib.models.base import Backbone
from course_lib.models.pooling import first_token
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.validation import check_heads, check_positive, check_rates, check_sizes, unpack


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Everything that changes what a BERT computes. The defaults are those of Google's BERT.

    Args:
        vocabulary_size: V.
        num_layers: number of blocks of the encoder.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers.
        max_sequence_length: number of positions that have an embedding.
        num_segments: number of segments that have an embedding.
        dropout: fraction of the embeddings and of each sublayer's output dropped in training.
        attention_dropout: fraction of the attention weights dropped in training.
        activation: activation of the feed-forward layers and the MLM head, as in
            `course_lib.layers.activation_function`.
        layer_norm_epsilon: added to the variance in every norm.
        initializer_range: standard deviation of the initial weights.
        pad_token_id: id of the tokenizer's padding token.
        pooler: whether the model has a `pooled_output`, and with it a next-sentence head.
        tie_embeddings: whether the MLM head uses the token embeddings as its output projection.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), the epsilon is not positive,
            `num_heads` does not divide `hidden_dim`, or the activation is unknown.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int = 512
    num_segments: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    pooler: bool = True
    tie_embeddings: bool = True

    def __post_init__(self):
        check_sizes(self, "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim")
        check_sizes(self, "max_sequence_length", "num_segments")
        check_rates(self, "dropout", "attention_dropout")
        check_positive(self, "layer_norm_epsilon")
        check_heads(self.num_heads, self.hidden_dim)
        activation_function(self.activation)


@keras.saving.register_keras_serializable("course_lib")
class Bert(Backbone):
    """The encoder: the sum of token, position and segment embeddings, then a norm, then Transformer blocks.

    Args:
        config: a `BertConfig`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> bert = Bert.from_preset("all-MiniLM-L6-v2")
        >>> bert(bert.tokenizer(["Hello, my dog is cute"]))["sequence_output"].shape
        (1, 8, 384)
    """

    config_class = BertConfig
    tokenizer_class = WordPieceTokenizer
    tokenizer_options = ("lowercase",)
    checkpoint_format = huggingface.BERT
    other_formats = (google_bert.BERT,)
    input_names = ("token_ids", "segment_ids", "padding_mask")
    has_next_sentence = True  # whether it was pre-trained for next-sentence prediction, so a pretrainer has that head

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(config, tokenizer, **kwargs)
        initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            embeddings_initializer=initializer,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.segment_embedding = keras.layers.Embedding(
            config.num_segments,
            config.hidden_dim,
            embeddings_initializer=initializer.clone(),
            dtype=self.dtype_policy,
            name="segment_embedding",
        )
        self.position_embedding = PositionEmbedding(
            config.max_sequence_length, initializer.clone(), dtype=self.dtype_policy, name="position_embedding"
        )
        self.embedding_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype=self.dtype_policy, name="embedding_norm"
        )
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy, name="dropout")
        self.encoder = TransformerStack(
            config.num_layers,
            config.num_heads,
            config.intermediate_dim,
            activation=config.activation,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            layer_norm_epsilon=config.layer_norm_epsilon,
            kernel_initializer=initializer.clone(),
            dtype=self.dtype_policy,
            name="encoder",
        )
        self.pooler = None
        if config.pooler:
            self.pooler = keras.layers.Dense(
                config.hidden_dim,
                activation="tanh",
                kernel_initializer=initializer.clone(),
                dtype=self.dtype_policy,
                name="pooler",
            )

    @classmethod
    def backbone_class_of(cls, folder):
        """Returns the class of the model in a preset: this one, or a subclass such as `Roberta`.

        Args:
            folder: path of the preset.
        """
        path = folder / "config.json"
        found = read_json(path).get("model_type") if path.is_file() else None
        if found in (None, cls.checkpoint_format.model_type):
            return cls
        return next((each for each in cls.__subclasses__() if each.checkpoint_format.model_type == found), cls)

    def build_layers(self):
        """Creates every weight."""
        hidden = (None, None, self.config.hidden_dim)  # (B, T, D)
        self.token_embedding.build((None, None))
        self.segment_embedding.build((None, None))
        for layer in (self.position_embedding, self.embedding_norm, self.dropout, self.encoder):
            layer.build(hidden)
        if self.pooler:
            self.pooler.build((None, self.config.hidden_dim))

    def call(self, inputs, return_hidden_states=False, return_attention=False, tap=None, training=None):
        """Encodes texts.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, T) with `token_ids` and, optionally,
                `segment_ids` (0 by default) and `padding_mask` (1 = a real token; 1 by default); or the token ids
                alone.
            return_hidden_states: whether to return `hidden_states`.
            return_attention: whether to return `attention`.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            A dict of floats: `sequence_output` (B, T, D) and, if the config has a pooler, `pooled_output` (B, D), a
            dense layer with tanh on the first token. On request, also `hidden_states`, a tuple of the embeddings and
            each block's output, each (B, T, D), and `attention`, a tuple of each block's weights (B, N, T, T).

        Raises:
            ValueError: if the inputs have unexpected names or shapes, or T exceeds `max_sequence_length`.
        """
        token_ids, segment_ids, padding_mask = unpack(inputs, *self.input_names[1:])
        segment_ids = ops.zeros_like(token_ids) if segment_ids is None else segment_ids
        positions = None if padding_mask is None else token_positions(padding_mask)
        x = self.token_embedding(token_ids) + self.segment_embedding(segment_ids)  # (B, T, D)
        x = self.embedding_norm(self.position_embedding(x, positions))
        outputs = self.encoder(
            self.dropout(x, training=training),
            padding_mask=padding_mask,
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            tap=tap,
            training=training,
        )
        if self.pooler:
            outputs["pooled_output"] = self.pooler(first_token(outputs["sequence_output"], padding_mask))
        return outputs

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs, for `summary`.

        Args:
            input_shape: (B, T).
        """
        pooled = {"pooled_output": (input_shape[0], self.config.hidden_dim)} if self.pooler else {}
        return super().compute_output_shape(input_shape) | pooled
