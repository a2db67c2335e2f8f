"""Position embeddings: each position has a vector, learned or made of sines, that is added to its token's embedding.

Shapes: B batch, T length, S slots of a cache, D model width.
"""

import keras
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
