"""Attention masks: which keys each query may attend to. They are boolean, true where attention is allowed.

Shapes: B batch, T target (query) length, S source (key) length, N heads.
"""

import keras
from keras import ops


def causal_mask(target_length, source_length=None, position=None):
    """Makes the mask that hides later positions from each position.

    Target position t corresponds to source position `position` + t. By default the last target position corresponds to
    the last source position, as when the newest tokens of a sequence attend to everything so far.

    Args:
        target_length: T.
        source_length: S. Defaults to T.
        position: source position of target position 0, an integer or a scalar tensor. Defaults to S - T.

    Returns:
        Booleans (T, S).
    """
    source_length = target_length if source_length is None else source_length
    position = source_length - target_length if position is None else position
    return ops.arange(source_length)[None, :] <= ops.arange(0, target_length)[:, None] + position


def padding_mask(is_token):
    """Makes the mask that hides padding.

    Args:
        is_token: (B, S), nonzero where a row has a real token: the `padding_mask` that tokenizers return.

    Returns:
        Booleans (B, 1, 1, S): the same for every head and every query.

    Raises:
        ValueError: if `is_token` does not have two axes.
    """
    if len(is_token.shape) != 2:
        raise ValueError(f"Expected a padding mask of shape (B, S); got {tuple(is_token.shape)}.")
    return ops.expand_dims(ops.cast(is_token, "bool"), (1, 2))


def combine_masks(*masks):
    """Combines masks: the result allows only what every mask allows.

    Args:
        *masks: booleans that broadcast together, or None for "everything is allowed".

    Returns:
        Booleans, or None if no mask was given.

    Raises:
        ValueError: if a mask is not boolean.
    """
    combined = None
    for mask in masks:
        if mask is not None:
            combined = _boolean(mask) if combined is None else ops.logical_and(combined, _boolean(mask))
    return combined


def _boolean(mask):
    mask = ops.convert_to_tensor(mask)
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        raise ValueError(f"Expected a boolean mask, true where attention is allowed; got dtype {mask.dtype}.")
    return mask


def mask_of_scores(attention_mask, padding_mask, shape):
    """Combines the masks that `MultiHeadAttention` takes into one that broadcasts to the scores.

    Args:
        attention_mask: booleans (T, S), (B, T, S) or (B, N, T, S), with the same meaning as in
            `keras.layers.MultiHeadAttention`, or None. Axes may have length 1.
        padding_mask: (B, S), nonzero where the source has a real token, or None.
        shape: (B, N, T, S), the shape of the scores, with None for sizes that are not known yet.

    Returns:
        Booleans with four axes, or None.

    Raises:
        ValueError: if a mask has the wrong shape, or `attention_mask` is not boolean.
    """
    if attention_mask is not None:
        attention_mask = _boolean(attention_mask)
        axes = tuple(attention_mask.shape)
        if not _broadcasts(axes, {2: shape[2:], 3: (shape[0], *shape[2:]), 4: shape}.get(len(axes))):
            raise ValueError(
                f"Expected an attention_mask (T, S), (B, T, S) or (B, N, T, S) for scores of shape {shape}; got shape "
                f"{axes}. A mask (B, S) that is nonzero at real tokens is a padding_mask."
            )
        while len(attention_mask.shape) < 4:  # adds the axis of the heads, then that of the batch
            attention_mask = ops.expand_dims(attention_mask, -3)
    if padding_mask is None:
        return attention_mask
    if not _broadcasts(tuple(padding_mask.shape), (shape[0], shape[3])):
        raise ValueError(
            f"Expected a padding_mask (B, S) of shape {(shape[0], shape[3])}; got shape {tuple(padding_mask.shape)}."
        )
    return combine_masks(attention_mask, ops.expand_dims(ops.cast(padding_mask, "bool"), (1, 2)))


def _broadcasts(axes, expected):
    if expected is None or len(axes) != len(expected):
        return False
    known = [pair for pair in zip(axes, expected, strict=True) if all(isinstance(size, int) for size in pair)]
    return all(size in (1, other) for size, other in known)
