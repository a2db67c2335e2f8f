"""`.keras` files that version 0.1 wrote, when there was no `OpenAIGPT`, and a `Seq2Seq` was the whole translator."""

import pathlib

import keras
import numpy as np
import pytest
from layer_checks import compiled, pairs, to_numpy

from course_lib import (
    GPT2,
    BertPretrainer,
    GPT2CausalLM,
    OpenAIGPT,
    OpenAIGPTCausalLM,
    OpenAIGPTConfig,
    Seq2Seq,
    Seq2SeqLM,
    TextClassifier,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "version-0.1"
TOKENS = {
    "token_ids": np.arange(15, dtype="int32").reshape(3, 5) * 3 % 20,
    "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], "int32"),
}
PAIRS = {f"encoder_{name}": array for name, array in TOKENS.items()}
PAIRS["decoder_token_ids"] = np.ascontiguousarray(TOKENS["token_ids"][:, ::-1])


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("pretrainer", BertPretrainer),
        ("gpt2", GPT2),
        ("first-gpt", OpenAIGPTCausalLM),
        ("classifier-on-first-gpt", TextClassifier),
        ("seq2seq", Seq2Seq),
    ],
)
def test_an_old_file_is_loaded_and_computes_the_same(name, model_class):
    model = keras.saving.load_model(GOLDEN / f"{name}.keras")
    assert type(model) is model_class
    model = Seq2SeqLM(model) if model_class is Seq2Seq else model  # the head has no weights of its own
    with np.load(GOLDEN / f"{name}.npz") as file:
        expected = dict(file)
    outputs = compiled(model)(PAIRS if model_class is Seq2Seq else TOKENS)
    mask = TOKENS["padding_mask"] > 0  # what padding gives has changed: its positions are counted otherwise
    for output, other in pairs(outputs if isinstance(outputs, dict) else {"logits": outputs}, expected):
        rows = mask if output.shape[1] == 5 and model_class is not Seq2Seq else slice(None)
        np.testing.assert_allclose(to_numpy(output)[rows], other[rows], atol=1e-5)
    if name == "pretrainer":
        assert model.tokenizer.encode("a b") == [2, 5, 6, 3]


@pytest.mark.one_backend
def test_an_old_config_says_where_the_norms_stand():
    new = OpenAIGPT(OpenAIGPTConfig(20, 1, 2, 8))
    for new_class, norm_first in ((GPT2, True), (OpenAIGPT, False)):
        config = GPT2.from_config(new.get_config()).get_config()
        config["config"]["norm_first"] = norm_first
        model = GPT2.from_config(config)
        assert type(model) is new_class and model.decoder.blocks[0].norm_first == norm_first
        assert type(model.config) is new_class.config_class and model.config.vocabulary_size == 20
        backbone = keras.saving.serialize_keras_object(new) | {"registered_name": "course_lib>GPT2", "config": config}
        language_model = GPT2CausalLM.from_config({"name": "lm", "backbone": backbone})
        assert type(language_model) is (GPT2CausalLM if norm_first else OpenAIGPTCausalLM)
        assert type(language_model.backbone) is new_class and language_model.name == "lm"
