"""The Transformer's feed-forward layer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.3).

Shapes: B batch, T length, D model width.
"""

import keras

from course_lib.layers.activations import activation_function
from course_lib.layers.quantization import KeepsQuantization


@keras.saving.register_keras_serializable("course_lib")
class FeedForward(KeepsQuantization, keras.layers.Layer):
    r"""Applies the same two dense layers to every position: $f(xW_1 + b_1)W_2 + b_2$, equation 2 of the paper.

    Args:
        intermediate_dim: width between the two layers.
        activation: f, in any form that `activation_function` takes.
        kernel_initializer: initializer of both kernels.
        output_initializer: initializer of the second layer's kernel. Defaults to `kernel_initializer`.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.activation = activation_function(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        self.intermediate = keras.layers.Dense(
            self.intermediate_dim,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="intermediate",
        )
        self.output_projection = keras.layers.Dense(
            input_shape[-1],
            kernel_initializer=(self.output_initializer or self.kernel_initializer).clone(),
            dtype=self.dtype_policy,
            name="output",
        )
        self.intermediate.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.intermediate_dim))

    def call(self, x):
        """Applies both layers to each position separately.

        Args:
            x: floats (B, T, D).

        Returns:
            Floats (B, T, D).
        """
        return self.output_projection(self.activation(self.intermediate(x)))

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": self.output_initializer and keras.initializers.serialize(self.output_initializer),
        }
