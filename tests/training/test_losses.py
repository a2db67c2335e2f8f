"""Cross-entropy against the formula in NumPy, its gradient against Keras's, and in `compile` with several outputs."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import to_numpy

from course_lib.training.losses import CrossEntropy, cross_entropy

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 2, (3, 4, 7)).astype("float32")
TOKENS = rng.integers(0, 7, (3, 4)).astype("int32")
WEIGHTS = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], "float32")


def log_p(logits):
    logits = np.asarray(logits, "float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def surprise(logits, tokens):
    """−log p of each token, in float64."""
    return -np.take_along_axis(log_p(logits), tokens[..., None], axis=-1)[..., 0]


EXPECTED = np.sum(surprise(LOGITS, TOKENS) * WEIGHTS) / WEIGHTS.sum()


def test_the_loss_is_the_mean_over_the_predictions_that_have_weight():
    loss = CrossEntropy()
    assert float(loss(TOKENS, LOGITS, WEIGHTS)) == pytest.approx(EXPECTED, rel=1e-6)
    assert float(loss(TOKENS, LOGITS)) == pytest.approx(surprise(LOGITS, TOKENS).mean(), rel=1e-6)
    assert float(loss(TOKENS, LOGITS, 0 * WEIGHTS)) == 0
    assert float(loss(TOKENS[..., None], LOGITS, WEIGHTS)) == pytest.approx(EXPECTED, rel=1e-6)
    total = CrossEntropy(reduction="sum")
    assert float(total(TOKENS, LOGITS)) == pytest.approx(surprise(LOGITS, TOKENS).sum(), rel=1e-6)


def test_smoothing_shares_a_part_among_all_tokens():
    right = np.eye(7)[TOKENS]
    expected = -np.sum((0.9 * right + 0.1 / 7) * log_p(LOGITS), axis=-1)
    loss = CrossEntropy(label_smoothing=0.1)
    assert float(loss(TOKENS, LOGITS, WEIGHTS)) == pytest.approx(np.sum(expected * WEIGHTS) / WEIGHTS.sum(), rel=1e-6)
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\); got 1"):
        CrossEntropy(label_smoothing=1)


@pytest.mark.one_backend
def test_it_comes_back_from_its_config():
    loss = CrossEntropy(label_smoothing=0.1, name="next_token", reduction="sum")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is CrossEntropy and again.get_config() == loss.get_config()
    assert float(again(TOKENS, LOGITS, WEIGHTS)) == float(loss(TOKENS, LOGITS, WEIGHTS))


def gradient(loss, logits, jit_compile):
    """Of a sum of losses, each with its weight, by the logits."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit_compile)
        def compute(logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = ops.sum(loss(logits) * WEIGHTS)
            return tape.gradient(value, logits)

        return compute(ops.convert_to_tensor(logits))
    import jax

    compute = jax.grad(lambda logits: ops.sum(loss(logits) * WEIGHTS))
    return (jax.jit(compute) if jit_compile else compute)(ops.convert_to_tensor(logits))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_is_that_of_keras(jit_compile, label_smoothing, dtype):
    logits = ops.cast(LOGITS, dtype)
    target = (1 - label_smoothing) * np.eye(7, dtype="float32")[TOKENS] + label_smoothing / 7

    def by_keras(logits):
        return ops.categorical_crossentropy(target, ops.cast(logits, "float32"), from_logits=True)

    found = gradient(lambda logits: cross_entropy(TOKENS, logits, label_smoothing), logits, jit_compile)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    expected = to_numpy(ops.cast(gradient(by_keras, logits, jit_compile), "float32"))
    tolerance = {"float32": 1e-6, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(to_numpy(ops.cast(found, "float32")), expected, atol=tolerance)
    assert np.abs(expected).max() > 0.1 and not expected[WEIGHTS == 0].any()


def test_large_logits_are_no_trouble():
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]], "float32")
    np.testing.assert_allclose(to_numpy(cross_entropy([0, 1], logits)), [0, np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(cross_entropy([0], logits[:1], 0.3)), [0.1 * 3e4], rtol=1e-6)
    assert np.isfinite(to_numpy(gradient(lambda z: ops.sum(cross_entropy([1, 0], z)), logits, True))).all()


@pytest.mark.parametrize("label", [-1, -100, 7])
def test_a_label_outside_the_vocabulary_is_seen(label):
    """On some devices a gather would take another row without a word."""
    found = to_numpy(cross_entropy(np.array([label, 0]), LOGITS[0, :2]))
    assert np.isnan(found).tolist() == [True, False]


def test_the_loss_of_low_precision_logits_is_taken_in_float32():
    logits = ops.cast(LOGITS + 20, "bfloat16")
    exact = np.sum(surprise(to_numpy(ops.cast(logits, "float32")), TOKENS) * WEIGHTS) / WEIGHTS.sum()
    loss = CrossEntropy()(TOKENS, logits, WEIGHTS)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_losses_of_two_outputs_add_up(jit_compile):
    mlm, nsp = keras.Input((4, 7)), keras.Input((2,))
    outputs = {
        "mlm_logits": keras.layers.Dense(7, name="mlm")(mlm),
        "nsp_logits": keras.layers.Dense(2, name="nsp")(nsp),
    }
    model = keras.Model([mlm, nsp], outputs)
    model.compile("sgd", loss={name: CrossEntropy() for name in outputs}, jit_compile=jit_compile)
    pair_logits, pairs = rng.normal(size=(3, 2)).astype("float32"), np.array([0, 1, 1], "int32")
    inputs, labels = [LOGITS, pair_logits], {"mlm_logits": TOKENS, "nsp_logits": pairs}
    weights = {"mlm_logits": WEIGHTS, "nsp_logits": np.ones(3, "float32")}
    found = {name: to_numpy(value) for name, value in model(inputs).items()}
    logs = model.evaluate(inputs, labels, sample_weight=weights, return_dict=True, verbose=0)
    expected = np.sum(surprise(found["mlm_logits"], TOKENS) * WEIGHTS) / WEIGHTS.sum()
    assert logs["mlm_logits_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["nsp_logits_loss"] == pytest.approx(surprise(found["nsp_logits"], pairs).mean(), rel=1e-5)
    assert logs["loss"] == pytest.approx(logs["mlm_logits_loss"] + logs["nsp_logits_loss"], rel=1e-5)
    losses = model.fit(inputs, labels, sample_weight=weights, epochs=3, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(logs["loss"], rel=1e-5) and losses[2] < losses[1] < losses[0]


def test_some_outputs_may_have_no_loss():
    x = keras.Input((4, 7))
    model = keras.Model(x, {"logits": keras.layers.Dense(7, name="scores")(x), "hidden": x})
    model.compile("sgd", loss={"logits": CrossEntropy()})
    logs = model.fit(LOGITS, {"logits": TOKENS}, sample_weight={"logits": WEIGHTS}, epochs=2, verbose=0).history
    assert logs["loss"][1] < logs["loss"][0]


def test_a_model_with_one_output_has_one_loss():
    model = keras.Sequential([keras.Input((4, 7)), keras.layers.Dense(7)])
    model.compile("sgd", CrossEntropy(label_smoothing=0.1), weighted_metrics=["accuracy"])
    logs = model.fit(LOGITS, TOKENS, sample_weight=WEIGHTS, epochs=2, verbose=0).history
    assert logs["loss"][1] < logs["loss"][0] and set(logs) == {"loss", "accuracy"}
