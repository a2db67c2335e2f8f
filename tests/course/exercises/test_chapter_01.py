"""The exercises of chapter 01, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax

from course_lib.course.exercises import chapter_01
from course_lib.layers.attention import attention_weights


def scores_of(query, key):
    return query @ key.T / np.sqrt(query.shape[-1])


def without_subtraction(scores):
    with np.errstate(all="ignore"):
        return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


TEMPERATURE = {
    "transposed": (lambda q, k, t: softmax(k @ q.T / t), "a row for each query"),
    "divides weights": (lambda q, k, t: softmax(scores_of(q, k)) / t, "softmax must come last"),
    "drops the root": (lambda q, k, t: softmax(q @ k.T / t), "square root of the width, which stays"),
    "no effect": (lambda q, k, t: softmax(scores_of(q, k)), "Divide the scores"),
    "multiplies": (lambda q, k, t: softmax(scores_of(q, k) * t), "not multiplied"),
    "root of it": (lambda q, k, t: softmax(scores_of(q, k) / np.sqrt(t)), "temperature itself"),
    "overflow": (lambda q, k, t: without_subtraction(scores_of(q, k) / t), "Subtract the largest score"),
}


def distance(length):
    return np.abs(np.arange(length)[:, None] - np.arange(length))


WINDOW = {
    "a row": (lambda length, radius: np.arange(length) <= radius, "A row for each position"),
    "numbers": (lambda length, radius: (distance(length) <= radius).astype(float), "booleans"),
    "inverted": (lambda length, radius: distance(length) > radius, "True stands where attention is allowed"),
    "one-sided": (lambda length, radius: np.tril(distance(length) <= radius), "without a sign"),
    "off by one": (lambda length, radius: distance(length) < max(radius, 1), "still inside"),
    "too far": (lambda length, radius: distance(length) <= radius + 1, "Beyond the radius"),
}


def read_in_one_pass(query, pairs, scale=None, rescale=True, sign=1, fixed=None, divide=True):
    """One pass over the pairs, right by default, with a switch for each typical mistake."""
    scale = len(query) ** -0.5 if scale is None else scale
    largest, total, weighted = -np.inf if fixed is None else fixed, 0.0, 0.0
    with np.errstate(all="ignore"):
        for key, value in pairs:
            score = sign * scale * (query @ key)
            new = max(largest, score) if fixed is None else fixed
            shrink = np.exp(largest - new) if rescale else 1.0
            total, weighted = shrink * total + np.exp(score - new), shrink * weighted + np.exp(score - new) * value
            largest = new
        return weighted / total if divide else weighted


def in_two_loops(query, pairs):
    largest = max(query @ key for key, _ in pairs)
    powers = [(np.exp(query @ key - largest), value) for key, value in pairs]
    return sum(power * value for power, value in powers) / max(sum(power for power, _ in powers), 1)


def from_a_list(query, pairs):
    keys, values = zip(*pairs, strict=True)
    return softmax(np.stack(keys) @ query / np.sqrt(len(query))) @ np.stack(values)


ONE_PASS = {
    "two loops": (in_two_loops, "read once"),
    "not normalised": (lambda q, pairs: read_in_one_pass(q, pairs, divide=False), "divide the sum"),
    "no scale": (lambda q, pairs: read_in_one_pass(q, pairs, scale=1), "square root of their width"),
    "sign": (lambda q, pairs: read_in_one_pass(q, pairs, sign=-1), "two pairs by hand"),
    "overflow": (lambda q, pairs: read_in_one_pass(q, pairs, fixed=0), "Keep the largest"),
    "no rescaling": (lambda q, pairs: read_in_one_pass(q, pairs, rescale=False), "both sums"),
    "a list": (from_a_list, "no list"),
}

SENTENCES = ("the cat drank the milk because it was thirsty", "the cat drank the milk because it was fresh")
VECTORS = {  # is living, is a noun, tells something, is a pronoun
    "cat": [1, 1, 0, 0],
    "milk": [-1, 1, 0, 0],
    "it": [0, 0, 0, 1],
    "thirsty": [1, 0, 1, 0],
    "fresh": [-1, 0, 1, 0],
}
FIRST = np.array([[0, 0, 0, 9]]).T, np.array([[0, 0, 1, 0]]).T, np.diag([1, 0, 0, 0])
SECOND = np.array([[0, 9], [0, 0], [0, 0], [9, 0]]), np.array([[0, 1], [1, 0], [0, 0], [0, 0]]), np.eye(4)


def own(sentences=SENTENCES, referents=("cat", "milk"), vectors=VECTORS, layers=(FIRST, SECOND)):
    return lambda: (sentences, referents, vectors, layers)


MILK_ALONE = np.array([[0, 0], [0, 0], [0, 0], [9, -9]]), SECOND[1], np.eye(4)  # always the lifeless noun
CAT_ALONE = np.array([[0, 0], [0, 0], [0, 0], [9, 9]]), SECOND[1], np.eye(4)
OWN_PAIR = {
    "no pronoun": (own([one.replace("it", "she") for one in SENTENCES]), "two strings"),
    "two words differ": (own((SENTENCES[0], SENTENCES[1].replace("drank", "spilt"))), "One word decides"),
    "one referent": (own(referents=("cat", "cat")), "what “it” means"),
    "the chapter's": (
        own(
            [one.replace("cat", "dog").replace("milk", "gate") for one in SENTENCES],
            ("dog", "gate"),
            {{"cat": "dog", "milk": "gate"}.get(word, word): vector for word, vector in VECTORS.items()},
        ),
        "of your own",
    ),
    "ragged vectors": (own(vectors=VECTORS | {"cat": [1, 1]}), "width D"),
    "narrow values": (own(layers=((FIRST[0], FIRST[1], np.ones((4, 1))), SECOND)), "width D"),
    "one layer": (own(layers=(SECOND,)), "Section 5"),
    "the second only": (own(layers=(FIRST, MILK_ALONE)), "layer by layer"),
    "the first only": (own(layers=(FIRST, CAT_ALONE)), "what differs"),
}


class TestChapter01(ExerciseChecks):
    exercises: typing.ClassVar = {
        "temperature": (chapter_01.temperature, lambda q, k, t: attention_weights(q / t, k), TEMPERATURE),
        "window": (chapter_01.window, lambda length, radius: distance(length) <= radius, WINDOW),
        "one_pass": (chapter_01.one_pass, read_in_one_pass, ONE_PASS),
        "own_pair": (chapter_01.own_pair, own(), OWN_PAIR),
    }
