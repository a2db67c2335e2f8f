"""The exercises of chapter 00, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_00


def interval_with(middle=np.mean, errors=1.96, root=True, cut=True):
    def interval(correct):
        p, n = middle(correct), len(correct)
        error = errors * np.sqrt(np.mean(correct) * (1 - np.mean(correct)) / (n if root else 100))
        return (max(0.0, p - error), min(1.0, p + error)) if cut else (p - error, p + error)

    return interval


INTERVAL = {
    "wrong answers": (interval_with(middle=lambda correct: 1 - np.mean(correct)), "mean of the booleans"),
    "one error": (interval_with(errors=1), "1.96 of them"),
    "no length": (interval_with(root=False), "Divide by n"),
    "beyond 1": (interval_with(cut=False), "Cut it"),
}


def nearest_with(axis=1, best=np.argmax, label=True):
    def nearest(queries, vectors, labels):
        places = best(queries @ vectors.T, axis=axis)
        return labels[places] if label else places

    return nearest


NEAREST = {
    "wrong axis": (nearest_with(axis=0), "along the axis of the labelled vectors"),
    "places": (nearest_with(label=False), "as an index into the labels"),
    "least similar": (lambda q, v, y: y[np.argmax(q @ v.T, axis=1)] if len(q) == 3 else y[np.argmin(q @ v.T, axis=1)],
                      "not the smallest"),
}  # fmt: skip


def crossing_with(logarithm=np.log, back=np.exp, refuses=True, at_point=False):
    def crossing(counts, first, second):
        lead = np.asarray(first) - np.asarray(second)
        behind = np.flatnonzero(lead < 0)
        if not len(behind):
            if refuses:
                raise ValueError("never")
            return counts[-1]
        i = behind[0]
        if at_point:
            return counts[i]
        share = lead[i - 1] / (lead[i - 1] - lead[i])
        low, high = logarithm(counts[i - 1]), logarithm(counts[i])
        return back(low + share * (high - low))

    return crossing


CROSSING = {
    "at a point": (crossing_with(at_point=True), "."),
    "no logarithm": (crossing_with(float, float), "."),
    "no error": (crossing_with(refuses=False), "."),
}


def own_test_with(count=20, positive=0.5, wrong=3, width=1.96, missing=0):
    def own_test():
        labels = (np.arange(count) < positive * count).astype(int)
        predicted = np.where(np.arange(count) < wrong, 1 - labels, labels)
        share = np.mean(predicted == labels)
        error = width * np.sqrt(share * (1 - share) / count)
        return {
            "texts": [f"text {i}" for i in range(count)],
            "labels": labels,
            "predicted": predicted[: count - missing],
            "interval": (max(0.0, share - error), min(1.0, share + error)),
        }

    return own_test


OWN_TEST = {
    "few": (own_test_with(count=10), "With fewer"),
    "no answer": (own_test_with(missing=2), "1 is positive"),
    "all positive": (own_test_with(positive=1), "unequal halves"),
    "too easy": (own_test_with(wrong=0), "denials"),
    "one error": (own_test_with(width=1), "predicted == labels"),
}


class TestChapter00(ExerciseChecks):
    exercises: typing.ClassVar = {
        "interval": (chapter_00.interval, interval_with(), INTERVAL),
        "nearest_label": (chapter_00.nearest_label, nearest_with(), NEAREST),
        "crossing": (chapter_00.crossing, crossing_with(), CROSSING),
        "own_test": (chapter_00.own_test, own_test_with(), OWN_TEST),
    }
