"""Checks for chapter 00, What pre-training buys."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

_COUNTS = np.array([10, 100, 1000])
_VECTORS = np.array([[1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]])


def _refuses(answer, *arguments):
    try:
        answer(*arguments)
    except ValueError:
        return True
    return False


interval = Exercise(
    Property(
        "the middle is the share of right answers",
        lambda answer: close(np.mean(answer(np.arange(100) < 80)), 0.8),
        "p is the mean of the booleans.",
    ),
    Property(
        "80 of 100 right: 0.72 to 0.88",
        lambda answer: close(answer(np.arange(100) < 80), [0.8 - 1.96 * 0.04, 0.8 + 1.96 * 0.04]),
        "The standard error is the square root of p (1 - p) / n; the interval reaches 1.96 of them to each side.",
    ),
    Property(
        "four times the answers halve the interval",
        lambda answer: close(np.ptp(answer(np.arange(100) < 80)), 2 * np.ptp(answer(np.arange(400) < 320))),
        "Divide by n under the root.",
    ),
    Property(
        "the interval stays in [0, 1]",
        lambda answer: answer(np.arange(10) < 9)[1] <= 1 and answer(np.arange(10) < 1)[0] >= 0,
        "Cut it with max(0.0, …) and min(1.0, …).",
    ),
)

nearest_label = Exercise(
    Property(
        "there is one label per query",
        lambda answer: np.shape(answer(_VECTORS[:2], _VECTORS, np.array([0, 1, 2]))) == (2,),
        "Take the largest similarity along the axis of the labelled vectors.",
    ),
    Property(
        "a labelled vector gets its own label",
        lambda answer: list(answer(_VECTORS, _VECTORS, np.array([7, 8, 9]))) == [7, 8, 9],
        "Use the position of the largest product as an index into the labels, and return the label there.",
    ),
    Property(
        "a query gets the label of the most similar vector",
        lambda answer: list(answer(np.array([[0.0, 1.0], [0.8, -0.6]]), _VECTORS, np.array([1, 0, 1]))) == [0, 1],
        "The most similar vector has the largest product, not the smallest.",
    ),
)

crossing = Exercise(
    Property(
        "lines that meet at a count give that count",
        lambda answer: close(answer(_COUNTS, [0.6, 0.7, 0.7], [0.5, 0.7, 0.8]), 100, 0.01),
        "Find the first point at which the second is ahead, and interpolate from the one before it.",
    ),
    Property(
        "half-way between 10 and 100 is 31.6, not 55",
        lambda answer: close(answer(_COUNTS, [0.6, 0.6, 0.6], [0.5, 0.7, 0.8]), 10**1.5, 0.01),
        "Interpolate the logarithm of the count, and take np.exp at the end.",
    ),
    Property(
        "a second curve that never overtakes is a ValueError",
        lambda answer: _refuses(answer, _COUNTS, [0.6, 0.7, 0.8], [0.5, 0.6, 0.7]),
        "Raise ValueError if the second is ahead nowhere.",
    ),
)


def _covers(found):
    share = np.mean(np.asarray(found["predicted"]) == np.asarray(found["labels"]))
    error = 1.96 * np.sqrt(share * (1 - share) / len(found["texts"]))
    return close(found["interval"], [max(0, share - error), min(1, share + error)], 0.01)


own_test = Exercise(
    Property(
        "there are at least twenty different texts",
        lambda answer: len(set(answer()["texts"])) == len(answer()["texts"]) >= 20,
        "With fewer, the interval is as wide as half of all accuracies.",
    ),
    Property(
        "there is a label and a prediction for each, 0 or 1",
        lambda answer: all(
            len(answer()[name]) == len(answer()["texts"]) and set(np.asarray(answer()[name]).tolist()) <= {0, 1}
            for name in ("labels", "predicted")
        ),
        "1 is positive and 0 is negative. The classifier predicts from encoder.encode(texts).",
    ),
    Property(
        "half of the texts are positive",
        lambda answer: 0.4 <= np.mean(answer()["labels"]) <= 0.6,
        "With unequal halves, always guessing the larger one looks like knowledge.",
    ),
    Property(
        "at least one sentence fools the classifier",
        lambda answer: not np.array_equal(answer()["predicted"], answer()["labels"]),
        "Try denials, irony, or praise for something else than the film.",
    ),
    Property(
        "the interval is that of the accuracy",
        lambda answer: _covers(answer()),
        "Give exercise 1's interval the answers that are right: predicted == labels.",
    ),
)
