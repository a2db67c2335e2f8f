"""Learning rates, by hand."""

import keras
import numpy as np
import pytest

from course_lib.training.schedules import WarmupInverseSquareRoot, WarmupLinearDecay


def test_linear_decay_by_hand():
    schedule = WarmupLinearDecay(1.0, warmup_steps=4, total_steps=9)
    rates = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0], atol=1e-6)
    rates = [float(WarmupLinearDecay(2.0, warmup_steps=0, total_steps=4)(step)) for step in range(4)]
    np.testing.assert_allclose(rates, [2, 1.5, 1, 0.5], atol=1e-6)


def test_inverse_square_root_is_that_of_the_paper():
    width, warmup = 512, 40
    schedule = WarmupInverseSquareRoot(width**-0.5 * warmup**-0.5, warmup)
    steps = np.arange(1, 200)
    paper = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    np.testing.assert_allclose([float(schedule(step - 1)) for step in steps], paper, rtol=1e-5)


@pytest.mark.parametrize("schedule", [WarmupLinearDecay(0.1, 3, 10), WarmupInverseSquareRoot(0.1, 3)])
def test_an_optimizer_keeps_its_schedule_when_saved(schedule):
    optimizer = keras.optimizers.AdamW(schedule)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    again.iterations.assign(5)
    assert float(again.learning_rate) == float(schedule(5)) > 0


@pytest.mark.parametrize(
    "make", [lambda: WarmupLinearDecay(0.1, 5, 5), lambda: WarmupLinearDecay(0.1, -1, 5)], ids=["no decay", "negative"]
)
def test_linear_decay_of_no_steps(make):
    with pytest.raises(ValueError, match="0 <= warmup_steps < total_steps"):
        make()


def test_no_warmup():
    with pytest.raises(ValueError, match="at least one step"):
        WarmupInverseSquareRoot(0.1, 0)
