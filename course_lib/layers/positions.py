"""How a Transformer learns where a token stands.

Position embeddings, learned or made of sines, are added to the tokens' embeddings. Rotary positions turn the queries
and the keys of every layer instead.

Shapes: B batch, T length, S slots of a cache, N heads, H width of one head, D model width.
"""

import math

import keras
import numpy as np
from keras import ops


def token_positions(padding_mask, length=None, position=0):
    """Numbers the real tokens of each row 0, 1, 2, …, so that padding does not shift any position.

    Args:
        padding_mask: (B, S), nonzero where a row has a real token.
        length: T, the number of positions to return. Defaults to all S.
        position: slot of the first of them, an integer or a scalar tensor.

    Returns:
        int32 (B, T). Padding before the first token gets position 0.
    """
    counted = ops.maximum(ops.cumsum(ops.cast(padding_mask, "int32"), axis=1) - 1, 0)  # (B, S)
    return counted if length is None else ops.take(counted, ops.arange(length) + position, axis=1)


@keras.saving.register_keras_serializable("course_lib")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector per position, as BERT and GPT-2 do.

    Args:
        max_sequence_length: number of positions that have a vector.
        embeddings_initializer: initializer of the vectors.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, max_sequence_length, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        self.max_sequence_length = max_sequence_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Creates the vectors.

        Args:
            input_shape: (B, T, D).
        """
        self.embeddings = self.add_weight(
            shape=(self.max_sequence_length, input_shape[-1]),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, x, positions=None):
        """Adds the vectors.

        Args:
            x: floats (B, T, D).
            positions: integers (T,) or (B, T). Defaults to 0, …, T - 1.

        Returns:
            Floats (B, T, D).

        Raises:
            ValueError: if T exceeds `max_sequence_length`.
        """
        length = x.shape[1]
        if isinstance(length, int) and length > self.max_sequence_length:  # on JAX, an unknown length is a symbol
            raise ValueError(
                f"Expected at most {self.max_sequence_length} tokens per row, as many as there are positions; got "
                f"{length}. Tokenize with max_length={self.max_sequence_length} to cut longer texts."
            )
        positions = ops.arange(ops.shape(x)[1]) if positions is None else positions
        return x + ops.take(ops.convert_to_tensor(self.embeddings), positions, axis=0)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output, which is that of the input.

        Args:
            input_shape: (B, T, D).
        """
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "max_sequence_length": self.max_sequence_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable("course_lib")
class SinePositionEncoding(keras.layers.Layer):
    r"""Adds fixed sines and cosines (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5).

    $P_{t,2i} = \sin(t / w^{2i/D})$ and $P_{t,2i+1} = \cos(t / w^{2i/D})$, where 2πw is the longest wavelength.

    Args:
        max_wavelength: w.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, max_wavelength=10_000, **kwargs):
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength
        self.supports_masking = True

    def build(self, input_shape):
        """Checks the width.

        Args:
            input_shape: (B, T, D).

        Raises:
            ValueError: if D is odd, since sines and cosines come in pairs.
        """
        if input_shape[-1] % 2:
            raise ValueError(f"Expected an even width D, for pairs of sines and cosines; got {input_shape[-1]}.")

    def call(self, x, positions=None):
        """Adds the encodings.

        Args:
            x: floats (B, T, D).
            positions: integers (T,) or (B, T). Defaults to 0, …, T - 1.

        Returns:
            Floats (B, T, D).
        """
        width = x.shape[-1]
        positions = ops.arange(ops.shape(x)[1]) if positions is None else positions
        frequencies = self.max_wavelength ** (-ops.arange(0, width, 2, dtype="float32") / width)  # (D / 2,)
        angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies  # (T, D / 2) or (B, T, D / 2)
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (..., T, D / 2, 2)
        return x + ops.cast(ops.reshape(pairs, (*ops.shape(angles)[:-1], width)), x.dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output, which is that of the input.

        Args:
            input_shape: (B, T, D).
        """
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"max_wavelength": self.max_wavelength}


def rotary_frequencies(width, base=10_000.0, scaling=None):
    r"""Computes by how much each pair of numbers turns from one position to the next: $\theta_i = b^{-2i/H}$.

    This is section 3.2.2 of RoFormer (Su et al., 2021, https://arxiv.org/abs/2104.09864).

    Args:
        width: H.
        base: b. The slowest pair turns once in about 2πb positions.
        scaling: how a model was adapted to texts longer than those it was trained on: a dict in the form of
            `rope_scaling` in Hugging Face's configs, or None. "linear" divides all frequencies by `factor` (Chen et
            al., 2023, https://arxiv.org/abs/2306.15595). "llama3" divides those of wavelengths above
            `original_max_position_embeddings / low_freq_factor` by `factor`, leaves those below
            `original_max_position_embeddings / high_freq_factor`, and interpolates between the two.

    Returns:
        float64 (H / 2,), in radians per position.

    Raises:
        ValueError: if H is odd, or the scaling is of another type or lacks an entry.
    """
    if width % 2:
        raise ValueError(f"Expected heads of an even width, since rotary positions turn pairs of numbers; got {width}.")
    frequencies = float(base) ** (-np.arange(0, width, 2) / width)
    if scaling is None:
        return frequencies
    kind = scaling.get("rope_type", scaling.get("type"))
    needed = {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    }.get(kind)
    if needed is None or not all(isinstance(scaling.get(name), int | float) for name in needed):
        raise ValueError(
            f'Expected rotary scaling of type "linear" with a factor, or of type "llama3" with four numbers; '
            f"got {dict(scaling)}."
        )
    if kind == "default":
        return frequencies
    slow = frequencies / scaling["factor"]
    if kind == "linear":
        return slow
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the trained length
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0, 1)
    return share * frequencies + (1 - share) * slow


@keras.saving.register_keras_serializable("course_lib")
class RotaryEmbedding(keras.layers.Layer):
    r"""Turns each pair of numbers in a query or a key by an angle that grows with the position.

    This is RoPE (Su et al., 2021, https://arxiv.org/abs/2104.09864, equation 34). The product of a turned query and a
    turned key depends on their positions only through the distance between them. There are two conventions for what a
    pair is. In the paper, neighbours are a pair: numbers 2i and 2i + 1. In Hugging Face's Llama and in GPT-NeoX, each
    number of the first half has its partner in the second: numbers i and i + H/2. The conventions differ only in the
    order of a head's numbers, so weights that are permuted from one to the other compute the same; weights that are
    not compute nonsense.

    Args:
        base: as in `rotary_frequencies`.
        scaling: as in `rotary_frequencies`.
        interleaved: whether neighbours are a pair, as in the paper.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, base=10_000.0, scaling=None, interleaved=False, **kwargs):
        super().__init__(**kwargs)
        self.base = base
        self.scaling = scaling
        self.interleaved = interleaved
        self.supports_masking = True

    def build(self, input_shape):
        """Computes the frequencies.

        Args:
            input_shape: (B, T, N, H).

        Raises:
            ValueError: if H is odd, or the scaling cannot be computed.
        """
        self.frequencies = rotary_frequencies(input_shape[-1], self.base, self.scaling).astype("float32")

    def call(self, x, positions=None):
        """Turns the pairs of every head.

        Args:
            x: floats (B, T, N, H).
            positions: integers (T,) or (B, T). Defaults to 0, …, T - 1.

        Returns:
            Floats (B, T, N, H).
        """
        positions = ops.arange(ops.shape(x)[1]) if positions is None else positions
        angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * self.frequencies  # (T, H/2) or (B, T, H/2)
        cosine, sine = (
            ops.cast(ops.expand_dims(part, -2), x.dtype) for part in (ops.cos(angles), ops.sin(angles))
        )  # the same for every head: (..., T, 1, H/2)
        half = x.shape[-1] // 2
        first, second = (x[..., 0::2], x[..., 1::2]) if self.interleaved else (x[..., :half], x[..., half:])
        turned = first * cosine - second * sine, second * cosine + first * sine
        if self.interleaved:
            return ops.reshape(ops.stack(turned, axis=-1), ops.shape(x))
        return ops.concatenate(turned, axis=-1)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the output, which is that of the input.

        Args:
            input_shape: (B, T, N, H).
        """
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"base": self.base, "scaling": self.scaling, "interleaved": self.interleaved}
