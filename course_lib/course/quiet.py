"""Warnings on which a learner cannot act, switched off in a notebook."""

import logging
import warnings


def quiet():
    """Hides two warnings: that TensorFlow traced a step again, and that a progress bar is drawn as text.

    A step is traced again where batches are cut to their longest row. `course_lib.reproducible` calls this, so every
    chapter does.
    """
    logger = logging.getLogger("tensorflow")
    if _is_no_retracing not in logger.filters:
        logger.addFilter(_is_no_retracing)
    warnings.filterwarnings("ignore", message="IProgress not found")


def _is_no_retracing(record):
    return "triggered tf.function retracing" not in record.getMessage()
