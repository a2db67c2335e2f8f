"""Probes: what can a linear classifier read from a model's vectors, and how much of that did the probe learn itself?

Shapes: n vectors, D width.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What a probe reached on vectors that it was not trained on.

    Attributes:
        accuracy: the share that it labels correctly.
        majority: the share of the label that is most frequent in training.
        correct: booleans, for each test vector, to compare probes pair by pair.
    """

    accuracy: float
    majority: float
    correct: np.ndarray


def linear_probe(features, labels, test_features, test_labels, regularization=1.0):
    """Trains a logistic regression on vectors, and measures it on others.

    Features are standardised. A high accuracy says that the vectors *contain* the label in a linear form, and not that
    the model uses it. Compare with the same probe on an untrained model, and with `control_labels`: the difference
    between the accuracies is the *selectivity* (Hewitt and Liang, 2019, https://arxiv.org/abs/1909.03368).

    Args:
        features: floats (n, D).
        labels: n labels.
        test_features: floats (m, D).
        test_labels: m labels.
        regularization: C of scikit-learn's `LogisticRegression`; smaller is stronger.

    Returns:
        A `ProbeResult`.

    Raises:
        ValueError: if features and labels differ in number or width, or all labels are the same.
        ImportError: if scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("Probes need scikit-learn: pip install scikit-learn") from error
    features, test_features = np.asarray(features, "float64"), np.asarray(test_features, "float64")
    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    if features.ndim != 2 or test_features.ndim != 2 or features.shape[1] != test_features.shape[1]:
        raise ValueError(f"Expected features (n, D) and (m, D); got {features.shape} and {test_features.shape}.")
    if len(features) != len(labels) or len(test_features) != len(test_labels):
        raise ValueError(
            f"Expected a label for each vector, {len(features)} and {len(test_features)}; got {len(labels)} and "
            f"{len(test_labels)}."
        )
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2:
        raise ValueError(f"Expected at least two different labels; got only {values.tolist()}.")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=regularization, max_iter=2000))
    correct = probe.fit(features, labels).predict(test_features) == test_labels
    return ProbeResult(float(correct.mean()), float(np.mean(test_labels == values[counts.argmax()])), correct)


def control_labels(words, labels, seed=0):
    """Draws the labels of a control task: each type of word gets one label at random, and keeps it everywhere.

    Labels are drawn with the frequencies of the real ones (Hewitt and Liang, 2019, section 2.1). Nothing but the
    identity of the word can tell the label, so what a probe reaches here, it has learned by heart.

    Args:
        words: n words, such as strings or token ids.
        labels: n labels of the real task.
        seed: an integer.

    Returns:
        n labels.

    Raises:
        ValueError: if words and labels differ in number.
    """
    labels = np.asarray(labels)
    if len(words) != len(labels):
        raise ValueError(f"Expected a label for each of {len(words)} words; got {len(labels)}.")
    types, places = np.unique(np.asarray(words), return_inverse=True)
    return np.random.default_rng(seed).choice(labels, len(types))[places]
