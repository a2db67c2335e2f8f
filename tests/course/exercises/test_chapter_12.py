"""The exercises of chapter 12, their solutions, and the mistakes that they must recognise."""

import collections
import typing

import numpy as np
from exercise_checks import ExerciseChecks, unsafe_softmax

from course_lib.course.exercises import chapter_12


def smoothed_with(share=lambda size: 1 / size, right=lambda smoothing, size: 1 - smoothing, reduce=None, unsafe=False,
                  lowest="entropy"):  # fmt: skip
    def smoothed(logits, labels, smoothing):
        size = logits.shape[-1]
        log = np.log(unsafe_softmax(logits)) if unsafe else logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        wanted = np.full(logits.shape, smoothing * share(size))
        wanted[np.arange(len(labels)), labels] += right(smoothing, size)
        losses = -(wanted * log).sum(axis=-1)
        q = np.array([1 - smoothing + smoothing / size, smoothing / size])
        terms = -q * np.log(np.where(q > 0, q, 1.0) if lowest != "nan" else q)
        found = {"entropy": terms[0] + (size - 1) * terms[1], "zero": 0.0, "two": terms.sum(), "right": terms[0]}
        found["nan"] = found["entropy"]
        return (losses if reduce is None else reduce(losses)), found[lowest]

    return smoothed


SMOOTHED = {
    "mean": (smoothed_with(reduce=np.mean), "not their mean"),
    "bits": (smoothed_with(reduce=lambda losses: losses / np.log(2)), "softmax of the logits"),
    "adds up to more": (smoothed_with(right=lambda smoothing, size: 1.0), "has to add up to one"),
    "smooths twice": (smoothed_with(share=lambda size: 2 / size), "has to add up to one"),
    "others alone": (
        smoothed_with(lambda size: 1 / (size - 1), lambda smoothing, size: 1 - smoothing - smoothing / (size - 1)),
        "the right one among them",
    ),
    "overflow": (smoothed_with(unsafe=True), "np.logaddexp.reduce"),
    "0 log 0": (smoothed_with(lowest="nan"), "0 · log 0"),
    "lowest is zero": (smoothed_with(lowest="zero"), "one is right, V - 1 are not"),
    "one wrong token": (smoothed_with(lowest="two"), "one is right, V - 1 are not"),
    "right token alone": (smoothed_with(lowest="right"), "one is right, V - 1 are not"),
}


def chrf_with(
    prepare=lambda text: "".join(text.split()),
    beta=2,
    clip=True,
    percent=100,
    guard=True,
    sentences=False,
    swap=False,
    of_lengths=False,
):
    def chrf(answers, references):
        if sentences:
            return np.mean([chrf_with()([a], [r]) for a, r in zip(answers, references, strict=True)])
        counts = np.zeros((6, 3))
        for answer, reference in zip(map(prepare, answers), map(prepare, references), strict=True):
            for n in range(6):
                found, wanted = (
                    collections.Counter(text[i : i + n + 1] for i in range(len(text) - n))
                    for text in (answer, reference)
                )
                both = found & wanted if clip else {part: found[part] for part in found if part in wanted}
                counts[n] += sum(found.values()), sum(wanted.values()), sum(both.values())
        counts = counts[(counts[:, :2] > 0).all(axis=1)]
        precision, recall = counts[:, 2] / counts[:, 0], counts[:, 2] / counts[:, 1]
        if swap:
            precision, recall = recall, precision
        if not of_lengths:
            precision, recall = precision.mean(), recall.mean()
        if guard and not np.any(precision + recall):
            return 0.0
        with np.errstate(all="ignore"):
            return percent * np.mean((1 + beta**2) * precision * recall / (beta**2 * precision + recall))

    return chrf


CHRF = {
    "a share": (chrf_with(percent=1), "in percent"),
    "zero by zero": (chrf_with(guard=False), "do not divide by their sum"),
    "with spaces": (chrf_with(prepare=lambda text: text), "Take the spaces out"),
    "lower case": (chrf_with(prepare=lambda text: "".join(text.lower().split())), "Leave the characters"),
    "not clipped": (chrf_with(clip=False), "Clip"),
    "F1": (chrf_with(beta=1), "β = 2|Clip"),
    "swapped": (chrf_with(swap=True), "Precision divides|Clip"),
    "equal weight": (
        lambda answers, references: (
            chrf_with()(answers, references) if len(answers[0]) != 9 else chrf_with(beta=1)(answers, references)
        ),
        "β = 2",
    ),
    "of sentences": (chrf_with(sentences=True), "Add up the counts"),
}


def beam_step_with(
    add=True,
    each=False,
    forbid=True,
    order=1,
    included=1,
    divide=True,
    all_divided=False,
    best=np.max,
    extra=False,
):
    def step(scores, log, length, end, penalty):
        total = scores[:, None] + log if add else log.copy()
        ended = best(total[:, end]) / ((length + included) ** penalty if divide else 1)
        if forbid:
            total[:, end] = -np.inf
        if all_divided:
            total = total / (length + 1) ** penalty
        if each:
            beams, tokens = np.arange(len(scores)), total.argmax(axis=1)
        else:
            beams, tokens = np.unravel_index(np.argsort(-total, axis=None)[: len(scores)], total.shape)
        beams, tokens = beams[::order], tokens[::order]
        return beams, tokens, total[beams, tokens], np.full(3, ended) if extra else ended

    return step


BEAM_STEP = {
    "three ends": (beam_step_with(extra=True), "and a number"),
    "unlikeliest": (lambda s, log, *others: beam_step_with()(s, np.where(log < -1e9, log, -log), *others), "greedy"),
    "without the past": (beam_step_with(add=False), "add the beam's score"),
    "one of each": (beam_step_with(each=True), "not each beam's own"),
    "goes on after the end": (beam_step_with(forbid=False), "minus infinity"),
    "the best last": (beam_step_with(order=-1), "highest score first"),
    "the worst end": (beam_step_with(best=np.min), "the largest of"),
    "not divided": (beam_step_with(divide=False), "makes t . 1"),
    "one short": (beam_step_with(included=0), "makes t . 1"),
    "all divided": (beam_step_with(all_divided=True), "equally long"),
}


class TestChapter12(ExerciseChecks):
    exercises: typing.ClassVar = {
        "smoothed": (chapter_12.smoothed, smoothed_with(), SMOOTHED),
        "chrf": (chapter_12.chrf, chrf_with(), CHRF),
        "beam_step": (chapter_12.beam_step, beam_step_with(), BEAM_STEP),
    }
