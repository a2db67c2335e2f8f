"""Pooling: turns the vectors of a text's tokens into one vector per text.

Shapes: B batch, T length, D model width.
"""

from keras import ops

POOLINGS = ("mean", "max", "first", "last", "pooled")


def pool(encoded, padding_mask, pooling):
    """Makes one vector per text from its tokens' vectors.

    Args:
        encoded: what a backbone returned: `sequence_output` (B, T, D) and, for "pooled", `pooled_output` (B, D).
        padding_mask: (B, T), nonzero at real tokens, or None if there is no padding.
        pooling: "mean" or "max" of the token vectors (per coordinate), the vector of the "first" or the "last" token,
            or the backbone's "pooled" output.

    Returns:
        Floats (B, D). For "mean" and "max", a text without tokens gets zeros.
    """
    if pooling == "pooled":
        return encoded["pooled_output"]
    x = encoded["sequence_output"]  # (B, T, D)
    if pooling == "first":
        return first_token(x, padding_mask)
    is_token = ops.ones(ops.shape(x)[:2], "bool") if padding_mask is None else ops.cast(padding_mask, "bool")
    if pooling == "last":
        places = ops.where(is_token, ops.arange(ops.shape(x)[1]), 0)  # (B, T)
        return ops.take_along_axis(x, ops.max(places, axis=1)[:, None, None], axis=1)[:, 0]
    is_token = ops.expand_dims(is_token, -1)  # (B, T, 1)
    if pooling == "max":
        highest = ops.max(ops.where(is_token, x, -float("inf")), axis=1)
        return ops.where(ops.any(is_token, axis=1), highest, 0.0)
    is_token = ops.cast(is_token, x.dtype)
    return ops.sum(x * is_token, axis=1) / ops.maximum(ops.sum(is_token, axis=1), 1)


def first_token(x, padding_mask):
    """Takes the vector of each text's first token. Padding may come before it.

    Args:
        x: floats (B, T, D).
        padding_mask: (B, T), nonzero at real tokens, or None if there is no padding.

    Returns:
        Floats (B, D).
    """
    if padding_mask is None:
        return x[:, 0]
    first = ops.argmax(ops.cast(ops.cast(padding_mask, "bool"), "int32"), axis=1)  # (B,)
    return ops.take_along_axis(x, first[:, None, None], axis=1)[:, 0]


def check_pooling(backbone, pooling):
    """Checks that a backbone supports a pooling.

    Args:
        backbone: a `Backbone`.
        pooling: as `pool` takes it.

    Raises:
        ValueError: if the pooling is unknown, or it is "pooled" and the backbone has no pooler.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"Expected a pooling of {POOLINGS}; got {pooling!r}.")
    if pooling == "pooled" and not getattr(backbone.config, "pooler", False):
        raise ValueError("Expected a backbone with a pooler for pooling='pooled'; this one has none.")
