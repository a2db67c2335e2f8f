"""Checks for the exercises of chapter 10, fine-tuning for classes."""

import math

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. The gradient: vectors (B, D), classes (B,), a kernel (D, C) and a bias (C,) → the loss, and both gradients

_rng = np.random.default_rng(10)
_B, _D, _C = 7, 4, 3
_X, _CLASSES = _rng.normal(size=(_B, _D)), _rng.integers(0, _C, _B)
_KERNEL, _BIAS = _rng.normal(size=(_D, _C)), _rng.normal(size=_C)
for _array in (_X, _CLASSES, _KERNEL, _BIAS):
    _array.setflags(write=False)


def _loss(kernel, bias, x=_X, classes=_CLASSES):
    logits = x @ kernel + bias
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(x)), classes]))


def _slopes(of, at, step=1e-5):
    """Computes the gradient of a function of one array by finite differences."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        found[index] = (of(at + moved) - of(at - moved)) / (2 * step)
    return found


def _graded(answer, x=_X, classes=_CLASSES, kernel=_KERNEL, bias=_BIAS):
    with np.errstate(all="ignore"):
        return [np.asarray(part) for part in answer(x.copy(), classes.copy(), kernel.copy(), bias.copy())]


gradient = Exercise(
    Property(
        "a number, a gradient (D, C) and a gradient (C,)",
        lambda answer: [part.shape for part in _graded(answer)] == [(), (_D, _C), (_C,)],
        "Each gradient has the shape of what it is the gradient of.",
    ),
    Property(
        "where all logits are 0 the loss is log C",
        lambda answer: close(_graded(answer, kernel=0 * _KERNEL, bias=0 * _BIAS)[0], math.log(_C)),
        "The mean over the batch of -log of the softmax's probability of the right class, with natural logarithms.",
    ),
    Property(
        "the loss is right",
        lambda answer: close(_graded(answer)[0], _loss(_KERNEL, _BIAS)),
        "The softmax is over the classes, the last axis, and so is the choice of the right one's probability.",
    ),
    Property(
        "the bias is moved by the probabilities minus one at the right class",
        lambda answer: close(_graded(answer)[2], _slopes(lambda bias: _loss(_KERNEL, bias), _BIAS)),
        "The gradient at the logits is p - y, y being 1 at the right class; the bias has its mean over the batch.",
    ),
    Property(
        "the kernel's gradient is right",
        lambda answer: close(_graded(answer)[1], _slopes(lambda kernel: _loss(kernel, _BIAS), _KERNEL)),
        "Xᵀ (p - y) / B: each vector times what its logits get, and the mean over the batch.",
    ),
    Property(
        "large logits do not overflow",
        lambda answer: (
            all(np.isfinite(part).all() for part in _graded(answer, bias=_BIAS + 1000.0))
            and close(_graded(answer, bias=_BIAS + 1000.0)[1], _graded(answer)[1])
        ),
        "Subtract the largest logit of each row before exp: it changes no probability.",
    ),
)


# 2. The temperature: logits (n, C) and classes (n,) → a number

_N = 4000
_TRUE = 1.5 * np.random.default_rng(11).normal(size=(_N, 3))  # calibrated logits: the classes are drawn from them
_NOISE = np.random.default_rng(12).gumbel(size=(_N, 3))
_DRAWN = np.argmax(_TRUE + _NOISE, axis=1)
_WORTHLESS = np.random.default_rng(13).permutation(_DRAWN)
for _array in (_TRUE, _DRAWN, _WORTHLESS):
    _array.setflags(write=False)


def _fitted(answer, factor=1.0, shift=0.0, classes=_DRAWN):
    with np.errstate(all="ignore"):
        return np.asarray(answer(factor * _TRUE + shift, classes.copy()), "float64")


def _cools(answer, logits, classes):
    """Tells whether no temperature nearby has a lower loss."""
    found = float(answer(logits.copy(), classes.copy()))

    def loss(value):
        return _loss(np.eye(logits.shape[1]), np.zeros(logits.shape[1]), logits / value, classes)

    return found > 0 and loss(found) < min(loss(0.98 * found), loss(1.02 * found))


temperature = Exercise(
    Property(
        "one positive number",
        lambda answer: _fitted(answer).shape == () and _fitted(answer) > 0,
        "One temperature for all texts and all classes.",
    ),
    Property(
        "logits that are three times too large have a temperature near 3",
        lambda answer: 2.7 < _fitted(answer, 3.0) < 3.3,
        "The logits are divided by T. If you found 1/3, you have what they are multiplied by.",
    ),
    Property(
        "logits that mean what they say have one near 1",
        lambda answer: 0.9 < _fitted(answer) < 1.1,
        "T minimises the cross-entropy of softmax(logits / T), not the error rate, which no T changes.",
    ),
    Property(
        "logits that are too small have one below 1",
        lambda answer: 0.18 < _fitted(answer, 0.2) < 0.22,
        "Look on both sides of 1: a model can be too modest, too.",
    ),
    Property(
        "it is exact to two hundredths",
        lambda answer: all(_cools(answer, factor * _TRUE, _DRAWN) for factor in (0.37, 1.0, 4.3)),
        "A coarse grid is not enough: search again around its best, or halve an interval on the derivative in 1/T.",
    ),
    Property(
        "very large logits do no harm",
        lambda answer: 1800 < _fitted(answer, 2000.0) < 2200,
        "Take log Σ exp with np.logaddexp.reduce, and let the search go far enough, in steps that are factors.",
    ),
)


# 3. An adapter: kernel (D, E), A (D, R), B (R, E), alpha → the merged kernel, and the number of trained parameters

_W, _A, _Bs = _rng.normal(size=(5, 3)), _rng.normal(size=(5, 2)), _rng.normal(size=(2, 3))
for _array in (_W, _A, _Bs):
    _array.setflags(write=False)


def _adapted(answer, W=_W, A=_A, B=_Bs, alpha=2.0):
    kernel, count = answer(W.copy(), A.copy(), B.copy(), alpha)
    return np.asarray(kernel), count


def _leaves_the_kernel(answer):
    W = _W.copy()
    answer(W, _A.copy(), _Bs.copy(), 2.0)
    return np.array_equal(W, _W)


adapter = Exercise(
    Property(
        "a kernel of the same shape, and a number",
        lambda answer: _adapted(answer)[0].shape == _W.shape and np.ndim(_adapted(answer)[1]) == 0,
        "Return two things: the kernel (D, E) with the adapter in it, and a count.",
    ),
    Property(
        "while B is zero, nothing has changed",
        lambda answer: close(_adapted(answer, B=0 * _Bs)[0], _W),
        "The product of A and B is added to the kernel and does not replace it.",
    ),
    Property(
        "with alpha = R, A B is added",
        lambda answer: close(_adapted(answer)[0], _W + _A @ _Bs),
        "A @ B is (D, R) @ (R, E), a matrix product. With alpha = R the factor is 1.",
    ),
    Property(
        "alpha counts in units of the rank",
        lambda answer: close(_adapted(answer, alpha=8.0)[0], _W + 4 * _A @ _Bs),
        "The factor is alpha / R, so that alpha need not be chosen anew for each rank. R is the width of A.",
    ),
    Property(
        "A and B learn, and the kernel does not",
        lambda answer: int(_adapted(answer)[1]) == _A.size + _Bs.size,
        "R (D + E) numbers learn. The kernel's D E are frozen.",
    ),
    Property(
        "the kernel that came in is left as it was",
        _leaves_the_kernel,
        "W += … writes into the array that was handed in; W + … makes a new one.",
    ),
)


# 4. The nearest adapter: a change (D, E), R → A (D, R), B (R, E)

_OUTER = np.outer([1.0, 2.0, -1.0, 0.0, 3.0], [2.0, 0.0, 1.0, -1.0])
_CHANGES = _rng.normal(size=(6, 4)), _rng.normal(size=(4, 7))


def _nearest(answer, change, rank):
    with np.errstate(all="ignore"):
        A, B = answer(change.copy(), rank)
    return np.asarray(A), np.asarray(B)


def _product(answer, change, rank):
    A, B = _nearest(answer, change, rank)
    return A @ B


def _is_nearest(answer, change, rank):
    skip_on_save = np.linalg.svd(change, compute_uv=False)[rank:]
    return close(np.sum((change - _product(answer, change, rank)) ** 2), np.sum(skip_on_save**2), 1e-4)


def _leaves_the_change(answer):
    change = _CHANGES[0].copy()
    answer(change, 2)
    return np.array_equal(change, _CHANGES[0])


nearest_adapter = Exercise(
    Property(
        "A is (D, R) and B is (R, E)",
        lambda answer: all(
            [part.shape for part in _nearest(answer, change, rank)] == [(len(change), rank), (rank, change.shape[1])]
            for change in _CHANGES
            for rank in (1, 2, 4)
        ),
        "Two matrices. Of three factors U, S, Vᵀ, keep R columns of U and R rows of Vᵀ, and put S into one of them.",
    ),
    Property(
        "the outer product of two vectors is given back at rank 1",
        lambda answer: close(_product(answer, _OUTER, 1), _OUTER),
        "The singular values go in once, the largest first, and nothing is centred. np.linalg.svd returns Vᵀ, not V.",
    ),
    Property(
        "at full rank, the product is the change",
        lambda answer: all(close(_product(answer, change, 4), change) for change in _CHANGES),
        "Each of the R components has its own column of A and its own row of B, and its own singular value.",
    ),
    Property(
        "the squared error is the sum of the squared singular values that are left out",
        lambda answer: all(_is_nearest(answer, change, rank) for change in _CHANGES for rank in (1, 2, 3)),
        "None of that rank has a smaller error (Eckart and Young, 1936): keep the R largest singular values.",
    ),
    Property(
        "where nothing has changed, the product is zero",
        lambda answer: close(_product(answer, 0 * _OUTER, 2), 0 * _OUTER),
        "All singular values are 0 then: do not divide by them, nor by the length of a vector.",
    ),
    Property(
        "the change that came in is left as it was",
        _leaves_the_change,
        "change -= … writes into the array that was handed in; change - … makes a new one.",
    ),
)
