"""Recorded runs: every record is of today's recipe, and another is refused."""

import dataclasses
import json

import numpy as np
import pytest

from course_lib.data import assets
from course_lib.training import experiments

pytestmark = pytest.mark.one_backend


@dataclasses.dataclass(frozen=True)
class Dice:
    """Throws of a die.

    Args:
        data: the assets that it reads.
        throws: how many.
    """

    data: tuple = ("movie-reviews",)
    throws: int = 3

    def run(self):
        """Runs the experiment."""
        return [{"throw": throw, "eyes": 4} for throw in range(self.throws)]


@pytest.fixture
def dice(tmp_path, monkeypatch):
    """An experiment of which there is no record yet, in an empty data folder."""
    registry = assets.registry()
    monkeypatch.setattr(assets, "registry", lambda: registry)
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path)
    monkeypatch.setitem(experiments.EXPERIMENTS, "dice", Dice())
    return tmp_path / "runs" / "dice.json"


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_the_record_is_of_todays_recipe_and_data(name):
    record = experiments.load(name)
    for file, digest in record["data_hashes"].items():
        asset, _, local = file.partition("/")
        assert assets.registry()[asset]["files"][local]["sha256"] == digest
    assert record["results"] and record["command"].endswith(name)


def test_the_record_of_frozen_features_is_whole():
    recipe = experiments.EXPERIMENTS["frozen-features"]
    results = experiments.load("frozen-features")["results"]
    points = {(result["features"], result["count"], result["draw"]) for result in results}
    assert len(points) == len(results) == 3 * len(recipe.counts) * recipe.draws


def test_a_record_comes_back_as_it_was_made(dice):
    made = experiments.record("dice")
    assert experiments.load("dice") == json.loads(json.dumps(made))
    assert made["results"] == Dice().run() and [path.name for path in dice.parent.iterdir()] == ["dice.json"]


def test_a_changed_recipe_is_refused(dice, monkeypatch):
    experiments.record("dice")
    monkeypatch.setitem(experiments.EXPERIMENTS, "dice", Dice(throws=4))
    with pytest.raises(ValueError, match="it has changed since"):
        experiments.load("dice")


def test_changed_code_is_another_recipe_and_changed_comments_are_not(monkeypatch):
    recipe = experiments.EXPERIMENTS["frozen-features"]
    code, before = experiments.inspect.getsource(type(recipe)), experiments.recipe_hash(recipe)
    for change, same in ((("self.draws):", "self.draws):  # each\n"), True), (("seed=draw", "seed=0"), False)):
        source = code.replace(*change)
        monkeypatch.setattr(experiments.inspect, "getsource", lambda part, s=source: s if part is type(recipe) else "")
        reference = experiments.recipe_hash(recipe)
        monkeypatch.setattr(experiments.inspect, "getsource", lambda part: code if part is type(recipe) else "")
        assert source != code and (experiments.recipe_hash(recipe) == reference) == same
    monkeypatch.undo()
    assert experiments.recipe_hash(recipe) == before


def test_no_experiment_and_no_record(dice):
    with pytest.raises(ValueError, match="one of|experiment of"):
        experiments.load("coin")
    with pytest.raises(ValueError, match=r"there is none\. Make it with python -m"):
        experiments.load("dice")


def test_the_best_regularisation_is_chosen_on_validation_features():
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 2, 60) for _ in range(3)]
    features = [label[:, None] + rng.normal(0, 0.1, (60, 1)) for label in labels]
    features[1] = -features[1]  # on the validation split, the less is learned the better
    assert experiments.best_linear(features, labels, (1e-9, 100.0))["regularisation"] == 1e-9
    features[1] = -features[1]
    assert experiments.best_linear(features, labels, (1e-9, 100.0)) == {"regularisation": 100.0, "accuracy": 1.0}
