"""Checks for the exercises of chapter 02, multi-head attention."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. Remove heads: heads (B, N, T, H), w_output (N·H, D), list of indices → (B, T, D)

_RANDOM = np.random.default_rng(0)
_HEADS, _W_OUTPUT = _RANDOM.normal(size=(2, 4, 3, 2)), _RANDOM.normal(size=(8, 5))


def _contribution(heads, n):
    return heads[:, n] @ _W_OUTPUT[2 * n : 2 * n + 2]


def _sum_of(heads, kept):
    return sum((_contribution(heads, n) for n in kept), start=np.zeros((2, heads.shape[2], 5)))


def _leaves_its_input(answer):
    heads = _HEADS.copy()
    answer(heads, _W_OUTPUT, [1])
    return np.array_equal(heads, _HEADS)


removed = Exercise(
    Property(
        "2 rows of 3 positions, with 4 heads of width 2 and an output of width 5, give the shape (2, 3, 5)",
        lambda answer: np.shape(answer(_HEADS.copy(), _W_OUTPUT, [1])) == (2, 3, 5),
        "Put the heads side by side, (B, T, N·H), and multiply by w_output: it has a row for each of the N·H numbers.",
    ),
    Property(
        "with one position and nothing removed, the output is the sum of all contributions",
        lambda answer: close(answer(_HEADS[:, :, :1].copy(), _W_OUTPUT, []), _sum_of(_HEADS[:, :, :1], range(4))),
        "Head n meets rows n·H to (n+1)·H of w_output: in (B, T, N·H) the H numbers of one head are neighbours.",
    ),
    Property(
        "with three positions, too",
        lambda answer: close(answer(_HEADS.copy(), _W_OUTPUT, []), _sum_of(_HEADS, range(4))),
        "Heads stand before positions in (B, N, T, H). Transpose to (B, T, N, H) before you reshape.",
    ),
    Property(
        "without one head, exactly its contribution is missing",
        lambda answer: close(answer(_HEADS.copy(), _W_OUTPUT, [1]), _sum_of(_HEADS, (0, 2, 3))),
        "A removed head counts as zeros. Indices start at 0, and the others' contributions are not scaled up.",
    ),
    Property(
        "without two of them, both are missing, and without all of them the output is zero",
        lambda answer: (
            close(answer(_HEADS.copy(), _W_OUTPUT, [0, 3]), _sum_of(_HEADS, (1, 2)))
            and close(answer(_HEADS.copy(), _W_OUTPUT, [0, 1, 2, 3]), np.zeros((2, 3, 5)))
        ),
        "The list may have any number of heads: remove every one of them.",
    ),
    Property(
        "the heads handed in stay as they were",
        _leaves_its_input,
        "heads[:, removed] = 0 writes into the array that you were given. Copy it first.",
    ),
)


# 2. Packed documents: document numbers (B, T) → booleans that broadcast to (B, N, T, T)

_DOCUMENTS = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 1, 3]])


def _allowed(answer):
    return np.broadcast_to(np.asarray(answer(_DOCUMENTS)), (2, 2, 5, 5))


_SAME = np.broadcast_to((_DOCUMENTS[:, :, None] == _DOCUMENTS[:, None, :])[:, None], (2, 2, 5, 5))
_PAST = np.tril(np.ones((5, 5), bool))

packed = Exercise(
    Property(
        "two rows of five give booleans of shape (2, 1, 5, 5)",
        lambda answer: (
            np.shape(answer(_DOCUMENTS)) == (2, 1, 5, 5) and str(np.asarray(answer(_DOCUMENTS)).dtype) == "bool"
        ),
        "Compare documents[:, None, :, None] with documents[:, None, None, :]. "
        "The axis of length 1 is the one of the heads.",
    ),
    Property(
        "each position may look at itself",
        lambda answer: bool(np.all(np.diagonal(_allowed(answer), axis1=-2, axis2=-1))),
        "True stands where attention is allowed.",
    ),
    Property(
        "no position looks into another document",
        lambda answer: not np.any(_allowed(answer) & ~_SAME),
        "Attention is allowed only inside one document. Both conditions must hold, so join them by and.",
    ),
    Property(
        "no position looks ahead",
        lambda answer: not np.any(_allowed(answer) & ~_PAST),
        "Inside its document a position sees itself and what came before, as under the causal mask.",
    ),
    Property(
        "nothing else is forbidden",
        lambda answer: np.array_equal(_allowed(answer), _SAME & _PAST),
        "Every earlier position of the same document is allowed, not only the neighbour.",
    ),
)


# 3. Multi-query attention: queries (B, T, N, H), key and value (B, S, H), shared by all heads → output (B, T, N·H)

_QUERIES = _RANDOM.normal(size=(2, 3, 4, 5))
_KEY, _VALUE = _RANDOM.normal(size=(2, 2, 6, 5))


def _attend(queries, key, value, scale=5**-0.5):
    scores = scale * np.einsum("btnh,bsh->bnts", queries, key)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = powers / powers.sum(axis=-1, keepdims=True)
    return np.einsum("bnts,bsh->btnh", weights, value).reshape(*queries.shape[:2], -1)


multi_query = Exercise(
    Property(
        "4 heads of width 5 with 3 queries each give an output of shape (2, 3, 20)",
        lambda answer: np.shape(answer(_QUERIES, _KEY, _VALUE)) == (2, 3, 20),
        "Merge the heads at the end, to (B, T, N·H). The key has no axis of heads: insert one of length 1.",
    ),
    Property(
        "where all values of a row are the same, every head returns that value",
        lambda answer: close(
            answer(_QUERIES, _KEY, np.tile(_VALUE[:, :1], (1, 6, 1))), np.tile(_VALUE[:, :1], (1, 3, 4))
        ),
        "The softmax runs over the keys, the last axis of the scores (B, N, T, S).",
    ),
    Property(
        "the scores are scaled",
        lambda answer: not close(answer(_QUERIES, _KEY, _VALUE), _attend(_QUERIES, _KEY, _VALUE, scale=1)),
        "As with a single head, divide the scores by the square root of H.",
    ),
    Property(
        "with one position, each head writes what its own query finds",
        lambda answer: close(answer(_QUERIES[:, :1], _KEY, _VALUE), _attend(_QUERIES[:, :1], _KEY, _VALUE)),
        "The heads share keys and values, but each has its own query and its own weights (B, N, T, S).",
    ),
    Property(
        "with three, too",
        lambda answer: close(answer(_QUERIES, _KEY, _VALUE), _attend(_QUERIES, _KEY, _VALUE)),
        "Before heads are merged they stand beside their position: (B, N, T, H) is transposed to (B, T, N, H) first.",
    ),
)


# 4. A mask of one's own: a layer and x (B, T, D) → the mask and what moves, both booleans (T, T)

_WEIGHTS = _RANDOM.normal(size=(3, 6, 6)) / 6**0.5


def _layer(x, attention_mask=None):
    query, key, value = (np.asarray(x) @ weight for weight in _WEIGHTS)
    scores = query @ key.swapaxes(-1, -2) / 6**0.5
    if attention_mask is not None:
        scores = np.where(attention_mask, scores, -1e30)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True) @ value


def _ignores_masks(x, attention_mask=None):
    return _layer(x)


def _leaks_to_the_last(x, attention_mask=None):
    mask = np.array(np.broadcast_to(attention_mask, (len(x), x.shape[1], x.shape[1])))
    mask[:, -1] = True
    return _layer(x, mask)


def _run(answer, layer=_layer, length=6):
    x = np.random.default_rng(length).normal(size=(2, length, 6)).astype("float32")
    mask, moved = answer(layer, x)
    return np.asarray(mask), np.asarray(moved)


def _is_new(mask):
    known = np.ones((6, 6)), np.eye(6), np.tri(6), np.tri(6).T
    return not any(np.array_equal(mask, each) for each in known)


def _finds_the_leak(answer):
    mask, moved = _run(answer, _leaks_to_the_last)
    return np.array_equal(moved[:-1], mask[:-1]) and bool(moved[-1].all())


own_mask = Exercise(
    Property(
        "for 6 positions you return two arrays of booleans (6, 6)",
        lambda answer: all(part.shape == (6, 6) and part.dtype == bool for part in _run(answer)),
        "Return the mask and the measurement, in this order. Row t is about output t, column s about input s.",
    ),
    Property(
        "each position may look at itself",
        lambda answer: bool(np.diagonal(_run(answer)[0]).all()),
        "A position's query is made from its own vector, so its output depends on it in any case. Allow the diagonal.",
    ),
    Property(
        "your mask is not one that the chapter has",
        lambda answer: _is_new(_run(answer)[0]),
        "It is everything, only the diagonal, or the causal mask (or its mirror image). Forbid something else.",
    ),
    Property(
        "it fits a sequence of 9 positions, too",
        lambda answer: all(part.shape == (9, 9) for part in _run(answer, length=9)),
        "Take T from x.shape[1], for the mask and for the measurement.",
    ),
    Property(
        "under your mask, the measurement finds what the mask allows",
        lambda answer: all(np.array_equal(*_run(answer, length=length)) for length in (6, 9)),
        "Change one input s at a time, call the layer with the mask, and write into column s which outputs moved.",
    ),
    Property(
        "a layer that ignores masks is exposed: everything moves",
        lambda answer: bool(_run(answer, _ignores_masks)[1].all()),
        "The measurement has to come from the layer's outputs, and not from the mask.",
    ),
    Property(
        "so is a layer that ignores the mask at the last position alone",
        _finds_the_leak,
        "Compare every output with what it was, in every row of the batch and every channel.",
    ),
)
