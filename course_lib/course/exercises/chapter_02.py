"""Checks for the exercises of chapter 02, multi-head attention."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. Heads first: x (B, T, N·H), N → (B, N, T, H)

_X = np.arange(2 * 3 * 8).reshape(2, 3, 8)


def _heads_first(x, num_heads):
    return np.stack(np.split(x, num_heads, axis=-1), axis=1)


heads_first = Exercise(
    Property(
        "2 rows of 3 positions of width 8, for 4 heads, give the shape (2, 4, 3, 2)",
        lambda answer: np.shape(answer(_X, 4)) == (2, 4, 3, 2),
        "The axes are B, N, T, H in this order: cut the last axis into N and H, then move N before T.",
    ),
    Property(
        "with one head the numbers stay as they are",
        lambda answer: close(answer(_X, 1), _X[:, None]),
        "With N = 1 there is nothing to cut and nothing to mix.",
    ),
    Property(
        "with one position, head 0 gets the first channels",
        lambda answer: close(np.asarray(answer(_X[:, :1], 4))[:, 0, 0], _X[:, 0, :2]),
        "Neighbouring channels belong to one head: the last axis becomes (N, H), not (H, N).",
    ),
    Property(
        "a head holds its own channels at every position",
        lambda answer: close(answer(_X, 4), _heads_first(_X, 4)),
        "A reshape alone keeps the order in memory, so that it deals positions out to heads. "
        "Reshape to (B, T, N, H), then transpose.",
    ),
)


# 2. Parameters: hidden_dim, num_heads, value_dim (of the sequence that keys and values come from), use_bias → a number

parameters = Exercise(
    Property(
        "without biases, self-attention of width 8 with one head has 4 matrices of 8 × 8",
        lambda answer: answer(8, 1, 8, False) == 4 * 64,
        "Queries, keys, values, and the projection of the output: each takes 8 numbers to 8.",
    ),
    Property(
        "4 heads have no more than one",
        lambda answer: answer(8, 4, 8, False) == answer(8, 1, 8, False),
        "A head is as many times narrower as there are heads: together they are one matrix of the full width.",
    ),
    Property(
        "biases add one number for each output of each projection",
        lambda answer: answer(8, 4, 8, True) == 4 * 64 + 4 * 8,
        "There are four projections with 8 outputs each; the output projection has a bias, too.",
    ),
    Property(
        "in cross-attention only keys and values are made from the other sequence",
        lambda answer: answer(8, 4, 6, True) == 2 * 64 + 2 * 8 * 6 + 4 * 8,
        "Keys and values take value_dim numbers to hidden_dim; queries and output stay hidden_dim to hidden_dim.",
    ),
)


# 3. Packed documents: document ids (B, T) → booleans that broadcast to (B, N, T, T)

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
        "Compare ids[:, None, :, None] with ids[:, None, None, :]: the axis of length 1 is the one of the heads.",
    ),
    Property(
        "each position may look at itself",
        lambda answer: bool(np.all(np.diagonal(_allowed(answer), axis1=-2, axis2=-1))),
        "True stands where attention is allowed.",
    ),
    Property(
        "no position looks into another document",
        lambda answer: not np.any(_allowed(answer) & ~_SAME),
        "Attention is allowed only between positions with the same id: both conditions must hold, so join them by and.",
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


# 4. Multi-query attention: queries (B, T, N, H), key and value (B, S, H), shared by all heads → output (B, T, N·H)

_RANDOM = np.random.default_rng(0)
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
        "Formula 4.1 holds inside each head: divide the scores by the square root of H.",
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
