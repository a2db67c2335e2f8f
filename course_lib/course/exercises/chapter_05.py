"""Checks for the exercises of chapter 05, the masked language model."""

import math

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. Masking: row of ids, regular ids, mask token, random generator → corrupted row, booleans of the chosen positions

_REGULAR, _MASK_TOKEN = np.arange(10, 60), 4
_ROW = np.concatenate([[2], np.arange(40) % 7 + 20, [3, 0, 0]])  # [CLS], 40 words, [SEP], [PAD], [PAD]
_ROW.setflags(write=False)


def _masked(answer, row=_ROW, seed=0):
    corrupted, chosen = answer(row.copy(), _REGULAR, _MASK_TOKEN, np.random.default_rng(seed))
    return np.asarray(corrupted), np.asarray(chosen)


def _many(answer):
    """Returns the corrupted and the original ids at the chosen positions of many rows."""
    rows = [_masked(answer, seed=seed) for seed in range(400)]
    return np.concatenate([corrupted[chosen] for corrupted, chosen in rows]), np.concatenate(
        [_ROW[chosen] for _, chosen in rows]
    )


def _is_well_formed(answer):
    corrupted, chosen = _masked(answer)
    return corrupted.shape == chosen.shape == _ROW.shape and chosen.dtype == bool and chosen.any()


def _counts(answer):
    short = np.array([2, 20, 21, 22, 3, 0, 0, 0, 0, 0])
    rows = (_ROW, _ROW[:21], short)
    return {tuple(int(_masked(answer, row, seed)[1].sum()) for row in rows) for seed in range(20)}


def _leaves_the_row(answer):
    row = _ROW.copy()
    answer(row, _REGULAR, _MASK_TOKEN, np.random.default_rng(0))
    return np.array_equal(row, _ROW)


def _is_reproducible(answer):
    return all(np.array_equal(*both) for both in zip(_masked(answer, seed=1), _masked(answer, seed=1), strict=True))


def _share(answer, low, high, counts):
    seen, true = _many(answer)
    return low < np.mean(counts(seen, true)) < high


def _draws_regular_ones(answer):
    seen, true = _many(answer)
    drawn = seen[(seen != _MASK_TOKEN) & (seen != true)]
    return np.isin(drawn, _REGULAR).all() and len(np.unique(drawn)) > len(_REGULAR) / 2


masking = Exercise(
    Property(
        "two arrays as long as the row, the second of booleans",
        _is_well_formed,
        "Return the corrupted ids and, for each position, whether it was chosen.",
    ),
    Property(
        "the row that came in is left as it was",
        _leaves_the_row,
        "Work on a copy: the right tokens are still needed, as labels.",
    ),
    Property(
        "special tokens and padding are not chosen",
        lambda answer: all(np.isin(_ROW[_masked(answer, seed=seed)[1]], _REGULAR).all() for seed in range(20)),
        "Choose among the positions whose id is in regular_ids.",
    ),
    Property(
        "15 % of the regular tokens are chosen, rounded, and at least one",
        lambda answer: _counts(answer) == {(6, 3, 1)},
        "Count the regular tokens of the row, without special tokens and padding, and draw without replacement.",
    ),
    Property(
        "tokens that were not chosen stay",
        lambda answer: all(
            np.array_equal(corrupted[~chosen], _ROW[~chosen])
            for corrupted, chosen in (_masked(answer, seed=seed) for seed in range(20))
        ),
        "Write to the chosen positions only.",
    ),
    Property(
        "the same generator gives the same masks",
        _is_reproducible,
        "Draw everything from rng, nothing from np.random itself.",
    ),
    Property(
        "about 80 % of the chosen become the mask token",
        lambda answer: _share(answer, 0.76, 0.84, lambda seen, true: seen == _MASK_TOKEN),
        "Draw a uniform number for each chosen token: below 0.8 it becomes the mask token.",
    ),
    Property(
        "about 10 % stay what they were",
        lambda answer: _share(answer, 0.07, 0.13, lambda seen, true: seen == true),
        "Of the 20 % that are not hidden, half are replaced and half stay; all of them count as chosen.",
    ),
    Property(
        "what replaces a token is any regular one, and no special one",
        _draws_regular_ones,
        "Draw the replacement from all of regular_ids, anew for each token.",
    ),
)


# 2. Pseudo-log-likelihood: a row, a function that scores rows, the mask token, the special ids → a number

_VOCABULARY, _SPECIAL = 12, (0, 2, 3)
_TABLE = np.random.default_rng(0).normal(size=(_VOCABULARY, _VOCABULARY))
_SENTENCE = np.array([2, 5, 7, 7, 9, 3])
_SENTENCE.setflags(write=False)


class _Scorer:
    """Returns log-probabilities that depend on all tokens of a row, and keeps the rows that it was given."""

    def __init__(self):
        self.rows = []

    def __call__(self, token_ids):
        rows = np.atleast_2d(np.asarray(token_ids))
        self.rows += [row.copy() for row in rows]
        places = np.arange(1, rows.shape[1] + 1)
        logits = np.cumsum(_TABLE[rows] * places[:, None] / 5, axis=1) + _TABLE[rows].sum(axis=1, keepdims=True)
        found = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        return found if np.ndim(token_ids) == 2 else found[0]


def _expected_score():
    total = 0.0
    for place in range(1, 5):
        row = _SENTENCE.copy()
        row[place] = _MASK_TOKEN
        total += _Scorer()(row)[place, _SENTENCE[place]]
    return total


def _scored(answer):
    scorer = _Scorer()
    value = answer(_SENTENCE.copy(), scorer, _MASK_TOKEN, _SPECIAL)
    return value, scorer.rows


def _hidden(answer):
    """Returns, for each scored row, the positions of the mask token."""
    return [tuple(np.flatnonzero(row == _MASK_TOKEN)) for row in _scored(answer)[1]]


def _shows_the_rest(answer):
    return all(np.array_equal(row[row != _MASK_TOKEN], _SENTENCE[row != _MASK_TOKEN]) for row in _scored(answer)[1])


pseudo_log_likelihood = Exercise(
    Property(
        "one number, and it is negative",
        lambda answer: np.ndim(_scored(answer)[0]) == 0 and _scored(answer)[0] < 0,
        "Add up the logarithms of the probabilities of the tokens that stood there, without a minus sign.",
    ),
    Property(
        "the row is scored with one token hidden at a time",
        lambda answer: len(_hidden(answer)) > 0 and all(len(places) == 1 for places in _hidden(answer)),
        "Each token needs a copy of the row of its own, with the mask token in its place and nowhere else.",
    ),
    Property(
        "each token is hidden once, and no special token",
        lambda answer: sorted(_hidden(answer)) == [(1,), (2,), (3,), (4,)] and _shows_the_rest(answer),
        "Go through all positions whose id is not among special_ids.",
    ),
    Property(
        "it is the sum of log P of the hidden tokens",
        lambda answer: close(_scored(answer)[0], _expected_score(), 1e-8),
        "At the hidden position, take the log-probability of the token that stood there; add up, without dividing.",
    ),
)


# 3. Perplexity: batches of the right tokens' log-probabilities and their weights → a number

_FOURTHS = [(np.full((2, 3), -math.log(4)), np.ones((2, 3)))]
_PADDED = [(np.log([[0.5, 0.125, 0.9], [0.5, 0.9, 0.9]]), np.array([[1.0, 1, 0], [1, 0, 0]]))]
_UNEVEN = [
    (np.log([[0.5, 0.5], [0.5, 0.5]]), np.ones((2, 2))),
    (np.log([[0.125, 0.5], [0.9, 0.9]]), np.array([[1.0, 0], [0, 0]])),
]
_INFINITE = [(np.array([[math.log(0.25), -math.inf]]), np.array([[1.0, 0.0]]))]


def _quietly(answer, batches):
    with np.errstate(all="ignore"):
        return answer([(scores.copy(), weights.copy()) for scores, weights in batches])


perplexity = Exercise(
    Property(
        "one number, and 4 if each right token has the probability 1/4",
        lambda answer: np.ndim(_quietly(answer, _FOURTHS)) == 0 and close(_quietly(answer, _FOURTHS), 4.0, 1e-8),
        "The exponential, with base e, of the mean of minus the log-probabilities.",
    ),
    Property(
        "what has weight 0 does not count, and each prediction with weight 1 counts the same",
        lambda answer: close(_quietly(answer, _PADDED), 32 ** (1 / 3), 1e-8),
        "Sum weight times loss over all rows, and divide by the sum of the weights; take no mean of rows in between.",
    ),
    Property(
        "a batch with fewer predictions counts less",
        lambda answer: close(_quietly(answer, _UNEVEN), 2.0 ** (7 / 5), 1e-8),
        "Keep both sums over all batches, and take the exponential once, at the end.",
    ),
    Property(
        "with weight 0, even an infinite loss does not count",
        lambda answer: close(_quietly(answer, _INFINITE), 4.0, 1e-8),
        "0 times infinity is not a number: use np.where, or choose the predictions by their weight.",
    ),
)
