"""Replays: the code that experiments share still computes what the records hold."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from course_lib import experiments
from course_lib.experiments import replays

pytestmark = pytest.mark.one_backend


OUTDATED = {"scaling": "its runs drew sentence pairs by the earlier sampler, and are to be made again"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xfail(reason=OUTDATED[name], strict=True)] if name in OUTDATED else [])
        for name in experiments.recorded()
    ],
)
def test_todays_code_computes_the_replay_of_the_record(name):
    record = experiments.load(name)
    assert not replays.differences(record["replay"], replays.compute(experiments.experiment(name)))
    assert len(record["replay"]) >= 3


def test_numbers_agree_to_a_thousandth():
    kept = {"small": 0.01, "large": 200.0, "gone": 1.0}
    assert not replays.differences(kept, {"small": 0.0109, "large": 200.19, "gone": 1.0})
    lines = replays.differences(kept, {"small": 0.0111, "large": 200.21, "new": 1.0})
    assert [line.partition(":")[0] for line in lines] == ["gone", "new", "large", "small"]
    assert len(replays.differences({"loss": 1.0}, {"loss": float("nan")})) == 1


def test_a_projection_holds_each_entry():
    vectors = np.random.default_rng(0).normal(size=(3, 50))
    before = replays.projections(vectors, rows=3)
    vectors[2, 49] *= 1.2
    after = replays.projections(vectors, rows=3)
    assert np.flatnonzero(~np.isclose(before, after)).tolist() == [2, 5]


def test_a_replay_needs_neither_an_order_of_layers_nor_a_graph():
    class Two:
        def __init__(self, forwards):
            self.forwards = forwards

        def replay(self):
            layers = [keras.layers.Dense(3, name=name) for name in ("first", "second")[:: 1 if self.forwards else -1]]
            for layer in layers:
                layer.build((None, 2))
            kernels = {layer.name: np.asarray(layer.kernel).ravel().tolist() for layer in layers}
            return kernels | {"graphs": not tf.config.functions_run_eagerly()}

    found, other = (replays.compute(Two(forwards)) for forwards in (True, False))
    assert found == other and found["graphs"] == 0 and len(found) == 13
    assert not tf.config.functions_run_eagerly() and random.randint(1, 10**9) != random.randint(1, 10**9)
