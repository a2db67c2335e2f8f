"""The exercises of chapter 02, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax

from course_lib import causal_mask, scaled_dot_product_attention
from course_lib.course.exercises import chapter_02


def with_axes(x):
    return x.reshape(*x.shape[:2], -1)


HEADS_FIRST = {
    "no transpose": (lambda x, n: x.reshape(*x.shape[:2], n, -1), "then move N before T"),
    "mixes": (lambda x, n: np.moveaxis(x.reshape(*x.shape[:2], n, -1), 2, 1)[:, ::-1] + 1, "nothing to mix"),
    "interleaved": (
        lambda x, n: x.reshape(*x.shape[:2], -1, n).transpose(0, 3, 1, 2),
        r"not \(H, N\)",
    ),
    "reshape alone": (lambda x, n: x.reshape(len(x), n, x.shape[1], -1), "then transpose"),
}


PARAMETERS = {
    "no output": (lambda d, n, v, bias: d * d + 2 * d * v, "projection of the output"),
    "for each head": (lambda d, n, v, bias: n * (2 * d * d + 2 * d * v + 4 * d * bias), "times narrower"),
    "no biases": (lambda d, n, v, bias: 2 * d * d + 2 * d * v, "output projection has a bias"),
    "one width": (lambda d, n, v, bias: 4 * d * d + 4 * d * bias, "take value_dim numbers to hidden_dim"),
    "queries from value": (lambda d, n, v, bias: d * d + 3 * d * v + 4 * d * bias, "queries and output stay"),
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


class TestChapter02(ExerciseChecks):
    exercises: typing.ClassVar = {
        "heads_first": (chapter_02.heads_first, lambda x, n: np.stack(np.split(x, n, axis=-1), axis=1), HEADS_FIRST),
        "parameters": (chapter_02.parameters, lambda d, n, v, bias: 2 * d * (d + v) + 4 * d * bias, PARAMETERS),
        "packed": (
            chapter_02.packed,
            lambda ids: same_document(ids) & np.asarray(causal_mask(ids.shape[1])),
            PACKED,
        ),
        "multi_query": (chapter_02.multi_query, multi_query_with(), MULTI_QUERY),
    }
