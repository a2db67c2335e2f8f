"""The exercises of chapter 02, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax

from course_lib import causal_mask, scaled_dot_product_attention
from course_lib.course.exercises import chapter_02


def with_axes(x):
    return x.reshape(*x.shape[:2], -1)


def without(heads, removed):
    return np.where(np.isin(np.arange(heads.shape[1]), removed)[:, None, None], 0.0, heads)


def joined(heads):
    return with_axes(heads.swapaxes(1, 2))


def in_place(heads, w_output, removed):
    heads[:, removed] = 0
    return joined(heads) @ w_output


def scaled_up(heads, w_output, removed):
    kept = heads.shape[1] - len(removed)
    return joined(without(heads, removed)) @ w_output * heads.shape[1] / max(kept, 1)


REMOVED = {
    "not multiplied": (lambda heads, w, removed: joined(without(heads, removed)), "a row for each of the"),
    "interleaved": (
        lambda heads, w, removed: with_axes(without(heads, removed).transpose(0, 2, 3, 1)) @ w,
        "are neighbours",
    ),
    "no transpose": (
        lambda heads, w, removed: without(heads, removed).reshape(len(heads), heads.shape[2], -1) @ w,
        "Transpose to",
    ),
    "scaled up": (scaled_up, "not scaled up"),
    "from 1": (lambda heads, w, removed: joined(without(heads, np.array(removed) - 1)) @ w, "start at 0"),
    "only the first": (lambda heads, w, removed: joined(without(heads, removed[:1])) @ w, "any number of heads"),
    "in place": (in_place, "Copy it first"),
}


def same_document(ids):
    return ids[:, None, :, None] == ids[:, None, None, :]


def past(ids):
    return np.tri(ids.shape[1], dtype=bool)


PACKED = {
    "no axis of heads": (lambda ids: same_document(ids)[:, 0] & past(ids), "the one of the heads"),
    "numbers": (lambda ids: (same_document(ids) & past(ids)).astype(int), "the one of the heads"),
    "inverted": (lambda ids: ~(same_document(ids) & past(ids)), "True stands where"),
    "causal only": (lambda ids: past(ids) & np.ones_like(same_document(ids)), "join them by and"),
    "or": (lambda ids: past(ids) | same_document(ids), "join them by and"),
    "not causal": (same_document, "what came before"),
    "neighbour": (
        lambda ids: same_document(ids) & past(ids) & ~np.tri(ids.shape[1], k=-2, dtype=bool),
        "not only the neighbour",
    ),
}


def multi_query_with(attend=softmax, merge=lambda x: with_axes(x.swapaxes(1, 2)), mean=False, scale=True):
    def multi_query(queries, key, value):
        queries = np.broadcast_to(queries.mean(axis=2, keepdims=True), queries.shape) if mean else queries
        scores = np.einsum("btnh,bsh->bnts", queries, key) * (queries.shape[-1] ** -0.5 if scale else 1)
        return merge(np.einsum("bnts,bsh->bnth", attend(scores), value))

    return multi_query


MULTI_QUERY = {
    "not merged": (multi_query_with(merge=lambda x: x.swapaxes(1, 2)), "Merge the heads"),
    "no axis": (lambda q, k, v: scaled_dot_product_attention(q.swapaxes(1, 2), k, v)[0], "insert one of length 1"),
    "over heads": (multi_query_with(lambda scores: softmax(scores, axis=1)), "last axis of the scores"),
    "no scale": (multi_query_with(scale=False), "square root of H"),
    "one query": (multi_query_with(mean=True), "its own query"),
    "merged without transpose": (
        multi_query_with(merge=lambda x: x.reshape(len(x), x.shape[2], -1)),
        "transposed to",
    ),
}


def moved_by(layer, x, mask):
    """What moves, as a learner measures it."""
    moved = np.zeros((x.shape[1], x.shape[1]), bool)
    for s in range(x.shape[1]):
        changed = x.copy()
        changed[:, s] += 1
        difference = np.abs(layer(changed, attention_mask=mask) - layer(x, attention_mask=mask))
        moved[:, s] = difference.max(axis=(0, 2)) > 1e-4
    return moved


def window(length, reach=1):
    return np.abs(np.subtract.outer(np.arange(length), np.arange(length))) <= reach


def backward(length):
    """Each position sees itself and the one before it."""
    return window(length) & np.tri(length, dtype=bool)


def with_mask(make, measure=moved_by):
    def mask_and_effect(layer, x):
        mask = make(x.shape[1])
        return mask, measure(layer, x, mask)

    return mask_and_effect


def skips_the_last(layer, x, mask):
    moved = moved_by(layer, x, mask)
    moved[-1] = mask[-1] if not moved.all() else True
    return moved


OWN_MASK = {
    "numbers": (with_mask(lambda length: window(length).astype(int)), "Return the mask and the measurement"),
    "no diagonal": (with_mask(lambda length: window(length) & ~np.eye(length, dtype=bool)), "Allow the diagonal"),
    "causal": (with_mask(lambda length: np.tri(length, dtype=bool)), "Forbid something else"),
    "one length": (with_mask(lambda length: window(6), lambda layer, x, mask: window(6)), "Take T from"),
    "transposed": (with_mask(backward, lambda *args: moved_by(*args).T), "write into column s"),
    "no mask": (with_mask(window, lambda layer, x, mask: moved_by(layer, x, None)), "call the layer with the mask"),
    "from the mask": (with_mask(window, lambda layer, x, mask: mask), "and not from the mask"),
    "not the last": (with_mask(window, skips_the_last), "Compare every output"),
}


class TestChapter02(ExerciseChecks):
    exercises: typing.ClassVar = {
        "removed": (
            chapter_02.removed,
            lambda heads, w, removed: joined(without(heads, removed)) @ w,
            REMOVED,
        ),
        "packed": (
            chapter_02.packed,
            lambda ids: same_document(ids) & np.asarray(causal_mask(ids.shape[1])),
            PACKED,
        ),
        "multi_query": (chapter_02.multi_query, multi_query_with(), MULTI_QUERY),
        "own_mask": (chapter_02.own_mask, with_mask(backward), OWN_MASK),
    }
