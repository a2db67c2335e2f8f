"""Classifiers in Hugging Face's layout: computed as there, names included, or refused.

The folders of `golden` were made by `golden/make.py`, with `transformers`.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
from layer_checks import compiled, randomize, same

from course_lib import GPT2, Bert, BertConfig, BytePairTokenizer, GPT2Config, WordPieceTokenizer
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.heads import TextClassifier, TokenClassifier
from course_lib.training.adaptation import enable_lora

GOLDEN = pathlib.Path(__file__).parent / "golden"
FOLDERS = {"classifier-of-texts": TextClassifier, "classifier-of-tokens": TokenClassifier}
LABELS = ("cold", "warm", "wet")


@pytest.mark.parametrize("name", FOLDERS)
def test_computed_as_there_and_saved_as_published(name, tmp_path):
    model = FOLDERS[name].from_preset(GOLDEN / name)
    with np.load(GOLDEN / name / "expected.npz") as arrays:
        arrays = dict(arrays)
    logits = arrays.pop("logits")
    same(compiled(model)(arrays), logits)
    assert model.names == LABELS
    assert model.dropout.rate == (0.2 if name == "classifier-of-texts" else 0.1)

    model.save_to_preset(tmp_path)
    theirs, ours = read_tensors(GOLDEN / name), read_tensors(tmp_path)
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    theirs, ours = read_json(GOLDEN / name / "config.json"), read_json(tmp_path / "config.json")
    for key in ("architectures", "id2label", "label2id", "model_type", "num_hidden_layers"):
        assert ours[key] == theirs[key], key
    again = FOLDERS[name].from_preset(tmp_path)
    same(compiled(again)(arrays), logits)
    assert again.names == model.names and again.dropout.rate == model.dropout.rate
    assert Bert.from_preset(tmp_path).config == model.backbone.config


def test_other_names_and_a_length_may_be_given():
    model = TextClassifier.from_preset(GOLDEN / "classifier-of-texts", classes=["a", "b", "c"], max_length=8)
    assert model.classes == ("a", "b", "c") and model.max_length == 8
    assert {prediction.label for prediction in model.predict(["the cat " * 20] * 2, verbose=0)} <= {"a", "b", "c"}
    with pytest.raises(ValueError, match=r"classifier\.weight has shape \(3, 8\), not \(2, 8\)"):
        TextClassifier.from_preset(GOLDEN / "classifier-of-texts", classes=["a", "b"])


@pytest.mark.parametrize("adapted", [False, True])
def test_a_gpt2_classifier_comes_back(tmp_path, adapted):
    tokenizer = BytePairTokenizer.train(["the cat sat", "a dog"], 270)
    model = TextClassifier(GPT2(GPT2Config(tokenizer.vocabulary_size, 1, 2, 8, 12, 17), tokenizer), ["cat", "dog"])
    model.build()
    if adapted:
        enable_lora(model.backbone, 2)
    randomize(model)
    model.save_to_preset(tmp_path)
    again = TextClassifier.from_preset(tmp_path)
    assert again.classes == ("cat", "dog") and again.pooling == "last" and again.dropout.rate == 0.1
    inputs = tokenizer(["the cat", "a"])
    same(compiled(again)(inputs), compiled(model)(inputs))
    assert read_json(tmp_path / "config.json")["pad_token_id"] == tokenizer.end_token_id


def test_a_pooler_that_is_of_no_use_there_stays_behind(tmp_path):
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc"])
    model = TokenClassifier(Bert(BertConfig(8, 1, 2, 8, 12, 17), tokenizer), ["O", "B-dog"])
    model.save_to_preset(tmp_path)
    assert not [name for name in read_tensors(tmp_path) if "pooler" in name]
    inputs = tokenizer(["a b", "c"])
    same(compiled(TokenClassifier.from_preset(tmp_path))(inputs), compiled(model)(inputs))


@pytest.mark.one_backend
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_a_pooling_that_is_not_computed_there_is_not_saved(pooling, tmp_path):
    model = TextClassifier(Bert(BertConfig(8, 1, 2, 8, 12, 17)), ["a", "b"], pooling)
    with pytest.raises(ValueError, match=rf"pooling='pooled', all that BertForSequence.* got '{pooling}'.*\.keras"):
        model.save_to_preset(tmp_path)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("head", "name", "message"),
    [
        (TextClassifier, "classifier-of-tokens", r"got BertForTokenClassification\. To put a new classifier"),
        (TokenClassifier, "classifier-of-texts", r"\['BertForTokenClassification'\] .*got BertForSequenceClass"),
        (TextClassifier, "bert", "got BertModel"),
        (TextClassifier, "pretraining", "got BertForPreTraining"),
        (TokenClassifier, "gpt2", "got GPT2Model"),
    ],
)
def test_a_folder_of_another_task_is_refused(head, name, message):
    with pytest.raises(ValueError, match=message):
        head.from_preset(GOLDEN / name)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": None}, "got unknown"),
        ({"problem_type": "regression"}, "one label a text .*'regression'"),
        ({"problem_type": "multi_label_classification"}, "one label a text .*'multi_label_classification'"),
        ({"id2label": {"0": "a", "2": "b", "3": "c"}}, r"ids of labels from 0 to 2 .*; got \[0, 2, 3\]"),
        ({"label2id": {"cold": 1, "warm": 0, "wet": 2}}, "label2id to be the inverse"),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, r"has shape \(3, 8\), not \(2, 8\)"),
    ],
)
def test_a_config_that_is_not_of_one_label_a_text_is_refused(config, message, tmp_path):
    folder = shutil.copytree(GOLDEN / "classifier-of-texts", tmp_path / "copy")
    entries = read_json(folder / "config.json") | config
    (folder / "config.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=message):
        TextClassifier.from_preset(folder)


@pytest.mark.one_backend
def test_names_that_are_left_out_are_those_of_hugging_face(tmp_path):
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc"])
    TextClassifier(Bert(BertConfig(8, 1, 2, 8, 12, 17), tokenizer), ["a", "b"], "pooled").save_to_preset(tmp_path)
    config = read_json(tmp_path / "config.json")
    for name in ("id2label", "label2id", "classifier_dropout"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.25}))
    model = TextClassifier.from_preset(tmp_path)
    assert model.classes == ("LABEL_0", "LABEL_1") and model.dropout.rate == 0.25
