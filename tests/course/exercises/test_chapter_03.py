"""The exercises of chapter 03, their solutions, and the mistakes that they must recognise."""

import functools
import typing

import keras
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


def block_with(norm_first=False, causal=True, cross=True, masked=True, residual=True, hidden=4, swapped=False):
    def make(width, num_heads):
        class Block(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                attentions = 2 if cross else 1
                self.attentions = [
                    keras.layers.MultiHeadAttention(num_heads, width // num_heads) for _ in range(attentions)
                ]
                self.wide, self.narrow = keras.layers.Dense(hidden * width, "relu"), keras.layers.Dense(width)
                self.norms = [keras.layers.LayerNormalization() for _ in range(attentions + 1)]

            def call(self, x, source, mask):
                sublayers = [lambda y: self.attentions[0](y, y, use_causal_mask=causal)]
                if cross:
                    mask = mask if masked else None
                    sublayers += [lambda y: self.look(y, source, mask)]
                for f, norm in zip([*sublayers, lambda y: self.narrow(self.wide(y))], self.norms, strict=True):
                    change = f(norm(x)) if norm_first else f(x)
                    x = x + change if residual else change
                    x = x if norm_first else norm(x)
                return x

            def look(self, x, source, mask):
                return (
                    self.attentions[1](x, x, use_causal_mask=True)
                    if swapped
                    else self.attentions[1](x, source, attention_mask=mask)
                )

        return Block()

    return make


BLOCK = {
    "no shape": (
        lambda width, num_heads: keras.layers.Lambda(lambda x, source, mask: source),
        "queries come from the target",
    ),
    "no cross-attention": (block_with(cross=False), "Self-attention and cross-attention"),
    "narrow": (block_with(hidden=2), "D → 4 D → D"),
    "looks ahead": (block_with(causal=False), "use_causal_mask=True"),
    "looks at itself": (block_with(swapped=True), "values the source's"),
    "no mask": (block_with(masked=False), "as its attention_mask"),
    "no residual": (block_with(residual=False), "a residual connection"),
    "norm before": (block_with(norm_first=True), "stands after the sum"),
}


def translator_with(test=200, shared=False, share=0.9, width=1.0, commonest=False):
    def make():
        count = round(share * test)
        half = width * 1.96 * np.sqrt(share * (1 - share) / test)
        pairs = [(f"source {i}", "same" if commonest else f"target {i}") for i in range(2 * test)]
        train, held_out = pairs[test:], pairs[:test]
        return {
            "train": pairs if shared else train,
            "test": held_out,
            "answers": [target for _, target in held_out[:count]] + ["wrong"] * (test - count),
            "interval": (share - half, share + half),
        }

    return make


TRANSLATOR = {
    "few": (translator_with(test=50), "fewer than 100 pairs"),
    "leak": (translator_with(shared=True), "split by source"),
    "narrow interval": (translator_with(width=0.3), "with n test pairs"),
    "no better": (translator_with(commonest=True), "not learned yet"),
}


class TestChapter03(ExerciseChecks):
    exercises: typing.ClassVar = {
        "rotation": (chapter_03.rotation, step_by(), ROTATION),
        "forcing": (chapter_03.forcing, forced, FORCING),
        "paper_block": (chapter_03.paper_block, block_with(), BLOCK),
        "own_translator": (chapter_03.own_translator, translator_with(), TRANSLATOR),
    }
