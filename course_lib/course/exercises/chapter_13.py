"""Checks for the exercises of chapter 13, From GPT-2 to today's models."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

_RANDOM = np.random.default_rng(13)

# 1. Rotary positions: x (T, H), positions (T,), frequencies (H / 2,) → (T, H)

_X = _RANDOM.normal(size=(5, 6))
_POSITIONS = np.array([0, 1, 2, 7, 3])
_FREQUENCIES = np.array([1.0, 0.3, 0.05])


def _turned(answer, x=_X, positions=_POSITIONS, frequencies=_FREQUENCIES):
    return np.asarray(answer(x.copy(), np.array(positions), frequencies.copy()))


def _lengths_stay(answer):
    def lengths(x):
        return np.hypot(x[:, :3], x[:, 3:])

    return close(lengths(_turned(answer)), lengths(_X))


def _depends_on_the_distance(answer):
    query, key = _X[:1], _X[1:2]

    def score(m, n):
        return _turned(answer, query, [m]) @ _turned(answer, key, [n]).T

    return close(score(7, 4), score(107, 104)) and not close(score(7, 4), score(7, 5), 1e-3)


rotate = Exercise(
    Property(
        "the shape stays, and position 0 is not turned",
        lambda answer: _turned(answer).shape == _X.shape and close(_turned(answer)[0], _X[0]),
        "Entry i and entry i + H/2 are a pair, for i from 0 to H/2 - 1. At position 0 every angle is 0.",
    ),
    Property(
        "a pair is entry i and entry i + H/2, and keeps its length",
        _lengths_stay,
        "Split x into x[:, : H // 2] and x[:, H // 2 :]. With the cosine c and the sine s of an angle, (a, b) becomes "
        "(a c - b s, b c + a s).",
    ),
    Property(
        "at position 1 each pair (1, 0) turns counter-clockwise by its own frequency",
        lambda answer: close(
            _turned(answer, np.eye(6)[:3].sum(axis=0, keepdims=True), [1]),
            [[*np.cos(_FREQUENCIES), *np.sin(_FREQUENCIES)]],
        ),
        "The angle of pair i is the position times frequencies[i], in radians. Check the sign of the sine.",
    ),
    Property(
        "the positions are those that were given, not 0, 1, 2, …",
        lambda answer: close(_turned(answer)[3], _turned(answer, _X[3:4], [7])[0]),
        "Multiply positions[:, None] by frequencies: one angle per row and pair.",
    ),
    Property(
        "the score of a query and a key depends on their distance alone",
        _depends_on_the_distance,
        "The angle has to grow by the same amount from each position to the next.",
    ),
)

# 2. Grouped queries: queries (T, N, H), keys (S, K, H) → scores (N, T, S)

_QUERIES = _RANDOM.normal(size=(3, 6, 4))
_KEYS = _RANDOM.normal(size=(5, 2, 4))


def _scored(answer, keys=_KEYS):
    return np.asarray(answer(_QUERIES.copy(), keys.copy()))


def _one_by_one(keys):
    share = _QUERIES.shape[1] // keys.shape[1]
    return np.stack([_QUERIES[:, n] @ keys[:, n // share].T / 2 for n in range(_QUERIES.shape[1])])


grouped_scores = Exercise(
    Property(
        "the scores are (N, T, S)",
        lambda answer: _scored(answer).shape == (6, 3, 5),
        "One matrix of T rows and S columns for each of the N query heads.",
    ),
    Property(
        "with as many key heads as query heads, it is ordinary attention",
        lambda answer: close(_scored(answer, _KEYS[:, [0, 1] * 3]), _one_by_one(_KEYS[:, [0, 1] * 3])),
        "Scores are dot products divided by the square root of H.",
    ),
    Property(
        "with one key head, all query heads share it",
        lambda answer: close(_scored(answer, _KEYS[:, :1]), _one_by_one(_KEYS[:, :1])),
        "Repeat the keys along the axis of the heads, N / K times.",
    ),
    Property(
        "neighbouring query heads share a key head: with N = 6 and K = 2, heads 0, 1 and 2 read key head 0",
        lambda answer: close(_scored(answer), _one_by_one(_KEYS)),
        "np.repeat gives 0 0 0 1 1 1, np.tile gives 0 1 0 1 0 1. It is the first.",
    ),
)

# 3. Calibration: log-probabilities of the label words (n, C), and those after a review that says nothing (C,) → (n, C)

_LOGS = np.log(np.array([[0.30, 0.10], [0.10, 0.12], [0.02, 0.01]]))
_NOTHING = np.log(np.array([0.30, 0.15]))


def _calibrated(answer, logs=_LOGS, nothing=_NOTHING):
    with np.errstate(all="ignore"):
        return np.asarray(answer(logs.copy(), nothing.copy()))


calibrated = Exercise(
    Property(
        "a probability for each class of each text, and they sum to one",
        lambda answer: _calibrated(answer).shape == (3, 2) and close(_calibrated(answer).sum(axis=1), np.ones(3)),
        "Divide each row by its sum at the end. Most of the probability went to words that are no label.",
    ),
    Property(
        "if the prompt does not lean, only the sum changes",
        lambda answer: close(
            _calibrated(answer, nothing=np.log([0.2, 0.2])), np.exp(_LOGS) / np.exp(_LOGS).sum(axis=1, keepdims=True)
        ),
        "Divide the probabilities by those after nothing, and then each row by its sum.",
    ),
    Property(
        "a text that says nothing gets the same probability for every class",
        lambda answer: close(_calibrated(answer, _NOTHING[None]), [[0.5, 0.5]]),
        "Subtract the log-probabilities after nothing: what the prompt prefers by itself.",
    ),
    Property(
        "what the prompt prefers by itself is divided out: 0.30 and 0.10 after 0.30 and 0.15 become 0.6 and 0.4",
        lambda answer: close(_calibrated(answer), [[0.6, 0.4], [5 / 17, 12 / 17], [0.5, 0.5]]),
        "Subtract before you normalise, the same numbers from every row.",
    ),
    Property(
        "very small probabilities do not become nan",
        lambda answer: bool(np.isfinite(_calibrated(answer, _LOGS - 900, _NOTHING - 900)).all()),
        "Subtract the largest number of each row before you take the exponential.",
    ),
)
