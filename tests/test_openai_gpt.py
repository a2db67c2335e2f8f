"""OpenAI's first GPT in Hugging Face's layout: the module of GPT-2 computes it, to five digits, or names what is wrong.

The folder `golden/openai-gpt` was made by `golden/make.py`, with `transformers`.
"""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import safetensors.numpy
from layer_checks import compiled, same, to_numpy
from test_gpt2_checkpoints import GOLDEN, expected_of, model_config, renamed

from course_lib import GPT2, BytePairTokenizer, GPT2CausalLM, GPT2Config
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.huggingface_gpt import OPENAI_GPT
from course_lib.text.character_pair import CharacterPairTokenizer

NAME = "openai-gpt"
TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "Naïve 狗 <unk>☕ oncé"]


@pytest.fixture
def folder(tmp_path):
    """Copies the golden folder, and changes its tensors and entries of its config (`...` takes one away)."""

    def copy(change=None, **config):
        path = shutil.copytree(GOLDEN / NAME, tmp_path / "checkpoint", dirs_exist_ok=True)
        old = read_json(path / "config.json")
        (path / "config.json").write_text(json.dumps({k: v for k, v in (old | config).items() if v is not ...}))
        if change is not None:
            tensors = read_tensors(path)
            safetensors.numpy.save_file(change(tensors) or tensors, path / "model.safetensors")
        return path

    return copy


def test_computes_what_hugging_face_computes():
    inputs, expected = expected_of(NAME)
    lm, gpt = (model_class.from_preset(GOLDEN / NAME) for model_class in (GPT2CausalLM, GPT2))
    outputs = compiled(lambda inputs: gpt(inputs, return_hidden_states=True, return_attention=True))(inputs)
    same(outputs["sequence_output"], expected["sequence_output"], tolerance=2e-5)
    *states, last = [to_numpy(state) for state in outputs["hidden_states"]]
    same(np.stack(states), expected["hidden_states"], tolerance=2e-5)
    same(last, expected["sequence_output"], tolerance=2e-5)
    tokens = inputs["padding_mask"].astype(bool)
    attention = np.stack([to_numpy(weights) for weights in outputs["attention"]])
    for row, length in enumerate(tokens.sum(axis=1)):
        same(attention[:, row, :, :length], expected["attention"][:, row, :, :length])
    same(compiled(lm)(inputs)["logits"][..., ::8], expected["logits"], tolerance=5e-5)
    assert lm.generate(lm.tokenizer.encode(TEXTS[0]), max_new_tokens=8) == expected["greedy"].tolist()


@pytest.mark.one_backend
def test_the_tokenizer_gives_the_ids_of_hugging_face():
    inputs, _ = expected_of(NAME)
    tokenizer = GPT2.from_preset(GOLDEN / NAME).tokenizer
    assert isinstance(tokenizer, CharacterPairTokenizer)
    assert all(np.array_equal(tokenizer(TEXTS)[key], inputs[key]) for key in inputs)
    assert isinstance(GPT2.from_preset(GOLDEN / "gpt2").tokenizer, BytePairTokenizer)


@pytest.mark.one_backend
def test_texts_are_continued_in_one_piece_and_in_several():
    lm = GPT2CausalLM.from_preset(GOLDEN / NAME)
    _, expected = expected_of(NAME)
    prompt = lm.tokenizer.encode(TEXTS[0])
    text = lm.generate(TEXTS[0], 8)
    assert lm.tokenizer.decode(prompt) + text == lm.tokenizer.decode(prompt + expected["greedy"].tolist())
    assert "".join(lm.generate(TEXTS[0], 8, stream=True)) == text
    assert lm.generate(TEXTS, 8) == [lm.generate(each, 8) for each in TEXTS]
    assert len(lm.generate(prompt, 8)) == 8, "no token ends a text"


@pytest.mark.one_backend
@pytest.mark.parametrize("model_class", [GPT2, GPT2CausalLM])
def test_saved_as_it_was_published(model_class, tmp_path):
    """What `save_to_preset` writes has the tensors, to the bit, and the config that Hugging Face wrote."""
    model = model_class.from_preset(GOLDEN / NAME)
    model.save_to_preset(tmp_path)
    prefix = "transformer." if model_class is GPT2CausalLM else ""
    theirs = {prefix + key.removeprefix("transformer."): array for key, array in read_tensors(GOLDEN / NAME).items()}
    ours = read_tensors(tmp_path)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(array, theirs[key]) for key, array in ours.items())
    config, original = read_json(tmp_path / "config.json"), read_json(GOLDEN / NAME / "config.json")
    assert config["architectures"] == ["OpenAIGPTLMHeadModel" if prefix else "OpenAIGPTModel"]
    assert {key for key in config.keys() & original.keys() if config[key] != original[key]} <= {"architectures"}
    assert original.keys() - config.keys() <= OPENAI_GPT.harmless
    again = model_class.from_preset(tmp_path)
    assert model_config(again) == model_config(model)
    inputs, _ = expected_of(NAME)
    same(again(inputs), model(inputs), tolerance=0)
    assert np.array_equal(getattr(again, "backbone", again).tokenizer(TEXTS)["token_ids"], inputs["token_ids"])


@pytest.mark.one_backend
def test_a_saved_model_keeps_its_tokenizer(tmp_path):
    lm, (inputs, _) = GPT2CausalLM.from_preset(GOLDEN / NAME), expected_of(NAME)
    lm.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.backbone.config == lm.backbone.config
    same(loaded(loaded.tokenizer(TEXTS)), lm(inputs), tolerance=0)


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
        renamed(lambda name: name.removeprefix("transformer.")),
        lambda t: t | {"lm_head.weight": t["transformer.tokens_embed.weight"]},
    ],
)
def test_names_of_other_versions(folder, change):
    inputs, expected = expected_of(NAME)
    path = folder(change, n_ctx=40, n_special=0, predict_special_tokens=True, tie_word_embeddings=..., eos_token_id=...)
    same(GPT2.from_preset(path)(inputs)["sequence_output"], expected["sequence_output"], tolerance=2e-5)
    same(GPT2CausalLM.from_preset(path)(inputs)["logits"][..., ::8], expected["logits"], tolerance=5e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, r"model_type 'gpt2' or 'openai-gpt' in .*; got 'bert'"),
        ({"model_type": "gpt2"}, r"entries whose meaning is known.*got \['afn'\]"),
        ({"activation_function": "gelu"}, r"entries whose meaning is known.*got \['activation_function'\]"),
        ({"afn": "tanh"}, r"afn in .*to be one of \['gelu', 'relu', 'silu', 'swish'\]; got 'tanh'"),
        ({"eos_token_id": 3}, r"eos_token_id=None.*got 3"),
        ({"tie_word_embeddings": False}, r"tie_word_embeddings=True.*got False"),
        ({"n_head": 3}, r"num_heads to divide hidden_dim; got 3 and 16"),
        ({"n_layer": 1}, r"transformer\.h\.1.* is unused"),
        ({"n_layer": 3}, r"transformer\.h\.2.* is missing"),
        ({"vocab_size": 89}, r"tokens_embed\.weight has shape \(90, 16\), not \(89, 16\)"),
        ({"n_positions": 41}, r"positions_embed\.weight has shape \(40, 16\), not \(41, 16\)"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, config, message):
    with pytest.raises(ValueError, match=message):
        GPT2.from_preset(folder(**config))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("transformer.h.1.ln_2.bias"), r"transformer\.h\.1\.ln_2\.bias is missing"),
        (lambda t: t.update({"transformer.ln_f.weight": np.ones(16, "float32")}), r"ln_f\.weight is unused"),
        (
            lambda t: t.update({"lm_head.weight": t["transformer.tokens_embed.weight"] + 1}),
            r"lm_head\.weight differs from transformer\.tokens_embed\.weight, to which it is tied",
        ),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, change, message):
    def edit(tensors):
        change(tensors)

    with pytest.raises(ValueError, match=message):
        GPT2CausalLM.from_preset(folder(edit))


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
        plain = GPT2Config(**OPENAI_GPT.read(folder())[0])
        changed = GPT2Config(**OPENAI_GPT.read(folder(**{name: value}))[0])
        assert changed == dataclasses.replace(plain, **{field: value})


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    config = read_json(GOLDEN / NAME / "config.json")
    fields, _ = OPENAI_GPT.read(folder(**{key: ... for key in config.keys() - {"model_type"}}))
    first = {"norm_first": False, "max_sequence_length": 512, "end_token_id": -1}
    assert GPT2Config(**fields) == GPT2Config(40478, 12, 12, 768, **first)


@pytest.mark.one_backend
def test_a_model_that_is_neither_is_not_saved_as_one_of_them(tmp_path):
    sizes = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    with pytest.raises(
        ValueError, match=r"what one of these formats implies: .*'openai-gpt'.*got .*'end_token_id': 19"
    ):
        GPT2(GPT2Config(**sizes, norm_first=False)).save_to_preset(tmp_path)
    GPT2(GPT2Config(**sizes, norm_first=False, end_token_id=-1)).save_to_preset(tmp_path)
    assert read_json(tmp_path / "config.json")["model_type"] == "openai-gpt"
