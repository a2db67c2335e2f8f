"""Where a token stands: a vector for each position, learned or of sines, added to what stands there.

Shapes: B batch, T length, D model width.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course_lib")
class PositionEmbedding(keras.layers.Layer):
    """One learned vector a position, as in BERT and GPT-2, added to what stands there.

    Args:
        max_sequence_length: how many positions have a vector.
        embeddings_initializer: of the vectors.
        **kwargs: what every Keras layer takes.
    """

    def __init__(self, max_sequence_length, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        self.max_sequence_length = max_sequence_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

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

    def call(self, x, position=0):
        """Adds the positions' vectors.

        Args:
            x: floats (B, T, D).
            position: where the first of the T stands, an integer or a scalar tensor, or (B, 1), one a row.

        Returns:
            (B, T, D).

        Raises:
            ValueError: if T exceeds `max_sequence_length`.
        """
        length = x.shape[1]
        if isinstance(length, int) and length > self.max_sequence_length:  # a symbol on JAX where it is unknown
            raise ValueError(
                f"Expected at most {self.max_sequence_length} tokens a row, as many as there are positions; got "
                f"{length}. Tokenize with max_length={self.max_sequence_length} to cut longer texts."
            )
        positions = ops.arange(ops.shape(x)[1]) + position  # (T,) or (B, T)
        return x + ops.take(ops.convert_to_tensor(self.embeddings), positions, axis=0)

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "max_sequence_length": self.max_sequence_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable("course_lib")
class SinePositionEncoding(keras.layers.Layer):
    r"""Fixed sines and cosines, section 3.5 of the paper, added to what stands at each position.

    $P_{t,2i} = \sin(t / w^{2i/D})$ and $P_{t,2i+1} = \cos(t / w^{2i/D})$, with w the longest wavelength over 2π.

    Args:
        max_wavelength: w.
        **kwargs: what every Keras layer takes.
    """

    def __init__(self, max_wavelength=10_000, **kwargs):
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength

    def build(self, input_shape):
        """Checks the width.

        Args:
            input_shape: (B, T, D).

        Raises:
            ValueError: if D is odd, since sines and cosines come in pairs.
        """
        if input_shape[-1] % 2:
            raise ValueError(f"Expected an even width D, a sine and a cosine each; got {input_shape[-1]}.")

    def call(self, x, position=0):
        """Adds the encodings.

        Args:
            x: floats (B, T, D).
            position: where the first of the T stands, an integer or a scalar tensor.

        Returns:
            (B, T, D).
        """
        length, width = ops.shape(x)[1], x.shape[-1]
        positions = ops.cast(ops.arange(length) + position, "float32")[:, None]  # (T, 1)
        frequencies = self.max_wavelength ** (-ops.arange(0, width, 2, dtype="float32") / width)  # (D / 2,)
        angles = positions * frequencies  # (T, D / 2)
        encodings = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (T, D / 2, 2)
        return x + ops.cast(ops.reshape(encodings, (length, width)), x.dtype)

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"max_wavelength": self.max_wavelength}
