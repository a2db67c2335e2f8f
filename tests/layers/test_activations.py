"""Activations by name, against their formulas."""

import math

import numpy as np
import pytest
from layer_checks import same

from course_lib.layers.activations import activation_function


def test_each_activation_is_its_formula():
    x = np.linspace(-4, 4, 41)
    phi = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    formulas = {
        "gelu": x * phi,
        "gelu_approximate": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "relu": np.maximum(x, 0),
    }
    for name, expected in formulas.items():
        same(activation_function(name)(x.astype("float32")), expected, tolerance=2e-6)
    with pytest.raises(ValueError, match="gellu"):
        activation_function("gellu")
