"""The experiment on the next word: tables and exact predictions where they must be, and a model compared."""

import numpy as np
import pytest

from course_lib import assets
from course_lib.data.synthetic_language import CLS, FIRST_WORD
from course_lib.experiments.clm_bayes_loss import ClmBayesLoss, compared, predict

pytestmark = pytest.mark.one_backend

TINY = ClmBayesLoss(
    num_words=12,
    num_layers=1,
    hidden_dim=16,
    batch_size=8,
    steps=4,
    warmup_steps=1,
    evaluations=2,
    held_out=400,
    seeds=(0,),
)


def test_each_word_is_predicted_from_those_before_it():
    inputs, targets = TINY.batch(3, seed=0, step=0)
    assert inputs["token_ids"].shape == targets.shape == (3, 12)
    np.testing.assert_array_equal(inputs["token_ids"][:, 0], CLS)
    np.testing.assert_array_equal(inputs["token_ids"][:, 1:], targets[:, :-1])
    assert targets.min() >= FIRST_WORD


def test_exact_predictions_and_tables_are_where_they_must_be():
    batch = TINY.batch(TINY.held_out, seed=0, step=0)
    exact, language = TINY.exact(batch), TINY.language
    result = compared(exact, batch, exact)
    assert result["loss"] == result["exact_loss"] and result["kl"] == pytest.approx(0, abs=1e-9)
    assert result["late_loss"] == result["late_exact_loss"] < result["loss"]
    assert result["late_loss"] == pytest.approx(np.mean(result["loss_by_place"][6:]), abs=1e-4)
    assert result["late_loss"] == pytest.approx(language.entropy_rate, rel=0.05)
    unigram, table = (compared(TINY.table(batch, words), batch, exact) for words in (0, 2))
    assert unigram["loss"] == pytest.approx(language.unigram_loss, rel=0.02)
    np.testing.assert_allclose(TINY.table(batch, 2).sum(axis=-1), 1)
    np.testing.assert_allclose(TINY.table(batch, 2)[:, :2], exact[:, :2], atol=1e-9)  # there is no more to know
    assert result["loss"] < table["loss"] - 0.03 < unigram["loss"] - 0.3
    for one in (unigram, table):  # the gap is the divergence, but for the draws
        assert one["kl"] == pytest.approx(one["loss"] - one["exact_loss"], abs=4 * one["standard_error"])


def test_a_model_is_compared_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    first, second = TINY.run()[:2]
    assert (first["model"], second["model"]) == ("unigram", "two words before")
    rows = TINY.run()[2:]  # the second time from what was kept
    assert [(row["seed"], row["step"]) for row in rows] == [(seed, step) for seed in TINY.seeds for step in (2, 4)]
    for row in rows:
        assert row["loss"] > row["exact_loss"] == first["exact_loss"] and row["kl"] > 0
    probabilities = predict(TINY.model(seed=0), TINY.batch(3, seed=0, step=0)[0])
    assert probabilities.shape == (3, 12, 13)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)
