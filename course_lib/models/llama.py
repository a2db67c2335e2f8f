"""Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971): today's decoder, and the language model on it.

SmolLM2 (Ben Allal et al., 2025, https://arxiv.org/abs/2502.02737) is a Llama. Against GPT-2, positions are rotations,
norms do not subtract the mean, the feed-forward layer has a gate, several heads may share keys and values, and there
are no biases.

Shapes: B batch, T length, N heads, K key–value heads, H width of one head, D model width, V vocabulary.
"""

import dataclasses

import keras

from course_lib.checkpoints import gguf
from course_lib.checkpoints.huggingface import llama as huggingface
from course_lib.layers.activations import activation_function
from course_lib.layers.positions import RotaryEmbedding, rotary_frequencies
from course_lib.layers.transformer import TransformerStack
from course_lib.models.causal_lm import CausalLM
from course_lib.models.chat import Chat
from course_lib.models.decoder import Decoder
from course_lib.text.chat_tokenizer import ChatTokenizer
from course_lib.validation import check_heads, check_rates, check_sizes


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Everything that changes what a Llama computes. The defaults are those of Hugging Face's `LlamaConfig`.

    Args:
        vocabulary_size: V.
        num_layers: number of blocks of the decoder.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers.
        num_key_value_heads: K. Defaults to N.
        head_dim: H. Defaults to D / N.
        max_sequence_length: highest number of tokens per row.
        rotary_base: base of the rotary positions, as in `course_lib.layers.rotary_frequencies`.
        rotary_scaling: scaling of the rotary positions, as in `course_lib.layers.rotary_frequencies`, or None.
        activation: activation of the gates, as in `course_lib.layers.activation_function`.
        rms_norm_epsilon: added to the mean of the squares in every norm.
        tie_embeddings: whether the head is the transpose of the token embeddings.
        attention_dropout: fraction of the attention weights dropped in training.
        initializer_range: standard deviation of the initial weights.
        end_token_id: id of the token that ends a text, or -1 for none.
        stop_token_ids: ids of further tokens at which `generate` stops, such as the end of a turn.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), heads do not divide evenly, an id is
            not in the vocabulary, or the activation or the scaling is unknown.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_sequence_length: int = 2048
    rotary_base: float = 10_000.0
    rotary_scaling: dict | None = None
    activation: str = "silu"
    rms_norm_epsilon: float = 1e-6
    tie_embeddings: bool = False
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    end_token_id: int = 2
    stop_token_ids: tuple = ()

    def __post_init__(self):
        sizes = "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length"
        check_sizes(self, *sizes)
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_heads)
        if self.head_dim is None:
            check_heads(self.num_heads, self.hidden_dim)
            object.__setattr__(self, "head_dim", self.hidden_dim // self.num_heads)
        check_sizes(self, "num_key_value_heads", "head_dim")
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"Expected num_key_value_heads to divide num_heads; got {self.num_key_value_heads} and "
                f"{self.num_heads}."
            )
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        if not all(0 <= token < self.vocabulary_size for token in self.stop_token_ids):
            raise ValueError(f"Expected stop_token_ids in the vocabulary; got {self.stop_token_ids}.")
        check_rates(self, "attention_dropout")
        activation_function(self.activation)
        rotary_frequencies(self.head_dim, self.rotary_base, self.rotary_scaling)

    @property
    def key_value_shape(self):
        """(K, H), the shape of the keys and of the values of a position."""
        return self.num_key_value_heads, self.head_dim


@keras.saving.register_keras_serializable("course_lib")
class Llama(Decoder):
    """The decoder: token embeddings, then pre-norm Transformer blocks with rotary positions under a causal mask.

    Args:
        config: a `LlamaConfig`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = LlamaConfig
    tokenizer_class = ChatTokenizer
    checkpoint_format = huggingface.LLAMA
    other_formats = (gguf.LLAMA,)

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(config, tokenizer, **kwargs)
        initializer = keras.initializers.RandomNormal(stddev=config.initializer_range)
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            embeddings_initializer=initializer,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.decoder = TransformerStack(
            config.num_layers,
            config.num_heads,
            config.intermediate_dim,
            activation=config.activation,
            attention_dropout=config.attention_dropout,
            norm_first=True,
            layer_norm_epsilon=config.rms_norm_epsilon,
            kernel_initializer=initializer.clone(),
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            rotary=RotaryEmbedding(config.rotary_base, config.rotary_scaling, dtype=self.dtype_policy, name="rotary"),
            norm="rms",
            gated=True,
            use_bias=False,
            dtype=self.dtype_policy,
            name="decoder",
        )

    def build_layers(self):
        """Creates every weight."""
        self.token_embedding.build((None, None))
        self.decoder.build((None, None, self.config.hidden_dim))

    def embed(self, token_ids, positions, training=None):
        """Looks up the embeddings of tokens. Positions are for the attention layers.

        Args:
            token_ids: integers (B, T).
            positions: not used.
            training: not used.

        Returns:
            Floats (B, T, D).

        Raises:
            ValueError: if T exceeds `max_sequence_length`.
        """
        length, most = token_ids.shape[1], self.config.max_sequence_length
        if isinstance(length, int) and length > most:
            raise ValueError(
                f"Expected at most {most} tokens per row; got {length}. Tokenize with max_length={most} to cut longer "
                f"texts."
            )
        return self.token_embedding(token_ids)


@keras.saving.register_keras_serializable("course_lib")
class LlamaCausalLM(Chat, CausalLM):
    """Llama as a language model, and as a partner in a chat if its tokenizer has a chat template.

    Args:
        backbone: a `Llama`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> lm = LlamaCausalLM.from_preset("smollm2-135m-instruct")
        >>> lm.chat("What is the capital of Norway?")
        'The capital of Norway is Oslo.'
    """

    backbone_class = Llama

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.head = None
        if not self.config.tie_embeddings:
            self.head = keras.layers.Dense(
                self.config.vocabulary_size,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomNormal(stddev=self.config.initializer_range),
                dtype=self.dtype_policy,
                name="head",
            )

    def build_layers(self):
        """Creates every weight."""
        super().build_layers()
        if self.head:
            self.head.build((None, None, self.config.hidden_dim))

    def score(self, x):
        """Applies the head.

        Args:
            x: floats (..., D), from `sequence_output`.

        Returns:
            Logits (..., V).
        """
        return self.head(x) if self.head else super().score(x)
