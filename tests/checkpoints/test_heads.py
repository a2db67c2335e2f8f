"""Classifiers in Hugging Face's layout: computed as there, names included, or refused."""

import json
import pathlib

import numpy as np
import pytest
from layer_checks import compiled, randomize, same

from course_lib import GPT2, Bert, BertConfig, BytePairTokenizer, GPT2Config, WordPieceTokenizer
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.huggingface import heads
from course_lib.models.classifiers import TextClassifier, TokenClassifier
from course_lib.models.openai_gpt import OpenAIGPT, OpenAIGPTConfig
from course_lib.text.openai_gpt import OpenAIGPTTokenizer
from course_lib.training.adaptation import enable_lora

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FOLDERS = {"classifier-of-texts": TextClassifier, "classifier-of-tokens": TokenClassifier}
LABELS = ("cold", "warm", "wet")


@pytest.mark.parametrize("name", FOLDERS)
def test_computed_as_there_and_saved_as_published(name, tmp_path, expected_of, at_tokens):
    model = FOLDERS[name].from_preset(GOLDEN / name)
    inputs, expected = expected_of(name)
    logits, expected = compiled(model)(inputs), expected["logits"]
    if name == "classifier-of-tokens":
        logits, expected = (at_tokens(each, inputs["padding_mask"]) for each in (logits, expected))
    same(logits, expected)
    assert model.names == LABELS
    assert model.dropout.rate == (0.2 if name == "classifier-of-texts" else 0.1)

    model.save_to_preset(tmp_path)
    theirs, ours = read_tensors(GOLDEN / name), read_tensors(tmp_path)
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    theirs, ours = read_json(GOLDEN / name / "config.json"), read_json(tmp_path / "config.json")
    for key in ("architectures", "id2label", "label2id", "model_type", "num_hidden_layers"):
        assert ours[key] == theirs[key], key
    again = FOLDERS[name].from_preset(tmp_path)
    same(again.get_weights(), model.get_weights(), tolerance=0)
    assert again.names == model.names and again.dropout.rate == model.dropout.rate
    assert Bert.from_preset(tmp_path).config == model.backbone.config, "a backbone loads from any task"


@pytest.mark.one_backend
def test_what_a_folder_says_of_a_head(folder):
    path = folder("classifier-of-texts")
    assert heads.family(path, "classes") == "Bert"
    assert heads.arguments(path, "classes") == {"classes": [*LABELS], "dropout": 0.2, "pooling": "pooled"}
    assert heads.arguments(folder("classifier-of-tokens"), "labels") == {"labels": [*LABELS], "dropout": 0.1}
    names = {"id2label": {str(i): f"n{i}" for i in range(12)}, "label2id": {f"n{i}": i for i in range(12)}}
    path = folder("gpt2", architectures=["GPT2ForSequenceClassification"], **names)
    assert heads.family(path, "classes") == "GPT2"
    assert heads.arguments(path, "classes") == {
        "classes": [f"n{i}" for i in range(12)],
        "dropout": 0.0,
        "pooling": "last",
    }


def test_other_names_and_a_length_may_be_given(refused):
    model = TextClassifier.from_preset(GOLDEN / "classifier-of-texts", classes=["a", "b", "c"], max_length=8)
    assert model.classes == ("a", "b", "c") and model.max_length == 8
    assert {prediction.label for prediction in model.predict(["the cat " * 20] * 2, verbose=0)} <= {"a", "b", "c"}
    with refused("classifier.weight", "(3, 8)", "(2, 8)"):
        TextClassifier.from_preset(GOLDEN / "classifier-of-texts", classes=["a", "b"])


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", ["GPT2", "OpenAIGPT"])
def test_a_gpt_classifier_comes_back(tmp_path, family, adapted):
    if family == "GPT2":
        tokenizer = BytePairTokenizer.train(["the cat sat", "a dog"], 270)
        backbone = GPT2(GPT2Config(tokenizer.vocabulary_size, 1, 2, 8, 12, 17), tokenizer)
    else:
        tokenizer = OpenAIGPTTokenizer([*"<abcdehot", *(f"{letter}</w>" for letter in "aegt"), "<unk>"], [])
        backbone = OpenAIGPT(OpenAIGPTConfig(tokenizer.vocabulary_size, 1, 2, 8), tokenizer)
    model = TextClassifier(backbone, ["cat", "dog"])
    model.build()
    if adapted:
        enable_lora(model.backbone, 2)
    randomize(model)
    model.save_to_preset(tmp_path)
    assert read_json(tmp_path / "config.json")["architectures"] == [f"{family}ForSequenceClassification"]
    assert "score.weight" in read_tensors(tmp_path)
    again = TextClassifier.from_preset(tmp_path)
    assert type(again.backbone) is type(backbone) and again.config == model.config
    assert again.classes == ("cat", "dog") and again.pooling == "last" and again.dropout.rate == 0.1
    inputs = tokenizer(["the cat", "a"])
    same(compiled(again)(inputs), compiled(model)(inputs))
    padding = inputs["token_ids"][1, -1]
    assert read_json(tmp_path / "config.json")["pad_token_id"] == padding == tokenizer.special_token_id


def test_a_pooler_that_is_of_no_use_there_stays_behind(tmp_path):
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc"])
    model = TokenClassifier(Bert(BertConfig(8, 1, 2, 8, 12, 17), tokenizer), ["O", "B-dog"])
    model.save_to_preset(tmp_path)
    assert not [name for name in read_tensors(tmp_path) if "pooler" in name]
    inputs = tokenizer(["a b", "c"])
    same(compiled(TokenClassifier.from_preset(tmp_path))(inputs), compiled(model)(inputs))


@pytest.mark.one_backend
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_a_pooling_that_is_not_computed_there_is_not_saved(pooling, tmp_path, refused):
    model = TextClassifier(Bert(BertConfig(8, 1, 2, 8, 12, 17)), ["a", "b"], pooling)
    with refused("'pooled'", "BertForSequenceClassification", f"'{pooling}'", ".keras"):
        model.save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("head", "name", "facts"),
    [
        (TextClassifier, "classifier-of-tokens", ["BertForTokenClassification", "classes"]),
        (TokenClassifier, "classifier-of-texts", ["['BertForTokenClassification', ", "BertForSequenceClassification"]),
        (TextClassifier, "bert", ["BertModel", "OpenAIGPTForSequenceClassification"]),
        (TextClassifier, "pretraining", ["BertForPreTraining"]),
        (TokenClassifier, "gpt2", ["GPT2Model"]),
    ],
)
def test_a_folder_of_another_task_is_refused(head, name, facts, refused):
    with refused(*facts):
        head.from_preset(GOLDEN / name)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"architectures": None}, ["unknown"]),
        ({"architectures": ["Bert"]}, ["got Bert."]),
        ({"problem_type": "regression"}, ["problem_type", "'regression'"]),
        ({"id2label": {"0": "a", "2": "b", "3": "c"}}, ["0 to 2", "['0', '2', '3']"]),
        ({"id2label": {"0": "a", "b": "b", "2": "c"}}, ["0 to 2", "'b'"]),
        ({"label2id": {"cold": 1, "warm": 0, "wet": 2}}, ["label2id", "'cold': 1"]),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, ["(3, 8)", "(2, 8)"]),
    ],
)
def test_a_config_that_is_not_of_one_label_per_text_is_refused(folder, refused, config, facts):
    with refused(*facts):
        TextClassifier.from_preset(folder("classifier-of-texts", **config))


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


@pytest.mark.one_backend
def test_several_labels_come_and_go(folder, tmp_path, refused):
    path = folder("classifier-of-texts", problem_type="multi_label_classification")
    model = TextClassifier.from_preset(path)
    assert model.multi_label and not TextClassifier.from_preset(GOLDEN / "classifier-of-texts").multi_label
    model.save_to_preset(tmp_path / "saved")
    assert read_json(tmp_path / "saved" / "config.json")["problem_type"] == "multi_label_classification"
    assert TextClassifier.from_preset(tmp_path / "saved").multi_label
    with refused("threshold", "0.3", ".keras"):
        TextClassifier.from_preset(path, threshold=0.3).save_to_preset(tmp_path / "other")
    with refused("problem_type", "'multi_label_classification'"):
        TokenClassifier.from_preset(folder("classifier-of-tokens", problem_type="multi_label_classification"))


@pytest.mark.one_backend
def test_labels_known_by_their_number_alone(folder):
    model = TextClassifier.from_preset(folder("classifier-of-texts", id2label=..., label2id=..., num_labels=3))
    assert model.classes == ("LABEL_0", "LABEL_1", "LABEL_2")
