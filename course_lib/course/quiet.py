"""Switches off warnings that a learner can do nothing about."""

import logging
import warnings


def quiet():
    """Hides two warnings: that TensorFlow has retraced a step, and that a progress bar is drawn as text.

    A step is retraced when batches are cut to their longest row and so differ in width. Every chapter calls this
    function through `course_lib.reproducible`.
    """
    logger = logging.getLogger("tensorflow")
    if _is_no_retracing not in logger.filters:
        logger.addFilter(_is_no_retracing)
    warnings.filterwarnings("ignore", message="IProgress not found")


def _is_no_retracing(record):
    return "triggered tf.function retracing" not in record.getMessage()
