"""Checks on the configs and inputs of models, so that a mistake is reported before any work begins.

Shapes: B batch, T length, S slots of a cache.
"""

import numpy as np


def check_sizes(config, *names):
    """Checks that fields of a config are positive integers.

    Args:
        config: a dataclass.
        *names: names of the fields.

    Raises:
        ValueError: if a field is not a positive integer.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"Expected {name} to be a positive integer; got {value!r}.")


def check_rates(config, *names):
    """Checks that fields of a config are valid dropout rates.

    Args:
        config: a dataclass.
        *names: names of the fields.

    Raises:
        ValueError: if a field is not in [0, 1).
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(f"Expected {name} in [0, 1); got {value!r}.")


def check_positive(config, *names):
    """Checks that fields of a config are positive numbers.

    Args:
        config: a dataclass.
        *names: names of the fields.

    Raises:
        ValueError: if a field is no number, or not above 0.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"Expected {name} to be a positive number; got {value!r}.")


def check_heads(num_heads, hidden_dim):
    """Checks that the width divides evenly among the heads.

    Args:
        num_heads: N.
        hidden_dim: D.

    Raises:
        ValueError: if N does not divide D.
    """
    if hidden_dim % num_heads:
        raise ValueError(f"Expected num_heads to divide hidden_dim; got {num_heads} and {hidden_dim}.")


def check_ids(token_ids, vocabulary_size):
    """Checks that token ids are in the vocabulary.

    Args:
        token_ids: an array of any shape.
        vocabulary_size: V.

    Raises:
        ValueError: if they are not integers from 0 to V - 1.
    """
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(f"Expected integer token_ids; got dtype {token_ids.dtype}.")
    if token_ids.size and not (token_ids.min() >= 0 and token_ids.max() < vocabulary_size):
        outside = token_ids[(token_ids < 0) | (token_ids >= vocabulary_size)]
        raise ValueError(f"Expected token_ids from 0 to {vocabulary_size - 1}; got {outside[:5].tolist()}.")


def unpack(inputs, *names, slots=None):
    """Splits the inputs of a model into the token ids and the optional arrays.

    Args:
        inputs: a dict with `token_ids` (B, T) and, optionally, other arrays of that shape; or the token ids alone.
        *names: names of the optional arrays.
        slots: S, the length of `padding_mask` if there is a cache. With None it is T.

    Returns:
        A tuple: the token ids, then the array of each name, or None if it was not given.

    Raises:
        ValueError: if the token ids are missing, a name is not expected, or an array has the wrong shape.
    """
    if not isinstance(inputs, dict):
        inputs = {"token_ids": inputs}
    if inputs.keys() - {"token_ids", *names} or "token_ids" not in inputs:
        wanted = f"token_ids and, optionally, {' and '.join(names)}"
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
