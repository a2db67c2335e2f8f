"""Activations by name: those of Keras, and two that published checkpoints use but Keras has no name for."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course_lib")
def gelu_approximate(x):
    """Computes GELU with tanh instead of the error function (Hendrycks & Gimpel, 2016).

    https://arxiv.org/abs/1606.08415, section 2.

    Args:
        x: floats of any shape.

    Returns:
        Floats of the same shape.
    """
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("course_lib")
def quick_gelu(x):
    """Computes x σ(1.702 x), the sigmoid approximation of GELU (same paper).

    Args:
        x: floats of any shape.

    Returns:
        Floats of the same shape.
    """
    return x * ops.sigmoid(1.702 * x)


def activation_function(identifier):
    """Finds an activation by its name.

    Args:
        identifier: a name that `keras.activations.get` knows, or "gelu_approximate" or "quick_gelu"; or a function, or
            its config.

    Returns:
        The function.

    Raises:
        ValueError: if there is no such activation.
    """
    ours = {"gelu_approximate": gelu_approximate, "quick_gelu": quick_gelu}
    return keras.activations.get(ours.get(identifier, identifier) if isinstance(identifier, str) else identifier)
