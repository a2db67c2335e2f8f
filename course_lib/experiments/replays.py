"""What the `replay` of an experiment is made with: a few seeded steps whose numbers are kept in its record.

A test recomputes them in seconds. So shared code may be moved and rewritten, and a change of results is still seen.
"""

import contextlib
import math
import unittest.mock
import warnings

import keras
import numpy as np

TOLERANCE = 1e-3  # of a number's size, or of 1 where it is smaller


def compute(settings):
    """Runs an experiment's replay.

    Every layer starts from the same seed, so a number does not change when layers are built in another order. It does
    change when weights are drawn from another distribution.

    Args:
        settings: an experiment with a method `replay`, which returns numbers, or lists and dicts of numbers.

    Returns:
        A dict from names to floats; what was nested is named like "GPT-2.loss" or "losses.0".
    """
    keras.utils.set_random_seed(0)
    with _one_seed(), _without_graphs():
        return dict(_flat("", settings.replay()))


def differences(kept, found):
    """Compares the numbers of two replays.

    Args:
        kept: a dict from names to floats, from a record.
        found: likewise, computed now.

    Returns:
        A list of lines, one for each name that is missing from one of them, or whose numbers differ by more than
        `TOLERANCE`; empty if they agree.
    """
    lines = [f"{name}: only in one of the two" for name in sorted(kept.keys() ^ found.keys())]
    for name in sorted(kept.keys() & found.keys()):
        if not math.isclose(kept[name], found[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            lines.append(f"{name}: {kept[name]} in the record, {found[name]} now")
    return lines


def with_methods(settings, **methods):
    """A copy of an experiment in which some methods are replaced, for example by one that returns fewer rows.

    Args:
        settings: an experiment.
        **methods: functions without `self`.

    Returns:
        An experiment of the same class.
    """
    copy = type(settings)(**{name: getattr(settings, name) for name in settings.__dataclass_fields__})
    vars(copy).update(methods)
    return copy


def first_losses(model, batches):
    """Trains a model for a few steps, without XLA, which would take longer to compile than the steps take.

    Args:
        model: a compiled model.
        batches: tuples, as `train_on_batch` takes them.

    Returns:
        A list of floats, the loss of each batch before its step.
    """
    model.jit_compile = False
    losses = []
    for batch in batches:
        model.reset_metrics()  # Keras would return the mean over all batches so far
        found = model.train_on_batch(*batch)
        losses.append(float(np.ravel(found)[0]))
    return losses


def amplify(model, factor=6.0):
    """Multiplies a model's kernels and embeddings, so that an untrained model shows what would hardly matter in it.

    With small weights attention is even over a row whatever scales it, and one kind of GELU is like another.

    Args:
        model: a built model; it is changed.
        factor: what the weights of two or more axes are multiplied by.

    Returns:
        The model.
    """
    model.set_weights([array * factor if array.ndim > 1 else array for array in model.get_weights()])
    return model


def projections(vectors, rows=4):
    """Numbers that change when any entry of the first vectors does.

    Args:
        vectors: floats (n, …).
        rows: how many vectors.

    Returns:
        A list of floats: the product of each vector with cosines, with the vector's length divided out, and the length.
    """
    vectors = np.asarray(vectors, "float64")[:rows].reshape(rows, -1)
    lengths = np.linalg.norm(vectors, axis=1)
    return [*(vectors @ np.cos(np.arange(vectors.shape[1])) / lengths), *lengths]


@contextlib.contextmanager
def _one_seed():
    """Keras draws the seed of each initializer and dropout with `random.randint`: all get the same one."""
    with unittest.mock.patch("random.randint", return_value=1):
        yield


@contextlib.contextmanager
def _without_graphs():
    """TensorFlow takes each operation at once: to trace a graph takes longer than a few steps do."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Even though the `tf.config", UserWarning)  # of pipelines of data
            yield
    finally:
        tf.config.run_functions_eagerly(before)


def _flat(name, value):
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{name}.{key}" if name else str(key), part)
    else:
        yield name, round(float(value), 6)
