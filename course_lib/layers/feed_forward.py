"""The Transformer's feed-forward layer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.3).

Shapes: B batch, T length, D model width.
"""

import keras

from course_lib.layers.activations import activation_function
from course_lib.layers.quantization import KeepsQuantization


@keras.saving.register_keras_serializable("course_lib")
class FeedForward(KeepsQuantization, keras.layers.Layer):
    r"""Applies the same two dense layers to every position: $f(xW_1 + b_1)W_2 + b_2$, equation 2 of the paper.

    With a gate, a third layer decides how much of each intermediate number passes: $(f(xG) \odot xW_1)\,W_2$ (Shazeer,
    2020, https://arxiv.org/abs/2002.05202, equations 5 and 6). It is called SwiGLU if f is the SiLU (also called
    Swish).

    Args:
        intermediate_dim: width between the layers.
        activation: f, in any form that `activation_function` takes.
        kernel_initializer: initializer of the kernels.
        output_initializer: initializer of the last layer's kernel. Defaults to `kernel_initializer`.
        gated: whether there is a gate.
        use_bias: whether the dense layers have biases.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        gated=False,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.activation = activation_function(activation)
        self.gated = gated
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        inside = (*input_shape[:-1], self.intermediate_dim)
        self.intermediate = self._dense("intermediate", self.intermediate_dim, input_shape)
        if self.gated:
            self.gate = self._dense("gate", self.intermediate_dim, input_shape)
        self.output_projection = self._dense("output", input_shape[-1], inside, self.output_initializer)

    def _dense(self, name, units, input_shape, initializer=None):
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=(initializer or self.kernel_initializer).clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def call(self, x):
        """Applies the layers to each position separately.

        Args:
            x: floats (B, T, D).

        Returns:
            Floats (B, T, D).
        """
        if self.gated:
            return self.output_projection(self.activation(self.gate(x)) * self.intermediate(x))
        return self.output_projection(self.activation(self.intermediate(x)))

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": self.output_initializer and keras.initializers.serialize(self.output_initializer),
            "gated": self.gated,
            "use_bias": self.use_bias,
        }
