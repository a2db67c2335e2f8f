"""The optimizers: what they clip by, what decays, how far they go, and the same on two devices as on one."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_checks import to_numpy

from course_lib.training.optimizers import AdamW, Muon, densify


@pytest.fixture
def model():
    """An embedding and a dense layer with a norm."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Embedding(4, 3), keras.layers.LayerNormalization(), keras.layers.Dense(1)])
    model.build((None, 8))
    return model


@pytest.fixture(params=[AdamW, Muon])
def kind(request):
    return request.param


@pytest.mark.one_backend
def test_the_rows_of_one_token_are_added_up():
    import tensorflow as tf

    rows = tf.IndexedSlices(tf.constant([[1.0, 2], [3, 4], [5, 6]]), tf.constant([1, 0, 1]), tf.constant([3, 2]))
    dense, nothing = densify([rows, None])
    np.testing.assert_array_equal(dense, [[3, 4], [6, 8], [0, 0]])
    assert nothing is None


@pytest.mark.one_backend
def test_gradients_are_dense_before_they_are_clipped(model, kind, monkeypatch):
    """Of 16 tokens, 12 are the same: the embedding's gradient has two rows, not 16."""
    seen, clip = [], kind._clip_gradients
    monkeypatch.setattr(kind, "_clip_gradients", lambda self, grads: seen.extend(grads) or clip(self, grads))
    model.compile(kind(0.1, global_clipnorm=1.0), "mse", run_eagerly=True)
    tokens = np.array([[1] * 8, [1] * 4 + [3] * 4], "int32")
    model.train_on_batch(tokens, np.ones((2, 8, 1), "float32"))
    gradient = np.asarray(seen[0])
    assert gradient.shape == (4, 3)
    assert np.all(np.abs(gradient[[1, 3]]).max(axis=1) > 1e-3) and not gradient[[0, 2]].any()


def test_norms_and_biases_do_not_decay_and_the_rest_decays_by_as_much_as_it_says(model, kind):
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.compile(kind(0.1, weight_decay=0.5), "mse")
    model.train_on_batch(np.ones((2, 8), "int32"), np.zeros((2, 8, 1)), np.zeros((2, 8)))  # no gradient
    for weight in model.weights:
        kept = 1 if weight.path.endswith(("bias", "beta", "gamma")) else 1 - 0.1 * 0.5
        np.testing.assert_allclose(to_numpy(weight), before[weight.path] * kept, rtol=1e-6, err_msg=weight.path)


def test_the_parts_of_muon_may_decay_by_different_amounts():
    variables = [keras.Variable(np.ones((2, 2), "float32"), name=name) for name in ("kernel", "embeddings")]
    zeros = [keras.ops.zeros((2, 2))] * 2
    Muon(0.1, weight_decay=0.5, adam_weight_decay=0.2).apply(zeros, variables)
    np.testing.assert_allclose([to_numpy(variable)[0, 0] for variable in variables], [0.95, 0.98], rtol=1e-6)


def test_a_variable_without_a_gradient_stays_as_it_is():
    moved, left = keras.Variable([1.0]), keras.Variable([1.0])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        AdamW(0.1, weight_decay=0.5).apply([keras.ops.ones(1), None], [moved, left])
    assert to_numpy(moved) < 1 and to_numpy(left) == 1


@pytest.mark.parametrize("shape", [(2,), (2, 2)])  # Muon moves a matrix by its own rule
def test_multipliers_scale_the_whole_step(kind, shape):
    start, gradient = np.array([[2.0, -1.0], [0.5, 1.0]])[: len(shape)].reshape(shape), np.array([3.0, 0.0])
    variables = [keras.Variable(start, dtype="float32") for _ in range(3)]
    gradients = [keras.ops.convert_to_tensor(np.broadcast_to(gradient, shape), "float32")] * 3
    kind(0.1, weight_decay=0.5, lr_multipliers=[1, 0.25, 0]).apply(gradients, variables)
    whole, quarter, none = (to_numpy(variable) - start for variable in variables)
    np.testing.assert_allclose(whole[..., 1], -0.05 * start[..., 1], atol=1e-5)  # no gradient: it only decays
    assert np.all(whole[..., 0] < -0.05 * start[..., 0] - 1e-3)
    np.testing.assert_allclose(quarter, whole / 4, atol=1e-6)
    assert not none.any()


@pytest.mark.one_backend
def test_there_is_a_multiplier_for_each_variable(kind):
    variables = [keras.Variable([2.0, -1.0]) for _ in range(3)]
    with pytest.raises(ValueError, match="2 lr_multipliers; got 3"):
        kind(0.1, lr_multipliers=[1, 1]).build(variables)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_its_steps_are_those_of_keras(jit_compile, amsgrad):
    arguments = {"weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3, "amsgrad": amsgrad}
    schedule = keras.optimizers.schedules.PolynomialDecay(0.05, 5)
    models = [keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]) for _ in range(2)]
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in ((3, 4), (4,), (4, 1), (1,))]
    batches = [(rng.normal(size=(8, 3)), rng.normal(size=(8, 1))) for _ in range(5)]
    for model, kind in zip(models, (AdamW, keras.optimizers.AdamW), strict=True):
        model.build((None, 3))
        model.set_weights(start)
        optimizer = kind(schedule, **arguments)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse", jit_compile=jit_compile)
        for batch in batches:
            model.train_on_batch(*batch)
    for weight, expected in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(to_numpy(weight), to_numpy(expected), atol=1e-6, err_msg=weight.path)


def test_muon_steps_as_far_in_every_direction_and_as_far_as_adamw():
    gradient = np.random.default_rng(0).normal(size=(12, 12)) @ np.diag(2.0 ** -np.arange(12)) @ np.ones((12, 48))
    gradient += 0.3 * np.random.default_rng(1).normal(size=(12, 48))  # one direction is far stronger than the others
    before = np.linalg.svd(gradient, compute_uv=False)
    variables = [keras.Variable(np.zeros((12, 48)), dtype="float32", name=name) for name in ("kernel", "embeddings")]
    Muon(0.1, weight_decay=0.0).apply([keras.ops.convert_to_tensor(gradient, "float32")] * 2, variables)
    kernel, embeddings = map(to_numpy, variables)
    values = np.linalg.svd(kernel, compute_uv=False)
    assert before.max() / before.min() > 20 and values.max() / values.min() < 2
    np.testing.assert_allclose(np.sqrt(np.mean(kernel**2)), 0.2 * 0.1, rtol=0.25)  # Liu et al.: AdamW's usual step
    np.testing.assert_allclose(embeddings, -0.1 * np.sign(gradient), atol=1e-3)  # AdamW's first
    assert np.sum(kernel * gradient) < 0


@pytest.mark.one_backend
def test_it_comes_back_from_its_config(kind):
    optimizer = kind(0.1, weight_decay=0.2, global_clipnorm=3.0, lr_multipliers=[1.0, 0.5])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is kind and again.get_config() == optimizer.get_config()
    assert again.weight_decay == 0.2 and again.lr_multipliers == (1.0, 0.5)
    assert kind is AdamW or again.adam_weight_decay == 0.2


PROGRAM = """
import keras
import numpy as np
import tensorflow as tf
from course_lib.training.optimizers import AdamW, Muon

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
tokens, targets = rng.integers(0, 9, (16, 4)), rng.normal(size=(16, 4, 2)).astype("float32")
for kind in (AdamW, Muon):
    found = []
    for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
        keras.utils.set_random_seed(0)
        with tf.distribute.MirroredStrategy(devices).scope():
            model = keras.Sequential([keras.layers.Embedding(9, 6), keras.layers.Dense(2)])
            model.build((None, 4))
            optimizer = kind(0.05, weight_decay=0.3, global_clipnorm=0.5, lr_multipliers=[0.5, 1.0, 2.0])
            model.compile(optimizer, "mse", jit_compile=False)
        before = model.get_weights()
        model.fit(tokens, targets, batch_size=8, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights() + [variable.numpy() for variable in optimizer.variables])
        assert all(np.abs(new - old).max() > 1e-3 for new, old in zip(model.get_weights(), before))
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
"""


@pytest.mark.one_backend
def test_two_devices_step_as_one_does():
    """The operation of `fused_adam_step` must find each device's copy of a variable and of its moments."""
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
