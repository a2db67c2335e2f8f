"""The objectives, against the formulas in NumPy."""

import keras
import numpy as np
import pytest
from layer_checks import to_numpy

from course_lib import objectives

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 2, (3, 4, 7)).astype("float32")
TOKENS = rng.integers(0, 7, (3, 4)).astype("int32")
WEIGHTS = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], "float32")


def surprise(logits, tokens):
    """−log p of each token, in float64."""
    logits = np.asarray(logits, "float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]


EXPECTED = np.sum(surprise(LOGITS, TOKENS) * WEIGHTS) / WEIGHTS.sum()


def test_the_loss_is_the_mean_over_the_predictions_that_have_weight():
    loss = objectives.CrossEntropy()
    assert float(loss(TOKENS, LOGITS, WEIGHTS)) == pytest.approx(EXPECTED, rel=1e-6)
    assert float(loss(TOKENS, LOGITS)) == pytest.approx(surprise(LOGITS, TOKENS).mean(), rel=1e-6)
    assert float(loss(TOKENS, LOGITS, 0 * WEIGHTS)) == 0
    again = objectives.CrossEntropy.from_config(loss.get_config())
    assert float(again(TOKENS, LOGITS, WEIGHTS)) == float(loss(TOKENS, LOGITS, WEIGHTS))


def test_smoothing_shares_a_part_among_all_tokens():
    log_p = LOGITS.astype("float64") - np.log(np.exp(LOGITS.astype("float64")).sum(-1, keepdims=True))
    right = np.eye(7)[TOKENS]
    expected = -np.sum((0.9 * right + 0.1 / 7) * log_p, axis=-1)
    loss = objectives.CrossEntropy(label_smoothing=0.1)
    assert float(loss(TOKENS, LOGITS, WEIGHTS)) == pytest.approx(np.sum(expected * WEIGHTS) / WEIGHTS.sum(), rel=1e-6)
    again = objectives.CrossEntropy.from_config(loss.get_config())
    assert float(again(TOKENS, LOGITS, WEIGHTS)) == float(loss(TOKENS, LOGITS, WEIGHTS))
    assert np.isfinite(float(loss(TOKENS, keras.ops.cast(LOGITS, "bfloat16"), WEIGHTS)))
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\); got 1"):
        objectives.CrossEntropy(label_smoothing=1)


def test_the_loss_of_low_precision_logits_is_taken_in_float32():
    logits = keras.ops.cast(LOGITS + 20, "bfloat16")
    exact = np.sum(surprise(to_numpy(logits), TOKENS) * WEIGHTS) / WEIGHTS.sum()
    loss = objectives.CrossEntropy()(TOKENS, logits, WEIGHTS)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(exact, rel=1e-5)


def test_perplexity_is_of_all_that_was_seen():
    metric = objectives.Perplexity()
    for row in range(3):  # in three batches of different weight
        metric.update_state(TOKENS[row : row + 1], LOGITS[row : row + 1], WEIGHTS[row : row + 1])
    assert float(metric.result()) == pytest.approx(np.exp(EXPECTED), rel=1e-5)
    again = objectives.Perplexity.from_config(metric.get_config())
    again.update_state(TOKENS, np.zeros_like(LOGITS))
    assert float(again.result()) == pytest.approx(7, rel=1e-5)  # all seven tokens are as likely
    metric.reset_state()
    metric.update_state(TOKENS, np.zeros_like(LOGITS))
    assert float(metric.result()) == pytest.approx(7, rel=1e-5)


def test_both_losses_add_up_in_training_and_are_reported():
    mlm, nsp = keras.Input((4, 7)), keras.Input((2,))
    model = keras.Model([mlm, nsp], {"mlm_logits": mlm, "nsp_logits": nsp})
    model.compile(**objectives.pretraining())
    pair_logits, pairs = rng.normal(size=(3, 2)).astype("float32"), np.array([0, 1, 1], "int32")
    logs = model.evaluate(
        [LOGITS, pair_logits],
        {"mlm_logits": TOKENS, "nsp_logits": pairs},
        sample_weight={"mlm_logits": WEIGHTS, "nsp_logits": np.ones(3, "float32")},
        return_dict=True,
        verbose=0,
    )
    right = (LOGITS.argmax(-1) == TOKENS) * WEIGHTS
    assert logs["mlm_logits_loss"] == pytest.approx(EXPECTED, rel=1e-5)
    assert logs["nsp_logits_loss"] == pytest.approx(surprise(pair_logits, pairs).mean(), rel=1e-5)
    assert logs["loss"] == pytest.approx(logs["mlm_logits_loss"] + logs["nsp_logits_loss"], rel=1e-5)
    assert logs["mlm_logits_accuracy"] == pytest.approx(right.sum() / WEIGHTS.sum(), rel=1e-5)
    assert logs["mlm_logits_perplexity"] == pytest.approx(np.exp(EXPECTED), rel=1e-5)
    assert logs["nsp_logits_accuracy"] == pytest.approx(np.mean(pair_logits.argmax(-1) == pairs), rel=1e-5)


def test_without_a_next_sentence_head_there_is_one_loss():
    assert objectives.pretraining(next_sentence=False)["loss"].keys() == {"mlm_logits"}


def test_the_loss_of_what_follows_is_reported_with_its_perplexity():
    inputs = keras.Input((4, 7))
    model = keras.Model(inputs, {"logits": inputs})
    model.compile(**objectives.causal())
    logs = model.evaluate(LOGITS, {"logits": TOKENS}, return_dict=True, verbose=0)
    mean = surprise(LOGITS, TOKENS).mean()
    assert logs["loss"] == pytest.approx(mean, rel=1e-5)
    assert logs["perplexity"] == pytest.approx(np.exp(mean), rel=1e-5)
    assert logs["accuracy"] == pytest.approx(np.mean(LOGITS.argmax(-1) == TOKENS), rel=1e-5)


def test_a_translator_is_trained_on_what_is_no_padding():
    logits = keras.Input((4, 7))
    model = keras.Model(logits, {"logits": logits})
    model.compile(**objectives.seq2seq())
    targets, weights = {"logits": TOKENS}, {"logits": WEIGHTS}
    logs = model.evaluate(LOGITS, targets, sample_weight=weights, return_dict=True, verbose=0)
    smoothed = objectives.CrossEntropy(label_smoothing=0.1)(TOKENS, LOGITS, WEIGHTS)
    assert logs["loss"] == pytest.approx(float(smoothed), rel=1e-5)
    assert logs["perplexity"] == pytest.approx(np.exp(EXPECTED), rel=1e-5)
    right = (LOGITS.argmax(-1) == TOKENS) * WEIGHTS
    assert logs["accuracy"] == pytest.approx(right.sum() / WEIGHTS.sum(), rel=1e-5)
