"""The exercises of chapter 13, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax

from course_lib.course.exercises import chapter_13


def rotate_with(
    angles=lambda positions, frequencies: positions[:, None] * frequencies,
    split=lambda x: np.split(x, 2, axis=1),
    sign=1,
    join=lambda first, second: np.concatenate([first, second], axis=1),
):
    def rotate(x, positions, frequencies):
        first, second = split(x)
        turns = angles(positions, frequencies)
        cosine, sine = np.cos(turns), sign * np.sin(turns)
        return join(first * cosine - second * sine, second * cosine + first * sine)

    return rotate


def without_second_half(x, positions, frequencies):
    turns = positions[:, None] * np.tile(frequencies, 2)
    return x * np.cos(turns)


ROTATE = {
    "half of it": (rotate_with(join=lambda first, second: first), "At position 0 every angle is 0"),
    "from one": (rotate_with(lambda t, f: (t[:, None] + 1) * f), "At position 0 every angle is 0"),
    "cosine only": (without_second_half, "becomes"),
    "neighbours": (
        rotate_with(
            split=lambda x: (x[:, ::2], x[:, 1::2]),
            join=lambda first, second: np.stack([first, second], axis=2).reshape(len(first), -1),
        ),
        "Split x into",
    ),
    "clockwise": (rotate_with(sign=-1), "sign of the sine"),
    "degrees": (rotate_with(lambda t, f: np.radians(t[:, None] * f)), "in radians"),
    "one frequency": (rotate_with(lambda t, f: t[:, None] * f[:1]), "frequencies\\[i\\]"),
    "counted": (
        rotate_with(lambda t, f: (np.arange(len(t))[:, None] if len(t) > 1 else t[:, None]) * f),
        "one angle per row",
    ),
    "squared": (rotate_with(lambda t, f: t[:, None] ** 2 * f), "by the same amount"),
}


def scores_with(spread=lambda keys, share: np.repeat(keys, share, axis=1), scale=True, form="tnh,snh->nts"):
    def grouped_scores(queries, keys):
        keys = spread(keys, queries.shape[1] // keys.shape[1])
        return np.einsum(form, queries, keys) / (np.sqrt(queries.shape[2]) if scale else 1)

    return grouped_scores


GROUPED_SCORES = {
    "heads last": (scores_with(form="tnh,snh->tsn"), "One matrix of T rows"),
    "no scale": (scores_with(scale=False), "square root of H"),
    "width of the model": (lambda q, k: scores_with()(q, k) / np.sqrt(q.shape[1]), "square root of H"),
    "first head only": (
        lambda q, k: scores_with(lambda keys, share: keys if share == 1 else np.roll(np.repeat(keys, share, 1), 1, 0))(
            q, k
        ),
        "along the axis of the heads",
    ),
    "tiled": (scores_with(lambda keys, share: np.tile(keys, (1, share, 1))), "It is the first"),
}


def calibrated(logs, of_nothing):
    return softmax(logs - of_nothing, axis=1)


def of_probabilities(logs, of_nothing):
    ratios = np.exp(logs) / np.exp(of_nothing)
    return ratios / ratios.sum(axis=1, keepdims=True)


CALIBRATED = {
    "not normalised": (lambda logs, nothing: np.exp(logs - nothing), "Divide each row by its sum"),
    "over the texts": (lambda logs, nothing: softmax(logs - nothing, axis=0), "Divide each row by its sum"),
    "of log-probabilities": (lambda logs, nothing: softmax(np.exp(logs - nothing), axis=1), "those after nothing"),
    "raw": (lambda logs, nothing: softmax(logs, axis=1), "Subtract the log-probabilities"),
    "added": (lambda logs, nothing: softmax(logs + nothing, axis=1), "Subtract the log-probabilities"),
    "half": (
        lambda logs, nothing: softmax(logs - nothing * (1 if len(logs) == 1 else 0.5), axis=1),
        "Subtract before you normalise",
    ),
    "underflow": (of_probabilities, "Subtract the largest number"),
}


class TestChapter13(ExerciseChecks):
    exercises: typing.ClassVar = {
        "rotate": (chapter_13.rotate, rotate_with(), ROTATE),
        "grouped_scores": (chapter_13.grouped_scores, scores_with(), GROUPED_SCORES),
        "calibrated": (chapter_13.calibrated, calibrated, CALIBRATED),
    }
