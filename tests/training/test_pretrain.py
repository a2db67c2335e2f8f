"""Pre-training: what a run learns from, and that one that was killed ends like one that was not."""

import csv
import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from layer_checks import to_numpy
from safetensors.numpy import load_file
from text_samples import CORPUS as TEXT
from text_samples import UNEVEN_CORPUS

from course_lib import Bert, BertConfig, BertPretrainer, assets
from course_lib.data import corpus
from course_lib.training import resumable
from course_lib.training.pretrain import Batches, batch_maker, build, prepare, pretrain
from course_lib.training.pretrain.__main__ import main
from course_lib.training.recipes import RECIPES, Recipe, resolve_start, run_folder

TINY = Recipe(
    vocabulary_size=60, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=24,
    dropout=0.1, length=24, batch_size=4, steps=12, warmup_steps=2, learning_rate=1e-2, jit_compile=False,
    steps_per_checkpoint=3, evaluation_steps=2,
)  # fmt: skip
TINY_CAUSAL = dataclasses.replace(TINY, objective="causal", vocabulary_size=280, optimizer="muon")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A small corpus of our own."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(TEXT)
    return corpus.read(path)


def read_log(folder):
    """The log without the times."""
    with open(folder / "log.csv", newline="") as stream:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]


@pytest.mark.parametrize(
    "recipe", [TINY, pytest.param(TINY_CAUSAL, marks=pytest.mark.one_backend)], ids=["bert", "gpt2"]
)
def test_a_run_that_was_killed_ends_like_one_that_was_not(recipe, documents, tmp_path):
    pretrain(recipe, documents, tmp_path / "whole")
    (tmp_path / "corpus.txt").write_text(TEXT)
    fields = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    (tmp_path / "tiny.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items()))
    command = ["-m", "course_lib.training.pretrain", "tiny.toml", "--corpus", "corpus.txt", "--folder", "killed"]
    run = subprocess.Popen([sys.executable, *command], cwd=tmp_path, stderr=subprocess.PIPE)
    saved, deadline = tmp_path / "killed" / "checkpoint.safetensors", time.monotonic() + 120
    while not saved.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.communicate() and run.returncode == -signal.SIGKILL
    assert len(read_log(tmp_path / "killed") if (tmp_path / "killed" / "log.csv").exists() else []) < 4

    model = pretrain(recipe, documents, tmp_path / "killed")
    whole, resumed = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "killed")
    rows = read_log(tmp_path / "whole")
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12] and len({row["loss"] for row in rows}) == 4

    preset = type(model).from_preset(tmp_path / "killed" / "preset")
    batch = preset.backbone.tokenizer(["The dog saw a [MASK]."])
    for stored, trained in zip(keras.tree.flatten(preset(batch)), keras.tree.flatten(model(batch)), strict=True):
        np.testing.assert_allclose(to_numpy(stored), to_numpy(trained), atol=5e-3)
    stored = load_file(tmp_path / "killed" / "preset" / "model.safetensors")
    assert {array.dtype.name for array in stored.values()} == {"float16"}


@pytest.mark.one_backend
def test_the_first_losses_agree_between_the_backends(documents, tmp_path):
    recipe = dataclasses.replace(TINY, dropout=0.0, batch_size=16, warmup_steps=10, learning_rate=2e-3, steps=20)
    tokenizer, _, _ = prepare(documents, recipe, tmp_path)
    build(recipe, tokenizer).save_to_preset(tmp_path / "initial")
    program = f"""
import sys, json, pathlib
sys.path[:0] = {[str(folder) for folder in pathlib.Path(__file__).parents[:2]]!r}
import course_lib; course_lib.reproducible(0)
import keras
from test_pretrain import *
(pathlib.Path("corpus.txt")).write_text(TEXT)
recipe = Recipe(**{dataclasses.asdict(dataclasses.replace(recipe, start="initial"))!r})
tokenizer, train, _ = prepare(corpus.read("corpus.txt"), recipe, pathlib.Path("."))
model, losses = build(recipe, tokenizer), []
model.fit(Batches(batch_maker(train, tokenizer, recipe, 0)), steps_per_epoch=1, epochs=20, verbose=0,
          callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["loss"]))])
print(json.dumps([float(loss) for loss in losses]))
"""
    losses = []
    for backend in ("tensorflow", "jax"):
        environment = os.environ | {"KERAS_BACKEND": backend}
        run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True)
        assert run.returncode == 0, run.stderr.decode()
        losses.append(json.loads(run.stdout))
    assert len(losses[0]) == 20 and losses[0][0] - losses[0][-1] > 0.1
    np.testing.assert_allclose(*losses, atol=1e-5)


@pytest.fixture
def compiled(documents, tmp_path):
    """A compiled model, and the maker of its batches."""
    tokenizer, train, _ = prepare(documents, TINY, tmp_path)
    return build(TINY, tokenizer), batch_maker(train, tokenizer, TINY, 0)


def test_batches_are_functions_of_the_step(compiled):
    _, batch_of = compiled
    inputs, _, _ = batch_of(5)
    assert inputs["token_ids"].shape == (4, 24) and inputs["mask_positions"].shape == (4, TINY.predictions)
    assert TINY.predictions == 3  # 15 % of the 21 tokens that are not special, rounded
    again = batch_of(5)
    assert all(np.array_equal(inputs[name], again[0][name]) for name in inputs)
    assert len({batch_of(step)[0]["token_ids"].tobytes() for step in range(20)}) == 20
    assert np.array_equal(Batches(batch_of, first=3, steps=9)[2][0]["token_ids"], inputs["token_ids"])


def test_batches_of_a_causal_model_are_rows_and_what_follows(documents, tmp_path):
    tokenizer, train, held_out = prepare(documents, TINY_CAUSAL, tmp_path)
    batch_of = batch_maker(train, tokenizer, TINY_CAUSAL, 0)
    inputs, labels = batch_of(5)
    assert inputs["token_ids"].shape == labels.shape == (4, 24)
    assert np.array_equal(inputs["token_ids"][:, 1:], labels[:, :-1])
    assert np.array_equal(batch_of(5)[1], labels)
    texts = f"<|endoftext|>{'<|endoftext|>'.join(documents.train)}<|endoftext|>"
    assert all(part in texts for part in tokenizer.decode(inputs["token_ids"][0]).split("<|endoftext|>"))
    assert train.num_tokens == sum(len(tokenizer.encode(text)) + 1 for text in documents.train) > held_out.num_tokens


def test_a_causal_model_learns_what_follows(documents, tmp_path):
    changes = {"dropout": 0.0, "batch_size": 16, "steps": 80, "steps_per_checkpoint": 80, "learning_rate": 3e-2}
    recipe = dataclasses.replace(TINY_CAUSAL, **changes)
    model = pretrain(recipe, documents, tmp_path)
    counts = np.bincount(np.concatenate([model.tokenizer.encode(text) for text in documents.train]))
    shares = counts[counts > 0] / counts.sum()
    (row,) = read_log(tmp_path)
    assert float(row["val_loss"]) < 0.5 * -np.sum(shares * np.log(shares))  # of a model that knows the frequencies
    assert float(row["val_perplexity"]) == pytest.approx(np.exp(float(row["val_loss"])), rel=1e-3)


# Checkpoints


@pytest.fixture
def saved(compiled, tmp_path):
    """A checkpoint of a model that made a step, and the model."""
    model, batch_of = compiled
    model.train_on_batch(*batch_of(0))
    resumable.save(tmp_path / "checkpoint.safetensors", model, "recipe", [{"step": 1}])
    return tmp_path / "checkpoint.safetensors", model


@pytest.mark.one_backend
def test_a_full_disk_leaves_the_last_checkpoint(saved, monkeypatch):
    path, model = saved
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*last checkpoint is unchanged") as raised:
        resumable.save(path, model, "recipe", [{"step": 2}])
    assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes() == before and [file.name for file in path.parent.glob("*.partial")] == []


@pytest.mark.one_backend
@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_checkpoint_that_is_cut_short(saved, keep):
    path, model = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cut short"):
        resumable.restore(path, model, "recipe")


@pytest.mark.one_backend
def test_a_checkpoint_of_another_recipe_or_model(saved):
    path, model = saved
    with pytest.raises(ValueError, match="another folder"):
        resumable.restore(path, model, "other recipe")
    for changes in ({"num_layers": 2}, {"intermediate_dim": 48}):
        other = build(dataclasses.replace(TINY, **changes), model.backbone.tokenizer)
        with pytest.raises(ValueError, match="holds those of another"):
            resumable.restore(path, other, "recipe")
    assert resumable.restore(path, model, "recipe") == [{"step": 1}]


@pytest.mark.one_backend
def test_a_run_refuses_the_checkpoint_of_another_corpus(documents, tmp_path):
    recipe = dataclasses.replace(TINY, steps=3)
    pretrain(recipe, documents, tmp_path)
    fewer = corpus.Documents(documents.train[1:], documents.held_out)
    with pytest.raises(ValueError, match="of this recipe and corpus"):
        pretrain(recipe, fewer, tmp_path)
    with pytest.raises(ValueError, match="of this recipe and corpus"):
        pretrain(dataclasses.replace(recipe, seed=1), documents, tmp_path)


# Recipes


@pytest.mark.one_backend
def test_a_recipe_of_ones_own(tmp_path):
    (tmp_path / "mine.toml").write_text("num_layers = 6\nlearning_rate = 1e-4\n")
    assert Recipe.read(tmp_path / "mine.toml") == Recipe(num_layers=6, learning_rate=1e-4)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"layers = 6", "no field layers"),
        (b"num_layers", "TOML"),
        (b"# \xff", "TOML file in UTF-8"),
        (b"objective = 'denoising'", 'objective has to be "masked" or "causal"'),
        (b"steps = 100\nwarmup_steps = 100\nlength = 300", "warmup_steps.*100.*length.*128.*300"),
        (b"steps = '40'\nwhole_words = 1\nlearning_rate = true", "(steps|whole_words|learning_rate).*type.*type.*type"),
        (b"start = 'gpt-mini'\nnum_layers = 3\nobjective = 'masked'", "gpt-mini.*num_layers.*4.*3.*objective.*causal"),
        (b"num_heads = 0", "num_heads has to be a divisor of hidden_dim, 192, not 0"),
        (b"start = 'seq2seq-mini'", "course-seq2seq"),
        (b"optimizer = 'sgd'", 'optimizer has to be "adamw" or "muon"'),
    ],
)
def test_a_recipe_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Recipe.read(tmp_path / "mine.toml")


@pytest.mark.one_backend
def test_steps_that_end_between_checkpoints(documents, tmp_path):
    recipe = dataclasses.replace(TINY, steps=5)
    pretrain(recipe, documents, tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == ["3", "5"]
    before = load_file(tmp_path / "preset" / "model.safetensors")
    pretrain(recipe, documents, tmp_path)  # it was done
    assert all(
        np.array_equal(array, before[name])
        for name, array in load_file(tmp_path / "preset" / "model.safetensors").items()
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["bert-mini", "gpt-mini"])
def test_a_recipe_of_three_lines_carries_on_a_shipped_model(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "texts").mkdir()
    for number, part in enumerate(TEXT.split("\n\n")):
        (tmp_path / "texts" / f"{number}.txt").write_text(part)
    (tmp_path / "mine.toml").write_text(
        f"start = '{name}'\nsteps = 2\nbatch_size = 2\nevaluation_steps = 1\njit_compile = false\n"
    )
    recipe = Recipe.read(tmp_path / "mine.toml")
    assert (recipe.objective, recipe.warmup_steps) == ("causal" if name == "gpt-mini" else "masked", 0)
    monkeypatch.setattr("course_lib.training.pretrain.__main__.RECIPES", {})  # no recipe of ours is run
    main([str(tmp_path / "mine.toml"), "--corpus", str(tmp_path / "texts"), "--folder", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    code = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    loaded = {}
    exec("\n".join(code), loaded)
    ours, start = loaded["model"], type(loaded["model"]).from_preset(name)
    assert ours.tokenizer.vocabulary == start.tokenizer.vocabulary and ours.config == start.config
    changes = [np.abs(new - old).max() for new, old in zip(ours.get_weights(), start.get_weights(), strict=True)]
    assert 0 < max(changes) < 0.01, "two steps from the shipped weights"


@pytest.mark.one_backend
def test_a_vocabulary_is_used_again_only_for_the_same_recipe_and_corpus(documents, tmp_path):
    def vocabulary(recipe, documents):
        return prepare(documents, recipe, tmp_path)[0].vocabulary

    first = vocabulary(TINY, documents)
    assert vocabulary(dataclasses.replace(TINY, vocabulary_size=50), documents) != first
    foxes = [[text.replace("dog", "fox") for text in part] for part in (documents.train, documents.held_out)]
    assert vocabulary(TINY, corpus.Documents(*foxes)) != first
    assert vocabulary(TINY, documents) == first


@pytest.mark.one_backend
def test_what_is_wrong_with_a_command_is_said_at_once_and_without_a_traceback(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text("layers = 3")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "mine.toml"), "--corpus", str(tmp_path / "nothing.txt"), "--folder", str(tmp_path)])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and "no field layers" in message and "nothing.txt" in message
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.toml"), "--corpus", str(tmp_path / "mine.toml")])
    message = capsys.readouterr().err
    assert "gpt-mini" in message and "none.toml" in message and "four documents" in message


@pytest.mark.one_backend
def test_logs_for_tensorboard_need_its_package(documents, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        pretrain(TINY, documents, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.one_backend
@pytest.mark.parametrize("recipe", [TINY, TINY_CAUSAL], ids=["bert", "gpt2"])
def test_a_vocabulary_smaller_than_the_alphabet(recipe, documents, tmp_path):
    with pytest.raises(ValueError, match="alphabet"):
        prepare(documents, dataclasses.replace(recipe, vocabulary_size=20), tmp_path)


@pytest.mark.one_backend
def test_a_recipe_that_starts_from_another_runs_that_first(documents, tmp_path, monkeypatch, capsys):
    (tmp_path / "corpus.txt").write_text(TEXT)
    second = dataclasses.replace(TINY, start="first", steps=6, seed=1)
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    for name, recipe in {"first": TINY, "second": second}.items():
        monkeypatch.setitem(RECIPES, name, recipe)
    with pytest.raises(ValueError, match="first to be run first"):
        resolve_start("first")
    monkeypatch.setattr(sys, "argv", ["pretrain", "second", "--corpus", str(tmp_path / "corpus.txt")])
    main()
    assert [len(read_log(run_folder(name))) for name in ("first", "second")] == [4, 2]
    assert resolve_start("second") == run_folder("second") / "preset"
    first = BertPretrainer.from_preset(resolve_start("first"))
    start = build(second, first.backbone.tokenizer)
    assert all(np.array_equal(*pair) for pair in zip(first.get_weights(), start.get_weights(), strict=True))
    assert (run_folder("first") / "vocab.txt").read_text() == (run_folder("second") / "vocab.txt").read_text()
    (tmp_path / "corpus.txt").write_text(TEXT.replace("dog", "fox"))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--folder", str(tmp_path / "other")])
    with pytest.raises(SystemExit):  # the first was of another
        main()
    assert "of this recipe and corpus" in capsys.readouterr().err


@pytest.mark.one_backend
def test_our_recipes_are_whole():
    for recipe in RECIPES.values():
        assert recipe.steps % recipe.steps_per_checkpoint == 0 and recipe.length <= recipe.max_sequence_length


def trained_weights(recipe, documents, folder):
    model = pretrain(recipe, documents, folder)
    return [to_numpy(weight) for weight in model.get_weights()], read_log(folder)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (TINY, {"accumulation": 2}),
        pytest.param(TINY_CAUSAL, {"accumulation": 4}, marks=pytest.mark.one_backend),
        (dataclasses.replace(TINY, num_layers=2), {"rematerialize": True}),
        pytest.param(TINY_CAUSAL, {"rematerialize": True}, marks=pytest.mark.one_backend),
    ],
)
def test_what_saves_memory_changes_no_number(base, changes, tmp_path):
    """Rows of the masked model have different numbers of predictions, and gradients are clipped."""
    (tmp_path / "corpus.txt").write_text(UNEVEN_CORPUS)
    documents = corpus.read(tmp_path / "corpus.txt")
    base = dataclasses.replace(base, dropout=0.0, clip=0.5)
    expected, log = trained_weights(base, documents, tmp_path / "plain")
    found, other_log = trained_weights(dataclasses.replace(base, **changes), documents, tmp_path / "changed")
    for weight, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-4)
    for row, other in zip(log, other_log, strict=True):
        np.testing.assert_allclose([float(row["loss"]), float(row["val_loss"])], [
            float(other["loss"]), float(other["val_loss"])], atol=1e-4)  # fmt: skip


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX tells what the backward pass needs")
def test_rematerialization_keeps_little_for_the_backward_pass():
    """XLA computes nothing twice on a CPU, so its own count of memory shows nothing there."""
    import jax

    kept = []
    for rematerialize in (False, True):
        model = Bert(BertConfig(60, 6, 4, 64, 256, 64, dropout=0.0, attention_dropout=0.0))
        model.build()
        model.encoder.rematerialize = rematerialize
        fixed = [variable.value for variable in model.non_trainable_variables]

        def outputs(weights, model=model, fixed=fixed):
            return model.stateless_call(weights, fixed, {"token_ids": np.ones((8, 64), "int32")}, training=True)[0]

        weights = [variable.value for variable in model.trainable_variables]
        backward = jax.eval_shape(lambda weights: jax.vjp(outputs, weights)[1], weights)
        kept.append(sum(np.prod(array.shape) for array in jax.tree.leaves(backward)) - model.count_params())
    assert kept[1] < 0.1 * kept[0]


def test_mixed_float16_scales_the_loss_and_resumes(documents, tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, dtype="mixed_float16", dropout=0.0, steps=6)
    model = pretrain(recipe, documents, tmp_path / "whole")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    save = resumable.save

    def stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resumable, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, documents, tmp_path / "stopped")
    pretrain(recipe, documents, tmp_path / "stopped")
    assert read_log(tmp_path / "stopped") == read_log(tmp_path / "whole")
    assert all(np.isfinite(float(row["loss"])) for row in read_log(tmp_path / "whole"))


@pytest.mark.one_backend
def test_memory_settings_reach_the_model(documents, tmp_path):
    recipe = dataclasses.replace(TINY, dropout=0.0, accumulation=2, rematerialize=True)
    tokenizer, train, _ = prepare(documents, recipe, tmp_path)
    model = build(recipe, tokenizer)
    assert model.optimizer.gradient_accumulation_steps == 2 and model.backbone.encoder.rematerialize
    whole, parts = (
        batch_maker(train, tokenizer, recipe, 0)(3),
        Batches(batch_maker(train, tokenizer, recipe, 0), 3, parts=2),
    )
    for part, rows in ((0, slice(2)), (1, slice(2, 4))):
        np.testing.assert_array_equal(parts[part][0]["token_ids"], whole[0]["token_ids"][rows])
    weights = [parts[part][2]["mlm_logits"] for part in (0, 1)]
    np.testing.assert_allclose(sum(array.sum() for array in weights), 2, rtol=1e-6)
    with pytest.raises(ValueError, match="no dropout with rematerialize"):
        dropping = Bert(BertConfig(20, 1, 2, 8, 16, 8))
        dropping.build()
        dropping.encoder.rematerialize = True
        dropping(np.ones((1, 4), "int32"), training=True)


@pytest.mark.one_backend
def test_recipes_whose_memory_settings_do_not_fit():
    for changes, fact in (
        ({"accumulation": 3}, "accumulation has to be a divisor of batch_size, 4"),
        ({"accumulation": 0}, "accumulation"),
        ({"rematerialize": True}, "dropout has to be 0 with rematerialize"),
    ):
        with pytest.raises(ValueError, match=fact):
            dataclasses.replace(TINY, **changes)
