"""Checks for the exercises of chapter 15, Interpretability."""

import itertools

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

_RANDOM = np.random.default_rng(15)

# 1. Comprehensiveness: score, a function of a list of words; words; values (W,); k → a number

_WORDS = ["a", "dull", "but", "splendid", "film"]
_VALUES = np.array([0.1, -0.6, 0.0, 0.9, 0.3])
_WORTH = {"a": 0.0, "dull": -1.0, "but": 0.5, "splendid": 2.0, "film": 0.25}


def _score(words):
    """Adds what each word is worth, and one for each pair of neighbours that is also one in the text."""
    places = [_WORDS.index(word) for word in words]
    return sum(_WORTH[word] for word in words) + sum(b - a == 1 for a, b in itertools.pairwise(places))


def _drop(answer, k, values=_VALUES):
    return float(answer(_score, list(_WORDS), np.array(values), k))


comprehensiveness = Exercise(
    Property(
        "if no word is left out, nothing is lost",
        lambda answer: close(_drop(answer, 0), 0),
        "The score of all words minus the score of the words that are left. Mind that values[-0:] is everything.",
    ),
    Property(
        "with k = 1, the word with the highest value is left out",
        lambda answer: close(_drop(answer, 1), _score(_WORDS) - _score(["a", "dull", "but", "film"])),
        "np.argsort puts the smallest first, so sort -values. The loss is positive if the score falls.",
    ),
    Property(
        "a large negative value does not count as important: it speaks against the target",
        lambda answer: close(_drop(answer, 2), _score(_WORDS) - _score(["a", "dull", "but"])),
        "Sort by the value itself and not by its absolute value.",
    ),
    Property(
        "the words that are left keep their order",
        lambda answer: close(_drop(answer, 1, -_VALUES), _score(_WORDS) - _score(["a", "but", "splendid", "film"])),
        "Go through the words in the order of the text, and keep those that are not among the first k.",
    ),
)

# 2. Patching: layers, functions (T, D) → (T, D); clean (T, D); corrupted (T, D); layer; place → (T, D)

_MIX = _RANDOM.normal(size=(3, 4, 4))
_CLEAN, _CORRUPTED = _RANDOM.normal(size=(2, 4, 3))
_LAYERS = [lambda x, mix=mix: np.tanh(mix @ x) for mix in _MIX]


def _run(x, layers=_LAYERS):
    for layer in layers:
        x = layer(x)
    return x


def _patched(answer, layer, place, clean=_CLEAN):
    before = clean.copy(), _CORRUPTED.copy()
    found = np.asarray(answer(list(_LAYERS), *before, layer, place))
    return found if np.array_equal(before[0], clean) and np.array_equal(before[1], _CORRUPTED) else np.inf * found


def _by_hand(layer, place):
    x = _run(_CORRUPTED, _LAYERS[: layer + 1]).copy()
    x[place] = _run(_CLEAN, _LAYERS[: layer + 1])[place]
    return _run(x, _LAYERS[layer + 1 :])


patched = Exercise(
    Property(
        "the result has the shape of the last layer's output",
        lambda answer: _patched(answer, 0, 0).shape == (4, 3),
        "Run all layers on the corrupted input, and return what the last one computes.",
    ),
    Property(
        "patching from the corrupted input itself changes nothing",
        lambda answer: close(_patched(answer, 1, 2, _CORRUPTED), _run(_CORRUPTED)),
        "Everything but the one place comes from the corrupted run.",
    ),
    Property(
        "after the last layer, only the patched place has the clean output",
        lambda answer: (
            close(_patched(answer, 2, 1)[1], _run(_CLEAN)[1])
            and close(np.delete(_patched(answer, 2, 1), 1, 0), np.delete(_run(_CORRUPTED), 1, 0))
        ),
        "Replace the output of layer number `layer`, counted from 0, at row `place`, and no other row.",
    ),
    Property(
        "earlier, the layers that follow read the patched activation, and the inputs are left as they were",
        lambda answer: all(close(_patched(answer, layer, 3), _by_hand(layer, 3)) for layer in (0, 1)),
        "The clean activation is that of the same layer. Replace it, go on with the next layers, and copy before you "
        "write into an array.",
    ),
)

# 3. Previous-token heads: attention weights (L, N, T, T) → (L, N)

_WEIGHTS = _RANDOM.uniform(size=(2, 3, 5, 5)) * np.tril(np.ones((5, 5)))
_WEIGHTS /= _WEIGHTS.sum(axis=-1, keepdims=True)
_BACK = np.eye(5, k=-1)
_BACK[0, 0] = 1


def _looked(answer, weights=_WEIGHTS):
    return np.asarray(answer(weights.copy()))


previous_token = Exercise(
    Property(
        "there is one score for each head of each layer",
        lambda answer: _looked(answer).shape == (2, 3),
        "Average over the positions, and over nothing else.",
    ),
    Property(
        "a head that always looks at the token before scores 1",
        lambda answer: close(_looked(answer, np.tile(_BACK, (2, 3, 1, 1))), np.ones((2, 3))),
        "The first token has no token before it: leave it out of the mean.",
    ),
    Property(
        "a head that looks at the token itself scores 0",
        lambda answer: close(_looked(answer, np.tile(np.eye(5), (2, 3, 1, 1))), np.zeros((2, 3))),
        "Row t is the token that attends. Its score is in column t - 1.",
    ),
    Property(
        "in between, it is the mean weight on the token before",
        lambda answer: close(
            _looked(answer), [[np.mean([head[t, t - 1] for t in range(1, 5)]) for head in layer] for layer in _WEIGHTS]
        ),
        "np.diagonal(weights, offset=-1, axis1=2, axis2=3) has the entries below the diagonal.",
    ),
)
