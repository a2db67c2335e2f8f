"""Google's own release of BERT: computed as Google's code computes it, both ways, or refused by what is wrong."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tiny_models
from layer_checks import compiled, same

from course_lib import Bert, BertPretrainer, SentenceEncoder, TextClassifier, WordPieceTokenizer
from course_lib.checkpoints.files import read_json, read_tensorflow, write_tensorflow
from course_lib.checkpoints.google_bert import BERT
from course_lib.layers.activations import activation_function
from course_lib.models.gpt2 import GPT2

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
UNCASED, CASED = GOLDEN / "uncased_L-2_H-8_A-2", GOLDEN / "multi_cased_L-3_H-12_A-4"
FOLDERS = {UNCASED: "approximate", CASED: "exact"}  # and the GELU that Google's code computed
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "Café 狗 Dog"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]
QUERY = "bert/encoder/layer_1/attention/self/query/kernel"


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@pytest.fixture
def google(tmp_path):
    """Copies the cased folder, and changes its tensors and the entries of its config (`...` takes one away)."""

    def copy(change=None, name=CASED.name, **config):
        path = shutil.copytree(CASED, tmp_path / name, dirs_exist_ok=True)
        entries = read_json(path / "bert_config.json") | config
        (path / "bert_config.json").write_text(json.dumps({k: v for k, v in entries.items() if v is not ...}))
        if change is not None:
            tensors = read_tensorflow(path)
            write_tensorflow(path / "bert_model.ckpt", change(tensors) or tensors)
        return path

    return copy


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_computes_what_googles_code_computes(folder, expected_of, at_tokens):
    inputs, expected = expected_of(folder.name)
    mask = inputs["padding_mask"]
    model = BertPretrainer.from_preset(folder, gelu=FOLDERS[folder])
    outputs = compiled(lambda inputs: model.backbone(inputs, return_hidden_states=True))(inputs)
    for name in ("hidden_states", "sequence_output"):
        same(at_tokens(outputs[name], mask), at_tokens(expected[name], mask))
    same(outputs["pooled_output"], expected["pooled_output"])
    heads = compiled(model)(inputs)
    same(at_tokens(log_softmax(heads["mlm_logits"]), mask), at_tokens(expected["mlm_log_probs"], mask), tolerance=2e-5)
    same(log_softmax(heads["nsp_logits"]), expected["nsp_log_probs"], tolerance=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_name_of_the_folder_says_whether_letters_are_lower_cased(folder, expected_of):
    inputs, _ = expected_of(folder.name)
    tokenizer = Bert.from_preset(folder).tokenizer
    assert tokenizer.lowercase == folder.name.startswith("uncased")
    assert all(np.array_equal(array, inputs[name]) for name, array in tokenizer(TEXTS, PAIRS).items())


@pytest.mark.one_backend
def test_an_argument_says_it_where_the_name_does_not(google, refused):
    for name, lowercase in {
        "wwm_uncased_L-24_H-1024_A-16": True,
        "wwm_cased_L-24_H-1024_A-16": False,
        "multilingual_L-12_H-768_A-12": True,
        "chinese_L-12_H-768_A-12": True,
    }.items():
        assert WordPieceTokenizer.from_preset(google(name=name)).lowercase is lowercase, name
    folder = google(name="showcased")
    with refused("'showcased'", "lowercase=True or lowercase=False"):
        Bert.from_preset(folder)
    assert Bert.from_preset(folder, lowercase=True).tokenizer.lowercase
    assert not SentenceEncoder.from_preset(folder, lowercase=False, pooling="first").tokenizer.lowercase


@pytest.mark.one_backend
def test_two_functions_have_the_name_gelu(google, refused, tmp_path):
    x = np.linspace(-8, 8, 10_001, dtype="float32")
    exact, approximate = (activation_function(name)(x) for name in ("gelu", "gelu_approximate"))
    assert 4e-4 < np.abs(np.asarray(exact) - np.asarray(approximate)).max() < 5e-4
    assert Bert.from_preset(CASED).config.activation == "gelu"
    bert = Bert.from_preset(CASED, gelu="approximate")
    assert bert.config.activation == "gelu_approximate"
    bert.save_to_preset(tmp_path / "saved", layout="google")
    assert read_json(tmp_path / "saved" / "bert_config.json")["hidden_act"] == "gelu", "for Google's code"
    assert Bert.from_preset(tmp_path / "saved").config == bert.config, "and yet nothing changes"
    with refused("gelu", "['approximate', 'exact']", "'erf'"):
        Bert.from_preset(CASED, gelu="erf")
    with refused("['gelu', 'lowercase']", "['activation']"):
        Bert.from_preset(CASED, activation="relu")
    assert Bert.from_preset(google(hidden_act="ReLU")).config.activation == "relu"
    assert Bert.from_preset(google(hidden_act=None)).config.activation == "linear"


@pytest.mark.one_backend
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_saved_as_it_was_published(folder, tmp_path):
    """What is written has the names and the bits of Google's file, and the config; the optimizer's state is gone."""
    model = BertPretrainer.from_preset(folder, gelu=FOLDERS[folder])
    model.save_to_preset(tmp_path / "new", layout="google")
    theirs, ours = read_tensorflow(folder), read_tensorflow(tmp_path / "new")
    slots = {name for name in theirs if name.endswith(("/adam_m", "/adam_v")) or name == "global_step"}
    assert len(slots) == 2 * len(ours) + 1 and ours.keys() == theirs.keys() - slots
    assert all(np.array_equal(array, theirs[name]) for name, array in ours.items())
    config, original = (read_json(path / "bert_config.json") for path in (tmp_path / "new", folder))
    assert config == original | {"gelu": FOLDERS[folder]}
    assert (tmp_path / "new" / "vocab.txt").read_text() == (folder / "vocab.txt").read_text()
    again = BertPretrainer.from_preset(tmp_path / "new")
    same(again.get_weights(), model.get_weights(), tolerance=0)
    assert again.config == model.config and again.tokenizer.lowercase == model.tokenizer.lowercase


@pytest.mark.one_backend
def test_the_same_model_from_three_layouts(tmp_path):
    first = BertPretrainer.from_preset(CASED)
    first.save_to_preset(tmp_path / "huggingface")
    second = BertPretrainer.from_preset(tmp_path / "huggingface")
    second.save_to_preset(tmp_path / "google", layout="google")
    third = BertPretrainer.from_preset(tmp_path / "google")
    same(third.get_weights(), first.get_weights(), tolerance=0)
    assert first.config == second.config == third.config
    assert first.tokenizer.encode(TEXTS[2]) == second.tokenizer.encode(TEXTS[2]) == third.tokenizer.encode(TEXTS[2])


@pytest.mark.one_backend
def test_an_encoder_alone_both_ways(tmp_path):
    bert = Bert.from_preset(CASED)
    bert.save_to_preset(tmp_path / "cased", layout="google", dtype="float16")
    assert not [name for name in read_tensorflow(tmp_path / "cased") if not name.startswith("bert/")]
    same(Bert.from_preset(tmp_path / "cased").get_weights(), bert.get_weights(), tolerance=0.01)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"hidden_act": "swish"}, ["hidden_act", "'swish'", "'tanh'"]),
        ({"vocab_size": ...}, ["vocabulary_size", "None"]),
        ({"vocab_size": 39}, ["39 pieces", "vocab.txt", "42"]),
        ({"type_vocab_size": ...}, ["token_type_embeddings", "(3, 12)", "(16, 12)"]),
        ({"num_hidden_layers": 2}, ["bert/encoder/layer_2", "is unused"]),
        ({"num_hidden_layers": 4}, ["bert/encoder/layer_3/output/dense/kernel is missing"]),
        ({"num_attention_heads": 5}, ["num_heads", "5", "12"]),
        ({"hidden_dropout_prob": None}, ["dropout", "None"]),
        ({"gelu": "erf"}, ["gelu", "'erf'"]),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(google, refused, config, facts):
    with refused(*facts):
        Bert.from_preset(google(**config))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model_class", "change", "facts"),
    [
        (Bert, lambda t: t.pop(QUERY) * 0, [f"{QUERY} is missing"]),
        (Bert, lambda t: t.update({"bert/odd": t[QUERY]}), ["bert/odd is unused"]),
        (Bert, lambda t: t.update({QUERY: t[QUERY][:4]}), [QUERY, "(4, 12)", "(12, 12)"]),
        (Bert, lambda t: t.update({QUERY: t[QUERY].astype("complex64")}), [QUERY, "complex64", "floats"]),
        (BertPretrainer, lambda t: t.update(output_weights=t[QUERY]), ["output_weights is unused"]),
        (
            BertPretrainer,
            lambda t: {name: array for name, array in t.items() if not name.startswith("cls/")},
            ["cls/predictions/output_bias is missing", "cls/seq_relationship/output_weights is missing"],
        ),
    ],
)
def test_a_tensor_that_is_wrong_is_named(google, refused, model_class, change, facts):
    def changed(tensors):
        found = change(tensors)
        return found if isinstance(found, dict) else None

    with refused(*facts):
        model_class.from_preset(google(changed))


@pytest.mark.one_backend
def test_a_backbone_loads_from_the_checkpoint_of_a_fine_tuned_classifier(google):
    def of_classifier(tensors):
        kept = {name: array for name, array in tensors.items() if not name.startswith("cls/")}
        return kept | {"output_weights": np.zeros((2, 12), "float32"), "output_bias": np.zeros(2, "float32")}

    same(Bert.from_preset(google(of_classifier)).get_weights(), Bert.from_preset(CASED).get_weights(), tolerance=0)


@pytest.mark.one_backend
def test_files_that_are_missing_or_broken_are_refused(google, refused):
    index, data = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
    for name in (index, data):
        for kept in (None, 0, 100, -8):
            path = google()
            whole = (path / name).read_bytes()
            (path / name).unlink() if kept is None else (path / name).write_bytes(whole[:kept])
            with refused("TensorFlow checkpoint", path):
                Bert.from_preset(path)
    path = google()
    (path / "vocab.txt").write_bytes((CASED / "vocab.txt").read_bytes()[:100])
    with refused("42 pieces", "vocab.txt"):
        Bert.from_preset(path)
    path = google()
    content = bytearray((path / data).read_bytes())
    content[40] ^= 1
    (path / data).write_bytes(content)
    with refused("broken", path):  # by the sum that TensorFlow keeps for each tensor
        Bert.from_preset(path)
    for name in (index, data):
        shutil.copy(CASED / name, google() / name.replace("bert_model", "other"))
    with refused("one TensorFlow checkpoint", "bert_model.ckpt.index", "other.ckpt.index"):
        Bert.from_preset(path)


@pytest.mark.one_backend
def test_what_the_layout_has_no_place_for_is_not_saved(tmp_path, refused):
    where = tmp_path / "new"
    with refused("'huggingface', 'google'", "'openai'"):
        tiny_models.bert().save_to_preset(where, layout="openai")
    with refused("layer_norm_epsilon", "0.1", "pooler"):
        tiny_models.bert(layer_norm_epsilon=0.1, pooler=False).save_to_preset(where, layout="google")
    with refused("activation", "'silu'"):
        tiny_models.bert(activation="silu").save_to_preset(where, layout="google")
    with refused("classes", "TextClassifier"):
        tiny_models.text_classifier().save_to_preset(where, layout="google")
    with refused("backbone", "'google'"):
        tiny_models.sentence_encoder().save_to_preset(where, layout="google")
    assert not where.exists()
    tiny_models.bert().save_to_preset(where)
    with refused("config.json"):  # which would be read in place of the new files
        tiny_models.bert().save_to_preset(where, layout="google")
    assert BERT.is_in(CASED) and not BERT.is_in(where)


@pytest.mark.one_backend
def test_another_class_is_named_for_the_folder(refused):
    with refused("bert_config.json", "Bert or one of its tasks"):
        GPT2.from_preset(CASED)
    with refused("backbone alone", "unknown"):
        TextClassifier.from_preset(CASED)
