"""Checks for the exercises of chapter 09, GPT-2."""

import math

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. The shifted loss: logits (B, T, V), token ids (B, T) and a padding mask (B, T) → a number

_V = 6
_IDS = np.array([[4, 1, 3, 1, 5], [2, 2, 0, 4, 1]])
_FULL = np.ones((2, 5), int)
_IDS.setflags(write=False)
_FULL.setflags(write=False)


def _sure_of(token_ids):
    """Makes logits (B, T, V) that give these tokens a probability of almost 1."""
    return 30.0 * np.eye(_V)[token_ids]


def _loss(answer, logits, token_ids=_IDS, padding_mask=_FULL):
    with np.errstate(all="ignore"):
        return answer(np.array(logits), token_ids.copy(), padding_mask.copy())


def _names_the_next():
    logits = _sure_of(np.concatenate([_IDS[:, 1:], _IDS[:, :1]], axis=1))
    logits[:, -1] = _sure_of(5 - _IDS[:, 0])  # arbitrary: no token follows the last one
    return logits


_RAGGED = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
_RAGGED.setflags(write=False)
_LOGITS = np.random.default_rng(9).normal(size=(2, 5, _V))
_LOGITS.setflags(write=False)


def _terms():
    """Computes the losses of the predictions: four in the first row, and one in the second."""
    log = _LOGITS - np.logaddexp.reduce(_LOGITS, axis=-1, keepdims=True)
    first = [-log[0, t, _IDS[0, t + 1]] for t in range(4)]
    return first, [-log[1, 0, _IDS[1, 1]]]


def _ignores_padding(answer):
    """Tells whether logits after a row's last prediction, and the ids of its padding, have no effect."""
    logits, token_ids = np.array(_LOGITS), _IDS.copy()
    logits[1, 1:] += 5 * np.eye(_V)[2]
    token_ids[1, 2:] = 3
    return close(_loss(answer, logits, token_ids, _RAGGED), _loss(answer, _LOGITS, _IDS, _RAGGED))


next_token_loss = Exercise(
    Property(
        "one number, and log V if all V tokens are equally likely",
        lambda answer: (
            np.ndim(_loss(answer, np.zeros((2, 5, _V)))) == 0
            and close(_loss(answer, np.zeros((2, 5, _V))), math.log(_V))
        ),
        "The mean over all predictions of -log of the softmax, with natural logarithms.",
    ),
    Property(
        "a model that repeats the token it has just read is wrong",
        lambda answer: _loss(answer, _sure_of(_IDS)) > 5,
        "The logits at position t score the token at t + 1, not the one at t.",
    ),
    Property(
        "a model that names the next token is right, whatever it says after the last one",
        lambda answer: _loss(answer, _names_the_next()) < 1e-6,
        "Leave out the last position of the logits and the first of the ids: T tokens make T - 1 predictions.",
    ),
    Property(
        "what is predicted at padding, or of it, does not count",
        _ignores_padding,
        "A prediction counts if the token that it is about is no padding: shift the mask as you shift the ids.",
    ),
    Property(
        "each prediction counts the same, in short rows, too",
        lambda answer: close(_loss(answer, _LOGITS, _IDS, _RAGGED), np.mean(np.concatenate(_terms()))),
        "Sum over the whole batch and divide by the number of predictions that count; take no mean of rows in between.",
    ),
    Property(
        "large logits do not overflow",
        lambda answer: close(_loss(answer, _LOGITS + 1000.0), _loss(answer, _LOGITS)),
        "exp(1000) is infinite: np.logaddexp.reduce takes log Σ exp without it.",
    ),
)


# 2. Top-p: probabilities (V,) and p → probabilities (V,)

_SORTED = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])
_MIXED = np.array([0.0625, 0.25, 0.5, 0.0625, 0.125])
_MANY = np.random.default_rng(9).dirichlet(np.full(40, 0.3), size=5)
for _array in (_SORTED, _MIXED, _MANY):
    _array.setflags(write=False)


def _cut(answer, probabilities, p):
    with np.errstate(all="ignore"):
        return np.asarray(answer(probabilities.copy(), p))


def _is_a_distribution(answer):
    found = _cut(answer, _SORTED, 0.7)
    return found.shape == _SORTED.shape and np.all(found >= 0) and close(found.sum(), 1.0)


def _keeps_the_fewest(answer):
    """Tells whether, on random distributions, the kept tokens reach p, and would not without the least likely one."""
    for row in _MANY:
        for p in (0.05, 0.5, 0.9, 0.99):
            kept = row[_cut(answer, row, p) > 0]
            if not kept.sum() >= p > kept.sum() - kept.min():
                return False
    return True


nucleus = Exercise(
    Property(
        "as many probabilities come back, and they sum to one",
        _is_a_distribution,
        "Set what is cut to 0, and divide what is left by its sum.",
    ),
    Property(
        "with 1/2, 1/4, 1/8, … and p = 0.7, two tokens stay",
        lambda answer: list(_cut(answer, _SORTED, 0.7) > 0) == [True, True, False, False, False],
        "Keep a token if those more likely than it have less than p together: the one that reaches p belongs to them.",
    ),
    Property(
        "p = 0.75 is reached by two of them exactly, so that two stay",
        lambda answer: np.sum(_cut(answer, _SORTED, 0.75) > 0) == 2,
        "The fewest tokens whose sum is at least p: where it is p, it is enough.",
    ),
    Property(
        "what stays keeps its ratios",
        lambda answer: close(_cut(answer, _SORTED, 0.7), [2 / 3, 1 / 3, 0, 0, 0]),
        "Divide by the sum, and by nothing else: no second softmax, no equal shares.",
    ),
    Property(
        "each token keeps its place, in whatever order they come",
        lambda answer: close(_cut(answer, _MIXED, 0.7), [0, 1 / 3, 2 / 3, 0, 0]),
        "Add up in the order of np.argsort(-probabilities), and put each result back where its token stands.",
    ),
    Property(
        "on any distribution, the fewest likeliest tokens stay",
        _keeps_the_fewest,
        "How many stay depends on the distribution: compare running sums with p itself.",
    ),
)


# 3. One cached step: the newest vector (B, D), three matrices (D, H), keys and values (B, S, H), a position → three

_B, _S, _D, _H = 2, 6, 8, 4
_rng = np.random.default_rng(9)
_X = _rng.normal(size=(_B, _S, _D))
_MATRICES = _rng.normal(size=(3, _D, _H))
_RUBBISH = 3 * _rng.normal(size=(2, _B, _S, _H))
for _array in (_X, _MATRICES, _RUBBISH):
    _array.setflags(write=False)


def _cache(position):
    """Makes keys and values of all tokens before a position. Later slots hold rubbish that must not be read."""
    cache = _RUBBISH.copy()
    for array, matrix in zip(cache, _MATRICES[1:], strict=True):
        array[:, :position] = _X[:, :position] @ matrix
    return cache


def _step(answer, position):
    result = answer(_X[:, position].copy(), *_MATRICES.copy(), *_cache(position), position)
    return tuple(np.asarray(array) for array in result)


def _all_at_once():
    """Computes causal attention over the whole sequence, (B, S, H)."""
    query, key, value = (_X @ matrix for matrix in _MATRICES)
    scores = np.where(np.tril(np.ones((_S, _S), bool)), query @ key.swapaxes(1, 2) / math.sqrt(_H), -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True) @ value


def _leaves_the_cache(answer):
    cache = _cache(3)
    answer(_X[:, 3].copy(), *_MATRICES.copy(), *cache, 3)
    return np.array_equal(cache, _cache(3))


def _writes_one_slot(answer):
    expected, found = _cache(3), _step(answer, 3)[1:]
    for array, matrix in zip(expected, _MATRICES[1:], strict=True):
        array[:, 3] = _X[:, 3] @ matrix
    return close(found, expected)


def _alone(answer, keys, values, position):
    """Returns the answer's output for the given caches."""
    return np.asarray(answer(_X[:, position].copy(), *_MATRICES.copy(), keys.copy(), values.copy(), position)[0])


def _reads_only_what_is_written(answer):
    keys, values = _cache(3)
    others = keys.copy(), values.copy()
    others[0][:, 4:], others[1][:, 4:] = 7.0, -7.0
    return close(_alone(answer, keys, values, 3), _alone(answer, *others, 3))


cached_step = Exercise(
    Property(
        "an output (B, H), and keys and values (B, S, H)",
        lambda answer: [array.shape for array in _step(answer, 3)] == [(_B, _H), (_B, _S, _H), (_B, _S, _H)],
        "One vector comes in a row, one goes out; the caches keep their S slots and are not lengthened.",
    ),
    Property(
        "the caches that came in are left as they were",
        _leaves_the_cache,
        "Write into copies, and return those.",
    ),
    Property(
        "the new key and value are in slot `position`, and the other slots are as before",
        _writes_one_slot,
        "keys[:, position] becomes x @ w_key, values[:, position] becomes x @ w_value.",
    ),
    Property(
        "slots behind `position` are not read",
        _reads_only_what_is_written,
        "Take the softmax over slots 0 to `position`; nothing has been written behind them yet.",
    ),
    Property(
        "the first token, which is alone, gets its own value",
        lambda answer: close(_step(answer, 0)[0], _X[:, 0] @ _MATRICES[2]),
        "A token attends to itself, too: write first, then read the slots up to and with `position`.",
    ),
    Property(
        "step by step comes out what all at once gives",
        lambda answer: all(close(_step(answer, t)[0], _all_at_once()[:, t]) for t in range(_S)),
        "softmax(q · k / √H) over the slots, for each row of the batch, and the mean of the values with these weights.",
    ),
)
