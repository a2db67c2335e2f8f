"""Recorded runs: every record is of today's recipe, and another is refused."""

import contextlib
import dataclasses
import hashlib
import importlib
import itertools
import json
import linecache
import re
import sys

import keras
import numpy as np
import pytest

from course_lib import assets, experiments
from course_lib.course import chapters
from course_lib.data import wnut
from course_lib.experiments import number_translation
from course_lib.experiments.frozen_features import best_linear, unpack
from course_lib.experiments.mlm_bayes_loss import TASKS, MlmBayesLoss, compare, predict
from course_lib.experiments.pretraining_ablation import PretrainingAblation, f1
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM

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

    def replay(self):
        """Computes a few numbers."""
        return {"eyes": [EYES, 6 - EYES]}


EYES = 4
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


@pytest.mark.parametrize("name", experiments.recorded())
def test_the_record_is_of_todays_recipe_and_data(name):
    record = experiments.load(name)
    for file, digest in record["data_hashes"].items():
        asset, _, local = file.partition("/")
        assert assets.registry()[asset]["files"][local]["sha256"] == digest
    assert record["results"] and record["command"].endswith(name)


def test_the_record_of_frozen_features_is_whole():
    recipe = experiments.experiment("frozen-features")
    results = experiments.load("frozen-features")["results"]
    points = [(r["features"], r["count"], r["draw"]) for r in results if "count" in r]
    assert len(set(points)) == len(points) == len(recipe.kinds) * len(recipe.counts) * recipe.draws
    for kind, correct in unpack(results, 1066).items():
        shares = [r["accuracy"] for r in results if r["features"] == kind and "count" in r]
        np.testing.assert_allclose(np.sort(correct.mean(axis=-1).ravel()), np.sort(shares), err_msg=kind)


def test_every_record_that_a_chapter_draws_from_is_there():
    drawn = set()
    for path in chapters.find():
        drawn |= set(re.findall(r'experiments\.load\(\\"([\w-]+)\\"\)', path.read_text(encoding="utf-8")))
    assert "frozen-features" in drawn <= set(experiments.recorded())


def test_a_part_is_made_once_until_the_recipe_changes(dice, write, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path / "cache")
    numbers = itertools.count()

    def once(key):
        return experiments.cached("dice", key, lambda: [next(numbers)])

    assert [once("a"), once("b"), once("a")] == [[0], [1], [0]]
    write(DICE.replace("= 3", "= 4"))
    assert [once("a"), once("a")] == [[2], [2]]
    write(DICE)
    assert once("b") == [1]


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
        ("EYES = 4", "EYES = 5", True),
        ("(self.throws)]", "(self.throws)]  # each", False),
        ("Runs the experiment.", "Throws the die.", False),
        ("import dataclasses", "import dataclasses\nfrom json import dumps", False),
        ("6 - EYES", "7 - EYES", False),  # the replay decides no result
    ],
)
def test_a_record_of_other_settings_or_code_is_refused(dice, write, old, new, refused):
    experiments.record("dice")
    assert DICE.count(old) == 1
    write(DICE.replace(old, new))
    with pytest.raises(ValueError, match="it has changed since") if refused else contextlib.nullcontext():
        experiments.load("dice")


def test_a_record_is_of_the_base_class_too(write, monkeypatch, tmp_path):
    derived = """
import dataclasses
from base_of_dice import Dice


@dataclasses.dataclass(frozen=True)
class Coin(Dice):
    throws: int = 2


EXPERIMENT = Coin()
"""
    hashes = []
    for base in (DICE, DICE.replace('"eyes": 4', '"eyes": 1'), DICE.replace("Throws of", "All throws of")):
        (tmp_path / "base_of_dice.py").write_text(base)
        linecache.clearcache()
        monkeypatch.delitem(sys.modules, "base_of_dice", raising=False)
        importlib.invalidate_caches()
        monkeypatch.setitem(experiments.EXPERIMENTS, "base", "base_of_dice")
        write(derived)
        hashes.append(experiments.recipe_hash("dice"))
    assert hashes[0] != hashes[1] and hashes[0] == hashes[2]


UNSTABLE = '''"""What differs between versions of Python: see `normalized`."""
from course_lib.models import gpt2 as model

WIDTH: float = 1e22 + 3j.imag
LETTERS = ("é\\u200b\\U0001fabf", b"\\xff", ..., None, True, u"u")


@model.decorated
class Small(model.GPT2, metaclass=type):
    """A docstring."""

    async def wait(self, *, first=None, **others):
        """A docstring."""
        import json

        return [f"{name!r:>{len(name)}}" f"{{{first:}}}" "" for name in others if name is not None]

    def empty(self): ...


def plain(a, /, b=-1, *c):
    "A docstring."
    try:
        with open(a) as stream, b:
            return lambda: (yield stream[1:, ...])
    except* ValueError as error:
        match error:
            case {"name": [1, *rest], **others}:
                del rest
            case _:
                raise
'''


UNSTABLE_SHA256 = "be0a2fad8b57e8bc4a48401bb8e6a296c8b72565b2bcf994f292c1d6aa43a45e"


def test_the_hash_is_the_same_on_every_python():
    text = json.dumps(experiments.normalized(UNSTABLE))
    assert hashlib.sha256(text.encode()).hexdigest() == UNSTABLE_SHA256
    moved = UNSTABLE.replace("from course_lib import gpt2 as model", "import course_lib.models.gpt2 as model")
    moved = moved.replace("A docstring.", "Another.").replace("        import json\n", "").replace("b=-1", "b = - 1")
    assert moved != UNSTABLE and json.dumps(experiments.normalized(moved)) == text
    for old, new in (("1e22", "1e21"), ("3j", "4j"), ("True", "1"), ("async ", ""), ('b"', '"'), ("b=-1", "b=1")):
        assert json.dumps(experiments.normalized(UNSTABLE.replace(old, new))) != text, old


def test_a_change_of_names_is_stamped(dice, write, monkeypatch, capsys):
    made = experiments.record("dice")
    assert made["replay"] == {"eyes.0": 4.0, "eyes.1": 2.0} and made["stamps"] == []
    write(DICE.replace("throw in", "each in").replace('"throw": throw', '"throw": each'))
    with pytest.raises(ValueError, match="--stamp"):
        experiments.load("dice")
    with pytest.raises(ValueError, match="a reason"):
        experiments.stamp("dice", " ")
    monkeypatch.setattr(sys, "argv", ["experiments", "dice", "--stamp", "another name"])
    experiments.main()
    assert "dice: stamped" in capsys.readouterr().out
    loaded = experiments.load("dice")
    (stamp,) = loaded["stamps"]
    assert sorted(stamp) == ["commit", "date", "why"] and stamp["why"] == "another name"
    assert loaded["recipe_hash"] == experiments.recipe_hash("dice") != made["recipe_hash"]
    assert {key: loaded[key] for key in made if key not in ("recipe_hash", "stamps")} == json.loads(
        json.dumps({key: made[key] for key in made if key not in ("recipe_hash", "stamps")})
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("EYES = 4", "EYES = 5", r"eyes\.0: 4\.0 in the record, 5\.0 now"),
        ("6 - EYES]", "2, 0]", r"eyes\.2: only in one of the two"),
        ("6 - EYES", "6.003 - EYES", r"eyes\.1: 2\.0 in the record, 2\.003 now"),
        ("throws: int = 3", "throws: int = 4", r"\['throws'\] differ"),
    ],
)
def test_a_change_of_results_is_not_stamped(dice, write, old, new, complaint):
    experiments.record("dice")
    before = dice.read_bytes()
    write(DICE.replace(old, new))
    with pytest.raises(ValueError, match=complaint):
        experiments.stamp("dice", "I say so")
    assert dice.read_bytes() == before


def test_a_record_without_a_replay_is_not_stamped(dice):
    made = experiments.record("dice")
    dice.write_text(json.dumps({key: value for key, value in made.items() if key != "replay"}))
    with pytest.raises(ValueError, match="only in one"):
        experiments.stamp("dice", "it is old")


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


# The floors


TINY = MlmBayesLoss(
    num_words=8, num_layers=1, hidden_dim=16, batch_size=8, steps=4, warmup_steps=1, evaluations=2, held_out=60
)


def test_exact_predictions_are_at_the_floor():
    for task in TASKS:
        batch = TINY.batch(task, 60, seed=0, step=0)
        exact = TINY.exact(task, batch)
        result = compare(exact, batch, exact)
        assert result["loss"] == result["exact_loss"] and result["kl"] == pytest.approx(0, abs=1e-9)
        assert result["accuracy"] == result["exact_accuracy"] > 0.3
        assert abs(result["exact_loss"] - result["floor"]) < 0.3  # a draw, and its expectation


def test_a_comparison_by_hand():
    batch = (None, {"out": np.array([[0, 1], [1, 0]])}, {"out": np.array([[1.0, 1.0], [1.0, 0.0]])})
    exact = np.array([[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.0, 0.0]]])
    exact[1, 0] = [0.2, 0.8]
    predicted = np.full((2, 2, 2), 0.5)
    result = compare(predicted, batch, exact)
    assert result["loss"] == pytest.approx(np.log(2))
    losses = -np.log([0.5, 0.75, 0.8])
    assert result["exact_loss"] == pytest.approx(losses.mean())
    entropies = [np.log(2), -0.25 * np.log(0.25) - 0.75 * np.log(0.75), -0.2 * np.log(0.2) - 0.8 * np.log(0.8)]
    assert result["floor"] == pytest.approx(np.mean(entropies))
    assert result["kl"] == pytest.approx(np.log(2) - np.mean(entropies))
    assert result["exact_accuracy"] == pytest.approx(1)
    rows = 2 / 3 * np.array([np.log(2) - losses[0] + np.log(2) - losses[1], np.log(2) - losses[2]])
    assert rows.mean() == pytest.approx(result["loss"] - result["exact_loss"])
    assert result["standard_error"] == pytest.approx(rows.std(ddof=1) / 2**0.5)


def test_a_model_is_compared_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    rows = {task: TINY.train(task, seed=1) for task in TASKS}  # the third begins with what the first ended with
    for task, (first, second) in rows.items():
        assert (first["task"], first["seed"], first["step"], second["step"]) == (task, 1, 2, 4)
        assert second["seconds"] >= first["seconds"] > 0 and second["loss"] > second["exact_loss"]
    batch = TINY.batch("[MASK]", 3, seed=0, step=0)
    probabilities = predict(TINY.model("[MASK]", seed=0), batch[0])
    assert probabilities.shape == (3, 1, 13)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)


# What pre-training is worth


def test_entities_count_whole():
    class Tagged:
        labels = (("B-dog", "I-dog", "O"), ("O", "B-cat"))

    labels = ["B-cat", "B-dog", "I-dog", "O"]
    right = np.array([[1, 2, 3], [3, 0, 0]])
    ones = np.ones((2, 3))
    assert f1(right, ones, Tagged, labels) == 1
    half = np.array([[1, 3, 3], [3, 0, 0]])  # half of the dog is no dog
    assert f1(half, ones, Tagged, labels) == 0.5
    cut = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])  # the cat was cut off
    assert f1(right, cut, Tagged, labels) == pytest.approx(2 / 3)


def test_each_task_is_fine_tuned_and_scored():
    small = PretrainingAblation(tasks=(("Rotten Tomatoes", 4, 16, 1), ("WNUT", 0, 16, 1)), seeds=(0,))
    linear = small.linear(small.tasks[0], 0)
    assert linear["count"] == 4 and 0.4 < linear["score"] < 0.6
    splits = small.splits("WNUT", 0, 0)
    assert [len(split) for split in splits] == [1591, 230, 460]
    assert [len(split) for split in small.splits("Rotten Tomatoes", 4, 0)] == [4, 500, 1066]
    tokenizer, labels = small.backbone("bert-mini").tokenizer, wnut.tweets().label_names
    inputs, ids, weights = small.tagged(tokenizer, splits[2], 64, labels)
    assert [labels[index] for index in ids[7][weights[7] > 0]] == list(splits[2].labels[7])
    assert inputs["word_positions"].shape == ids.shape == weights.shape and weights.sum() > 8900  # of 9,015
    result = small.fine_tuned("bert-mini", small.tasks[0], 0, 1e-4)
    assert result["task"] == "Rotten Tomatoes" and 0.3 < result["score"] < 0.7 and result["validation_loss"] > 0.5


def test_an_untrained_model_is_the_trained_one_before_its_training():
    untrained, other, trained = (
        PretrainingAblation().backbone(model) for model in ("untrained", "untrained", "bert-mini")
    )
    assert untrained.config == dataclasses.replace(
        trained.config, initializer_range=PretrainingAblation().initializer_range
    )
    assert untrained.config.dropout == PretrainingAblation().dropout
    assert [weight.shape for weight in untrained.weights] == [weight.shape for weight in trained.weights]
    tables = [np.asarray(bert.token_embedding.embeddings) for bert in (untrained, other, trained)]
    assert all(np.abs(a - b).max() > 0.01 for a, b in itertools.combinations(tables, 2))


# NumberTranslation

PAIRS = {
    "encoder_token_ids": np.array([[1, 2, 3, 4]], "int32"),
    "decoder_token_ids": np.array([[9, 5, 6, 7]], "int32"),
}


def logits_of_numbers(kind, **changes):
    keras.utils.set_random_seed(0)
    model = Seq2SeqLM(kind(Seq2SeqConfig(10, num_layers=1, num_heads=2, hidden_dim=8, dropout=0.0)))
    return np.asarray(model(PAIRS))[0], np.asarray(model(PAIRS | changes))[0]


@pytest.mark.parametrize(("kind", "leaks"), [(Seq2Seq, False), (number_translation.Leaking, True)])
def test_what_leaks_moves_an_earlier_output(kind, leaks):
    before, after = logits_of_numbers(kind, decoder_token_ids=np.array([[9, 5, 6, 8]], "int32"))
    assert (np.abs(after - before)[:3].max() > 1e-4) == leaks


@pytest.mark.parametrize(("kind", "ordered"), [(Seq2Seq, True), (number_translation.Unordered, False)])
def test_without_positions_a_source_is_a_set(kind, ordered):
    before, after = logits_of_numbers(kind, encoder_token_ids=np.array([[4, 2, 1, 3]], "int32"))
    assert (np.abs(after - before).max() > 1e-4) == ordered


def test_numbers_are_learned_from_whole_batches_of_all_pairs():
    recipe = dataclasses.replace(
        number_translation.EXPERIMENT, train=50, test=20, tokenizer_texts=400, vocabulary_size=400
    )
    splits = recipe.splits()
    tokenizer, (inputs, labels, weights) = recipe.examples(splits)
    assert tokenizer.vocabulary_size == 400 and len(splits.test) == 20
    assert len(labels) == 2 * len(splits.train) // recipe.batch_size * recipe.batch_size
    assert {len(array) for array in [*inputs.values(), weights]} == {len(labels)}
    assert max(recipe.splits(number_translation.SHORTER).train) < recipe.shorter_limit <= max(splits.test)
    _, (other, *_) = recipe.examples(splits, seed=1)
    assert not np.array_equal(other["encoder_token_ids"][0], inputs["encoder_token_ids"][0])
