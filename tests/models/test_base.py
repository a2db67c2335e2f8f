"""What a model loads and saves: from a preset, into a folder, in which precision, with which tokenizer."""

import pathlib

import keras
import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib import Bert, BertConfig, BertPretrainer, SentenceEncoder, WordPieceTokenizer
from course_lib.checkpoints.files import read_tensors

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def test_the_real_model_computes_what_hugging_face_computes():
    """The article's sentence, section 5.1, through all-MiniLM-L6-v2; `golden/make.py` wrote down some numbers."""
    bert = Bert.from_preset("all-MiniLM-L6-v2")
    inputs = bert.tokenizer(["Hello, my dog is cute"])
    outputs = compiled(lambda inputs: bert(inputs, return_attention=True))(inputs)
    with np.load(GOLDEN / "all-MiniLM-L6-v2.npz") as expected:
        assert np.array_equal(inputs["token_ids"], expected["token_ids"])
        same(to_numpy(outputs["sequence_output"])[0, :, ::48], expected["sequence_output"])
        same(to_numpy(outputs["pooled_output"])[0, ::48], expected["pooled_output"])
        attention = np.stack([to_numpy(weights) for weights in outputs["attention"]])
        same(attention[:, 0, ::4, 0], expected["attention"])
    assert bert.config == BertConfig(30522, 6, 12, 384, 1536, 512)


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file"):
        Bert.from_preset(GOLDEN / "bert").save_to_preset(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("task", [BertPretrainer, SentenceEncoder])
def test_a_task_saves_and_loads_with_its_backbone_and_tokenizer(task, tmp_path):
    model = task.from_preset(GOLDEN / "pretraining")
    model.save_to_preset(tmp_path)
    again = task.from_preset(tmp_path)
    inputs = model.backbone.tokenizer(["The dogs sit.", "a cat"])
    same(compiled(again)(inputs), compiled(model)(inputs), tolerance=0)
    assert again.backbone.config == model.backbone.config
    assert again.backbone.tokenizer.lowercase is False
    same(compiled(Bert.from_preset(tmp_path))(inputs), compiled(model.backbone)(inputs), tolerance=0)


@pytest.mark.one_backend
def test_weights_are_saved_in_the_precision_that_is_asked_for(tmp_path):
    bert = Bert.from_preset(GOLDEN / "bert")
    bert.save_to_preset(tmp_path, dtype="float16")
    rounded = {name: array.astype("float16") for name, array in read_tensors(GOLDEN / "bert").items()}
    written = read_tensors(tmp_path)
    assert {array.dtype.name for array in written.values()} == {"float16"} and written.keys() == rounded.keys()
    assert all(np.array_equal(array, rounded[name]) for name, array in written.items())


def test_what_a_task_takes_beside_its_backbone():
    assert SentenceEncoder.from_preset(GOLDEN / "bert", pooling="max").pooling == "max"
    assert SentenceEncoder.from_preset(GOLDEN / "bert").pooling == "mean"


def test_a_new_model_without_a_tokenizer_is_saved_without_one(tmp_path):
    """And before it was ever called: saving builds it."""
    Bert(BertConfig(10, 1, 1, 4, 4, 8, activation="quick_gelu", layer_norm_epsilon=0.1)).save_to_preset(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(ValueError, match=r"tokenizer\.json; there is none"):
        Bert.from_preset(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde"]
    WordPieceTokenizer(words).save(tmp_path)
    assert Bert.from_preset(tmp_path).config == BertConfig(
        10, 1, 1, 4, 4, 8, activation="quick_gelu", layer_norm_epsilon=0.1
    )


@pytest.mark.parametrize("model_class", [Bert, BertPretrainer])
def test_the_dtype_is_that_asked_for(model_class):
    policies = {
        layer.dtype_policy.name
        for layer in model_class.from_preset(GOLDEN / "pretraining", dtype="mixed_bfloat16")._flatten_layers()
    }
    assert policies == {"mixed_bfloat16"}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert model_class.from_preset(GOLDEN / "pretraining").dtype_policy.name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy(before)
