"""Helpers for the `replay` of an experiment: a few seeded steps whose numbers are kept in its record.

A test recomputes these numbers in seconds. So shared code can be moved and rewritten, and a change of results is
noticed.
"""

import contextlib
import math
import unittest.mock
import warnings

import keras
import numpy as np

TOLERANCE = 1e-3  # relative, or absolute for numbers below 1


def compute(settings):
    """Runs an experiment's replay.

    Every layer starts from the same seed, so a number does not change when layers are built in another order. It does
    change when weights are drawn from another distribution.

    Args:
        settings: an experiment with a method `replay`, which returns numbers, or lists and dicts of numbers.

    Returns:
        A dict from names to floats. Nested numbers get names such as "GPT-2.loss" or "losses.0".
    """
    keras.utils.set_random_seed(0)
    with _one_seed(), _without_graphs():
        return dict(_flat("", settings.replay()))


def differences(kept, found):
    """Compares the numbers of two replays.

    Args:
        kept: a dict from names to floats, from a record.
        found: a dict from names to floats, computed now.

    Returns:
        A list of lines, one for each name that is missing from one dict or whose numbers differ by more than
        `TOLERANCE`. It is empty if the two agree.
    """
    lines = [f"{name}: only in one of the two" for name in sorted(kept.keys() ^ found.keys())]
    for name in sorted(kept.keys() & found.keys()):
        if not math.isclose(kept[name], found[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            lines.append(f"{name}: {kept[name]} in the record, {found[name]} now")
    return lines


def with_methods(settings, **methods):
    """Copies an experiment and replaces some of its methods, for example by one that returns fewer rows.

    Args:
        settings: an experiment.
        **methods: functions without `self`, or values that replace cached properties.

    Returns:
        An experiment of the same class.
    """
    copy = type(settings)(**{name: getattr(settings, name) for name in settings.__dataclass_fields__})
    vars(copy).update(methods)
    return copy


def first_losses(model, batches):
    """Trains a model for a few steps, without XLA, which would take longer to compile than the steps need.

    Args:
        model: a compiled model.
        batches: tuples of arguments for `train_on_batch`.

    Returns:
        A list of floats, the loss on each batch before its step.
    """
    model.jit_compile = False
    losses = []
    for batch in batches:
        model.reset_metrics()  # Keras would return the mean over all batches so far
        found = model.train_on_batch(*batch)
        losses.append(float(np.ravel(found)[0]))
    return losses


def amplify(model, factor=6.0):
    """Multiplies a model's kernels and embeddings, so details show that hardly affect an untrained model.

    With small weights, attention is almost uniform however it is scaled, and all kinds of GELU give almost the same
    values.

    Args:
        model: a built model, changed in place.
        factor: factor for the weights with two or more axes.

    Returns:
        The model.
    """
    model.set_weights([array * factor if array.ndim > 1 else array for array in model.get_weights()])
    return model


def projections(vectors, rows=4):
    """Reduces the first vectors to a few numbers that change when any entry does.

    Args:
        vectors: floats (n, …).
        rows: number of vectors.

    Returns:
        A list of floats: for each vector, its product with a vector of cosines divided by its length; then the lengths.
    """
    vectors = np.asarray(vectors, "float64")[:rows].reshape(rows, -1)
    lengths = np.linalg.norm(vectors, axis=1)
    return [*(vectors @ np.cos(np.arange(vectors.shape[1])) / lengths), *lengths]


@contextlib.contextmanager
def _one_seed():
    """Gives all initializers and dropouts the same seed, which Keras would draw with `random.randint`."""
    with unittest.mock.patch("random.randint", return_value=1):
        yield


@contextlib.contextmanager
def _without_graphs():
    """Makes TensorFlow run eagerly, because tracing a graph takes longer than a few steps."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Even though the `tf.config", UserWarning)  # about tf.data pipelines
            yield
    finally:
        tf.config.run_functions_eagerly(before)


def _flat(name, value):
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{name}.{key}" if name else str(key), part)
    else:
        yield name, round(float(value), 6)
