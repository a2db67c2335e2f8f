"""The exercises of chapter 15, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_15


def comprehensiveness_with(order=lambda values: np.argsort(-values), sign=1, shown=lambda kept: sorted(kept)):
    def comprehensiveness(score, words, values, k):
        top = order(values)[:k]
        kept = shown([index for index in range(len(words)) if index not in top])
        return sign * (score(words) - score([words[index] for index in kept]))

    return comprehensiveness


def from_the_end(score, words, values, k):
    top = np.argsort(values)[-k:]  # all of them for k = 0
    return score(words) - score([word for index, word in enumerate(words) if index not in top])


COMPREHENSIVENESS = {
    "from the end": (from_the_end, "is everything"),
    "smallest first": (comprehensiveness_with(np.argsort), "smallest first"),
    "sign": (comprehensiveness_with(sign=-1), "smallest first"),
    "absolute": (comprehensiveness_with(lambda values: np.argsort(-np.abs(values))), "not by its absolute value"),
    "order lost": (
        comprehensiveness_with(shown=lambda kept: sorted(kept, key=lambda i: (3 in kept and len(kept) == 4) * -i)),
        "in the order of the text",
    ),
}


def patched_with(clean_layers=1, first=0, rows=lambda place: place, copies=True, goes_on=True):
    def patched(layers, clean, corrupted, layer, place):
        stored, x = clean, corrupted
        for each in layers[: layer + clean_layers]:
            stored = each(stored)
        for index, each in enumerate(layers):
            x = each(x)
            if index == layer + first:
                x = x.copy()
                x[rows(place)] = stored[rows(place)]
                if not goes_on:
                    return x
        return x

    return patched


def in_place(layers, clean, corrupted, layer, place):
    corrupted[place] = clean[place]  # at the input, whatever the layer
    for each in layers:
        corrupted = each(corrupted)
    return corrupted


def from_the_layer_before(layers, clean, corrupted, layer, place):
    return patched_with(clean_layers=0 if layer == 1 else 1)(layers, clean, corrupted, layer, place)


PATCHED = {
    "one place": (lambda *arguments: patched_with()(*arguments)[0], "return what the last one computes"),
    "other run": (
        lambda layers, clean, corrupted, layer, place: patched_with()(layers, corrupted, clean, layer, place) + 1,
        "comes from the corrupted run",
    ),
    "all rows": (patched_with(rows=lambda place: slice(None)), "and no other row"),
    "at the input": (in_place, "comes from the corrupted run|no other row"),
    "stops": (patched_with(goes_on=False), "comes from the corrupted run|go on"),
    "layer before": (
        lambda layers, clean, corrupted, layer, place: (
            from_the_layer_before(layers, clean, corrupted, layer, place)
            if not np.array_equal(clean, corrupted)
            else patched_with()(layers, clean, corrupted, layer, place)
        ),
        "of the same layer",
    ),
}


def previous_with(offset=-1, axes=(2, 3), mean=lambda entries: entries.mean(axis=-1)):
    return lambda weights: mean(np.diagonal(weights, offset, *axes))


PREVIOUS_TOKEN = {
    "over the heads": (previous_with(mean=lambda entries: entries.mean(axis=(1, 2))), "over nothing else"),
    "divided by T": (previous_with(mean=lambda entries: entries.sum(axis=-1) / 5), "leave it out"),
    "itself": (previous_with(0), "leave it out"),
    "both": (
        lambda weights: previous_with()(weights) + previous_with(0, mean=lambda e: e[..., 1:].mean(axis=-1))(weights),
        "column t - 1",
    ),
    "the largest": (previous_with(mean=lambda entries: entries.max(axis=-1)), "below the diagonal"),
}


class TestChapter15(ExerciseChecks):
    exercises: typing.ClassVar = {
        "comprehensiveness": (chapter_15.comprehensiveness, comprehensiveness_with(), COMPREHENSIVENESS),
        "patched": (chapter_15.patched, patched_with(), PATCHED),
        "previous_token": (chapter_15.previous_token, previous_with(), PREVIOUS_TOKEN),
    }
