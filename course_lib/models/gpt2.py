"""GPT-2 (Radford et al., 2019, https://github.com/openai/gpt-2): the decoder, and the language model on it.

Shapes: B batch, T length, N heads, H width of one head, D model width, V vocabulary.
"""

import dataclasses

import keras

from course_lib.checkpoints import openai
from course_lib.checkpoints.huggingface import gpt as huggingface
from course_lib.layers.activations import activation_function
from course_lib.layers.positions import PositionEmbedding
from course_lib.layers.transformer import TransformerStack
from course_lib.models.causal_lm import CausalLM
from course_lib.models.decoder import Decoder
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.validation import check_heads, check_positive, check_rates, check_sizes


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Everything that changes what a GPT-2 computes. The defaults are those of OpenAI's GPT-2.

    Args:
        vocabulary_size: V.
        num_layers: number of blocks of the decoder.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers. Defaults to 4 D.
        max_sequence_length: number of positions that have an embedding.
        embedding_dropout: fraction of the embeddings dropped in training.
        dropout: fraction of each sublayer's output dropped in training.
        attention_dropout: fraction of the attention weights dropped in training.
        activation: activation of the feed-forward layers, as in `course_lib.layers.activation_function`.
        layer_norm_epsilon: added to the variance in every norm.
        scale_attention: whether the scores are divided by √H.
        scale_attention_by_layer: whether they are also divided by the number of the layer, counted from 1.
        initializer_range: standard deviation of the initial weights.
        end_token_id: id of "<|endoftext|>", which separates texts. Defaults to V - 1. With -1 there is none.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), the epsilon is not positive,
            `num_heads` does not divide `hidden_dim`, or the activation is unknown.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int | None = None
    max_sequence_length: int = 1024
    embedding_dropout: float = 0.1
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu_approximate"
    layer_norm_epsilon: float = 1e-5
    scale_attention: bool = True
    scale_attention_by_layer: bool = False
    initializer_range: float = 0.02
    end_token_id: int | None = None

    def __post_init__(self):
        check_sizes(self, "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "max_sequence_length")
        if self.intermediate_dim is None:
            object.__setattr__(self, "intermediate_dim", 4 * self.hidden_dim)
        if self.end_token_id is None:
            object.__setattr__(self, "end_token_id", self.vocabulary_size - 1)
        check_sizes(self, "intermediate_dim")
        check_rates(self, "embedding_dropout", "dropout", "attention_dropout")
        check_positive(self, "layer_norm_epsilon")
        check_heads(self.num_heads, self.hidden_dim)
        activation_function(self.activation)

    @property
    def key_value_shape(self):
        """(N, H), the shape of the keys and of the values of a position."""
        return self.num_heads, self.hidden_dim // self.num_heads

    @property
    def attention_scales(self):
        """List with the factor of the attention scores in each layer."""
        scale = (self.hidden_dim // self.num_heads) ** -0.5 if self.scale_attention else 1.0
        return [scale / (layer + 1 if self.scale_attention_by_layer else 1) for layer in range(self.num_layers)]


@keras.saving.register_keras_serializable("course_lib")
class GPT2(Decoder):
    """The decoder: the sum of token and position embeddings, then Transformer blocks under a causal mask.

    Args:
        config: a `GPT2Config`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> gpt2 = GPT2.from_preset("hf://openai-community/gpt2")
        >>> gpt2(gpt2.tokenizer(["Hello, my dog is cute"]))["sequence_output"].shape
        (1, 6, 768)
    """

    config_class = GPT2Config
    tokenizer_class = BytePairTokenizer
    checkpoint_format = huggingface.GPT2
    other_formats = (openai.GPT2,)
    norm_first = True

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(config, tokenizer, **kwargs)
        initializer = keras.initializers.RandomNormal(stddev=config.initializer_range)
        residual_range = config.initializer_range
        if self.norm_first:
            residual_range /= (2 * config.num_layers) ** 0.5  # each layer adds to x twice
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            embeddings_initializer=initializer,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.position_embedding = PositionEmbedding(
            config.max_sequence_length, initializer.clone(), dtype=self.dtype_policy, name="position_embedding"
        )
        self.dropout = keras.layers.Dropout(config.embedding_dropout, dtype=self.dtype_policy, name="dropout")
        self.decoder = TransformerStack(
            config.num_layers,
            config.num_heads,
            config.intermediate_dim,
            activation=config.activation,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            norm_first=self.norm_first,
            layer_norm_epsilon=config.layer_norm_epsilon,
            kernel_initializer=initializer.clone(),
            output_initializer=keras.initializers.RandomNormal(stddev=residual_range),
            attention_scale=config.attention_scales,
            dtype=self.dtype_policy,
            name="decoder",
        )

    @classmethod
    def from_config(cls, config):
        """Makes the model that a config describes.

        Args:
            config: what `get_config` returned. Configs of version 0.1 also have `norm_first`. If it is false, they
                describe an `OpenAIGPT`, which was a `GPT2` in that version.

        Returns:
            A new model.
        """
        fields = dict(config["config"])
        if not fields.pop("norm_first", True):
            cls = keras.saving.get_registered_object("course_lib>OpenAIGPT")
        return cls(**config | {"config": cls.config_class(**fields)})

    def build_layers(self):
        """Creates every weight."""
        hidden = (None, None, self.config.hidden_dim)  # (B, T, D)
        self.token_embedding.build((None, None))
        for layer in (self.position_embedding, self.dropout, self.decoder):
            layer.build(hidden)

    def embed(self, token_ids, positions, training=None):
        """Adds the embeddings of tokens and positions.

        Args:
            token_ids: integers (B, T).
            positions: integers (T,) or (B, T).
            training: whether to apply dropout.

        Returns:
            Floats (B, T, D).

        Raises:
            ValueError: if T exceeds `max_sequence_length`.
        """
        x = self.position_embedding(self.token_embedding(token_ids), positions)
        return self.dropout(x, training=training)


@keras.saving.register_keras_serializable("course_lib")
class GPT2CausalLM(CausalLM):
    """GPT-2 as a language model. Its head is the transpose of the token embeddings.

    Args:
        backbone: a `GPT2`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> lm = GPT2CausalLM.from_preset("gpt-mini")
        >>> lm.generate("This film is", max_new_tokens=20, sampler="top_p", seed=0)
    """

    backbone_class = GPT2
    prompt_hint = 'GPT-2 begins a text with "<|endoftext|>".'

    @classmethod
    def from_config(cls, config):
        """Makes the model that a config describes.

        Args:
            config: what `get_config` returned, in this version or in 0.1, which saved an `OpenAIGPT` as a `GPT2`.

        Returns:
            A new model: an `OpenAIGPTCausalLM` if the backbone is an `OpenAIGPT`.
        """
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        if not backbone.norm_first:
            cls = keras.saving.get_registered_object("course_lib>OpenAIGPTCausalLM")
        return cls(**config | {"backbone": backbone})
