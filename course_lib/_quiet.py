"""Imports Keras and its backend without the lines that they write to file descriptor 2 while they start.

Two warnings on which a reader cannot act are switched off, too: that a graph was traced again, as happens where batches
are cut to their longest row, and that a progress bar is drawn in text.
"""

import contextlib
import logging
import os
import sys
import warnings


@contextlib.contextmanager
def silent_start():
    """Discards what native code writes to descriptor 2 meanwhile; Python's own errors are raised as ever."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


with silent_start():
    import keras

    keras.ops.zeros(1)  # the first operation starts the device, which writes lines of its own

# A notebook's kernel puts descriptor 2 between the outputs of cells. Native code writes to it later on, too, as when
# training begins: that goes to the terminal of Jupyter. Python's errors and warnings take another way.
if type(sys.stderr).__module__ == "ipykernel.iostream":
    with contextlib.suppress(OSError):  # a kernel that does not do so has no descriptor to give
        os.dup2(sys.stderr.fileno(), 2)

logging.getLogger("tensorflow").addFilter(lambda line: "triggered tf.function retracing" not in line.getMessage())
warnings.filterwarnings("ignore", message="IProgress not found")
