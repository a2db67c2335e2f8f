"""GPT-2 (Radford et al., 2019, https://github.com/openai/gpt-2): a decoder, and the language model that it makes.

It serves the first GPT, too (Radford et al., 2018, https://openai.com/index/language-unsupervised/), whose norms stand
elsewhere.

Shapes: B batch, T length, S slots of the cache, N heads, H width of one head, D model width, V vocabulary.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from course_lib.activations import activation_function
from course_lib.attention import causal_mask, combine_masks, padding_mask
from course_lib.checkpoints import huggingface_gpt
from course_lib.checkpoints.format import Formats
from course_lib.generation import Generator
from course_lib.inputs import ChecksIds, check_heads, check_rates, check_sizes, unpack
from course_lib.positions import PositionEmbedding
from course_lib.preset import Preset
from course_lib.sampling import read_sampler
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.character_pair import CharacterPairTokenizer
from course_lib.text.prompts import GrowingText, is_seen, pad_rows, read_prompts, read_seed
from course_lib.transformer import Encoder


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Everything that changes what a GPT-2 computes; the defaults are those of OpenAI's GPT-2.

    Args:
        vocabulary_size: V.
        num_layers: blocks of the decoder.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers; 4 D if None.
        max_sequence_length: how many positions have an embedding.
        embedding_dropout: share of the embeddings dropped in training.
        dropout: share of each sublayer's output dropped in training.
        attention_dropout: share of the attention weights dropped in training.
        activation: in the feed-forward layers, as `course_lib.activations.activation_function` knows it.
        norm_first: whether the norms stand before the sublayers, with one more at the end; after them in the first GPT.
        layer_norm_epsilon: added to the variance in every norm.
        scale_attention: whether the products of queries and keys are divided by √H.
        scale_attention_by_layer: whether they are divided by the number of the layer, too, counted from 1.
        initializer_range: standard deviation of the initial weights.
        end_token_id: of "<|endoftext|>", which stands between texts; V - 1 if None, and -1 if there is no such token.

    Raises:
        ValueError: if a size is not a positive integer, a rate is not in [0, 1), the heads do not divide D, or the
            activation is unknown.
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
    norm_first: bool = True
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
        check_heads(self.num_heads, self.hidden_dim)
        activation_function(self.activation)

    @property
    def attention_scales(self):
        """What each layer's products of queries and keys are multiplied by, a list."""
        scale = (self.hidden_dim // self.num_heads) ** -0.5 if self.scale_attention else 1.0
        return [scale / (layer + 1 if self.scale_attention_by_layer else 1) for layer in range(self.num_layers)]


@keras.saving.register_keras_serializable("course_lib")
class GPT2(ChecksIds, Preset, keras.Model):
    """The decoder: token and position embeddings, and Transformer blocks under a causal mask.

    Args:
        config: a `GPT2Config`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Example:
        >>> gpt2 = GPT2.from_preset("hf://openai-community/gpt2")
        >>> gpt2(gpt2.tokenizer(["Hello, my dog is cute"]))["sequence_output"].shape
        (1, 6, 768)
    """

    checkpoint_format = Formats(huggingface_gpt.GPT2, huggingface_gpt.OPENAI_GPT)
    config_class = GPT2Config
    tokenizer_class = BytePairTokenizer

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.tokenizer = tokenizer
        initializer = keras.initializers.RandomNormal(stddev=config.initializer_range)
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
        residual_range = config.initializer_range
        if config.norm_first:
            residual_range /= (2 * config.num_layers) ** 0.5  # each layer adds to x twice
        self.decoder = Encoder(
            config.num_layers,
            config.num_heads,
            config.intermediate_dim,
            norm_first=config.norm_first,
            activation=config.activation,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            attention_scale=config.attention_scales,
            layer_norm_epsilon=config.layer_norm_epsilon,
            kernel_initializer=initializer.clone(),
            output_initializer=keras.initializers.RandomNormal(stddev=residual_range),
            dtype=self.dtype_policy,
            name="decoder",
        )

    @classmethod
    def tokenizer_class_of(cls, config):
        """The class of the tokenizers of GPT-2, or of the first GPT.

        Args:
            config: a `GPT2Config`.

        Returns:
            A class.
        """
        return cls.tokenizer_class if config.norm_first else CharacterPairTokenizer

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the config says it all.
        """
        if self.built:
            return
        shape = (None, None, self.config.hidden_dim)
        self.token_embedding.build()
        self.position_embedding.build(shape)
        self.decoder.build(shape)
        self.built = True

    def empty_cache(self, batch_size, slots):
        """A cache that holds nothing yet.

        Args:
            batch_size: B.
            slots: S, how many positions it has room for.

        Returns:
            A tuple of each block's keys and values, a pair of zeros (B, S, N, H).
        """
        config = self.config
        shape = (batch_size, slots, config.num_heads, config.hidden_dim // config.num_heads)
        return tuple(
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in range(config.num_layers)
        )

    def call(self, inputs, cache=None, position=0, return_hidden_states=False, return_attention=False, training=None):
        """Reads tokens, each in the light of those before it.

        Args:
            inputs: what the tokenizer returns: a dict of integers (B, T) with `token_ids` and, if it matters,
                `padding_mask` (1 = a token; default 1); or the token ids alone. With a cache, `padding_mask` is (B, S)
                and says which slots hold tokens, those read now included.
            cache: the keys and values of earlier tokens, from `empty_cache` or an earlier call.
            position: the slot of the cache into which the first of the T is written, an integer or a scalar tensor.
            return_hidden_states: whether `hidden_states` are returned.
            return_attention: whether `attention` is returned.
            training: whether to drop out.

        Returns:
            A dict of floats: `sequence_output` (B, T, D), after the last norm; on request `hidden_states`, a tuple of
            the embeddings and each block's output (B, T, D), and `attention`, a tuple of each block's weights
            (B, N, T, S), where S is T without a cache; with one, `cache`, the new one.

        Raises:
            ValueError: if the inputs are not as said, or T exceeds `max_sequence_length`.
        """
        slots = None if cache is None else cache[0][0].shape[1]
        token_ids, is_token = unpack(inputs, "padding_mask", slots=slots)
        length = ops.shape(token_ids)[1]
        x = self.token_embedding(token_ids)  # (B, T, D)
        if cache is None:
            x = self.position_embedding(x)
            mask = causal_mask(length)  # (T, T)
        else:
            x = self.position_embedding(x, position=_tokens_before(position, is_token))
            mask = causal_mask(length, slots, position)  # (T, S)
        return self.decoder(
            self.dropout(x, training=training),
            attention_mask=mask if is_token is None else combine_masks(mask, padding_mask(is_token)),
            cache=cache,
            position=None if cache is None else position,
            return_hidden_states=return_hidden_states,
            return_attention=return_attention,
            training=training,
        )


def _tokens_before(position, is_token):
    """How many tokens a row has before a slot: there may be padding between a prompt and what continues it."""
    if is_token is None:
        return position
    earlier = ops.arange(is_token.shape[1]) < position  # (S,)
    return ops.sum(ops.cast(is_token, "int32") * ops.cast(earlier, "int32"), axis=1, keepdims=True)  # (B, 1)


@keras.saving.register_keras_serializable("course_lib")
class GPT2CausalLM(ChecksIds, Preset, keras.Model):
    """GPT-2 with its head, which scores every token of the vocabulary as the next: the token embeddings themselves.

    Args:
        backbone: a `GPT2`.
        **kwargs: what every Keras model takes (`name`, `dtype`).
    """

    checkpoint_format = GPT2.checkpoint_format
    backbone_class = GPT2

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.generator = Generator(self.prefill, self.step, lambda: self.variables)

    @property
    def tokenizer(self):
        """The backbone's tokenizer, or None."""
        return self.backbone.tokenizer

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the backbone's config says it all.
        """
        self.backbone.build()
        self.built = True

    def call(self, inputs, training=None):
        """Scores the next token at each position.

        Args:
            inputs: the tokenizer's dict, as for `GPT2`, or the token ids alone.
            training: whether to drop out.

        Returns:
            A dict with `logits` (B, T, V); those at position t score the token at t + 1.
        """
        return {"logits": self.score(self.backbone(inputs, training=training)["sequence_output"])}

    def score(self, x):
        """The head: (…, D) → (…, V).

        Args:
            x: floats (…, D), of `sequence_output`.

        Returns:
            Logits (…, V).
        """
        return self.backbone.token_embedding(x, reverse=True)

    def generate(
        self,
        prompts,
        max_new_tokens=50,
        sampler=None,
        seed=None,
        stop=(),
        stream=False,
        ignore_end=False,
    ):
        """Continues texts. Prompts of any lengths share a batch; each gives what it gives alone.

        The first call for a number of prompts, a length (to the next power of two) and a kind of sampler compiles.

        Args:
            prompts: a string or a list of them; or token ids, or a list of lists of them.
            max_new_tokens: how many tokens there may be.
            sampler: a `Greedy` (the default), a `Sampler` such as `TopP(0.9)`, or a `BeamSearch`.
            seed: an integer of 0 or more: prompt i draws as it does alone with `seed` + i. If None, a new one is drawn
                from NumPy, so that `course_lib.reproducible` settles it.
            stop: a string or several; a text ends before the first of them. They may be of any number of tokens.
            stream: whether the pieces of one text are returned as they come.
            ignore_end: whether a text goes on after "<|endoftext|>".

        Returns:
            The continuation without the prompt, a string, or for a list of prompts a list; for token ids, token ids.
            With `stream`, an iterator over strings, which together are the continuation.

        Raises:
            ValueError: if a prompt is empty, or too long for the model with `max_new_tokens` more, or has a token id
                outside the vocabulary; if `max_new_tokens` is below 1, a string to stop at is empty, or the seed is
                negative; if several prompts, token ids or beams are to be streamed; or if the model's scores are not
                finite.

        Example:
            >>> lm.generate("Once upon a time", max_new_tokens=40, sampler=TopP(0.9, temperature=0.8), seed=0)
        """
        self.build()
        config, sampler = self.backbone.config, read_sampler(sampler)
        sizes, hint = (config.vocabulary_size, config.max_sequence_length), 'GPT-2 begins a text with "<|endoftext|>".'
        rows, are_texts, is_single = read_prompts(prompts, self.tokenizer, *sizes, max_new_tokens, hint)
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(stop) or (stop and not are_texts):
            raise ValueError(f"Expected strings to stop at, none of them empty, and prompts that are text; got {stop}.")
        has_beams = hasattr(sampler, "num_beams")
        if stream and not (is_single and are_texts and not has_beams):
            raise ValueError("Expected one prompt, a string, and a sampler without beams for a stream; got others.")
        batch = pad_rows(rows, config.max_sequence_length)
        places = -(-(batch["token_ids"].shape[1] + max_new_tokens) // 64) * 64  # few different numbers, too
        penalizes = getattr(sampler, "repetition_penalty", None) is not None
        texts = [GrowingText(self._decoder(row), stop) for row in rows] if are_texts else []
        looks = bool(stop) and not has_beams  # until all beams have ended, another may yet be the best
        runs = self.generator.run(
            batch,
            places,
            max_new_tokens,
            sampler,
            read_seed(seed),
            None if ignore_end else self._end_token_id,
            seen=is_seen(rows, config.vocabulary_size) if penalizes else None,
            every=1 if stream else 8 if looks else None,
            stopped=(lambda: np.array([text.is_stopped for text in texts])) if looks else None,
        )
        if stream:
            return texts[0].stream(runs)
        for new in runs:
            for text, ids in zip(texts, new, strict=False):
                text.update(ids)
        answers = [text.text for text in texts] if are_texts else new
        return answers[0] if is_single else answers

    @property
    def _end_token_id(self):
        return (self.tokenizer or self.backbone.config).end_token_id

    def _decoder(self, prompt):
        """From new token ids to what they add to the prompt's text."""
        start = len(self.tokenizer.decode(prompt))
        return lambda ids: self.tokenizer.decode(prompt + ids)[start:]

    def prefill(self, inputs, places):
        """Reads prompts, padded on the right, for a `course_lib.generation.Generator`.

        Args:
            inputs: a dict of integers (B, T), `token_ids` and `padding_mask`.
            places: S, the slots of the cache, at least T.

        Returns:
            Logits (B, V) of each row's next token; and a dict: `cache` with S slots, `is_token` (B, S), and `position`,
            a scalar, the slot of the next token.
        """
        batch_size, length = inputs["token_ids"].shape
        outputs = self.backbone(inputs, cache=self.backbone.empty_cache(batch_size, length))
        last = ops.sum(inputs["padding_mask"], axis=1)[:, None, None] - 1  # (B, 1, 1)
        x = ops.take_along_axis(outputs["sequence_output"], last, axis=1)[:, 0]  # (B, D)
        room = (0, places - length)
        return self.score(x), {
            "cache": keras.tree.map_structure(
                lambda array: ops.pad(array, ((0, 0), room, (0, 0), (0, 0))), outputs["cache"]
            ),
            "is_token": ops.pad(inputs["padding_mask"], ((0, 0), room)),
            "position": ops.full((), length, "int32"),
        }

    def step(self, token_ids, memory):
        """Reads one more token in each row.

        Args:
            token_ids: integers (B,).
            memory: what `prefill` or `step` returned.

        Returns:
            Logits (B, V) of the next token, and the new memory.
        """
        position, is_token = memory["position"], memory["is_token"]
        is_token = ops.where(ops.arange(is_token.shape[1]) == position, 1, is_token)
        inputs = {"token_ids": token_ids[:, None], "padding_mask": is_token}
        outputs = self.backbone(inputs, cache=memory["cache"], position=position)
        memory = {"cache": outputs["cache"], "is_token": is_token, "position": position + 1}
        return self.score(outputs["sequence_output"][:, 0]), memory
