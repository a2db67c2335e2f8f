"""The optimizers: what they clip by, what decays, and how far they go."""

import keras
import numpy as np
import pytest
from layer_checks import to_numpy

from course_lib.training.optimizers import AdamW, Muon


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
def test_what_belongs_to_one_token_is_added_up_before_the_gradients_are_clipped(model, kind, monkeypatch):
    """Of 16 tokens, 12 are the same: the embedding's gradient has two rows, not 16."""
    seen = []
    monkeypatch.setattr(kind.__base__, "apply", lambda self, grads, variables: seen.extend(grads))
    model.compile(kind(0.1, global_clipnorm=1.0), "mse", run_eagerly=True)
    tokens = np.array([[1] * 8, [1] * 4 + [3] * 4], "int32")
    model.train_on_batch(tokens, np.ones((2, 8, 1), "float32"))
    gradient = np.asarray(seen[0])
    assert gradient.shape == (4, 3)
    assert np.all(np.abs(gradient[[1, 3]]).max(axis=1) > 1e-3) and not gradient[[0, 2]].any()


def test_norms_and_biases_do_not_decay(model, kind):
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.compile(kind(0.1, weight_decay=1.0), "mse")
    model.train_on_batch(np.ones((2, 8), "int32"), np.zeros((2, 8, 1)), np.zeros((2, 8)))  # no gradient
    for weight in model.weights:
        exempt = weight.path.endswith(("bias", "beta", "gamma"))
        assert np.array_equal(to_numpy(weight), before[weight.path]) == exempt, weight.path


def test_a_variable_without_a_gradient_stays_as_it_is():
    moved, left = keras.Variable([1.0]), keras.Variable([1.0])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        AdamW(0.1, weight_decay=0.5).apply([keras.ops.ones(1), None], [moved, left])
    assert to_numpy(moved) < 1 and to_numpy(left) == 1


def test_rates_scale_the_whole_step():
    variables = [keras.Variable([2.0, -1.0]) for _ in range(3)]
    AdamW(0.1, weight_decay=0.5, rates=[1, 0.25, 0]).apply([keras.ops.array([3.0, 0.0])] * 3, variables)
    whole, quarter, none = (to_numpy(variable) - [2, -1] for variable in variables)
    np.testing.assert_allclose(whole, [-0.2, 0.05], atol=1e-5)  # Adam's first step is the rate, and decay is added
    np.testing.assert_allclose(quarter, whole / 4, atol=1e-6)
    assert not none.any()
    with pytest.raises(ValueError, match="each of 2 rates; got 3"):
        AdamW(0.1, rates=[1, 1]).apply([keras.ops.zeros(2)] * 3, variables)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_its_steps_are_those_of_keras(jit_compile, amsgrad):
    arguments = {"learning_rate": 0.05, "weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.9, "amsgrad": amsgrad}
    models = [keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]) for _ in range(2)]
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in ((3, 4), (4,), (4, 1), (1,))]
    batches = [(rng.normal(size=(8, 3)), rng.normal(size=(8, 1))) for _ in range(5)]
    for model, kind in zip(models, (AdamW, keras.optimizers.AdamW), strict=True):
        model.build((None, 3))
        model.set_weights(start)
        optimizer = kind(**arguments)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse", jit_compile=jit_compile)
        for batch in batches:
            model.train_on_batch(*batch)
    for weight, expected in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(to_numpy(weight), to_numpy(expected), atol=1e-5, err_msg=weight.path)


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


def test_it_comes_back_from_its_config():
    optimizer = AdamW(0.1, weight_decay=0.2, global_clipnorm=3.0, rates=[1.0, 0.5])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is AdamW and again.get_config() == optimizer.get_config()
    optimizer = Muon(0.1, weight_decay=0.2, global_clipnorm=3.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is Muon and again.get_config() == optimizer.get_config() and again.adam_weight_decay == 0.2
