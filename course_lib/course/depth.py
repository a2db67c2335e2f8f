"""Measures what depth does to a stack of blocks: similar positions, gradients, and learning; for chapter 03."""

import keras
import numpy as np
from keras import ops

SHAPE = (32, 16, 64)  # (B, T, D)


def measure(make, seed=0, rates=(1e-3, 3e-3), steps=30):
    """Measures an untrained stack, and how it learns to return its input.

    Args:
        make: function that makes the stack: a Keras model from floats (B, T, 64) to the same shape, with a list
            `sublayers`, in which attention and feed-forward layers take turns. The latter end in a dense layer.
        seed: seed of the weights and the inputs.
        rates: learning rates to try.
        steps: number of steps of Adam.

    Returns:
        A dict with `similarity`, the mean cosine between two positions of a text; `gradients`, for each block the norm
        of the gradient at the last kernel of its feed-forward layer; and `losses`, the mean squared error of each step
        with the better learning rate.
    """
    keras.utils.set_random_seed(seed)
    stack, x = make(), _inputs(seed)
    similarity = position_similarity(ops.convert_to_numpy(stack(x)))
    weights = stack.get_weights()
    gradients = _gradient_norms(stack, x)
    stack.compile(keras.optimizers.Adam(), "mse")
    stack.optimizer.build(stack.trainable_variables)
    curves = [_learn(stack, weights, rate, steps, seed) for rate in rates]
    losses = min(curves, key=lambda curve: np.mean(curve[-5:]))
    return {"similarity": similarity, "gradients": gradients, "losses": losses}


def position_similarity(x):
    """Computes the mean cosine between two different positions of a text.

    Args:
        x: floats (B, T, D).

    Returns:
        A number from -1 to 1.
    """
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    rows, length = x.shape[:2]
    return float((np.sum(x @ x.swapaxes(1, 2)) - rows * length) / (rows * length * (length - 1)))


def _inputs(seed):
    return np.random.default_rng(seed).normal(size=SHAPE).astype("float32")


def _gradient_norms(stack, x):
    """A step of plain gradient descent with a learning rate of 1 moves each weight by just its gradient."""
    kernels = [feed_forward.layers[-1].kernel for feed_forward in stack.sublayers[1::2]]
    before = [ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    stack.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)  # a single step is not worth a graph
    stack.train_on_batch(x, x)
    return [
        float(np.linalg.norm(ops.convert_to_numpy(kernel) - old)) for kernel, old in zip(kernels, before, strict=True)
    ]


def _learn(stack, weights, rate, steps, seed):
    stack.set_weights(weights)
    for variable in stack.optimizer.variables:
        variable.assign(ops.zeros(variable.shape, variable.dtype))
    stack.optimizer.learning_rate = rate
    losses = []
    for step in range(steps):
        x = _inputs([seed, step])
        stack.reset_metrics()
        losses.append(float(stack.train_on_batch(x, x)))
    return losses
