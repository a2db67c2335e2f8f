"""The shipped GPT of the artificial language: as good as the run that it repeats, and made by its command."""

import dataclasses

import numpy as np
import pytest

from course_lib import experiments
from course_lib.experiments import clm_bayes_loss, language_gpt

SETTINGS = clm_bayes_loss.EXPERIMENT


def test_the_shipped_model_is_as_near_the_floor_as_the_record_says():
    model = language_gpt.load()
    held_out = SETTINGS.batch(300, seed=2**20, step=0)
    exact = SETTINGS.exact(held_out)
    found = clm_bayes_loss.compared(clm_bayes_loss.predict(model, held_out[0]), held_out, exact)
    runs = [row for row in experiments.load("clm-bayes-loss")["results"] if row.get("seed") == language_gpt.SEED]
    assert runs[-1]["step"] == SETTINGS.steps
    assert found["kl"] == pytest.approx(runs[-1]["kl"], rel=0.25)
    assert -3 * found["standard_error"] < found["loss"] - found["exact_loss"] < 0.005 * found["exact_loss"]
    assert model.backbone.config == SETTINGS.model(seed=0).backbone.config


@pytest.mark.one_backend
def test_the_command_trains_and_saves(tmp_path, monkeypatch):
    small = dataclasses.replace(
        SETTINGS, num_words=6, num_layers=1, hidden_dim=8, batch_size=4, steps=2, warmup_steps=1
    )
    train, made = language_gpt.train, []
    monkeypatch.setattr(language_gpt, "train", lambda: made.append(train(small)) or made[0])
    language_gpt.main(["--folder", str(tmp_path / "there")])
    loaded = language_gpt.load(tmp_path / "there")
    for ours, theirs in zip(made[0].weights, loaded.weights, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-3)  # float16
    before = small.model(language_gpt.SEED).weights
    assert any(np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3 for a, b in zip(before, made[0].weights, strict=True))
