"""Checks for the exercises of chapter 06, next sentence prediction."""

import itertools
import math

import numpy as np

from course_lib.course.exercises import Exercise, Property

# Documents whose sentences name their own position: "2.1" is the second sentence of document 2.
_DOCUMENTS = [[f"{document}.{place}" for place in range(length)] for document, length in enumerate((4, 3, 6, 2, 5))]
_BOUNDARIES = [pair for document in _DOCUMENTS for pair in itertools.pairwise(document)]


def _document(sentence):
    return sentence.split(".")[0]


def _is_boundary(first, second):
    return (first, second) in _BOUNDARIES


def _triples(found):
    """Tells whether this is a list of (string, string, 0 or 1)."""
    return len(found) > 0 and all(
        len(triple) == 3 and isinstance(triple[0], str) and isinstance(triple[1], str) and triple[2] in (0, 1)
        for triple in found
    )


def _of_label(found, label):
    return [(first, second) for first, second, its in found if its == label]


# 1. Balanced pairs: documents and a seed → (first, second, label), each boundary in one true and one false pair


def _false(answer, seed=0):
    return _of_label(answer(_DOCUMENTS, seed), 1)


pairs = Exercise(
    Property(
        "a list of tuples (first, second, label), with labels 0 and 1",
        lambda answer: _triples(answer(_DOCUMENTS, 0)),
        "Each entry is two sentences, as strings, and a label, 0 or 1.",
    ),
    Property(
        "0 stands for pairs that follow, 1 for those that do not",
        lambda answer: (
            not any(_is_boundary(*pair) for pair in _false(answer))
            or not all(_is_boundary(*pair) for pair in _false(answer))
        ),
        "Every pair of label 1 is a boundary: the labels are Google's, 0 if the second follows.",
    ),
    Property(
        "each boundary is a true pair, once",
        lambda answer: sorted(_of_label(answer(_DOCUMENTS, 0), 0)) == sorted(_BOUNDARIES),
        "Each boundary gives a true pair, whatever is drawn: n - 1 in a document of n sentences, none between two.",
    ),
    Property(
        "each boundary's first sentence has one false pair",
        lambda answer: sorted(first for first, _ in _false(answer)) == sorted(first for first, _ in _BOUNDARIES),
        "As many false pairs as true ones, with the same first sentences.",
    ),
    Property(
        "false second sentences come from another document",
        lambda answer: all(
            _document(first) != _document(second) for seed in range(20) for first, second in _false(answer, seed)
        ),
        "Leave the document of the first sentence out before you draw.",
    ),
    Property(
        "none of them is the first sentence of its document",
        lambda answer: not any(second.endswith(".0") for seed in range(20) for _, second in _false(answer, seed)),
        "The second of a true pair never begins a document, so that one which does is known without the first.",
    ),
    Property(
        "the same seed gives the same pairs, another seed others",
        lambda answer: (
            answer(_DOCUMENTS, 0) == answer(_DOCUMENTS, 0)
            and len({tuple(sorted(_false(answer, seed))) for seed in range(5)}) == 5
        ),
        "Draw with np.random.default_rng(seed), made anew in each call.",
    ),
)


# 2. The article's loss, corrected: logits (n, 2), column 0 for "follows", and labels (n,), 1 for "follows" → the sum

_rng = np.random.default_rng(0)
_LOGITS, _Y = _rng.normal(size=(12, 2)), _rng.permutation(np.arange(12) % 2)


def _one(answer, z0, z1, y):
    return float(answer(np.array([[z0, z1]]), np.array([y])))


def _expected(logits, y):
    return sum(
        math.log(math.exp(z0) + math.exp(z1)) - (z0 if label else z1) for (z0, z1), label in zip(logits, y, strict=True)
    )


loss = Exercise(
    Property(
        "one number",
        lambda answer: np.shape(answer(_LOGITS, _Y)) == (),
        "Add up over all pairs; there is one loss for the batch.",
    ),
    Property(
        "never below zero",
        lambda answer: all(_one(answer, z, -z, y) >= 0 for z in (-3.0, 0.0, 3.0) for y in (0, 1)),
        "The minus covers both terms: put the sum of the two in brackets.",
    ),
    Property(
        "a pair of which the model knows nothing costs log 2, true or false",
        lambda answer: all(math.isclose(_one(answer, 1.0, 1.0, y), math.log(2), rel_tol=1e-5) for y in (0, 1)),
        "With equal logits both probabilities are 1/2, in natural logarithms; true and false pairs both count.",
    ),
    Property(
        "y = 1 is a pair that follows, which is column 0",
        lambda answer: _one(answer, 2.0, -2.0, 1) < _one(answer, 2.0, -2.0, 0),
        "The article's labels are not Google's: a pair with y = 1 is right if column 0 has the larger logit.",
    ),
    Property(
        "as many equal pairs cost as many times one",
        lambda answer: math.isclose(float(answer(np.ones((6, 2)), np.arange(6) % 2)), 6 * math.log(2), rel_tol=1e-5),
        "The formula has a sum and no 1/n: do not take the mean.",
    ),
    Property(
        "random logits and labels",
        lambda answer: math.isclose(float(answer(_LOGITS, _Y)), _expected(_LOGITS, _Y), rel_tol=1e-5),
        "P(follows) is the softmax of the two logits, once: the sigmoid of their difference.",
    ),
    Property(
        "large logits",
        lambda answer: all(
            math.isclose(_one(answer, z0, z1, y), 2000 if (z0 > z1) != y else 0, abs_tol=1e-6)
            for z0, z1 in ((1000.0, -1000.0), (-1000.0, 1000.0))
            for y in (0, 1)
        ),
        "exp overflows, and log of 0 is infinite: np.logaddexp(0, x) is log(1 + exp(x)) for every x.",
    ),
)


# 3. Sentence order: documents and a seed → (first, second, label), each boundary once, half of them swapped


def _in_order(triple):
    """Puts a pair into the order of the text, according to its label."""
    first, second, label = triple
    return (second, first) if label else (first, second)


def _swapped(found):
    return [not _is_boundary(first, second) for first, second, _ in found]


order = Exercise(
    Property(
        "a list of tuples (first, second, label), with labels 0 and 1",
        lambda answer: _triples(answer(_DOCUMENTS, 0)),
        "Each entry is two sentences, as strings, and a label, 0 or 1.",
    ),
    Property(
        "every pair is a boundary, in one order or the other",
        lambda answer: all(
            _is_boundary(first, second) or _is_boundary(second, first) for first, second, _ in answer(_DOCUMENTS, 0)
        ),
        "False pairs have the same two sentences as true ones, swapped: nothing comes from elsewhere.",
    ),
    Property(
        "each boundary once, in the order of the text",
        lambda answer: (
            [tuple(sorted(triple[:2])) for triple in answer(_DOCUMENTS, 0)] == [tuple(sorted(b)) for b in _BOUNDARIES]
        ),
        "One pair per boundary: either in order or swapped, not both.",
    ),
    Property(
        "label 1 stands for swapped pairs, 0 for those in order",
        lambda answer: [_in_order(triple) for triple in answer(_DOCUMENTS, 0)] == _BOUNDARIES,
        "Swap the two sentences exactly where the label is 1.",
    ),
    Property(
        "half are swapped, rounded down",
        lambda answer: all(sum(_swapped(answer(_DOCUMENTS, seed))) == len(_BOUNDARIES) // 2 for seed in range(20)),
        "A coin for each pair gives half on average only: shuffle as many ones as are needed.",
    ),
    Property(
        "the seed decides which",
        lambda answer: (
            answer(_DOCUMENTS, 0) == answer(_DOCUMENTS, 0)
            and len({tuple(_swapped(answer(_DOCUMENTS, seed))) for seed in range(5)}) == 5
        ),
        "Shuffle the labels with np.random.default_rng(seed), made anew in each call.",
    ),
)
