"""Checks for the exercises of chapter 03, the Transformer."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. A step is a rotation: k, D → the matrix (D, D) with P[t + k] = M P[t] at every t


def _positions(length, width, first=0):
    angles = (first + np.arange(length))[:, None] * 10_000.0 ** (-np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def _moves(answer, k, width, first=0):
    return close(_positions(5, width, first) @ np.asarray(answer(k, width)).T, _positions(5, width, first + k), 1e-6)


rotation = Exercise(
    Property(
        "5 steps at width 8 give a matrix (8, 8)",
        lambda answer: np.shape(answer(5, 8)) == (8, 8),
        "The matrix takes the D numbers of one position to the D numbers of another.",
    ),
    Property(
        "no step changes nothing",
        lambda answer: close(answer(0, 8), np.eye(8)),
        "At k = 0 every cosine is 1 and every sine 0: the matrix is the identity.",
    ),
    Property(
        "at width 2 it is right at position 0",
        lambda answer: close(np.asarray(answer(1, 2)) @ [0.0, 1.0], [np.sin(1), np.cos(1)]),
        "Position 0 is (sin 0, cos 0) = (0, 1). The sine comes first: sin(a + b) = sin a cos b + cos a sin b.",
    ),
    Property(
        "at width 2 it is right at every position",
        lambda answer: _moves(answer, 3, 2),
        "cos(a + b) = cos a cos b - sin a sin b: one of the two sines in the matrix has a minus.",
    ),
    Property(
        "only a sine and a cosine of the same frequency are mixed",
        lambda answer: not np.any(np.asarray(answer(3, 6))[~np.kron(np.eye(3, dtype=bool), np.ones((2, 2), bool))]),
        "Sine and cosine of a frequency stand side by side, so that the blocks of 2 × 2 follow the diagonal.",
    ),
    Property(
        "wider, too",
        lambda answer: _moves(answer, 3, 16),
        "Pair i turns by the angle k / 10000^(2i / D), each slower than the one before.",
    ),
    Property(
        "from far away, too, and backwards",
        lambda answer: _moves(answer, 7, 8, first=500) and _moves(answer, -4, 8, first=500),
        "The matrix depends on k alone, its sign included, and not on where the step begins.",
    ),
)


# 2. Teacher forcing: target ids (a list of lists), the end token → decoder ids, labels, weights, each (B, T)

_TARGETS, _END = [[4, 5, 6], [7], [8, 9]], 2


def _arrays(answer):
    decoder, labels, weights = map(np.asarray, answer(_TARGETS, _END))
    return decoder, labels, weights > 0


def _real(answer, which):
    """Returns the rows of the decoder's ids or of the labels, without the positions that must have weight 0."""
    return [row[: len(target) + 1].tolist() for row, target in zip(_arrays(answer)[which], _TARGETS, strict=True)]


forcing = Exercise(
    Property(
        "three arrays with a row for each target and one place more than the longest",
        lambda answer: [np.shape(array) for array in answer(_TARGETS, _END)] == [(3, 4)] * 3,
        "The end token makes each row one longer: before the target in the decoder's ids, behind it in the labels.",
    ),
    Property(
        "the labels are the target, and then the end token",
        lambda answer: _real(answer, 1) == [[*target, _END] for target in _TARGETS],
        "The model has to learn where to stop: the last thing to predict is the end token.",
    ),
    Property(
        "the decoder is given the end token, and then the target",
        lambda answer: _real(answer, 0) == [[_END, *target] for target in _TARGETS],
        "At each place the decoder is given what comes before the label there, and the end token before the first.",
    ),
    Property(
        "every label has weight, the end token included",
        lambda answer: all(
            row[: len(target) + 1].all() for row, target in zip(_arrays(answer)[2], _TARGETS, strict=True)
        ),
        "Without weight on the end token the model never learns to stop.",
    ),
    Property(
        "padding has none",
        lambda answer: _arrays(answer)[2].sum() == sum(len(target) + 1 for target in _TARGETS),
        "Behind the end token of a shorter row there is nothing to predict: weight 0.",
    ),
    Property(
        "the ids stay integers",
        lambda answer: all(np.issubdtype(np.asarray(array).dtype, np.integer) for array in answer(_TARGETS, _END)[:2]),
        "np.zeros makes floats unless it is given a dtype, and an embedding wants integers.",
    ),
)


# 3. Parameters: vocabulary_size, num_layers, hidden_dim, intermediate_dim → a number


def _count(vocabulary_size, num_layers, hidden_dim, intermediate_dim):
    attention = 4 * hidden_dim**2 + 4 * hidden_dim
    feed_forward = 2 * hidden_dim * intermediate_dim + intermediate_dim + hidden_dim
    encoder, decoder = attention + feed_forward + 4 * hidden_dim, 2 * attention + feed_forward + 6 * hidden_dim
    return vocabulary_size * hidden_dim + num_layers * (encoder + decoder)


def _grows(answer, small, large):
    return answer(*large) - answer(*small) == _count(*large) - _count(*small)


count = Exercise(
    Property(
        "another token costs D numbers",
        lambda answer: _grows(answer, (10, 1, 8, 16), (11, 1, 8, 16)),
        "Source, target and output share one table (V, D), and the sines are no parameters.",
    ),
    Property(
        "a wider feed-forward layer costs 2 D + 1 for each unit, in both stacks",
        lambda answer: _grows(answer, (10, 1, 8, 16), (10, 1, 8, 17)),
        "A unit has D numbers on the way in, a bias, and D numbers on the way out; encoder and decoder each have one.",
    ),
    Property(
        "a layer has three attentions: one in the encoder, two in the decoder",
        lambda answer: abs(answer(10, 1, 8, 16) - _count(10, 1, 8, 16)) < 4 * 8**2,
        "The decoder has cross-attention besides its own. Each attention has 4 matrices of D × D.",
    ),
    Property(
        "biases and norms included, a small Transformer is right",
        lambda answer: answer(10, 1, 8, 16) == _count(10, 1, 8, 16),
        "Each projection has a bias. Each sublayer has a norm with 2 D numbers: two in an encoder block, three in a "
        "decoder block.",
    ),
    Property(
        "the Transformer of the paper, too",
        lambda answer: answer(37_000, 6, 512, 2048) == _count(37_000, 6, 512, 2048),
        "Blocks count once for each layer, the table of embeddings once in all.",
    ),
)
