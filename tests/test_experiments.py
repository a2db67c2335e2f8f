"""Recorded runs: every record is of today's recipe, and another is refused."""

import contextlib
import itertools
import json
import sys

import numpy as np
import pytest

from course_lib.data import assets
from course_lib.training import experiments
from course_lib.training.experiments.frozen_features import best_linear

pytestmark = pytest.mark.one_backend


DICE = '''"""Throws of a die."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Dice:
    """Throws of a die."""

    data: tuple = ("movie-reviews",)
    throws: int = 3

    def run(self):
        """Runs the experiment."""
        return [{"throw": throw, "eyes": 4} for throw in range(self.throws)]


EXPERIMENT = Dice()
'''


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that makes the source of a module into the experiment "dice", of which there is no record yet."""
    registry, count = assets.registry(), itertools.count()
    monkeypatch.setattr(assets, "registry", lambda: registry)
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(source):
        name = f"dice_{next(count)}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)  # that of another test
        monkeypatch.setitem(experiments.EXPERIMENTS, "dice", name)

    return write


@pytest.fixture
def dice(write, tmp_path):
    """The path of the record of `DICE`, which is not there yet."""
    write(DICE)
    return tmp_path / "runs" / "dice.json"


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_the_record_is_of_todays_recipe_and_data(name):
    record = experiments.load(name)
    for file, digest in record["data_hashes"].items():
        asset, _, local = file.partition("/")
        assert assets.registry()[asset]["files"][local]["sha256"] == digest
    assert record["results"] and record["command"].endswith(name)


def test_the_record_of_frozen_features_is_whole():
    recipe = experiments.experiment("frozen-features")
    results = experiments.load("frozen-features")["results"]
    points = {(result["features"], result["count"], result["draw"]) for result in results}
    assert len(points) == len(results) == 3 * len(recipe.counts) * recipe.draws


def test_a_record_comes_back_as_it_was_made(dice):
    made = experiments.record("dice")
    assert experiments.load("dice") == json.loads(json.dumps(made))
    assert made["results"] == [{"throw": throw, "eyes": 4} for throw in range(3)] and [
        path.name for path in dice.parent.iterdir()
    ] == ["dice.json"]


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("throws: int = 3", "throws: int = 4", True),
        ('"eyes": 4', '"eyes": 6', True),
        ("EXPERIMENT = Dice()", "EXPERIMENT = Dice(throws=4)", True),
        ("(self.throws)]", "(self.throws)]  # each", False),
        ("Runs the experiment.", "Throws the die.", False),
    ],
)
def test_a_record_of_other_settings_or_code_is_refused(dice, write, old, new, refused):
    experiments.record("dice")
    assert DICE.count(old) == 1
    write(DICE.replace(old, new))
    with pytest.raises(ValueError, match="it has changed since") if refused else contextlib.nullcontext():
        experiments.load("dice")


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
    assert best_linear(features, labels, (1e-9, 100.0))["regularisation"] == 1e-9
    features[1] = -features[1]
    assert best_linear(features, labels, (1e-9, 100.0)) == {"regularisation": 100.0, "accuracy": 1.0}
