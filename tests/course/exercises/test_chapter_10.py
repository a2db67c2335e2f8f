"""The exercises of chapter 10, their solutions, and the mistakes that they must recognise."""

import functools
import typing

import numpy as np
import pytest
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_10


def graded(x, classes, kernel, bias, *, mean=True, stable=True, swapped=False, chosen=True, transpose=True):
    logits = x @ kernel + bias
    powers = np.exp(logits - (logits.max(axis=1, keepdims=True) if stable else 0))
    p = powers / powers.sum(axis=1, keepdims=True)
    y = np.eye(len(bias))[classes]
    loss = -np.log((p * y).sum(axis=1))
    g = (y - p if swapped else p - y if chosen else p) / (len(x) if mean else 1)
    return loss.mean() if mean else loss.sum(), x.T @ g if transpose else (g.T @ x).T * len(x), g.sum(axis=0)


def graded_with(**changes):
    return functools.partial(graded, **changes)


def transposed(x, classes, kernel, bias):
    loss, kernel, bias = graded(x, classes, kernel, bias)
    return loss, kernel.T, bias


GRADIENT = {
    "kernel's gradient transposed": (transposed, "the shape of what it is the gradient of"),
    "sum in place of the mean": (graded_with(mean=False), "The mean over the batch of -log"),
    "the loss of another class": (
        lambda x, classes, *layer: (graded(x, (classes + 1) % 3, *layer)[0], *graded(x, classes, *layer)[1:]),
        "the last axis",
    ),
    "nothing taken from the right class": (graded_with(chosen=False), "p - y"),
    "uphill": (graded_with(swapped=True), "p - y"),
    "the kernel's gradient is not a mean": (graded_with(transpose=False), "the mean over the batch"),
    "overflow": (graded_with(stable=False), "Subtract the largest logit"),
}


def loss_at(value, logits, classes):
    scaled = logits / value
    return np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(logits)), classes])


def temperature_by(grid, rounds=3, loss=loss_at):
    """Searches a grid, and again around its best, as often as there are rounds."""

    def fit(logits, classes):
        found, step = 1.0, None
        for _ in range(rounds):
            values = found * np.asarray(grid if step is None else np.geomspace(1 / step, step, 41))
            found = values[np.argmin([loss(value, logits, classes) for value in values])]
            step = grid[1] / grid[0] if step is None else step ** (1 / 10)
        return found

    return fit


WIDE = np.geomspace(1e-4, 1e4, 81)


def naive_loss(value, logits, classes):
    with np.errstate(all="ignore"):
        powers = np.exp(logits / value)
        p = powers / powers.sum(axis=1, keepdims=True)
        loss = -np.mean(np.log(p[np.arange(len(logits)), classes]))
    return loss if np.isfinite(loss) else 1e9


def errors_at(value, logits, classes):
    return np.mean((logits / value).argmax(axis=1) != classes)


FITTED_TEMPERATURE = {
    "one for each class": (lambda logits, classes: np.ones(3), "for all texts and all classes"),
    "the factor in place of the divisor": (lambda *a: 1 / temperature_by(WIDE)(*a), "what they are multiplied by"),
    "always three": (lambda *_: 3.0, "not the error rate"),
    "error rate": (temperature_by(WIDE, loss=errors_at), "are divided by T"),
    "never below one": (temperature_by(np.geomspace(1, 1e4, 81)), "too modest"),
    "coarse": (temperature_by(np.geomspace(1.1**-100, 1.1**100, 201), rounds=1), "A coarse grid"),
    "overflow": (temperature_by(np.geomspace(0.01, 100, 81), loss=naive_loss), "steps that are factors"),
}


def adapted(W, A, B, alpha):
    return W + alpha / A.shape[1] * A @ B, A.size + B.size


def adapted_in_place(W, A, B, alpha):
    W += alpha / A.shape[1] * A @ B
    return W, A.size + B.size


ADAPTER = {
    "count alone inside": (lambda W, A, B, alpha: (adapted(W, A, B, alpha)[0].T, 16), "of the same shape|a count"),
    "replaced": (lambda W, A, B, alpha: (alpha / 2 * A @ B, A.size + B.size), "is added to the kernel"),
    "twice": (lambda W, A, B, alpha: (W + 2 * alpha / 2 * A @ B, A.size + B.size), "a matrix product"),
    "alpha without the rank": (lambda W, A, B, alpha: (W + alpha * A @ B, A.size + B.size), "alpha = R|alpha / R"),
    "no alpha": (lambda W, A, B, alpha: (W + A @ B, A.size + B.size), "alpha / R"),
    "everything learns": (lambda W, A, B, alpha: (adapted(W, A, B, alpha)[0], W.size), "R \\(D \\+ E\\) numbers"),
    "in place": (adapted_in_place, "writes into the array"),
}


def nearest_with(factors=lambda U, S, V: (U * S, V), which=slice, centre=False):
    def nearest(change, rank):
        change = change - change.mean(axis=0) if centre else change
        U, S, V = np.linalg.svd(change, full_matrices=False)
        return factors(U[:, which(rank)], S[which(rank)], V[which(rank)])

    return nearest


def one_by_one(change, rank, guard=True, in_place=False, same=False):
    """Finds the largest component by the power method, takes it away, and so on."""
    rest, left, right = change if in_place else change.copy(), [], []
    for _ in range(rank):
        v = np.ones(change.shape[1])
        for _ in range(2000):
            v = rest.T @ (rest @ v)
            v = v / (max(np.linalg.norm(v), 1e-300) if guard else np.linalg.norm(v))
        left.append(rest @ v)
        right.append(v)
        rest -= 0 if same else np.outer(left[-1], v)
    return np.stack(left, axis=1) / (rank if same else 1), np.stack(right)


def columns(change, rank):
    """Takes the first columns of the change, and the best B for them."""
    return change[:, :rank], np.linalg.lstsq(change[:, :rank], change)[0]


NEAREST_ADAPTER = {
    "all of it": (nearest_with(which=lambda rank: slice(None)), "keep R columns of U"),
    "three factors": (nearest_with(lambda U, S, V: (U, np.diag(S), V)), "Two matrices"),
    "B transposed": (nearest_with(lambda U, S, V: (U * S, V.T)), "R rows of Vᵀ"),
    "no singular values": (nearest_with(lambda U, S, V: (U, V)), "go in once"),
    "singular values twice": (nearest_with(lambda U, S, V: (U * S, S[:, None] * V)), "go in once"),
    "the smallest": (nearest_with(which=lambda rank: slice(-rank, None)), "the largest first"),
    "centred": (nearest_with(centre=True), "nothing is centred"),
    "V for its transpose": (
        lambda change, rank: (nearest_with()(change, rank)[0], np.linalg.svd(change)[2][:, :rank].T),
        "not V",
    ),
    "V for its transpose, cut": (nearest_with(lambda U, S, V: (U * S, V.T[: len(S)])), "R rows of Vᵀ"),
    "the first again and again": (functools.partial(one_by_one, same=True), "its own singular value"),
    "the largest for all": (nearest_with(lambda U, S, V: (U * S[0], V)), "its own singular value"),
    "columns": (columns, "keep the R largest"),
    "zero by zero": (functools.partial(one_by_one, guard=False), "do not divide by them"),
    "in place": (functools.partial(one_by_one, in_place=True), "the array that was handed in"),
}


class TestChapter10(ExerciseChecks):
    exercises: typing.ClassVar = {
        "gradient": (chapter_10.gradient, graded, GRADIENT),
        "fitted_temperature": (chapter_10.temperature, temperature_by(WIDE), FITTED_TEMPERATURE),
        "adapter": (chapter_10.adapter, adapted, ADAPTER),
        "nearest_adapter": (chapter_10.nearest_adapter, nearest_with(), NEAREST_ADAPTER),
    }


@pytest.mark.parametrize(
    "factors", [lambda U, S, V: (U, S[:, None] * V), lambda U, S, V: (U * S**0.5, (V.T * S**0.5).T)]
)
def test_the_singular_values_may_stand_in_either_factor(factors, capsys):
    assert chapter_10.nearest_adapter(nearest_with(factors)) is True, capsys.readouterr().out
