"""Checkpoint averaging: the mean of the weights at the ends of the last epochs."""

import collections

import keras
import numpy as np


class CheckpointAveraging(keras.callbacks.Callback):
    """Keeps the weights of the last epochs. Their mean often translates better than the final weights.

    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 6.1, average the last five checkpoints.

    Args:
        last: number of epochs to keep.

    Example:
        >>> averaging = CheckpointAveraging(5)
        >>> model.fit(sources, targets, epochs=50, callbacks=[averaging])
        >>> model.set_weights(averaging.mean())
    """

    def __init__(self, last=5):
        super().__init__()
        self.checkpoints = collections.deque(maxlen=last)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the weights of this epoch.

        Args:
            epoch: number of the epoch.
            logs: not used.
        """
        self.checkpoints.append(self.model.get_weights())

    def mean(self):
        """Averages the weights that were kept.

        Returns:
            A list of arrays, for `set_weights`.

        Raises:
            ValueError: if no epoch has ended yet.
        """
        if not self.checkpoints:
            raise ValueError("Expected at least one epoch; there was none.")
        return [np.mean(arrays, axis=0) for arrays in zip(*self.checkpoints, strict=True)]
