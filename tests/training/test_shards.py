"""Shards: they hold the corpus, batches depend on nothing but seed and step, and what is broken is named."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import types

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from text_samples import UNEVEN_CORPUS
from tiny_models import BYTE_PAIRS

from course_lib import BertPretrainer, WordPieceTokenizer
from course_lib.data import corpus
from course_lib.data.token_shards import ShardedStream, TokenShards, part_of
from course_lib.training import resumable
from course_lib.training.pretrain import batch_maker, build, digest_of, prepare, pretrain
from course_lib.training.pretrain.__main__ import main
from course_lib.training.recipes import Recipe
from course_lib.training.shards import main as shards_main
from course_lib.training.shards import write, write_with_recipe

CAUSAL = Recipe(
    objective="causal", vocabulary_size=280, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32,
    max_sequence_length=24, dropout=0.1, length=24, batch_size=8, steps=9, warmup_steps=2, learning_rate=1e-2,
    jit_compile=False, steps_per_checkpoint=3, evaluation_steps=1,
)  # fmt: skip
MASKED = dataclasses.replace(CAUSAL, objective="masked", next_sentence=False, vocabulary_size=60)
RECIPES = {"masked": MASKED, "causal": CAUSAL}
TEXTS = UNEVEN_CORPUS.split("\n\n")
SHARDS, HELD_OUT = 4, 4


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory):
    """A file with our small corpus."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(UNEVEN_CORPUS)
    return path


@pytest.fixture(scope="module")
def written(corpus_path, tmp_path_factory):
    """The folders of shards for both objectives, which no test changes."""
    folders = {name: tmp_path_factory.mktemp("shards") / name for name in RECIPES}
    for name, recipe in RECIPES.items():
        write_with_recipe(recipe, corpus_path, folders[name], SHARDS, HELD_OUT)
    return folders


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the folder for the causal objective."""
    return shutil.copytree(written["causal"], tmp_path / "shards")


@pytest.fixture(scope="module", autouse=True)
def grain():
    """What draws rows from shards."""
    return pytest.importorskip("grain")


def ids_of(shard):
    return np.fromfile(shard.path, "<u2")


def rows_of(shard, length):
    ids = ids_of(shard).astype(int)
    return [tuple(ids[start : start + length + 1]) for start in range(0, len(ids) - length, length)]


# What is written


@pytest.mark.one_backend
@pytest.mark.parametrize("name", RECIPES)
def test_shards_hold_each_document_once(written, name):
    shards = TokenShards(written[name])
    tokenizer = shards.tokenizer(type(BYTE_PAIRS) if name == "causal" else WordPieceTokenizer)
    for part, files in shards.shards.items():
        found = []
        for shard in files:
            ids = ids_of(shard)
            ends = np.flatnonzero(ids == tokenizer.end_token_id)
            assert ends[-1] == len(ids) - 1 and (len(ids), len(ends)) == (shard.tokens, shard.documents)
            found += [tuple(document[:-1]) for document in np.split(ids, ends[:-1] + 1)]
        documents = [text for text in TEXTS if part_of(text, HELD_OUT) == part]
        encoded = [tokenizer.encode(text) for text in documents]
        encoded = [tuple(ids if name == "causal" else ids[1:-1]) for ids in encoded]
        assert sorted(found) == sorted(encoded) and len(documents) > 20
        sizes = [shard.tokens for shard in files]
        assert max(sizes) - min(sizes) <= max(map(len, encoded)) + 1
    train = np.concatenate([ids_of(shard) for shard in shards.shards["train"]])
    assert np.array_equal(shards.counts(), np.bincount(train, minlength=tokenizer.vocabulary_size))
    shards.check()


@pytest.mark.one_backend
def test_large_vocabularies_take_four_bytes(tmp_path):
    tokenizer = types.SimpleNamespace(
        vocabulary_size=70_000, end_token_id=69_999, save=lambda folder: folder.mkdir(parents=True)
    )
    write(tmp_path, [str(n) for n in range(40)], tokenizer, lambda text, _: [65_536 + int(text)] * 9, 1, 4, 3)
    shards = TokenShards(tmp_path)
    (shard,) = shards.shards["train"]
    assert shard.path.stat().st_size == 4 * shard.tokens
    drawn = ShardedStream(shards, "train", 3).draw(5, 0, 0)
    assert drawn.dtype == np.int32 and drawn.min() >= 65_536 and len(drawn) == 5
    shards.check()


@pytest.mark.one_backend
def test_a_corpus_larger_than_memory(tmp_path):
    """50 MB of tokens, written and read with less than a tenth of that."""
    rng = np.random.default_rng(0)
    documents = 250
    tokenizer = types.SimpleNamespace(
        vocabulary_size=60_000, end_token_id=0, save=lambda folder: folder.mkdir(parents=True)
    )
    tracemalloc.start()
    try:
        texts = map(str, range(documents))
        write(tmp_path, texts, tokenizer, lambda *_: rng.integers(1, 256, 100_000).tolist(), 4, 8)
        stream = ShardedStream(TokenShards(tmp_path), "train", 512)
        drawn = sum(int(stream.draw(64, 0, step).sum()) for step in range(0, 400_000, 4_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(file.stat().st_size for file in tmp_path.glob("*.bin"))
    assert size > 50e6 and drawn / (100 * 64 * 513) == pytest.approx(128, abs=1)
    assert peak < 5e6


# What is drawn


@pytest.mark.one_backend
def test_an_epoch_has_each_row_of_a_group_once(written):
    shards = TokenShards(written["causal"])
    stream = ShardedStream(shards, "train", 24)
    assert stream.num_rows == sum(len(rows_of(shard, 24)) for shard in shards.shards["train"])
    for count in (8, 6, 3):  # four groups, two, and one
        groups = math.gcd(count, SHARDS)
        for group in range(groups):
            files = shards.shards["train"][group * SHARDS // groups : (group + 1) * SHARDS // groups]
            rows, share = [row for shard in files for row in rows_of(shard, 24)], count // groups
            own = slice(group * share, (group + 1) * share)
            drawn = [tuple(row) for step in range(2 * len(rows)) for row in stream.draw(count, 0, step, own)]
            epochs = [drawn[: len(rows)], drawn[len(rows) : 2 * len(rows)]]
            assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(rows)
            assert epochs[0] != epochs[1] and rows not in epochs
    assert not np.array_equal(stream.draw(8, 0, 0), stream.draw(8, 1, 0))


@pytest.mark.one_backend
def test_neighbours_in_the_corpus_are_not_in_the_same_batch(tmp_path):
    """Row r of every shard is from the same place of the corpus, so the shards need different orders."""
    tokenizer = types.SimpleNamespace(
        vocabulary_size=60_000, end_token_id=0, save=lambda folder: folder.mkdir(parents=True)
    )
    texts = itertools.islice((str(n) for n in itertools.count() if part_of(str(n), 8) == "train"), 4_000)
    texts = [*texts, *[str(n) for n in range(100) if part_of(str(n), 8) == "held_out"][:4]]
    write(tmp_path, texts, tokenizer, lambda text, _: [int(text)] * 8, 4, 8, 1)
    places = np.stack([ShardedStream(TokenShards(tmp_path), "train", 9).draw(4, 0, step)[:, 4] for step in range(900)])
    assert np.abs(np.corrcoef(places.T) - np.eye(4)).max() < 0.2


@pytest.mark.one_backend
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_draw_the_batch_of_one_and_need_only_their_own_shards(written, name, hosts, tmp_path):
    recipe, whole = RECIPES[name], []
    tokenizer, train, _ = prepare(TokenShards(written[name]), recipe, tmp_path)
    for step in (0, 41):
        whole.append(batch_maker(train, tokenizer, recipe, 5)(step))
    parts = []
    for host in range(hosts):
        folder = shutil.copytree(written[name], tmp_path / str(host))
        for path in folder.glob("*.bin"):
            if int(path.name.split("-")[1]) * hosts // SHARDS != host:
                path.unlink()
        assert len(list(folder.glob("*.bin"))) == 2 * SHARDS // hosts
        tokenizer, train, _ = prepare(TokenShards(folder), recipe, tmp_path)
        rows = slice(host * 8 // hosts, (host + 1) * 8 // hosts)
        parts.append([batch_maker(train, tokenizer, recipe, 5)(step, rows) for step in (0, 41)])
    for step, batch in enumerate(whole):
        for array, *own in zip(leaves(batch), *(leaves(part[step]) for part in parts), strict=True):
            assert len(array) == 8 and np.array_equal(array, np.concatenate(own))
    if hosts > 1:
        with pytest.raises(FileNotFoundError, match=r"train-00000-of-00004.bin.*missing.*Copy it again"):
            batch_maker(train, tokenizer, recipe, 5)(0, slice(0, 2))


def leaves(batch):
    return keras.tree.flatten(batch)


@pytest.mark.one_backend
def test_rows_of_a_masked_model_are_pieces_of_the_stream(written, corpus_path, tmp_path):
    """With [CLS] before and [SEP] after them; from text in memory as well as from shards."""
    for documents in (TokenShards(written["masked"]), corpus.read(corpus_path)):
        tokenizer, train, _ = prepare(documents, MASKED, tmp_path / type(documents).__name__)
        inputs, labels, weights = batch_maker(train, tokenizer, MASKED, 0)(3)
        assert set(labels) == set(weights) == {"mlm_logits"} and weights["mlm_logits"].min() == 1
        ids, positions = inputs["token_ids"].copy(), inputs["mask_positions"]
        np.put_along_axis(ids, positions, labels["mlm_logits"], axis=1)
        assert (ids[:, 0] == tokenizer.start_token_id).all() and (ids[:, -1] == tokenizer.end_token_id).all()
        text = f" {tokenizer.end_token_id} ".join(" ".join(map(str, tokenizer.encode(text)[1:-1])) for text in TEXTS)
        pieces = [" ".join(map(str, row)).split(f" {tokenizer.end_token_id} ") for row in ids[:, 1:-1]]
        assert all(piece.strip() in text for row in pieces for piece in row)
        assert inputs["padding_mask"].all() and not inputs["segment_ids"].any()


# Whole runs


def test_a_run_on_shards_that_was_stopped_ends_like_one_that_was_not(written, tmp_path, monkeypatch):
    shards = TokenShards(written["masked"])
    model = pretrain(MASKED, shards, tmp_path / "whole")
    save, saved = resumable.save, []

    def stop(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resumable, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(MASKED, shards, tmp_path / "stopped")
    pretrain(MASKED, shards, tmp_path / "stopped")
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "stopped")
    preset = BertPretrainer.from_preset(tmp_path / "stopped" / "preset")
    assert preset.next_sentence is None and preset.tokenizer.vocabulary == model.tokenizer.vocabulary


@pytest.mark.one_backend
def test_a_run_on_shards_that_was_killed_ends_like_one_that_was_not(corpus_path, tmp_path, monkeypatch, capsys):
    fields = {name: value for name, value in dataclasses.asdict(CAUSAL).items() if value is not None}
    (tmp_path / "tiny.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    monkeypatch.chdir(tmp_path)
    shards_main(["write", "tiny.toml", "--corpus", str(corpus_path), "--folder", "shards", "--shards", "4"])
    assert "--corpus shards" in capsys.readouterr().out
    shards_main(["check", "shards"])
    assert "All is as the index says" in capsys.readouterr().out
    command = ["-m", "course_lib.training.pretrain", "tiny.toml", "--corpus", "shards", "--folder", "killed"]
    run = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE)
    saved, deadline = pathlib.Path("killed", "checkpoint.safetensors"), time.monotonic() + 120
    while not saved.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.communicate() and run.returncode == -signal.SIGKILL
    for folder in ("killed", "whole"):
        main(["tiny.toml", "--corpus", "shards", "--folder", folder])
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "killed")


def assert_same_checkpoints(first, second):
    first, second = (load_file(folder / "checkpoint.safetensors") for folder in (first, second))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.one_backend
def test_a_model_without_sentence_pairs(corpus_path, tmp_path):
    tokenizer, train, _ = prepare(corpus.read(corpus_path), MASKED, tmp_path)
    model = build(MASKED, tokenizer, train.counts(tokenizer.vocabulary_size))
    assert model.next_sentence is None and not model.config.pooler
    bias = np.asarray(model.masked_lm.bias)
    assert bias[tokenizer.end_token_id] == bias.min() < bias.max() - 1  # it is frequent, but never predicted


@pytest.mark.one_backend
def test_a_run_without_sentence_pairs_starts_from_a_model_that_had_them(tmp_path):
    recipe = Recipe(start="bert-mini", next_sentence=False, dropout=0.0)
    start = BertPretrainer.from_preset("bert-mini")
    model = build(recipe, start.tokenizer)
    assert model.next_sentence is None and start.next_sentence is not None
    for name in ("token_embedding", "encoder"):
        ours, theirs = (getattr(each.backbone, name).get_weights() for each in (model, start))
        assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert all(map(np.array_equal, model.masked_lm.get_weights(), start.masked_lm.get_weights()))
    model.save_to_preset(tmp_path / "without")
    with pytest.raises(ValueError, match="next_sentence = false"):
        build(dataclasses.replace(recipe, start=str(tmp_path / "without"), next_sentence=True), start.tokenizer)


# What is wrong


def cut(path, size):
    os.truncate(path, path.stat().st_size - size)


def change_index(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


FAULTS = {
    "a shard is missing": (lambda f: (f / "train-00002-of-00004.bin").unlink(), "train-00002.*missing. Copy it again"),
    "a shard is empty": (lambda f: (f / "train-00001-of-00004.bin").write_bytes(b""), "train-00001.*it has 0"),
    "a shard is cut": (lambda f: cut(f / "train-00003-of-00004.bin", 7), "bytes in .*train-00003.*it has .*again"),
    "a held-out shard is cut": (lambda f: cut(f / "held_out-00000-of-00004.bin", 2), "bytes in .*held_out-00000"),
    "there is no index": (lambda f: (f / "index.json").unlink(), "index.json; it is missing.*again"),
    "the index is cut": (lambda f: cut(f / "index.json", 40), "index.json; got a broken file"),
    "the index is of another kind": (lambda f: change_index(f, lambda i: i.update(format="2")), "index.json.*format"),
    "the index lacks a part": (lambda f: change_index(f, lambda i: i["parts"].pop("train")), "index.json.*train"),
    "the index has other sizes": (
        lambda f: change_index(f, lambda i: i["parts"]["held_out"][0].update(tokens=500)), "1000 bytes.*held_out-0"),
    "the tokenizer has changed": (
        lambda f: (f / "tokenizer" / "merges.txt").write_text("#version: 0.2\n"), "tokenizer.*have changed.*again"),
    "the counts are cut": (lambda f: cut(f / "counts.npy", 8), "counts.npy.*broken.*again"),
    "the counts are of another corpus": (lambda f: np.save(f / "counts.npy", np.ones(280)), "counts.npy.*got 280"),
}  # fmt: skip


@pytest.mark.one_backend
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_broken_is_named_before_the_first_step(fault, folder, tmp_path, capsys):
    """Or, of what a run does not touch at once, by `check`; and the command says it without a traceback."""
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run = pretrain(CAUSAL, TokenShards(folder), tmp_path / "run")
        raise AssertionError(run)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    if "tokenizer" not in fault:
        with pytest.raises(SystemExit) as stopped:
            shards_main(["check", str(folder)])
        assert stopped.value.code == 2 and "Expected" in capsys.readouterr().err


@pytest.mark.one_backend
def test_a_shard_that_is_cut_during_a_run(folder):
    stream = ShardedStream(TokenShards(folder), "train", 24)
    stream.draw(8, 0, 0)
    cut(folder / "train-00001-of-00004.bin", 200)
    with pytest.raises(ValueError, match=r"bytes in .*train-00001-of-00004.bin.*again"):
        for step in range(100):
            stream.draw(8, 0, step)


@pytest.mark.one_backend
def test_check_finds_a_changed_byte_and_names_everything(folder):
    data = bytearray((folder / "train-00002-of-00004.bin").read_bytes())
    data[10] ^= 1
    (folder / "train-00002-of-00004.bin").write_bytes(data)
    (folder / "held_out-00001-of-00004.bin").unlink()
    with pytest.raises(ValueError) as raised:
        TokenShards(folder).check()
    first, second = str(raised.value).splitlines()
    assert "SHA-256" in first and "train-00002" in first and hashlib.sha256(data).hexdigest() in first
    assert "held_out-00001" in second and "missing" in second


@pytest.mark.one_backend
def test_checkpoints_belong_to_shards_and_not_to_where_they_are(written, folder, corpus_path, tmp_path):
    same, other = TokenShards(folder), write_with_recipe(CAUSAL, corpus_path, tmp_path / "other", 2, HELD_OUT)
    assert digest_of(CAUSAL, TokenShards(written["causal"])) == digest_of(CAUSAL, same) != digest_of(CAUSAL, other)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("recipe", "name", "message"),
    [
        (dataclasses.replace(MASKED, next_sentence=True), "masked", "next_sentence = false"),
        (MASKED, "causal", "WordPieceTokenizer.*BytePairTokenizer.*Write shards with this recipe"),
        (CAUSAL, "masked", "BytePairTokenizer.*WordPieceTokenizer"),
        (dataclasses.replace(CAUSAL, vocabulary_size=270), "causal", "at most 270 tokens.*have 280"),
        (dataclasses.replace(CAUSAL, start="gpt-mini"), "causal", "tokenizer of gpt-mini.*have another"),
        (dataclasses.replace(CAUSAL, length=2000, max_sequence_length=2000), "causal", "a row of 2000.*fewer shards"),
    ],
)  # fmt: skip
def test_shards_that_do_not_fit_the_recipe(written, recipe, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(TokenShards(written[name]), recipe, tmp_path)


@pytest.mark.one_backend
def test_what_cannot_be_written(corpus_path, folder, tmp_path, capsys):
    with pytest.raises(ValueError, match="without shards"):
        write_with_recipe(CAUSAL, corpus_path, folder, 2)
    with pytest.raises(ValueError, match="next_sentence = false"):
        write_with_recipe(dataclasses.replace(MASKED, next_sentence=True), corpus_path, tmp_path / "new", 2)
    for shards, held_out in ((0, 4), (2, 1)):
        with pytest.raises(ValueError, match="1 shard or more, and held_out of 2 or more"):
            write_with_recipe(CAUSAL, corpus_path, tmp_path / "new", shards, held_out)
    with pytest.raises(ValueError, match="more than 24 tokens.*held_out-000.*fewer shards"):
        write_with_recipe(CAUSAL, corpus_path, tmp_path / "new", 90)
    with pytest.raises(SystemExit):  # no index has been written
        main(["gpt-mini", "--corpus", str(tmp_path / "new"), "--folder", str(tmp_path / "run")])
    assert "index.json; it is missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        shards_main(["write", "gpt-mini-first", "--corpus", "none", "--folder", str(tmp_path), "--shards", "1"])
    assert "nothing is at none" in capsys.readouterr().err


@pytest.mark.one_backend
def test_shards_need_a_package(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match="pip install 'grain"):
        ShardedStream(TokenShards(written["causal"]), "train", 24)
