"""The mean of the last checkpoints."""

import keras
import numpy as np
import pytest

from course_lib.training.weight_averaging import CheckpointAveraging


def test_the_mean_is_of_the_last_epochs():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    averaging, seen = CheckpointAveraging(last=2), []
    collect = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(model.get_weights()))
    x = np.random.default_rng(0).normal(size=(8, 3))
    model.fit(x, x[:, :2] + 1, epochs=3, callbacks=[averaging, collect], verbose=0)
    assert all(np.abs(first - last).max() > 1e-3 for first, last in zip(seen[0], seen[2], strict=True))
    for mean, before, last in zip(averaging.mean(), *seen[1:], strict=True):
        np.testing.assert_allclose(mean, (before + last) / 2, atol=1e-7)
    model.set_weights(averaging.mean())


@pytest.mark.one_backend
def test_without_an_epoch_there_is_no_mean():
    with pytest.raises(ValueError, match="at least one epoch"):
        CheckpointAveraging().mean()
    assert CheckpointAveraging().checkpoints.maxlen == 5
