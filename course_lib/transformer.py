"""The Transformer's parts (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3), and its encoder.

Shapes: B batch, T length, S source length, N heads, D model width.
"""

import keras
from keras import ops

from course_lib.attention import MultiHeadAttention


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
            position: where the first of the T stands, an integer or a scalar tensor.

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
        positions = ops.arange(ops.shape(x)[1]) + position  # (T,)
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


@keras.saving.register_keras_serializable("course_lib")
def gelu_approximate(x):
    """GELU with the tanh in place of the error function (Hendrycks & Gimpel, 2016, https://arxiv.org/abs/1606.08415).

    Args:
        x: floats of any shape.

    Returns:
        Floats of the same shape.
    """
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("course_lib")
def quick_gelu(x):
    """x σ(1.702 x), the sigmoid approximation of GELU (same paper).

    Args:
        x: floats of any shape.

    Returns:
        Floats of the same shape.
    """
    return x * ops.sigmoid(1.702 * x)


def activation_function(identifier):
    """The activation of a name: one of Keras's, "gelu_approximate" or "quick_gelu".

    Args:
        identifier: a name, a function, or what Keras serialised one to.

    Returns:
        The function.

    Raises:
        ValueError: if there is no such activation.
    """
    ours = {"gelu_approximate": gelu_approximate, "quick_gelu": quick_gelu}
    return keras.activations.get(ours.get(identifier, identifier) if isinstance(identifier, str) else identifier)


@keras.saving.register_keras_serializable("course_lib")
class FeedForward(keras.layers.Layer):
    r"""The same two dense layers at every position, $f(xW_1 + b_1)W_2 + b_2$: equation 2 of the paper.

    Args:
        intermediate_dim: width between the two.
        activation: f, as `activation_function` knows it.
        kernel_initializer: of both layers.
        **kwargs: what every Keras layer takes.
    """

    def __init__(self, intermediate_dim, activation="relu", kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.activation = activation_function(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        dense = {"dtype": self.dtype_policy}
        self.intermediate = keras.layers.Dense(
            self.intermediate_dim, kernel_initializer=self.kernel_initializer.clone(), name="intermediate", **dense
        )
        self.output_projection = keras.layers.Dense(
            input_shape[-1], kernel_initializer=self.kernel_initializer.clone(), name="output", **dense
        )
        self.intermediate.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.intermediate_dim))

    def call(self, x):
        """(B, T, D) → (B, T, D), each position by itself.

        Args:
            x: floats (B, T, D).

        Returns:
            (B, T, D).
        """
        return self.output_projection(self.activation(self.intermediate(x)))

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("course_lib")
class EncoderBlock(keras.layers.Layer):
    """Self-attention, then feed-forward, each with dropout, a residual connection and a layer norm.

    The paper and BERT put the norm after the sum, `norm(x + sublayer(x))`; GPT-2 and most models since put it before
    the sublayer, `x + sublayer(norm(x))` (Xiong et al., 2020, https://arxiv.org/abs/2002.04745).

    Args:
        num_heads: N.
        intermediate_dim: width inside the feed-forward layer.
        activation: inside the feed-forward layer, as `activation_function` knows it.
        dropout: share of each sublayer's output dropped in training.
        attention_dropout: share of the attention weights dropped in training.
        norm_first: whether the norms stand before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        kernel_initializer: of all dense layers.
        **kwargs: what every Keras layer takes.
    """

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.norm_first = norm_first
        common = {"dtype": self.dtype_policy}
        kernels = {"kernel_initializer": kernel_initializer, **common}
        self.attention = MultiHeadAttention(num_heads, dropout=attention_dropout, name="attention", **kernels)
        self.feed_forward = FeedForward(intermediate_dim, activation, name="feed_forward", **kernels)
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, name="attention_norm", **common
        )
        self.feed_forward_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, name="feed_forward_norm", **common
        )
        self.dropout = keras.layers.Dropout(dropout, name="dropout", **common)

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        for layer in (self.attention, self.feed_forward, self.attention_norm, self.feed_forward_norm):
            layer.build(input_shape)

    def call(self, x, attention_mask=None, return_attention=False, training=None):
        """Transforms each position in the light of the others.

        Args:
            x: floats (B, T, D).
            attention_mask: booleans that broadcast to (B, N, T, T), true where attention is allowed, or None.
            return_attention: whether the attention weights are returned.
            training: whether to drop out.

        Returns:
            (B, T, D); with `return_attention` also the weights (B, N, T, T).
        """
        attended = self.attention(
            self._enter(x, self.attention_norm),
            attention_mask=attention_mask,
            return_attention=return_attention,
            training=training,
        )
        attended, weights = attended if return_attention else (attended, None)
        x = self._leave(x, attended, self.attention_norm, training)
        x = self._leave(x, self.feed_forward(self._enter(x, self.feed_forward_norm)), self.feed_forward_norm, training)
        return (x, weights) if return_attention else x

    def _enter(self, x, norm):
        return norm(x) if self.norm_first else x

    def _leave(self, x, change, norm, training):
        x = x + self.dropout(change, training=training)
        return x if self.norm_first else norm(x)

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "num_heads": self.attention.num_heads,
            "intermediate_dim": self.feed_forward.intermediate_dim,
            "activation": keras.activations.serialize(self.feed_forward.activation),
            "dropout": self.dropout.rate,
            "attention_dropout": self.attention.dropout.rate,
            "norm_first": self.norm_first,
            "layer_norm_epsilon": self.attention_norm.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.attention.kernel_initializer),
        }


@keras.saving.register_keras_serializable("course_lib")
class Encoder(keras.layers.Layer):
    """A stack of encoder blocks; with the norms before the sublayers, one more norm closes it.

    Args:
        num_layers: how many blocks.
        num_heads: N.
        intermediate_dim: width inside the feed-forward layers.
        norm_first: whether the norms stand before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        name: of the layer.
        dtype: dtype or policy of the layer.
        **block: the other arguments of `EncoderBlock`.

    Raises:
        ValueError: if there is no block.
    """

    def __init__(
        self,
        num_layers,
        num_heads,
        intermediate_dim,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        name=None,
        dtype=None,
        **block,
    ):
        super().__init__(name=name, dtype=dtype, trainable=block.pop("trainable", True))
        if num_layers < 1:
            raise ValueError(f"Expected at least one block; got num_layers={num_layers}.")
        self.blocks = [
            EncoderBlock(
                num_heads,
                intermediate_dim,
                norm_first=norm_first,
                layer_norm_epsilon=layer_norm_epsilon,
                dtype=self.dtype_policy,
                name=f"block_{index}",
                **block,
            )
            for index in range(num_layers)
        ]
        self.norm = None
        if norm_first:
            self.norm = keras.layers.LayerNormalization(
                epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
            )

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        for layer in [*self.blocks, self.norm] if self.norm else self.blocks:
            layer.build(input_shape)

    def call(self, x, attention_mask=None, return_hidden_states=False, return_attention=False, training=None):
        """Runs the blocks one after another.

        Args:
            x: floats (B, T, D).
            attention_mask: booleans that broadcast to (B, N, T, T), true where attention is allowed, or None.
            return_hidden_states: whether `hidden_states` are returned.
            return_attention: whether `attention` is returned.
            training: whether to drop out.

        Returns:
            A dict with `sequence_output` (B, T, D); on request `hidden_states`, a tuple of the input and each block's
            output, and `attention`, a tuple of each block's weights (B, N, T, T).
        """
        hidden_states, attention = [x], []
        for block in self.blocks:
            x = block(x, attention_mask=attention_mask, return_attention=return_attention, training=training)
            if return_attention:
                x, weights = x
                attention.append(weights)
            hidden_states.append(x)
        outputs = {"sequence_output": self.norm(x) if self.norm else x}
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        if return_attention:
            outputs["attention"] = tuple(attention)
        return outputs

    def get_config(self):
        """The arguments of the constructor."""
        return self.blocks[0].get_config() | super().get_config() | {"num_layers": len(self.blocks)}
