"""The experiments on classifiers of sentiment: each method on its labels, at the rate that validation data chooses."""

import dataclasses
import functools

import numpy as np
import pytest

from course_lib import Bert, BertConfig, WordPieceTokenizer, assets
from course_lib.data import reviews
from course_lib.experiments import lora_budget
from course_lib.experiments.lora_budget import LoraBudget
from course_lib.experiments.random_init_control import UNTRAINED, RandomInitControl
from course_lib.experiments.sentiment_finetuning import FROZEN, FULL, LORA, TF_IDF, SentimentFinetuning, mean_vectors
from course_lib.models.classifiers import TextClassifier
from course_lib.training.finetuning import logits_of
from course_lib.training.peft import load_lora

pytestmark = pytest.mark.one_backend

WORDS = "good bad fine film dull plot and the a very".split()


@functools.cache
def tokenizer():
    return WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])


class Small(SentimentFinetuning):
    """`SentimentFinetuning` with an encoder of four positions of attention."""

    def backbone(self):
        backbone = Bert(BertConfig(15, 1, 2, 16, 32, 20, dropout=0.0, initializer_range=0.2), tokenizer())
        backbone.build()
        return backbone


SMALL = Small(
    name="sentiment-finetuning",
    runs=((FULL, 8, 2), (LORA, 8, 1), (FULL, 0, 1)),
    counts=(8, 0),
    learning_rates=((FULL, (1e-3, 1e-2)), (LORA, (1e-2,))),
    guide=8,
    validation=6,
    seeds=(0, 1),
    max_length=10,
    rank=2,
    regularisations=(0.1, 10.0),
)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Forty sentences that name their label, in three splits, and an empty folder of parts."""
    rng = np.random.default_rng(0)
    texts = [" ".join([("bad", "good")[n % 2], *rng.permutation(WORDS[2:])[: 3 + n % 4]]) for n in range(40)]
    labels = np.arange(40, dtype="int32") % 2
    parts = [reviews.Split(texts[start:end], labels[start:end]) for start, end in ((0, 20), (20, 30), (30, 40))]
    monkeypatch.setattr(reviews, "rotten_tomatoes", lambda: reviews.Reviews(*parts))
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)


def test_each_method_has_its_runs(few, monkeypatch):
    def fine_tuned(self, method, count, epochs, seed, rate):
        return {"method": method, "count": count or 20, "seed": seed, "setting": rate, "chosen_loss": rate}

    monkeypatch.setattr(Small, "fine_tuned", fine_tuned)
    results = SMALL.run()
    found = [(result["method"], result["count"], result["seed"]) for result in results]
    trained = [(method, count, seed) for method, count in ((FULL, 8), (LORA, 8), (FULL, 20)) for seed in (0, 1)]
    assert found == trained + [
        (method, count, seed) for method in (FROZEN, TF_IDF) for count in (8, 20) for seed in (0, 1)
    ]
    for result in results[6:]:
        assert 0 <= result["accuracy"] <= 1 and result["processor_seconds"] >= 0 and result["setting"] in (0.1, 10.0)
        assert result["trained_parameters"] == 17 if result["method"] == FROZEN else result["trained_parameters"] > 17
    monkeypatch.setattr(Small, "fine_tuned", None)
    assert SMALL.run() == results  # from what was kept


def test_the_rate_is_that_of_the_lowest_validation_loss(few, monkeypatch):
    losses = {1e-3: 0.2, 1e-2: 0.4}
    made = []

    def fine_tuned(self, method, count, epochs, seed, rate):
        made.append((method, count, epochs, seed, rate))
        return {"setting": rate, "chosen_loss": losses[rate]}

    monkeypatch.setattr(Small, "fine_tuned", fine_tuned)
    assert SMALL.chosen(FULL, 0, 1, 1)["setting"] == 1e-3
    assert made == [(FULL, 8, 2, 0, 1e-3), (FULL, 8, 2, 0, 1e-2), (FULL, 0, 1, 1, 1e-3)]
    made.clear()
    assert SMALL.chosen(LORA, 0, 1, 1)["setting"] == 1e-2 and made == [(LORA, 0, 1, 1, 1e-2)]  # there is no choice


def test_a_run_measures_both_splits_and_keeps_margins_where_all_labels_are(few):
    result = SMALL.fine_tuned(FULL, 0, 12, 0, 1e-2)
    assert result["accuracy"] == 1 and result["validation_accuracy"] == 1 and result["loss"] < 0.2
    margins, labels = np.array(result["margins"]), reviews.rotten_tomatoes().test.labels
    assert np.array_equal(margins > 0, labels)
    losses = np.log1p(np.exp(np.where(labels, -margins, margins)))
    assert result["loss"] == pytest.approx(losses.mean(), abs=1e-3)
    assert len(result["validation_margins"]) == 10
    adapted = SMALL.fine_tuned(LORA, 8, 1, 0, 1e-2)
    assert not {"margins", "validation_margins"} & {*adapted}
    head, whole = 16 * 2 + 2, sum(int(np.prod(weight.shape)) for weight in SMALL.backbone().weights)
    pooler = 16 * 16 + 16
    assert [run["trained_parameters"] for run in (result, adapted)] == [whole - pooler + head, 2 * 2 * 16 * 2 + head]


def test_the_frozen_vectors_are_means_over_tokens():
    backbone = SMALL.backbone()
    vectors = mean_vectors(backbone, tokenizer()(["a very good film", "bad"]))
    for vector, text in zip(vectors, ("a very good film", "bad"), strict=True):
        states = np.asarray(backbone(tokenizer()([text]))["sequence_output"])
        np.testing.assert_allclose(vector, states[0].mean(axis=0), atol=1e-5)


def test_an_untrained_encoder_has_the_shape_of_the_trained_one_and_weights_of_its_own():
    trained, *untrained = (
        SentimentFinetuning().backbone(),
        RandomInitControl().backbone(),
        RandomInitControl().backbone(),
    )
    assert dataclasses.replace(untrained[0].config, initializer_range=0.02) == trained.config
    assert untrained[0].config.dropout == SentimentFinetuning().dropout == 0.1 and trained.config.attention_dropout == 0
    tables = [np.asarray(bert.token_embedding.embeddings) for bert in (trained, *untrained)]
    assert len({table.shape for table in tables}) == 1
    assert all(np.abs(a - b).max() > 0.05 for a, b in ((tables[0], tables[1]), (tables[1], tables[2])))
    assert np.std(tables[1]) == pytest.approx(RandomInitControl().initializer_range, rel=0.15)  # truncated
    assert {run[0] for run in RandomInitControl().runs} == {UNTRAINED} == {*dict(RandomInitControl().learning_rates)}


class SmallBudget(LoraBudget):
    """`LoraBudget` with the encoder of `Small`."""

    backbone = Small.backbone


BUDGET = SmallBudget(
    runs=((LORA, 0, 2), (FULL, 0, 2)),
    learning_rates=((LORA, (1e-3, 3e-2)), (FULL, (1e-3, 1e-2))),
    validation=6,
    seeds=(0, 1),
    max_length=10,
    rank=2,
    labels=8,
    shipped_epochs=2,
)


def test_both_methods_get_the_same_labels_and_epochs_and_the_best_rate_is_shipped(few, monkeypatch):
    losses = {(LORA, 1e-3): 0.4, (LORA, 3e-2): 0.2, (FULL, 1e-3): 0.1, (FULL, 1e-2): 0.3}
    made = []

    def fine_tuned(self, method, count, epochs, seed, rate):
        made.append((method, len(self.splits(count, seed)[0]), epochs, seed, rate))
        return {"method": method, "seed": seed, "setting": rate, "chosen_loss": losses[method, rate]}

    monkeypatch.setattr(SmallBudget, "fine_tuned", fine_tuned)
    monkeypatch.setattr(SmallBudget, "shipped", lambda self, rate: {"shipped": rate})
    results = BUDGET.run()
    assert made == [
        *((LORA, 8, 2, *rest) for rest in ((0, 1e-3), (0, 3e-2), (1, 3e-2))),
        *((FULL, 8, 2, *rest) for rest in ((0, 1e-3), (0, 1e-2), (1, 1e-3))),
    ]
    assert [(result["method"], result["setting"]) for result in results[:-1]] == [(run[0], run[-1]) for run in made]
    assert results[-1] == {"shipped": 3e-2}


def test_the_adapters_that_are_saved_score_as_recorded(few, tmp_path, monkeypatch):
    assert len(BUDGET.fine_tuned(LORA, 0, 1, 0, 1e-2)["margins"]) == 10
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path)
    start, made = SmallBudget.backbone, []

    def backbone(self):
        made.append(start(self))
        return made[-1]

    monkeypatch.setattr(SmallBudget, "backbone", backbone)
    result = BUDGET.shipped(3e-2)
    assert result["count"] == 20 and len(result["losses"]) == 2
    base = start(BUDGET)
    base.set_weights(_without_adapters(made[0]))
    model = TextClassifier(base, ["negative", "positive"], max_length=10)
    load_lora(model, tmp_path / "weights" / lora_budget.PRESET)
    test = reviews.rotten_tomatoes().test
    margins = np.diff(logits_of(model, model.examples(test.texts, test.labels)))[:, 0]
    np.testing.assert_allclose(margins, result["margins"], atol=2e-3)
    assert result["accuracy"] == np.mean((margins > 0) == test.labels)


def _without_adapters(backbone):
    return [np.asarray(weight) for weight in backbone.weights if "lora" not in weight.path]
