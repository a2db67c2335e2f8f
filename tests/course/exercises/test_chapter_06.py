"""The exercises of chapter 06, their solutions, and the mistakes that they must recognise."""

import itertools
import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax, unsafe_softmax

from course_lib.course.exercises import chapter_06


def make_pairs(documents, seed, skip=1, leave_out=True, labels=(0, 1)):
    rng, made = np.random.default_rng(seed), []
    for number, document in enumerate(documents):
        elsewhere = [s for n, other in enumerate(documents) if n != number or not leave_out for s in other[skip:]]
        for first, second in itertools.pairwise(document):
            made.append((first, second, labels[0]))
            made.append((first, elsewhere[rng.integers(len(elsewhere))], labels[1]))
    return made


def one_a_boundary(documents, seed):
    made = make_pairs(documents, seed)
    return [made[2 * n + coin] for n, coin in enumerate(np.random.default_rng(seed).integers(2, size=len(made) // 2))]


def other_first_sentences(documents, seed):
    made = make_pairs(documents, seed)
    return [(made[0][0], second, 1) if label else (first, second, 0) for first, second, label in made]


MAKE_PAIRS = {
    "no labels": (lambda docs, seed: [triple[:2] for triple in make_pairs(docs, seed)], "two sentences, as strings"),
    "the seed's labels": (lambda docs, seed: make_pairs(docs, seed, labels=(1, 0)), "labels are Google's"),
    "across documents": (
        lambda docs, seed: [*make_pairs(docs, seed), (docs[0][-1], docs[1][0], 0), (docs[0][-1], docs[2][1], 1)],
        "none between two",
    ),
    "a coin for each": (one_a_boundary, "whatever is drawn"),
    "true ones only": (
        lambda docs, seed: [triple for triple in make_pairs(docs, seed) if triple[2] == 0],
        "As many false pairs",
    ),
    "other first sentences": (other_first_sentences, "with the same first sentences"),
    "own document": (lambda docs, seed: make_pairs(docs, seed, leave_out=False), "Leave the document"),
    "beginnings": (lambda docs, seed: make_pairs(docs, seed, skip=0), "never begins a document"),
    "seed ignored": (lambda docs, seed: make_pairs(docs, 0), "made anew in each call"),
    "no seed": (lambda docs, seed: make_pairs(docs, None), "made anew in each call"),
}


def next_sentence_loss(logits, y, power=0.0):
    difference = logits[:, 0] - logits[:, 1]
    return np.sum(np.logaddexp(0, np.where(y == 1, -difference, difference))) / len(y) ** power


def by_formula(term, inside=softmax):
    def loss(logits, y):
        with np.errstate(all="ignore"):
            log = np.log(inside(logits))
            return np.sum(term(y, log[:, 0], log[:, 1]))

    return loss


def both_terms(y, yes, no):
    return -np.where(y == 1, yes, no)


NEXT_SENTENCE_LOSS = {
    "a loss each": (
        lambda logits, y: np.array([next_sentence_loss(logits[i : i + 1], y[i : i + 1]) for i in range(len(y))]),
        "Add up over all pairs",
    ),
    "as typeset": (by_formula(lambda y, yes, no: -y * yes + (1 - y) * no), "covers both terms"),
    "no minus": (by_formula(lambda y, yes, no: y * yes + (1 - y) * no), "covers both terms"),
    "first term": (by_formula(lambda y, yes, no: -y * yes), "true and false pairs both count"),
    "bits": (lambda logits, y: next_sentence_loss(logits, y) / np.log(2), "natural logarithms"),
    "Google's labels": (lambda logits, y: next_sentence_loss(logits, 1 - y), "not Google's"),
    "mean": (lambda logits, y: next_sentence_loss(logits, y, power=1.0), "do not take the mean"),
    "softmax twice": (by_formula(both_terms, lambda logits: softmax(softmax(logits))), "once"),
    "overflow": (by_formula(both_terms, unsafe_softmax), "exp overflows"),
    "clipped": (by_formula(both_terms, lambda logits: np.clip(softmax(logits), 1e-7, 1)), "logaddexp"),
}


def order_pairs(documents, seed, draw=None, labels=(0, 1)):
    boundaries = [pair for document in documents for pair in itertools.pairwise(document)]
    rng = np.random.default_rng(seed)
    swap = rng.permutation(np.arange(len(boundaries)) % 2) if draw is None else draw(rng, len(boundaries))
    return [(*pair[::-1], labels[1]) if s else (*pair, labels[0]) for pair, s in zip(boundaries, swap, strict=True)]


ORDER_PAIRS = {
    "no labels": (lambda docs, seed: [triple[:2] for triple in order_pairs(docs, seed)], "two sentences, as strings"),
    "next sentence": (make_pairs, "nothing comes from elsewhere"),
    "both orders": (
        lambda docs, seed: (
            order_pairs(docs, seed, lambda _, n: [0] * n) + order_pairs(docs, seed, lambda _, n: [1] * n)
        ),
        "not both",
    ),
    "labels reversed": (lambda docs, seed: order_pairs(docs, seed, labels=(1, 0)), "exactly where the label is 1"),
    "a coin for each": (
        lambda docs, seed: order_pairs(docs, seed, lambda rng, n: rng.integers(2, size=n)),
        "half on average",
    ),
    "every other": (lambda docs, seed: order_pairs(docs, seed, lambda _, n: np.arange(n) % 2), "Shuffle the labels"),
    "no seed": (lambda docs, seed: order_pairs(docs, None), "made anew in each call"),
}


class TestChapter06(ExerciseChecks):
    exercises: typing.ClassVar = {
        "pairs": (chapter_06.pairs, make_pairs, MAKE_PAIRS),
        "loss": (chapter_06.loss, next_sentence_loss, NEXT_SENTENCE_LOSS),
        "order": (chapter_06.order, order_pairs, ORDER_PAIRS),
    }
