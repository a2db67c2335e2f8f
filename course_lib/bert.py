"""BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805): the encoder, and the two heads that pre-train it.

Shapes: B batch, T length, N heads, D model width, V vocabulary, P predicted positions a row.
"""

import dataclasses

import keras
from keras import ops

from course_lib.activations import activation_function
from course_lib.attention import padding_mask
from course_lib.checkpoints import huggingface
from course_lib.inputs import ChecksIds, check_heads, check_rates, check_sizes, unpack
from course_lib.positions import PositionEmbedding
from course_lib.preset import Preset
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.transformer import Encoder


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Everything that changes what a BERT computes; the defaults are those of Google's BERT.

    Args:
        vocabulary_size: V.
        num_layers: blocks of the encoder.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers.
        max_sequence_length: how many positions have an embedding.
        num_segments: how many segments have an embedding.
        dropout: share of the embeddings and of each sublayer's output dropped in training.
        attention_dropout: share of the attention weights dropped in training.
        activation: in the feed-forward layers and the MLM head, as `course_lib.activations.activation_function`
            knows it.
        layer_norm_epsilon: added to the variance in every norm.
        initializer_range: standard deviation of the initial weights.
        pad_token_id: what the tokenizer pads with.
        pooler: whether there is a `pooled_output`, and with it a next-sentence head.
        tie_embeddings: whether the MLM head projects with the token embeddings themselves.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), the heads do not divide D, or the
            activation is unknown.
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
        check_heads(self.num_heads, self.hidden_dim)
        activation_function(self.activation)


@keras.saving.register_keras_serializable("course_lib")
class Bert(ChecksIds, Preset, keras.Model):
    """The encoder: token, position and segment embeddings, a norm, and Transformer blocks with the norm after.

    Args:
        config: a `BertConfig`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Example:
        >>> bert = Bert.from_preset("all-MiniLM-L6-v2")
        >>> bert(bert.tokenizer(["Hello, my dog is cute"]))["sequence_output"].shape
        (1, 8, 384)
    """

    checkpoint_format = huggingface.BERT
    config_class = BertConfig
    tokenizer_class = WordPieceTokenizer

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.tokenizer = tokenizer
        initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
        embedding = {"output_dim": config.hidden_dim, "dtype": self.dtype_policy}
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size, embeddings_initializer=initializer, name="token_embedding", **embedding
        )
        self.segment_embedding = keras.layers.Embedding(
            config.num_segments, embeddings_initializer=initializer.clone(), name="segment_embedding", **embedding
        )
        self.position_embedding = PositionEmbedding(
            config.max_sequence_length, initializer.clone(), dtype=self.dtype_policy, name="position_embedding"
        )
        self.embedding_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype=self.dtype_policy, name="embedding_norm"
        )
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy, name="dropout")
        self.encoder = Encoder(
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

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the config says it all.
        """
        if self.built:
            return
        shape = (None, None, self.config.hidden_dim)
        self.token_embedding.build()
        self.segment_embedding.build()
        for layer in (self.position_embedding, self.embedding_norm, self.encoder):
            layer.build(shape)
        if self.pooler:
            self.pooler.build((None, self.config.hidden_dim))
        self.built = True

    def call(self, inputs, return_hidden_states=False, return_attention=False, training=None):
        """Encodes.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, T) with `token_ids` and, if they matter,
                `segment_ids` (default 0) and `padding_mask` (1 = a token; default 1); or the token ids alone.
            return_hidden_states: whether `hidden_states` are returned.
            return_attention: whether `attention` is returned.
            training: whether to drop out.

        Returns:
            A dict of floats: `sequence_output` (B, T, D); `pooled_output` (B, D), a dense layer on the first token,
            where the config has a pooler; on request `hidden_states`, a tuple of the embeddings and each block's
            output (B, T, D), and `attention`, a tuple of each block's weights (B, N, T, T).

        Raises:
            ValueError: if the inputs are not as said, or T exceeds `max_sequence_length`.
        """
        token_ids, segment_ids, is_token = unpack(inputs, "segment_ids", "padding_mask")
        segment_ids = ops.zeros_like(token_ids) if segment_ids is None else segment_ids
        x = self.token_embedding(token_ids)  # (B, T, D)
        x = self.position_embedding(x + self.segment_embedding(segment_ids))
        x = self.dropout(self.embedding_norm(x), training=training)
        outputs = self.encoder(
            x,
            attention_mask=None if is_token is None else padding_mask(is_token),
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            training=training,
        )
        if self.pooler:
            outputs["pooled_output"] = self.pooler(outputs["sequence_output"][:, 0])
        return outputs


@keras.saving.register_keras_serializable("course_lib")
class MaskedLanguageModelHead(keras.layers.Layer):
    """Scores every token of the vocabulary at each position: dense layer, activation, norm, projection and bias.

    Args:
        vocabulary_size: V.
        token_embedding: the `keras.layers.ReversibleEmbedding` that projects, in reverse; None for a projection of
            the head's own.
        activation: after the dense layer, as `course_lib.activations.activation_function` knows it.
        layer_norm_epsilon: added to the variance.
        initializer_range: standard deviation of the initial weights.
        **kwargs: what every Keras layer takes.
    """

    def __init__(
        self,
        vocabulary_size,
        token_embedding=None,
        activation="gelu",
        layer_norm_epsilon=1e-12,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.token_embedding = token_embedding
        self.activation = activation_function(activation)
        self.initializer_range = initializer_range
        self.norm = keras.layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, P, D).
        """
        dense = {"dtype": self.dtype_policy}
        dense["kernel_initializer"] = initializer = keras.initializers.TruncatedNormal(stddev=self.initializer_range)
        self.dense = keras.layers.Dense(input_shape[-1], name="dense", **dense)
        self.dense.build(input_shape)
        self.norm.build(input_shape)
        if self.token_embedding is None:
            dense["kernel_initializer"] = initializer.clone()
            self.projection = keras.layers.Dense(self.vocabulary_size, use_bias=False, name="projection", **dense)
            self.projection.build(input_shape)
        self.bias = self.add_weight(shape=(self.vocabulary_size,), initializer="zeros", name="bias")

    def call(self, x):
        """(B, P, D) → (B, P, V).

        Args:
            x: floats (B, P, D).

        Returns:
            Logits (B, P, V).
        """
        x = self.norm(self.activation(self.dense(x)))
        x = self.projection(x) if self.token_embedding is None else self.token_embedding(x, reverse=True)
        return x + ops.cast(self.bias, x.dtype)

    def get_config(self):
        """The arguments of the constructor."""
        embedding = self.token_embedding
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "token_embedding": None if embedding is None else keras.saving.serialize_keras_object(embedding),
            "activation": keras.activations.serialize(self.activation),
            "layer_norm_epsilon": self.norm.epsilon,
            "initializer_range": self.initializer_range,
        }

    @classmethod
    def from_config(cls, config):
        """The layer of a config.

        Args:
            config: what `get_config` returned.

        Returns:
            A new layer.
        """
        embedding = config["token_embedding"]
        if embedding is not None:
            config = config | {"token_embedding": keras.saving.deserialize_keras_object(embedding)}
        return cls(**config)


@keras.saving.register_keras_serializable("course_lib")
class BertPretrainer(ChecksIds, Preset, keras.Model):
    """BERT with the heads of its two objectives, section 3.1 of the paper: masked tokens, and the next sentence.

    Args:
        backbone: a `Bert`. Without a pooler there is no next-sentence head.
        **kwargs: what every Keras model takes (`name`, `dtype`).
    """

    checkpoint_format = huggingface.BERT
    backbone_class = Bert

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        config = backbone.config
        self.masked_lm = MaskedLanguageModelHead(
            config.vocabulary_size,
            backbone.token_embedding if config.tie_embeddings else None,
            config.activation,
            config.layer_norm_epsilon,
            config.initializer_range,
            dtype=self.dtype_policy,
            name="masked_lm",
        )
        self.next_sentence = None
        if config.pooler:
            self.next_sentence = keras.layers.Dense(
                2,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
                dtype=self.dtype_policy,
                name="next_sentence",
            )

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the config says it all.
        """
        if self.built:
            return
        width = self.backbone.config.hidden_dim
        self.backbone.build()
        self.masked_lm.build((None, None, width))
        if self.next_sentence:
            self.next_sentence.build((None, width))
        self.built = True

    def call(self, inputs, training=None):
        """Scores masked tokens, and whether the second segment follows the first.

        Args:
            inputs: the tokenizer's dict, as for `Bert`; with `mask_positions`, integers (B, P), tokens are scored at
                these positions only, otherwise at all T.
            training: whether to drop out.

        Returns:
            A dict of floats: `mlm_logits` (B, P, V), or (B, T, V), and, with a pooler, `nsp_logits` (B, 2), whose
            column 0 stands for "the second segment follows the first" and column 1 for "it does not", as in Google's
            checkpoints.
        """
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        positions = inputs.pop("mask_positions", None)
        encoded = self.backbone(inputs, training=training)
        x = encoded["sequence_output"]  # (B, T, D)
        if positions is not None:
            x = ops.take_along_axis(x, ops.expand_dims(positions, -1), axis=1)  # (B, P, D)
        outputs = {"mlm_logits": self.masked_lm(x)}
        if self.next_sentence:
            outputs["nsp_logits"] = self.next_sentence(encoded["pooled_output"])
        return outputs
