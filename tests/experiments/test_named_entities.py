"""The experiment on named entities, at a tiny size, and how it scores."""

import dataclasses

import pytest

from course_lib import assets, experiments
from course_lib.data import wnut
from course_lib.experiments import named_entities

pytestmark = pytest.mark.one_backend

PERSON = ("B-person", "I-person")
TRAIN = wnut.Split([("Ann", "Lee", "sang"), ("in", "Rome")] * 4, [(*PERSON, "O"), ("O", "B-geo-loc")] * 4)
VALIDATION = wnut.Split([("ann", "lee", "slept")], [(*PERSON, "O")])
TEST = wnut.Split([("Bo", "in", "rome"), ("Rome",)], [("B-person", "O", "B-geo-loc"), ("B-geo-loc",)])


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on three splits of our own, with a small encoder; its parts are kept apart from the real ones."""
    monkeypatch.setattr(named_entities.wnut, "tweets", lambda: wnut.Entities(TRAIN, VALIDATION, TEST))
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    changes = {"preset": "bert-mini", "learning_rates": (1e-5, 1e-3), "epochs": 1, "seeds": (0,)}
    recipe = dataclasses.replace(named_entities.EXPERIMENT, **changes, l1=(0.1, 50.0), l2=(0.01,), shares=(0.0,))
    monkeypatch.setattr(named_entities, "EXPERIMENT", recipe)
    return recipe


def test_scores_tell_what_was_seen_in_training():
    found = named_entities.scores(TEST, [("O", "O", "B-geo-loc"), ("B-person",)], TRAIN)
    assert found["all"]["f1"] == pytest.approx(2 * 1 / (3 + 2)) and found["accuracy"] == 0.5
    assert [found["seen"][name] for name in ("right", "predicted", "both")] == [2, 2, 1]
    assert [found["unseen"][name] for name in ("right", "predicted", "both")] == [1, 0, 0]


def test_the_experiment_chooses_on_validation_and_keeps_what_was_predicted(small):
    results = small.run()
    assert [(one["model"], one["seed"]) for one in results] == [
        ("nothing", None),
        ("dictionary", None),
        ("CRF", None),
        ("CRF, no capitals", None),
        ("MiniLM", 0),
    ]
    names = wnut.Entities(TRAIN, VALIDATION, TEST).label_names
    for one in results:
        best = max(f1 for _, f1 in one["tried"])
        assert one["validation"]["all"]["f1"] == best
        assert one["setting"] in [setting for setting, _ in one["tried"]]
        labels = [[names[ord(letter) - ord("a")] for letter in row] for row in one["predicted"]]
        assert [len(row) for row in labels] == [3, 1]
        assert named_entities.scores(TEST, labels, TRAIN) == one["test"]
    assert results[1]["setting"] == {"lowercase": True, "fraction": 0.0}  # "ann lee" is not "Ann Lee"
    assert results[2]["setting"]["l1"] == 0.1  # at 50 nothing is left
    assert results[0]["test"]["accuracy"] == 0.25 and results[0]["test"]["all"]["f1"] == 0
    assert results[4]["validation_f1s"] == [results[4]["validation"]["all"]["f1"]]
    assert experiments.cached("named-entities", "MiniLM, seed 0, learning rate 1e-05", None) is not None


def test_words_that_were_cut_off_are_outside(small, monkeypatch):
    model = named_entities.TokenClassifier(named_entities.Bert.from_preset("bert-mini"), ["O", "B-x"], max_length=4)
    assert [len(labels) for labels in named_entities.decode(model, TRAIN)] == [3, 2] * 4
    assert all(labels[-1] == "O" for labels in named_entities.decode(model, TRAIN)[::2])
