"""The exercises of chapter 07, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_07


def flat_top_with(add=1, over=1, between=1.0, warm=1, at_end=0):
    def flat_top(step, peak, warmup, decay, steps):
        step = np.asarray(step)
        rising, falling = (step + add) / (warmup + warm - 1), (steps - step - at_end) / (decay + over)
        return peak * np.minimum(between, np.minimum(rising, falling))

    return flat_top


def one_by_one(step, peak, warmup, decay, steps):
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (decay + 1))


FLAT_TOP = {
    "numbers alone": (one_by_one, "min and if do not"),
    "starts at zero": (flat_top_with(add=0), "add 1 before you divide"),
    "late": (flat_top_with(warm=2), "peak .t . 1. / warmup"),
    "no top": (flat_top_with(over=12), "the smallest of three"),
    "ends at zero": (flat_top_with(over=0, at_end=1), "which is never taken"),
    "a part less": (flat_top_with(over=0), "decay . 1 equal parts"),
}


def save_by(place=lambda path: path.with_suffix(".partial"), always=False, last=None, silent=False):
    def save(path, chunks):
        partial, size = place(path), 0
        try:
            with open(partial, "wb") as stream:
                for chunk in chunks:
                    size += stream.write(chunk)
        except Exception:
            if always:
                partial.replace(path)
            if not silent:
                raise
            return 0
        partial.replace(path)
        return size if last is None else last

    return save


def last_chunk(path, chunks):
    for chunk in chunks:
        path.write_bytes(chunk)
    return 11


SAVE = {
    "one after the other": (last_chunk, "write each of them"),
    "other result": (save_by(last=3), "what write returns"),
    "in its place": (save_by(place=lambda path: path), "to another name"),
    "whatever happens": (save_by(always=True), "not in a `finally`"),
    "silent": (save_by(silent=True), "must hear of the error"),
}


def decaying_by(does_not):
    return lambda shapes: [path for path, shape in shapes.items() if not does_not(path, shape)]


def name_of(path):
    return path.rsplit("/", 1)[-1]


NORMS_AND_BIASES = ("bias", "gamma", "beta")


DECAYING = {
    "a dict": (lambda shapes: dict.fromkeys(decaying_by(lambda *_: False)(shapes)), "as a list"),
    "one axis": (decaying_by(lambda path, shape: len(shape) == 1), "the name tells, not the shape"),
    "biases alone": (decaying_by(lambda path, shape: name_of(path) == "bias"), "neither decays"),
    "anywhere": (decaying_by(lambda path, shape: any(n in path for n in NORMS_AND_BIASES)), "last part of the path"),
    "matrices": (
        decaying_by(lambda path, shape: len(shape) == 1 or name_of(path) in NORMS_AND_BIASES),
        "whatever else it is",
    ),
}


class TestChapter07(ExerciseChecks):
    exercises: typing.ClassVar = {
        "flat_top": (chapter_07.flat_top, flat_top_with(), FLAT_TOP),
        "save": (chapter_07.save, save_by(), SAVE),
        "decaying": (chapter_07.decaying, decaying_by(lambda path, _: name_of(path) in NORMS_AND_BIASES), DECAYING),
    }
