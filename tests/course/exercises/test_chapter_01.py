"""The exercises of chapter 01, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax

from course_lib import scaled_dot_product_attention
from course_lib.course.exercises import chapter_01
from course_lib.layers.attention import attention_weights


def scores_of(query, key):
    return query @ key.T / np.sqrt(query.shape[-1])


def without_subtraction(scores):
    with np.errstate(all="ignore"):
        return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


LOOPS = {
    "averages keys": (lambda q, k, v: softmax(scores_of(q, k)) @ k, "values are averaged"),
    "one vector": (lambda q, k, v: (softmax(scores_of(q, k)) @ v)[0], "One row for each query"),
    "not normalised": (lambda q, k, v: np.exp(scores_of(q, k)) @ v, "sum of the exponentials"),
    "over queries": (lambda q, k, v: softmax(scores_of(q, k), axis=0) @ v, "while i stands still"),
    "no scale": (lambda q, k, v: softmax(q @ k.T) @ v, "divides by something"),
    "width itself": (lambda q, k, v: softmax(q @ k.T / q.shape[-1]) @ v, "square root of the width"),
    "scaled by length": (lambda q, k, v: softmax(q @ k.T / np.sqrt(len(k))) @ v, "by hand, with two keys"),
    "sign": (lambda q, k, v: softmax(-scores_of(q, k)) @ v, "by hand, with two keys"),
    "overflow": (lambda q, k, v: without_subtraction(scores_of(q, k)) @ v, "Subtract the largest score"),
}


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


def wide(function):
    return lambda scores: function(scores.astype("float32")).astype("float16")


def subtracting_the_largest_of_all(scores):
    with np.errstate(all="ignore"):
        powers = np.exp(scores - scores.max())
        return powers / powers.sum(axis=-1, keepdims=True)


def quietly(function):
    def call(scores):
        with np.errstate(all="ignore"):
            return function(scores)

    return call


HALF_SOFTMAX = {
    "float32": (lambda scores: softmax(scores.astype("float32")), "dtype that it was given"),
    "axis": (wide(lambda scores: softmax(scores, axis=0)), "Sum over the last axis"),
    "no subtraction": (wide(without_subtraction), "Subtract the largest score"),
    "one largest": (wide(subtracting_the_largest_of_all), "its own largest score"),
    "float16 inside": (quietly(softmax), "compute in float32"),
}


class TestChapter01(ExerciseChecks):
    exercises: typing.ClassVar = {
        "loops": (chapter_01.loops, lambda q, k, v: scaled_dot_product_attention(q, k, v)[0], LOOPS),
        "temperature": (chapter_01.temperature, lambda q, k, t: attention_weights(q / t, k), TEMPERATURE),
        "window": (chapter_01.window, lambda length, radius: distance(length) <= radius, WINDOW),
        "half_softmax": (chapter_01.half_softmax, wide(softmax), HALF_SOFTMAX),
    }
