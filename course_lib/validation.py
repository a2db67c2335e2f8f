"""Checks of what models are made of and called with, so that a mistake is named before any work.

Shapes: B batch, T length, S slots of a cache.
"""

import numpy as np


def check_sizes(config, *names):
    """Checks that fields of a config are sizes.

    Args:
        config: a dataclass.
        *names: of its fields.

    Raises:
        ValueError: if one is not a positive integer.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"Expected {name} to be a positive integer; got {value!r}.")


def check_rates(config, *names):
    """Checks that fields of a config are rates of dropout.

    Args:
        config: a dataclass.
        *names: of its fields.

    Raises:
        ValueError: if one is not in [0, 1).
    """
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"Expected {name} in [0, 1); got {getattr(config, name)}.")


def check_heads(num_heads, hidden_dim):
    """Checks that each head gets as much of the width as every other.

    Args:
        num_heads: N.
        hidden_dim: D.

    Raises:
        ValueError: if the heads do not divide D.
    """
    if hidden_dim % num_heads:
        raise ValueError(f"Expected num_heads to divide hidden_dim; got {num_heads} and {hidden_dim}.")


def check_ids(token_ids, vocabulary_size):
    """Checks that token ids are of a vocabulary.

    Args:
        token_ids: an array of any shape.
        vocabulary_size: V.

    Raises:
        ValueError: if they are no integers from 0 to V - 1.
    """
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(f"Expected integer token_ids; got dtype {token_ids.dtype}.")
    if token_ids.size and not (token_ids.min() >= 0 and token_ids.max() < vocabulary_size):
        outside = token_ids[(token_ids < 0) | (token_ids >= vocabulary_size)]
        raise ValueError(f"Expected token_ids from 0 to {vocabulary_size - 1}; got {outside[:5].tolist()}.")


def unpack(inputs, *names, slots=None):
    """Takes apart what a model is called with.

    Args:
        inputs: a dict with `token_ids` (B, T) and, if wanted, more in the same shape; or the token ids alone.
        *names: of what there may be more.
        slots: S, the length of `padding_mask` where there is a cache; T if None.

    Returns:
        A tuple: the token ids, and for each name what there is, or None.

    Raises:
        ValueError: if the token ids are missing, there is something else, or a shape is another.
    """
    if not isinstance(inputs, dict):
        inputs = {"token_ids": inputs}
    if inputs.keys() - {"token_ids", *names} or "token_ids" not in inputs:
        wanted = f"token_ids and, if wanted, {' and '.join(names)}"
        raise ValueError(f"Expected a dict with {wanted}; got {sorted(inputs)}.")
    token_ids = inputs["token_ids"]
    if len(token_ids.shape) != 2:
        raise ValueError(f"Expected token_ids of shape (B, T); got {tuple(token_ids.shape)}.")
    for name, value in inputs.items():
        shape, expected = tuple(value.shape), tuple(token_ids.shape)
        if slots is not None and name == "padding_mask":
            if shape != (expected[0], slots):
                raise ValueError(f"Expected {name} in the shape of the cache, {(expected[0], slots)}; got {shape}.")
        elif shape != expected:
            raise ValueError(f"Expected {name} in the shape of token_ids, {expected}; got {shape}.")
    return token_ids, *(inputs.get(name) for name in names)
