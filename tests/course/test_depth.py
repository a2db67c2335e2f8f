"""What chapter 03 measures on stacks of blocks, on stacks whose answers are known."""

import keras
import numpy as np
import pytest

from course_lib.course import depth

pytestmark = pytest.mark.one_backend


class Stack(keras.Model):
    """Two blocks that change nothing: their feed-forward layers have zeros for kernels, and there is no attention."""

    share = 1.0

    def __init__(self):
        super().__init__()
        dense = [keras.layers.Dense(64, kernel_initializer="zeros") for _ in range(2)]
        self.sublayers = [
            keras.layers.Identity(),
            keras.Sequential(dense[:1]),
            keras.layers.Identity(),
            keras.Sequential(dense[1:]),
        ]

    def call(self, x):
        y = self.share * x
        for feed_forward in self.sublayers[1::2]:
            y = y + feed_forward(x)
        return y


def test_similarity_is_the_mean_cosine_of_two_positions():
    assert np.isclose(depth.position_similarity(np.ones((2, 3, 4))), 1)
    assert np.isclose(depth.position_similarity(np.eye(4)[None]), 0)
    assert np.isclose(depth.position_similarity(np.array([[[1.0, 0], [1, 0], [0, 1]]])), 1 / 3)


def test_a_stack_that_returns_its_input_has_nothing_to_learn():
    found = depth.measure(Stack, seed=1, rates=(1e-3,), steps=3)
    assert abs(found["similarity"]) < 0.02, "the positions are random"
    assert found["gradients"] == [0, 0] and found["losses"] == [0, 0, 0]


class Half(Stack):
    share = 0.5


def test_the_gradient_is_that_of_the_mean_squared_error():
    """With y = x / 2 + x W at W = 0 and the target x, the gradient at W is xᵀx over the number of entries, negative."""
    stack, x = Half(), depth._inputs(0)
    stack(x)
    flat = x.reshape(-1, 64)
    expected = np.linalg.norm(flat.T @ flat) / flat.size
    np.testing.assert_allclose(depth._gradient_norms(stack, x), [expected] * 2, rtol=1e-4)
