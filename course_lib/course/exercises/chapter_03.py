"""Checks for the exercises of chapter 03, the Transformer."""

import keras
import numpy as np
from keras import ops

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
        "Sine and cosine of a frequency stand side by side, so the blocks of 2 × 2 follow the diagonal.",
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


# 2. The paper's decoder block: D, N → a layer from x (B, T, D), source (B, S, D), mask (B, 1, S) to (B, T, D)

_WIDTH, _HEADS = 16, 2


def _inputs():
    rng = np.random.default_rng(0)
    x, source = rng.normal(size=(2, 5, _WIDTH)).astype("float32"), rng.normal(size=(2, 7, _WIDTH)).astype("float32")
    return x, source, np.ones((2, 1, 7), bool)


def _built(answer):
    keras.utils.set_random_seed(0)
    layer = answer(_WIDTH, _HEADS)
    layer(*_inputs())
    return layer


def _moved(answer, changed):
    """Returns which outputs (T,) move when `changed` alters the inputs in place."""
    layer, inputs = _built(answer), _inputs()
    before = ops.convert_to_numpy(layer(*inputs))
    changed(*inputs)
    return np.abs(ops.convert_to_numpy(layer(*inputs)) - before).max(axis=(0, 2)) > 1e-4


def _without_sublayers(answer):
    """Compares the output with the norm of the input, after all kernels and biases were set to 0."""
    layer, (x, source, mask) = _built(answer), _inputs()
    for weight in layer.weights:
        if weight.name not in ("gamma", "beta"):
            weight.assign(ops.zeros(weight.shape, weight.dtype))
    normed = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    return close(ops.convert_to_numpy(layer(x, source, mask)), normed, 1e-2)


def _later(x, source, mask):
    x[:, 3] += 1


def _other_source(x, source, mask):
    source[:, 2] += 1


def _hidden_source(x, source, mask):
    mask[:, :, 4:] = False


def _masked(answer):
    layer, (x, source, mask) = _built(answer), _inputs()
    _hidden_source(x, source, mask)
    before = ops.convert_to_numpy(layer(x, source, mask))
    source[:, 4:] += 1
    return close(ops.convert_to_numpy(layer(x, source, mask)), before, 1e-4)


def _is_normed(x):
    return close(x.mean(axis=-1), np.zeros(x.shape[:2]), 1e-3) and close(x.std(axis=-1), np.ones(x.shape[:2]), 1e-2)


paper_block = Exercise(
    Property(
        "5 target positions and 7 source positions of width 16 give (2, 5, 16)",
        lambda answer: ops.shape(_built(answer)(*_inputs())) == (2, 5, _WIDTH),
        "The queries come from the target, so the output has one vector per target position.",
    ),
    Property(
        "it has the weights of two attentions, a feed-forward layer of 4 D and three norms",
        lambda answer: _built(answer).count_params() == 8 * (16**2 + 16) + 8 * 16**2 + 5 * 16 + 6 * 16,
        "Self-attention and cross-attention with biases; dense layers D → 4 D → D; a norm for each sublayer.",
    ),
    Property(
        "a later token changes no earlier output",
        lambda answer: not _moved(answer, _later)[:3].any(),
        "Self-attention needs use_causal_mask=True.",
    ),
    Property(
        "the source changes every output",
        lambda answer: _moved(answer, _other_source).all(),
        "In cross-attention the queries are the target's, the keys and values the source's.",
    ),
    Property(
        "a hidden source position changes nothing",
        _masked,
        "Give the mask to cross-attention as its attention_mask.",
    ),
    Property(
        "every output has mean 0 and standard deviation 1",
        lambda answer: _is_normed(ops.convert_to_numpy(_built(answer)(*_inputs()))),
        "The paper's norm stands after the sum: norm(x + f(x)).",
    ),
    Property(
        "without its sublayers only the norm of the input is left",
        _without_sublayers,
        "Each sublayer f has a residual connection: x + f(x).",
    ),
)


# 3. Teacher forcing: target ids (a list of lists), the end token → decoder ids, labels, weights, each (B, T)

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


# 4. A translator of one's own: () → a dict with train, test, answers and interval


def _sources(answer, split):
    return [source for source, _ in answer()[split]]


def _share(found):
    return np.mean([answer == target for answer, (_, target) in zip(found["answers"], found["test"], strict=True)])


def _covers(found):
    low, high = found["interval"]
    share, count = _share(found), len(found["test"])
    half = 1.96 * np.sqrt(share * (1 - share) / count)
    return low <= share <= high and abs((high - low) / 2 - half) < 0.25 * half + 0.01


def _beats_the_commonest(found):
    targets = [target for _, target in found["train"]]
    commonest = max(set(targets), key=targets.count)
    return _share(found) > np.mean([target == commonest for _, target in found["test"]])


own_translator = Exercise(
    Property(
        "there are at least 100 test pairs, and an answer for each",
        lambda answer: len(_sources(answer, "test")) == len(answer()["answers"]) >= 100,
        "With fewer than 100 pairs, the interval is wider than 10 points to each side.",
    ),
    Property(
        "no test source is among the training sources",
        lambda answer: not set(_sources(answer, "train")) & set(_sources(answer, "test")),
        "Remove repeated sources before you split, or split by source.",
    ),
    Property(
        "the interval covers the share of right answers, and is a 95 % interval",
        lambda answer: _covers(answer()),
        "share ± 1.96 · √(share (1 − share) / n), with n test pairs.",
    ),
    Property(
        "it beats always answering the commonest training target",
        lambda answer: _beats_the_commonest(answer()),
        "It has not learned yet: more epochs, more pairs, or a higher learning rate.",
    ),
)
