"""Language models whose vocabulary is larger than their tokenizer's, or whose weights are int8 or int4."""

import gc
import warnings

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops
from layer_checks import randomize

MODELS = {
    "GPT2CausalLM": tiny_models.gpt2_causal_lm,
    "LlamaCausalLM": tiny_models.llama_causal_lm,
    "Seq2SeqLM": tiny_models.seq2seq_lm,
}
NAMES = ["GPT2CausalLM", pytest.param("Seq2SeqLM", marks=pytest.mark.one_backend)]
SAMPLERS = ["random", *(pytest.param(name, marks=pytest.mark.one_backend) for name in ("greedy", "beam"))]
TEXTS = ["a b", "c", "a d e"]


def made(name, **changes):
    model = MODELS[name](**changes)
    model.build()
    randomize(model)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ids_that_the_tokenizer_lacks_are_never_drawn(name, sampler):
    changes = {"vocabulary_size": 400} | ({"max_sequence_length": 40} if name == "GPT2CausalLM" else {})
    model = made(name, **changes | {"end_token_id": tiny_models.BYTE_PAIRS.end_token_id})
    table = model.backbone.token_embedding.embeddings
    boosted = np.array(table)
    boosted[model.tokenizer.vocabulary_size :] *= 50  # these would be drawn nearly always
    table.assign(boosted)
    answers = model.generate(TEXTS, 12, sampler=sampler, seed=0)
    assert len(answers) == 3 and all(isinstance(answer, str) for answer in answers)


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("GPT2CausalLM", "int8", 0.03),
        ("LlamaCausalLM", "int4", 0.15),
        pytest.param("Seq2SeqLM", "int8", 0.03, marks=pytest.mark.one_backend),
    ],
)
def test_a_quantized_model_is_saved_loaded_and_says_the_same(name, mode, tolerance, tmp_path):
    data = (TEXTS, TEXTS) if name == "Seq2SeqLM" else (TEXTS,)
    model = made(name, **({} if name == "Seq2SeqLM" else {"max_sequence_length": 40}))
    inputs = model.examples(*data)[0][0]
    exact = ops.convert_to_numpy(model(inputs))
    model.quantize(mode)
    expected = ops.convert_to_numpy(model(inputs))
    assert np.sqrt(np.mean((expected - exact) ** 2)) < tolerance * np.abs(exact).max()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {str(layer.quantization_mode) for layer in loaded._flatten_layers()} == {"None", mode}
    np.testing.assert_allclose(loaded(inputs), expected, atol=1e-6)
    assert name == "Seq2SeqLM" or len(loaded.generate(TEXTS, 4)) == len(TEXTS)


@pytest.mark.one_backend
def test_a_model_is_quantized_without_a_warning_and_old_objects_are_not_collected(monkeypatch):
    model, frozen = made("GPT2CausalLM"), []
    collect = gc.collect
    monkeypatch.setattr(gc, "collect", lambda *generation: frozen.append(gc.get_freeze_count()) or collect(*generation))
    with warnings.catch_warnings(action="error", category=UserWarning):
        model.quantize("int8")
    assert frozen and min(frozen) > 0 and gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="mode"):
        made("GPT2CausalLM").quantize("int3")
    assert gc.get_freeze_count() == 0
