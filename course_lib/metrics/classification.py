"""Makes a report on a classifier with scikit-learn: accuracy, F1 of each class, and the confusion matrix.

Shapes: n examples, C classes.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClassificationReport:
    """The scores of a classifier. `print` shows them as a table.

    Attributes:
        accuracy: fraction of examples whose prediction is right. With several labels per example, all of them must be
            right.
        f1: a dict from each class to the harmonic mean of its precision and its recall.
        macro_f1: the mean of `f1` over all classes.
        support: a dict from each class to its number of examples.
        confusion: integers (C, C). Entry (i, j) counts the examples of class i that were predicted as class j. With
            several labels per example, integers (C, 2, 2): one such matrix per class, whose rows and columns are
            "without" and "with" the class.
        table: the report as text.
    """

    accuracy: float
    f1: dict
    macro_f1: float
    support: dict
    confusion: np.ndarray
    table: str = dataclasses.field(repr=False)

    def __str__(self):
        return self.table


def classification_report(right, predicted, names):
    """Compares predictions with the right classes.

    Args:
        right: the right classes, integers (n,) from 0 to C - 1; or booleans (n, C), for several labels per example.
        predicted: the predictions, in the same form.
        names: the names of the C classes.

    Returns:
        A `ClassificationReport`.

    Raises:
        ValueError: if the shapes differ, or there are no examples.
        ImportError: if scikit-learn is not installed.
    """
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ImportError("A report needs scikit-learn: pip install scikit-learn") from error

    right, predicted, names = np.asarray(right), np.asarray(predicted), list(names)
    if right.shape != predicted.shape or not len(right):
        raise ValueError(f"Expected a prediction for each example; got shapes {right.shape} and {predicted.shape}.")
    labels = list(range(len(names)))
    scores = metrics.f1_score(right, predicted, labels=labels, average=None, zero_division=0)
    table = metrics.classification_report(
        right, predicted, labels=labels, target_names=names, digits=3, zero_division=0
    ).rstrip()
    if right.ndim == 1:
        confusion, support = (
            metrics.confusion_matrix(right, predicted, labels=labels),
            np.bincount(right, minlength=len(names)),
        )
        width = max(map(len, [*names, str(confusion.max())])) + 2
        lines = ["".join(cell.rjust(width) for cell in ("", *names))]
        lines += [
            "".join(str(cell).rjust(width) for cell in (name, *row)) for name, row in zip(names, confusion, strict=True)
        ]
        table += "\n\nConfusion matrix: a row per right class, a column per predicted class\n" + "\n".join(lines)
    else:
        confusion, support = metrics.multilabel_confusion_matrix(right, predicted, labels=labels), right.sum(axis=0)
    return ClassificationReport(
        float(metrics.accuracy_score(right, predicted)),
        dict(zip(names, map(float, scores), strict=True)),
        float(np.mean(scores)),
        dict(zip(names, map(int, support), strict=True)),
        confusion,
        table,
    )


def bootstrap_accuracy(correct, resamples=1000, seed=0):
    """Computes accuracies on bootstrap samples of both the training sets and the test examples.

    Each sample draws training sets and, independently of them, test examples, both with replacement. So its accuracy
    varies as it would with other labelled texts and another test set (Owen, 2007, https://arxiv.org/abs/0712.1111). Two
    calls with the same seed draw the same samples, so their difference compares two classifiers on the same examples.

    Shapes: R training sets, n examples, S samples.

    Args:
        correct: booleans (..., R, n), whether the classifier trained on each training set was right on each example.
        resamples: S.
        seed: seed of the random samples.

    Returns:
        Floats (S, ...). Their 2.5th and 97.5th percentiles bound a 95 % interval.
    """
    correct = np.asarray(correct, "float32")
    rng = np.random.default_rng(seed)
    shares = [rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in correct.shape[-2:]]
    return np.einsum("sr,...rn,sn->s...", shares[0], correct, shares[1], optimize=True)
