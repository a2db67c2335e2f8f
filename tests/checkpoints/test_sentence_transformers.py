"""Folders of Sentence Transformers: pooled, normalised and cut as their files say, or refused."""

import json

import numpy as np
import pytest

from course_lib import SentenceEncoder
from course_lib.models.pooling import pool

MODES = {"mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens", "first": "pooling_mode_cls_token",
         "last": "pooling_mode_lasttoken"}  # fmt: skip
TEXTS = ["The dogs sat", "a cat"]

pytestmark = pytest.mark.one_backend


@pytest.fixture
def encoder_folder(folder):
    """A folder with the files given, by their paths."""

    def make(kinds=("Transformer", "Pooling"), **contents):
        path = folder("bert")
        modules = [{"idx": i, "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
                   for i, kind in enumerate(kinds)]  # fmt: skip
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "1_Pooling").mkdir(exist_ok=True)
        for name, content in contents.items():
            name = {"pooling": "1_Pooling/config.json", "settings": "sentence_bert_config.json"}[name]
            (path / name).write_text(json.dumps(content))
        return path

    return make


@pytest.mark.parametrize("pooling", MODES)
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_pooled_as_the_folder_says(encoder_folder, pooling, normalize, tmp_path):
    kinds = ("Transformer", "Pooling", "Normalize")[: 3 if normalize else 2]
    path = encoder_folder(kinds, pooling={mode: mode == MODES[pooling] for mode in MODES.values()})
    encoder = SentenceEncoder.from_preset(path)
    inputs = encoder.tokenizer(TEXTS)
    expected = np.array(pool(encoder.backbone(inputs), inputs["padding_mask"], pooling))
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    encoder.save_to_preset(tmp_path / "saved")
    again = SentenceEncoder.from_preset(tmp_path / "saved")
    assert (again.pooling, again.normalize) == (pooling, normalize)
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=1e-5)


def test_the_shorter_config_of_later_versions(encoder_folder):
    for name, pooling in (("mean", "mean"), ("cls", "first"), ("lasttoken", "last"), ("max", "max")):
        assert SentenceEncoder.from_preset(encoder_folder(pooling={"pooling_mode": name})).pooling == pooling


def test_texts_are_cut_where_the_folder_says(encoder_folder, tmp_path):
    encoder = SentenceEncoder.from_preset(encoder_folder(("Transformer",), settings={"max_seq_length": 5}))
    assert encoder.max_length == 5 and encoder.normalize is False
    long = "the dogs sat on a moon " * 20
    assert np.array_equal(encoder.encode([long]), encoder.encode([long], max_length=5))
    assert not np.allclose(encoder.encode([long]), encoder.encode([long], max_length=9))
    encoder.save_to_preset(tmp_path / "saved")
    assert SentenceEncoder.from_preset(tmp_path / "saved").max_length == 5


def test_a_folder_of_a_bert_alone_implies_nothing(folder):
    encoder = SentenceEncoder.from_preset(folder("bert"))
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", True, None)
    assert SentenceEncoder.from_preset(folder("bert"), pooling="first").pooling == "first"


@pytest.mark.parametrize(
    ("kinds", "contents", "facts"),
    [
        (("Transformer", "Pooling", "Dense"), {}, ["Dense", "modules.json"]),
        (("Transformer", "Pooling"), {"pooling": {MODES["mean"]: True, MODES["max"]: True}}, ["one pooling", "max"]),
        (("Transformer", "Pooling"), {"pooling": {"pooling_mode_weightedmean_tokens": True}}, ["weightedmean"]),
        (("Transformer", "Pooling"), {"pooling": {}}, ["one pooling"]),
        (("Transformer", "Pooling"), {"pooling": {MODES["mean"]: True, "include_prompt": False}}, ["include_prompt"]),
        (("Transformer",), {"settings": {"do_lower_case": True}}, ["do_lower_case"]),
        (("Transformer",), {"settings": {"max_seq_length": 4000}}, ["max_length", "4000"]),
    ],
)
def test_what_is_not_computed_is_refused(encoder_folder, refused, kinds, contents, facts):
    with refused(*facts):
        SentenceEncoder.from_preset(encoder_folder(kinds, **contents))


def test_a_pooling_that_is_not_there_is_not_saved(tmp_path, refused, folder):
    encoder = SentenceEncoder.from_preset(folder("bert"), pooling="pooled")
    with refused("'pooled'", "'mean'"):
        encoder.save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()
