"""The variants of pre-training differ in what they are named after, and a run that was stopped ends the same."""

import dataclasses
import itertools

import numpy as np
import pytest

from course_lib import assets
from course_lib.data import corpus
from course_lib.experiments import pretraining_variants
from course_lib.experiments.pretraining_variants import NEIGHBOURS, RANDOM, looking_at_neighbours
from course_lib.training.pretrain import prepare
from course_lib.training.recipes import RECIPES

pytestmark = pytest.mark.one_backend

TEXTS = [
    f"The {a} met a {b}. Later the {b} lost the {c}. It was never seen again!"
    for a, b, c in itertools.permutations(("owl", "ferry", "baker", "piano"), 3)
]
SMALL = {
    "vocabulary_size": 60,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 16,
    "max_sequence_length": 24,
    "length": 24,
    "batch_size": 4,
    "steps": 8,
    "steps_per_checkpoint": 4,
    "warmup_steps": 2,
    "jit_compile": False,
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment with a tiny model on a few texts; its parts are kept apart from the real ones."""
    documents = corpus.Documents(TEXTS[:20], TEXTS[20:])
    monkeypatch.setattr(corpus, "imdb", lambda: documents)
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    variants = tuple(
        (name, base, tuple((SMALL | dict(changes)).items()), 4, 2)
        for name, base, changes, *_ in pretraining_variants.EXPERIMENT.variants[1:3]
    )
    return dataclasses.replace(pretraining_variants.EXPERIMENT, variants=variants, seeds=(0,), evaluation_steps=2)


def test_each_variant_changes_what_it_is_named_after():
    experiment = pretraining_variants.EXPERIMENT
    recipes = {variant[0]: experiment.recipe(variant, seed=2) for variant in experiment.variants}
    first, second, third, *continued = recipes.values()
    assert first == second == dataclasses.replace(RECIPES["bert-mini-short"], seed=2)
    assert dataclasses.replace(third, warmup_steps=first.warmup_steps) == first and third.warmup_steps == 0
    assert [recipe.learning_rate for recipe in continued] == [1.5e-3, 1e-4]
    for recipe in continued:
        assert (recipe.start, recipe.length, recipe.steps, recipe.warmup_steps) == ("bert-mini", 128, 1000, 100)
    assert all(recipe.jit_compile for recipe in recipes.values())
    assert all(steps % every == 0 and steps <= recipes[name].steps for name, _, _, steps, every in experiment.variants)


def test_random_heads_differ_in_their_start_alone(small, tmp_path):
    recipe = small.recipe(small.variants[0], seed=1)
    tokenizer, train, _ = prepare(corpus.imdb(), recipe, tmp_path)
    models = [small.model(name, recipe, tokenizer, train) for name in (NEIGHBOURS, RANDOM)]
    weights = [[np.asarray(weight) for weight in model.weights] for model in models]
    different = [
        weight.path
        for weight, one, other in zip(models[1].weights, *weights, strict=True)
        if not np.array_equal(one, other)
    ]
    assert sorted(different) == sorted(weight.path for weight in looking_at_neighbours(models[1])), different
    for weight in looking_at_neighbours(models[1]):
        assert np.std(weight) == pytest.approx(recipe.initializer_range, rel=0.3)


def test_a_run_that_was_stopped_ends_the_same(small, monkeypatch, tmp_path):
    rows = small.run()
    assert [(row["variant"], row["step"]) for row in rows] == [
        (variant[0], step) for variant in small.variants for step in (0, 2, 4)
    ]
    assert all((row["training_loss"] is None) == (row["step"] == 0) and row["loss"] > 0 for row in rows)
    assert rows[0]["loss"] != rows[3]["loss"]  # random heads, and heads that look at neighbours

    variant = small.variants[1]
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path / "other")
    shorter = (*variant[:3], 2, variant[4])
    assert small.train(shorter, 0) == rows[3:5]
    assert small.train(variant, 0) == rows[3:]
