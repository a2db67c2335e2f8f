"""Checks for the exercises of chapter 14, Efficiency and scale."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

_RANDOM = np.random.default_rng(14)

# 1. Operations of one block of a Llama for one new token: D, N, K, H, F, S → a number


def _count(answer, **changes):
    sizes = {"D": 12, "N": 6, "K": 6, "H": 2, "F": 0, "S": 0} | changes
    return answer(*sizes.values())


operations_per_token = Exercise(
    Property(
        "without earlier tokens and without a feed-forward layer, four matrices D × D: 8 · D²",
        lambda answer: _count(answer) == 8 * 12**2,
        "Queries, keys, values and output, two operations per weight each.",
    ),
    Property(
        "heads may be wider than D / N: queries and output have D · N · H weights",
        lambda answer: _count(answer, H=5) == 2 * 4 * 12 * 6 * 5,
        "The matrices of the queries and of the output are (D, N · H) and (N · H, D).",
    ),
    Property(
        "fewer heads of keys and values make their two matrices smaller, and no other",
        lambda answer: _count(answer, K=2) == 2 * (2 * 12 * 12 + 2 * 12 * 2 * 2),
        "Keys and values have D · K · H weights each.",
    ),
    Property(
        "each earlier token costs 4 · N · H operations",
        lambda answer: _count(answer, S=10) - _count(answer) == 4 * 10 * 12,
        "A score is a dot product of width H for each of the N query heads: 2 · N · H. The weighted values cost the "
        "same. The context has S tokens, the new one included.",
    ),
    Property(
        "sharing heads of keys and values does not make the scores cheaper",
        lambda answer: _count(answer, S=10, K=2) - _count(answer, K=2) == 4 * 10 * 12,
        "Each of the N query heads still meets every key. Grouped queries save bytes, not operations.",
    ),
    Property(
        "a SwiGLU has three matrices: 6 · D · F",
        lambda answer: _count(answer, F=32) - _count(answer) == 6 * 12 * 32,
        "Two matrices from D to F, one from F to D, two operations per weight each.",
    ),
)

# 2. A product with int8 weights: x (T, m), rounded (m, n) int8, scales (n,) → (T, n)

_X = _RANDOM.normal(size=(4, 300)) * [[1.0], [100.0], [0.01], [1.0]]
_ROUNDED = _RANDOM.integers(-127, 128, (300, 5)).astype("int8")
_SCALES = np.array([0.01, 0.02, 0.001, 0.5, 0.03])


def _multiplied(answer, x=_X, rounded=_ROUNDED, scales=_SCALES):
    with np.errstate(all="ignore"):
        return np.asarray(answer(x.copy(), rounded.copy(), scales.copy()))


def _by_hand():
    steps = np.abs(_X).max(axis=1, keepdims=True) / 127
    return (np.round(_X / steps) * steps) @ (_ROUNDED * _SCALES)


int8_product = Exercise(
    Property(
        "the result is (T, n)",
        lambda answer: _multiplied(answer).shape == (4, 5),
        "Multiply (T, m) by (m, n).",
    ),
    Property(
        "integers that int8 holds are multiplied exactly",
        lambda answer: close(
            _multiplied(answer, np.full((1, 300), 127.0), np.full((300, 5), 127, "int8"), np.ones(5)),
            np.full((1, 5), 300 * 127.0**2),
        ),
        "A sum of products of int8 numbers does not fit into int8. Convert both factors to int32 before you multiply.",
    ),
    Property(
        "column j is multiplied by the scale of column j",
        lambda answer: close(_multiplied(answer, np.eye(300)[:3] * 127.0), 127.0 * _ROUNDED[:3] * _SCALES),
        "Multiply the integers' product by scales, which has one number per column.",
    ),
    Property(
        "a row of x is rounded to the nearest integers from -127 to 127",
        lambda answer: close(_multiplied(answer, _X[:1]), _by_hand()[:1]),
        "The scale of a row is its largest absolute value divided by 127. Divide by it, round to the nearest integer, "
        "and multiply by it at the end.",
    ),
    Property(
        "each row has a scale of its own, so small rows are as exact as large ones",
        lambda answer: close(_multiplied(answer)[2], _by_hand()[2]),
        "Take the maximum over axis 1, with keepdims=True, so a row with large numbers spoils no other.",
    ),
    Property(
        "a row of zeros gives zeros, not nan",
        lambda answer: close(_multiplied(answer, np.zeros((1, 300))), np.zeros((1, 5))),
        "Its largest value is 0, so the scale is 0. Divide by 1 instead.",
    ),
)

# 3. A step on several devices: sums of gradients (devices, n), numbers of tokens (devices,), clip → (n,)

_SUMS = np.array([[3.0, 4.0], [30.0, 0.0], [0.0, 0.0]])
_COUNTS = np.array([1, 10, 0])


def _combined(answer, sums=_SUMS, counts=_COUNTS, clip=1e9):
    with np.errstate(all="ignore"):
        return np.asarray(answer(sums.copy(), counts.copy(), clip))


combined = Exercise(
    Property(
        "one device: the mean over its tokens",
        lambda answer: close(_combined(answer, _SUMS[1:2], _COUNTS[1:2]), [3.0, 0.0]),
        "Divide the sum of the gradients by the number of tokens.",
    ),
    Property(
        "every token counts the same, on whatever device it is",
        lambda answer: close(_combined(answer, _SUMS[:2], _COUNTS[:2]), [3.0, 4 / 11]),
        "Add up the sums, add up the numbers, then divide. The mean of the means is something else.",
    ),
    Property(
        "a device without a token changes nothing",
        lambda answer: close(_combined(answer), [3.0, 4 / 11]),
        "Its sum is 0 and its number is 0. Do not divide by the number of a single device, or of devices.",
    ),
    Property(
        "a gradient whose norm is above clip is shortened to it, and keeps its direction",
        lambda answer: close(_combined(answer, _SUMS[:1], _COUNTS[:1], 1.0), [0.6, 0.8]),
        "Multiply by clip / norm, if the norm is larger than clip.",
    ),
    Property(
        "a shorter one stays as it is",
        lambda answer: close(_combined(answer, _SUMS[:1], _COUNTS[:1], 6.0), [3.0, 4.0]),
        "The factor is min(1, clip / norm).",
    ),
    Property(
        "it is the combined gradient that is clipped",
        lambda answer: close(_combined(answer, clip=2.0), 2 * np.array([3.0, 4 / 11]) / np.hypot(3.0, 4 / 11)),
        "First combine, then clip. If every device clips its own, the result depends on their number.",
    ),
)
