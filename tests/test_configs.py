"""Configs of what is not a layer: each rebuilds its object, with every setting that a constructor takes."""

import inspect

import keras
import numpy as np
import pytest

from course_lib.metrics.perplexity import Perplexity
from course_lib.models.predictions import MultiLabelCrossEntropy
from course_lib.models.sentence_encoder import InBatchNegatives
from course_lib.training import optimizers, schedules
from course_lib.training.distillation import DistillationCrossEntropy
from course_lib.training.losses import CrossEntropy

OBJECTS = [  # no setting has its default
    CrossEntropy(label_smoothing=0.1, ignore_class=-100, name="own", reduction="sum"),
    DistillationCrossEntropy(3.0, 0.25, label_smoothing=0.1, ignore_class=-100, name="own", reduction="sum"),
    InBatchNegatives(scale=5.0, name="own", reduction="sum"),
    MultiLabelCrossEntropy(name="own", reduction="sum"),
    Perplexity(ignore_class=-100, name="own", dtype="float64"),
    schedules.WarmupLinearDecay(0.1, 2, 30),
    schedules.WarmupInverseSquareRoot(0.1, 2),
    optimizers.AdamW(0.1, weight_decay=0.2, beta_1=0.3, global_clipnorm=1.0, lr_multipliers=[1.0, 0.5], name="own"),
    optimizers.Muon(0.1, weight_decay=0.2, adam_beta_1=0.3, lr_multipliers=[1.0, 0.5], name="own"),
]

pytestmark = pytest.mark.one_backend


def test_every_registered_class_that_is_not_a_layer_is_here():
    registered = {cls for name, cls in keras.saving.get_custom_objects().items() if name.startswith("course_lib>")}
    classes = {each for each in registered if isinstance(each, type)}
    assert {cls for cls in classes if not issubclass(cls, keras.layers.Layer)} == {*map(type, OBJECTS)}


@pytest.mark.parametrize("original", OBJECTS, ids=lambda each: type(each).__name__)
def test_a_config_rebuilds_its_object(original):
    config = original.get_config()
    parameters = inspect.signature(type(original)).parameters.values()
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    assert named <= config.keys()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(original))
    assert type(again) is type(original) and again.get_config() == config


@pytest.mark.parametrize("weights", [None, [1.0, 0.5], [[1.0, 0, 2, 1, 1, 0], [0, 1, 1, 1, 3, 1]]])
def test_predictions_of_the_ignored_class_do_not_count(weights):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, (2, 6)), rng.normal(size=(2, 6, 3)).astype("float32")
    labels[0, :2] = labels[1, 4] = -100
    counts = labels != -100
    whole = np.ones((2, 6)) if weights is None else np.broadcast_to(np.reshape(weights, (2, -1)), (2, 6))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = -np.log(np.take_along_axis(p, np.maximum(labels, 0)[..., None], -1))[..., 0]
    expected = (losses * counts * whole).sum() / (counts * whole).sum()
    given = None if weights is None else np.array(weights)
    found = CrossEntropy(ignore_class=-100)(labels, logits, given)
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)
    metric = Perplexity(ignore_class=-100)
    metric.update_state(labels, logits, given)
    np.testing.assert_allclose(float(metric.result()), np.exp(expected), rtol=1e-5)
    whole_batch = CrossEntropy()(np.maximum(labels, 0), logits, given)
    np.testing.assert_allclose(float(whole_batch), (losses * whole).sum() / whole.sum(), rtol=1e-5)
    if weights is None:
        keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
        np.testing.assert_allclose(float(found), float(keras_loss(labels, logits)), rtol=1e-5)
