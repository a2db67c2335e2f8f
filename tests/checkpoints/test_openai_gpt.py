"""OpenAI's first GPT in Hugging Face's layout: computed as there, to five digits, or refused by what is wrong."""

import dataclasses
import pathlib

import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.huggingface.gpt import OPENAI_GPT
from course_lib.models.openai_gpt import OpenAIGPT, OpenAIGPTCausalLM, OpenAIGPTConfig
from course_lib.text.openai_gpt import OpenAIGPTTokenizer

NAME = "openai-gpt"
FOLDER = pathlib.Path(__file__).parents[1] / "golden" / NAME
TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "Naïve 狗 <unk>☕ oncé"]


def test_computes_what_hugging_face_computes(expected_of, at_tokens):
    inputs, expected = expected_of(NAME)
    mask = inputs["padding_mask"]
    lm, gpt = (model_class.from_preset(FOLDER) for model_class in (OpenAIGPTCausalLM, OpenAIGPT))
    outputs = compiled(lambda inputs: gpt(inputs, return_hidden_states=True, return_attention=True))(inputs)
    *states, last = [to_numpy(state) for state in outputs["hidden_states"]]
    for output in (outputs["sequence_output"], last):
        same(at_tokens(output, mask), at_tokens(expected["sequence_output"], mask), tolerance=2e-5)
    same(at_tokens(states, mask), at_tokens(expected["hidden_states"], mask), tolerance=2e-5)
    same(at_tokens(outputs["attention"], mask, heads=True), at_tokens(expected["attention"], mask, heads=True))
    same(at_tokens(compiled(lm)(inputs), mask)[..., ::8], at_tokens(expected["logits"], mask), tolerance=5e-5)
    assert lm.generate(lm.tokenizer.encode(TEXTS[0]), max_new_tokens=8) == expected["greedy"].tolist()


@pytest.mark.one_backend
def test_the_tokenizer_gives_the_ids_of_hugging_face(expected_of):
    inputs, _ = expected_of(NAME)
    tokenizer = OpenAIGPT.from_preset(FOLDER).tokenizer
    assert isinstance(tokenizer, OpenAIGPTTokenizer)
    assert all(np.array_equal(tokenizer(TEXTS)[key], inputs[key]) for key in inputs)


@pytest.mark.one_backend
@pytest.mark.parametrize("model_class", [OpenAIGPT, OpenAIGPTCausalLM])
def test_saved_as_it_was_published(model_class, tmp_path, expected_of):
    """What `save_to_preset` writes has the tensors, to the bit, and the config that Hugging Face wrote."""
    model = model_class.from_preset(FOLDER)
    model.save_to_preset(tmp_path)
    prefix = "transformer." if model_class is OpenAIGPTCausalLM else ""
    theirs = {prefix + key.removeprefix("transformer."): array for key, array in read_tensors(FOLDER).items()}
    ours = read_tensors(tmp_path)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(array, theirs[key]) for key, array in ours.items())
    config, original = read_json(tmp_path / "config.json"), read_json(FOLDER / "config.json")
    assert config["architectures"] == ["OpenAIGPTLMHeadModel" if prefix else "OpenAIGPTModel"]
    assert {key for key in config.keys() & original.keys() if config[key] != original[key]} <= {"architectures"}
    assert not (original.keys() - config.keys()) & OPENAI_GPT.config_table.fields.keys()
    again = model_class.from_preset(tmp_path)
    assert again.config == model.config
    inputs, _ = expected_of(NAME)
    same(again(inputs), model(inputs), tolerance=0)
    assert np.array_equal(again.tokenizer(TEXTS)["token_ids"], inputs["token_ids"])


def as_published(tensors):
    """As the weights lay on the hub at first: without prefix, with the causal mask and the positions."""
    tensors = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    masks = {f"h.{layer}.attn.bias": np.tril(np.ones((1, 1, 40, 40), "float32")) for layer in range(2)}
    return tensors | masks | {"position_ids": np.arange(40)}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "change",
    [
        as_published,
        lambda t: {name.removeprefix("transformer."): array for name, array in t.items()},
        lambda t: t | {"lm_head.weight": t["transformer.tokens_embed.weight"]},
    ],
)
def test_names_of_other_versions(folder, change):
    old = {"n_ctx": 40, "n_special": 0, "predict_special_tokens": True, "tie_word_embeddings": ..., "eos_token_id": ...}
    path = folder(NAME, change, **old)
    model, original = OpenAIGPTCausalLM.from_preset(path), OpenAIGPTCausalLM.from_preset(FOLDER)
    same(model.get_weights(), original.get_weights(), tolerance=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"auto_map": {}}, ["auto_map"]),
        ({"afn": "tanh"}, ["afn", "['gelu', 'relu', 'silu', 'swish']", "'tanh'"]),
        ({"eos_token_id": 3}, ["eos_token_id", "None", "3"]),
        ({"tie_word_embeddings": False}, ["tie_word_embeddings", "True", "False"]),
        ({"n_head": 3}, ["num_heads", "3", "16"]),
        ({"n_layer": 1}, ["transformer.h.1", "is unused"]),
        ({"n_layer": 3}, ["transformer.h.2", "is missing"]),
        ({"vocab_size": 89}, ["tokens_embed.weight", "(90, 16)", "(89, 16)"]),
        ({"n_positions": 41}, ["positions_embed.weight", "(40, 16)", "(41, 16)"]),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, refused, config, facts):
    with refused(*facts):
        OpenAIGPT.from_preset(folder(NAME, **config))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda t: t.pop("transformer.h.1.ln_2.bias"), ["transformer.h.1.ln_2.bias is missing"]),
        (lambda t: t.update({"transformer.ln_f.weight": np.ones(16, "float32")}), ["ln_f.weight is unused"]),
        (
            lambda t: t.update({"lm_head.weight": t["transformer.tokens_embed.weight"] + 1}),
            ["lm_head.weight differs from transformer.tokens_embed.weight"],
        ),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, refused, change, facts):
    with refused(*facts):
        OpenAIGPTCausalLM.from_preset(folder(NAME, change))


@pytest.mark.one_backend
def test_every_entry_of_the_config_has_its_field(folder):
    entries = {
        "embd_pdrop": ("embedding_dropout", 0.2),
        "resid_pdrop": ("dropout", 0.3),
        "attn_pdrop": ("attention_dropout", 0.4),
        "afn": ("activation", "silu"),
        "layer_norm_epsilon": ("layer_norm_epsilon", 0.01),
        "initializer_range": ("initializer_range", 0.5),
    }
    for name, (field, value) in entries.items():
        plain = OpenAIGPTConfig(**OPENAI_GPT.read(folder(NAME))[0])
        changed = OpenAIGPTConfig(**OPENAI_GPT.read(folder(NAME, **{name: value}))[0])
        assert changed == dataclasses.replace(plain, **{field: value})


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    config = read_json(FOLDER / "config.json")
    fields, _ = OPENAI_GPT.read(folder(NAME, **{key: ... for key in config.keys() - {"model_type"}}))
    expected = {"max_sequence_length": 512, "end_token_id": -1, "intermediate_dim": 4 * 768}
    assert OpenAIGPTConfig(**fields) == OpenAIGPTConfig(40478, 12, 12, 768, **expected)


@pytest.mark.one_backend
def test_a_model_that_the_config_there_cannot_describe_is_not_saved(tmp_path, refused):
    sizes = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    with refused("intermediate_dim", "32", "16", "end_token_id", "-1", "19"):
        OpenAIGPT(OpenAIGPTConfig(**sizes, intermediate_dim=16, end_token_id=19)).save_to_preset(tmp_path / "new")
    with refused("scale_attention", "False"):
        OpenAIGPT(OpenAIGPTConfig(**sizes, scale_attention=False)).save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    OpenAIGPT(OpenAIGPTConfig(**sizes)).save_to_preset(tmp_path / "new")
    assert read_json(tmp_path / "new" / "config.json")["model_type"] == "openai-gpt"
