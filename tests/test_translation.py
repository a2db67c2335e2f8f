"""What trains a translator: batches of like length, the mean of checkpoints, and the nearest known text."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from layer_checks import randomize

from course_lib import objectives
from course_lib.data import assets, interface
from course_lib.sampling import Greedy
from course_lib.seq2seq import Seq2Seq, Seq2SeqConfig, teacher_forcing
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training.experiments import translation
from course_lib.training.translation import Checkpoints, Pairs, nearest, translate

SOURCES = ["a b", "a longer text " * 4, "one two three", "c d", "x", "an even longer text than that " * 3]
TARGETS = ["b a", "text", "three two one " * 5, "d c", "y z", "longest"]


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer.train(SOURCES + TARGETS, 270)


def test_each_pair_comes_once_an_epoch_in_a_narrow_batch(tokenizer):
    pairs = Pairs(tokenizer, SOURCES, TARGETS, batch_size=2, seed=1)
    whole, labels, weights = teacher_forcing(tokenizer, SOURCES, TARGETS)
    orders, widths = [], set()
    for _ in range(4):
        orders.append([])
        for index in range(pairs.num_batches):
            inputs, label, weight = pairs[index]
            (rows, width) = label["logits"].shape
            assert rows <= 2 and width % 4 == 0 and inputs["encoder_token_ids"].shape == (rows, width)
            widths.add(width)
            for row in range(rows):
                target = label["logits"][row][weight["logits"][row] == 1]
                source = inputs["encoder_token_ids"][row][inputs["encoder_padding_mask"][row] == 1]
                place = [tokenizer.encode(text) for text in SOURCES].index(source.tolist())
                assert target.tolist() == labels["logits"][place][weights["logits"][place] == 1].tolist()
                given = inputs["decoder_token_ids"][row][: len(target)]
                assert given.tolist() == whole["decoder_token_ids"][place][: len(target)].tolist()
                orders[-1].append(place)
        assert len({pairs[index][1]["logits"].shape[1] for index in (0, 1)}) == 2
        pairs.on_epoch_end()
    assert all(sorted(order) == [*range(6)] for order in orders) and len(set(map(tuple, orders))) > 1
    assert len(widths) > 2
    with pytest.raises(ValueError, match="as many targets as sources"):
        Pairs(tokenizer, SOURCES, TARGETS[:2])


def test_a_model_learns_from_pairs_and_its_checkpoints_have_a_mean(tokenizer):
    keras.utils.set_random_seed(0)
    model = Seq2Seq(Seq2SeqConfig(tokenizer.vocabulary_size, 1, 2, 16, dropout=0.0, norm_first=True), tokenizer)
    model.compile(keras.optimizers.Adam(1e-2), **objectives.seq2seq(0.0))
    kept, seen = Checkpoints(last=2), []
    with pytest.raises(ValueError, match="at least one epoch"):
        kept.mean()
    collect = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(model.get_weights()))
    losses = model.fit(Pairs(tokenizer, SOURCES, TARGETS, 2), epochs=3, callbacks=[kept, collect], verbose=0).history
    assert losses["loss"][-1] < losses["loss"][0]
    for mean, before, last in zip(kept.mean(), *seen[1:], strict=True):
        assert np.allclose(mean, (before + last) / 2)
    assert any(np.abs(before - last).max() > 1e-4 for before, last in zip(*seen[1:], strict=True))


@pytest.mark.one_backend
def test_translations_come_in_the_order_of_the_sources(tokenizer):
    keras.utils.set_random_seed(1)
    model = Seq2Seq(Seq2SeqConfig(tokenizer.vocabulary_size, 1, 2, 16, dropout=0.0, norm_first=True), tokenizer)
    model.build()
    randomize(model)
    sources = ["a longer text", "x", "c d"]
    expected = [model.generate(source, 8, Greedy()) for source in sources]
    assert len(set(expected)) == 3
    assert translate(model, sources, 8, Greedy(), batch_size=2) == expected


@pytest.mark.one_backend
def test_the_nearest_text():
    known = ["Close all tabs", "Open a file", "Close this tab", "Restart the kernel"]
    assert nearest(known, ["Close all the tabs", "Restarting kernels", "open files", "Open a file"]).tolist() == [
        0,
        3,
        1,
        1,
    ]
    assert nearest(["same text", "same text"], ["same text"]).tolist() == [0]


# The experiment, at a tiny scale


@pytest.fixture(scope="module")
def tiny():
    return dataclasses.replace(
        translation.EXPERIMENT,
        longest=12,
        test=6,
        validation=4,
        vocabulary_size=300,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        lengths=(1, 2),
        batch_size=64,
        max_new_tokens=4,
        resamples=10,
        seeds=(0,),
    )


@pytest.mark.one_backend
def test_a_run_of_each_kind(tiny, tmp_path, monkeypatch):
    registry, cache = assets.registry(), assets.cache_folder()
    monkeypatch.setattr(assets, "registry", lambda: registry)
    monkeypatch.setattr(assets, "cache_folder", lambda: cache)
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path)
    result = tiny.trained(translation.WHOLE, 0)
    assert json.loads(json.dumps(result)) == result
    assert len(result["losses"]) == 2 and set(result["validation"]) == {"1", "2"} and result["epochs"] in (1, 2)
    assert set(result["test"]) == {"mean, beam", "mean, greedy", "last, beam", "last, greedy"}
    for found in result["test"]["mean, beam"].values():
        assert found["copied"]["texts"] + found["alone"]["texts"] == 6 and 0 <= found["bleu"] <= 100
    loaded = Seq2Seq.from_preset(tmp_path / "weights" / tiny.preset)
    assert loaded.tokenizer.merges == tiny.tokenizer.merges
    for loaded_weight, weight in zip(loaded.get_weights(), tiny.writer.get_weights(), strict=True):
        assert np.allclose(loaded_weight, weight, atol=1e-3)
    assert list(tiny.trained(translation.LEAKING, 0)["test"]) == ["mean, beam"]


@pytest.mark.one_backend
def test_what_the_variants_change(tiny):
    whole, leaking = tiny.pairs(), tiny.pairs(translation.LEAKING)
    assert len(leaking.widths) == len(whole.widths) + 2 * len(tiny.copies)
    keys = {text.key for text in tiny.splits.test}
    assert not keys & {text.key for text in tiny.splits.train} and keys & {text.key for text in tiny.copies}
    assert all(text not in part for part in vars(tiny.splits).values() for text in tiny.copies)
    assert tiny.compiled().loss["logits"].label_smoothing == 0.1 and tiny.compiled().config.dropout == 0.2
    assert tiny.compiled(translation.NO_SMOOTHING).loss["logits"].label_smoothing == 0
    assert tiny.compiled(translation.NO_DROPOUT).config.dropout == 0
    sources, targets = interface.pairs(tiny.splits.train)
    assert tiny.tokenizer.merges == BytePairTokenizer.train(sources + targets, 300).merges
