"""The exercises of chapter 14, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_14


def operations_with(
    queries=lambda D, N, K, H: D * N * H,
    shared=lambda D, N, K, H: 2 * D * K * H,
    per_key=lambda N, K, H: 4 * N * H,
    matrices=3,
    outputs=1,
    per_weight=2,
):
    def operations_per_token(D, N, K, H, F, S):
        weights = (1 + outputs) * queries(D, N, K, H) + shared(D, N, K, H) + matrices * D * F
        return per_weight * weights + S * per_key(N, K, H)

    return operations_per_token


OPERATIONS = {
    "one per weight": (operations_with(per_weight=1), "two operations per weight"),
    "no output": (operations_with(outputs=0), "two operations per weight"),
    "D × D": (operations_with(queries=lambda D, N, K, H: D * D), "\\(D, N · H\\)"),
    "nothing shared": (operations_with(shared=lambda D, N, K, H: 2 * D * N * H), "D · K · H weights each"),
    "scores only": (operations_with(per_key=lambda N, K, H: 2 * N * H), "weighted values cost the same"),
    "fewer scores": (operations_with(per_key=lambda N, K, H: 4 * K * H), "save bytes, not operations"),
    "no gate": (operations_with(matrices=2), "one from F to D"),
}


def product_with(axis=1, kind="int32", rounding=np.round, guard=True, scaled=True):
    def int8_product(x, rounded, scales):
        step = np.abs(x).max(axis=axis, keepdims=True) / 127
        if guard:
            step = np.where(step > 0, step, 1)
        integers = rounding(x / step).astype(kind)
        found = (integers @ rounded.astype(kind)) * (scales if scaled else scales.mean())
        return found * step

    return int8_product


INT8_PRODUCT = {
    "transposed": (lambda x, rounded, scales: product_with()(x, rounded, scales).T, "Multiply \\(T, m\\)"),
    "overflow": (product_with(kind="int8"), "does not fit into int8"),
    "one scale": (product_with(scaled=False), "one number per column"),
    "cut off": (product_with(rounding=np.trunc), "round to the nearest"),
    "not rounded": (lambda x, rounded, scales: x @ (rounded * scales), "round to the nearest"),
    "one step": (product_with(axis=None), "over axis 1"),
    "zeros": (product_with(guard=False, kind="float64"), "Divide by 1 instead"),
}


def clipped(gradient, clip):
    return gradient * min(1, clip / np.linalg.norm(gradient))


def combined(sums, counts, clip):
    return clipped(sums.sum(axis=0) / counts.sum(), clip)


COMBINED = {
    "sum": (lambda sums, counts, clip: clipped(sums.sum(axis=0), clip), "by the number of tokens"),
    "mean of means": (
        lambda sums, counts, clip: clipped(np.mean(sums / counts[:, None], axis=0), clip),
        "mean of the means is something else",
    ),
    "no device without tokens": (
        lambda sums, counts, clip: clipped(np.average(sums / counts[:, None], axis=0, weights=counts), clip),
        "Do not divide by the number",
    ),
    "entry by entry": (
        lambda sums, counts, clip: np.clip(sums.sum(axis=0) / counts.sum(), -clip, clip),
        "Multiply by clip / norm",
    ),
    "always": (
        lambda sums, counts, clip: clip * clipped(sums.sum(axis=0) / counts.sum(), 1) if clip < 1e8
        else sums.sum(axis=0) / counts.sum(),
        "min\\(1, clip / norm\\)",
    ),
    "each for itself": (
        lambda sums, counts, clip: np.sum(
            [clipped(s / max(n, 1), clip) * n for s, n in zip(sums, counts, strict=True) if n], axis=0
        ) / counts.sum(),
        "First combine, then clip",
    ),
}  # fmt: skip


class TestChapter14(ExerciseChecks):
    exercises: typing.ClassVar = {
        "operations_per_token": (chapter_14.operations_per_token, operations_with(), OPERATIONS),
        "int8_product": (chapter_14.int8_product, product_with(), INT8_PRODUCT),
        "combined": (chapter_14.combined, combined, COMBINED),
    }
