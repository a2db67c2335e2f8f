"""Checks for the exercises of chapter 01, self-attention."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close


def _softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _weights(query, key, scale=None):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _softmax(scale * query @ key.T)


def _draw(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in shapes]


# 1. Attention in loops: query (T, H), key (S, H), value (S, d_v) → output (T, d_v)

_QUERY, _KEY, _VALUE = _draw((3, 4), (5, 4), (5, 2))


def _like(answer, scale=None):
    return close(answer(_QUERY, _KEY, _VALUE), _weights(_QUERY, _KEY, scale) @ _VALUE)


loops = Exercise(
    Property(
        "3 queries and 5 values of width 2 give an output of shape (3, 2)",
        lambda answer: np.shape(answer(_QUERY, _KEY, _VALUE)) == (3, 2),
        "One row for each query, as wide as a value. The values are averaged; the keys only set the weights.",
    ),
    Property(
        "with a single query and a single key, the output is the value",
        lambda answer: close(answer(_QUERY[:1], _KEY[:1], _VALUE[:1]), _VALUE[:1]),
        "The one weight must be 1: divide each exponential by the sum of the exponentials.",
    ),
    Property(
        "where all values are the same, so is every output",
        lambda answer: close(answer(_QUERY, _KEY, np.full((5, 2), 7.0)), np.full((3, 2), 7.0)),
        "The weights of one query must sum to one over the keys: the sum runs over j while i stands still.",
    ),
    Property(
        "the scores are scaled",
        lambda answer: not _like(answer, scale=1),
        "Between the product of query and key and the softmax, formula 4.1 divides by something.",
    ),
    Property(
        "the scores are not divided by the width itself",
        lambda answer: not _like(answer, scale=1 / 4),
        "Formula 4.1 divides by the square root of the width of a key.",
    ),
    Property(
        "random queries, keys and values give what formula 4.1 gives",
        _like,
        "Work out one output by hand, with two keys, and compare each step.",
    ),
    Property(
        "scores of a thousand give finite outputs",
        lambda answer: close(
            answer(1000 * _QUERY, _KEY, _VALUE), _weights(1000 * _QUERY, _KEY) @ _VALUE, tolerance=1e-4
        ),
        "exp(1000) is infinite. Subtract the largest score of the query from all its scores first: no weight changes.",
    ),
)


# 2. Temperature: query (T, H), key (S, H), temperature → weights (T, S)

temperature = Exercise(
    Property(
        "3 queries and 5 keys have weights of shape (3, 5)",
        lambda answer: np.shape(answer(_QUERY, _KEY, 1.0)) == (3, 5),
        "Return the weights, a row for each query and a column for each key, not the mean of anything.",
    ),
    Property(
        "each row sums to one, at a temperature of 2, too",
        lambda answer: close(np.sum(answer(_QUERY, _KEY, 2.0), axis=-1), np.ones(3)),
        "The softmax must come last: what is divided after it no longer sums to one.",
    ),
    Property(
        "a temperature of 1 gives the weights of formula 4.1",
        lambda answer: close(answer(_QUERY, _KEY, 1.0), _weights(_QUERY, _KEY)),
        "The temperature comes on top of the square root of the width, which stays; and the sum runs over the keys.",
    ),
    Property(
        "another temperature gives other weights",
        lambda answer: not close(answer(_QUERY, _KEY, 2.0), _weights(_QUERY, _KEY)),
        "Dividing all weights of a row by one number and normalising again gives the same row. Divide the scores.",
    ),
    Property(
        "a higher temperature is nearer to uniform",
        lambda answer: np.ptp(answer(_QUERY, _KEY, 10.0)) < np.ptp(answer(_QUERY, _KEY, 1.0)),
        "Heat evens out: scores are divided by the temperature, not multiplied.",
    ),
    Property(
        "at a temperature of 2, scores are halved",
        lambda answer: close(answer(_QUERY, _KEY, 2.0), _weights(_QUERY, _KEY, scale=1 / 4)),
        "Divide by the temperature itself, not by its root or its square.",
    ),
    Property(
        "at a temperature near zero each query takes one key alone, without NaN",
        lambda answer: close(
            answer(_QUERY, _KEY, 1e-6), np.eye(5)[np.argmax(_QUERY @ _KEY.T, axis=-1)], tolerance=1e-3
        ),
        "The divided scores are huge. Subtract the largest score of each row before the exponential.",
    ),
)


# 3. Window: length T, radius → booleans (T, T)


def _distance(length):
    return np.abs(np.arange(length)[:, None] - np.arange(length))


window = Exercise(
    Property(
        "a mask for 6 positions has shape (6, 6)",
        lambda answer: np.shape(answer(6, 2)) == (6, 6),
        "A row for each position that looks, a column for each that may be looked at.",
    ),
    Property(
        "it is boolean",
        lambda answer: str(np.asarray(answer(6, 2)).dtype) == "bool",
        "A comparison gives booleans: no 0 and 1, and no minus infinity.",
    ),
    Property(
        "each position may look at itself",
        lambda answer: bool(np.all(np.diagonal(answer(6, 2)))),
        "True stands where attention is allowed, and a position is at distance 0 from itself.",
    ),
    Property(
        "it looks both ways",
        lambda answer: np.array_equal(answer(6, 2), np.transpose(answer(6, 2))),
        "The distance between i and j is |i - j|, without a sign.",
    ),
    Property(
        "it reaches as far as the radius",
        lambda answer: bool(np.all(np.asarray(answer(6, 2))[_distance(6) == 2])),
        "A distance equal to the radius is still inside.",
    ),
    Property(
        "it reaches no further",
        lambda answer: all(np.array_equal(answer(6, radius), _distance(6) <= radius) for radius in (0, 1, 2, 9)),
        "Beyond the radius, the mask is False; with a radius of 0, each position sees itself alone.",
    ),
)


# 4. A softmax in float16: scores (..., S) → weights (..., S)


def _half(rows):
    return np.array(rows, "float16")


half_softmax = Exercise(
    Property(
        "float16 goes in and float16 comes out",
        lambda answer: np.asarray(answer(_half([[0, 1]]))).dtype == np.float16,
        "Whatever it computes in, the function returns the dtype that it was given.",
    ),
    Property(
        "each row sums to one",
        lambda answer: close(np.sum(answer(_half([[0, 1, 2], [2, 2, 0]])), axis=-1), [1, 1], tolerance=2e-3),
        "Sum over the last axis, and keep that axis (keepdims=True) so that the division meets each row.",
    ),
    Property(
        "a score of 60,000 gives no NaN",
        lambda answer: close(answer(_half([[60_000, 0]])), [[1, 0]]),
        "exp(60,000) is infinite in any dtype, and infinite divided by infinite is NaN. Subtract the largest score.",
    ),
    Property(
        "rows on very different levels give no NaN",
        lambda answer: close(answer(_half([[60_000, 0], [-60_000, -60_000]])), [[1, 0], [0.5, 0.5]]),
        "Subtract from each row its own largest score, not the largest of all.",
    ),
    Property(
        "70,000 equal scores have equal weights above zero",
        lambda answer: close(answer(np.zeros((1, 70_000), "float16")), np.full((1, 70_000), 1 / 70_000), 1e-7),
        "In float16 no number is above 65,504, so that the sum overflows: compute in float32, and return float16.",
    ),
)
