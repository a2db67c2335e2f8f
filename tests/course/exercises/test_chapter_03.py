"""The exercises of chapter 03, their solutions, and the mistakes that they must recognise."""

import functools
import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_03


def step_by(
    block=lambda angle: [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]],
    frequency=lambda i, width: 10_000 ** (-2 * i / width),
    side_by_side=True,
):
    def step(k, width):
        matrix = np.zeros((width, width))
        for i in range(width // 2):
            places = [2 * i, 2 * i + 1] if side_by_side else [i, width // 2 + i]
            matrix[np.ix_(places, places)] = block(k * frequency(i, width))
        return matrix

    return step


ROTATION = {
    "a vector": (lambda k, width: k * np.ones(width), "to the D numbers of another"),
    "cosine first": (step_by(lambda a: [[np.sin(a), np.cos(a)], [np.cos(a), -np.sin(a)]]), "is the identity"),
    "other way": (step_by(lambda a: [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), "The sine comes first"),
    "no minus": (step_by(lambda a: [[np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]]), "has a minus"),
    "halves": (step_by(side_by_side=False), "follow the diagonal"),
    "one frequency": (step_by(frequency=lambda i, width: 1), "each slower"),
    "half the exponent": (step_by(frequency=lambda i, width: 10_000 ** (-i / width)), "each slower"),
    "no way back": (lambda k, width: step_by()(abs(k), width), "its sign included"),
}


def forced(targets, end, shift=True, stop=True, weight_of_end=True, weight_of_padding=0, room=1, dtype="int32"):
    length = max(map(len, targets)) + room
    labels, decoder = np.full((len(targets), length), 0, dtype), np.full((len(targets), length), 0, dtype)
    weights = np.full((len(targets), length), weight_of_padding, "float32")
    for row, target in enumerate(targets):
        labels[row, : len(target) + 1] = [*target, end if stop else 0][:length]
        decoder[row, : len(target) + 1] = ([end, *target] if shift else [*target, end])[:length]
        weights[row, : len(target) + weight_of_end] = 1
    return decoder, labels, weights


FORCING = {
    "no room": (functools.partial(forced, room=0), "makes each row one longer"),
    "never stops": (functools.partial(forced, stop=False), "learn where to stop"),
    "sees the label": (functools.partial(forced, shift=False), "what comes before the label"),
    "end without weight": (functools.partial(forced, weight_of_end=False), "never learns to stop"),
    "padding with weight": (functools.partial(forced, weight_of_padding=1), "nothing to predict"),
    "floats": (functools.partial(forced, dtype="float32"), "np.zeros makes floats"),
}


def count_with(tables=1, cross=1, stacks=2, biases=1, norms=5, tables_by_layer=False):
    def count(vocabulary_size, num_layers, hidden_dim, intermediate_dim):
        attention = 4 * hidden_dim**2 + 4 * hidden_dim * biases
        feed_forward = (2 * hidden_dim + 1) * intermediate_dim + hidden_dim
        layer = (2 + cross) * attention + stacks * feed_forward + norms * 2 * hidden_dim
        table = tables * vocabulary_size * hidden_dim
        return num_layers * (layer + table) if tables_by_layer else num_layers * layer + table

    return count


COUNT = {
    "three tables": (count_with(tables=3), "share one table"),
    "one stack": (count_with(stacks=1), "encoder and decoder each have one"),
    "no cross-attention": (count_with(cross=0), "cross-attention besides its own"),
    "no biases": (count_with(biases=0), "Each projection has a bias"),
    "two norms each": (count_with(norms=4), "three in a decoder block"),
    "tables in each layer": (count_with(tables_by_layer=True), "once in all"),
}


class TestChapter03(ExerciseChecks):
    exercises: typing.ClassVar = {
        "rotation": (chapter_03.rotation, step_by(), ROTATION),
        "forcing": (chapter_03.forcing, forced, FORCING),
        "count": (chapter_03.count, count_with(), COUNT),
    }
