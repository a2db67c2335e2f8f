"""GPT-2 in Hugging Face's layout: computed as there, to five digits, or refused by the name of what is wrong.

The folders `golden/gpt2*` were made by `golden/make.py`, with `transformers`.
"""

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import safetensors.numpy
from layer_checks import compiled, same, to_numpy

from course_lib import GPT2, Bert, GPT2CausalLM, GPT2Config
from course_lib.checkpoints import huggingface_gpt
from course_lib.checkpoints.files import read_json, read_tensors

GOLDEN = pathlib.Path(__file__).parent / "golden"
FOLDERS = ["gpt2", "gpt2-as-published", "gpt2-causal-lm"]
TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "naïve 狗 ☕<|endoftext|>Once"]


def expected_of(name):
    with np.load(GOLDEN / name / "expected.npz") as arrays:
        arrays = dict(arrays)
    return {key: arrays.pop(key) for key in ("token_ids", "padding_mask")}, arrays


@pytest.fixture
def folder(tmp_path):
    """Copies a golden folder, and changes its tensors and entries of its config (`...` takes one away)."""

    def copy(name, change=None, **config):
        path = shutil.copytree(GOLDEN / name, tmp_path / "checkpoint", dirs_exist_ok=True)
        if config:
            old = read_json(path / "config.json")
            (path / "config.json").write_text(json.dumps({k: v for k, v in (old | config).items() if v is not ...}))
        if change is not None:
            tensors = read_tensors(path)
            safetensors.numpy.save_file(change(tensors) or tensors, path / "model.safetensors")
        return path

    return copy


@pytest.mark.one_backend
def test_the_golden_folders_are_what_they_should_be():
    published = read_tensors(GOLDEN / "gpt2-as-published")
    assert published["h.1.attn.bias"].shape == (1, 1, 40, 40) and "h.0.attn.masked_bias" in published
    assert not any(name.startswith(("transformer.", "lm_head.")) for name in published)
    assert all(name.startswith("transformer.") for name in read_tensors(GOLDEN / "gpt2-causal-lm"))
    names = {path.name for path in (GOLDEN / "gpt2-as-published").iterdir()}
    assert {"vocab.json", "merges.txt"} <= names and "tokenizer.json" not in names


@pytest.mark.parametrize("name", FOLDERS)
def test_computes_what_hugging_face_computes(name):
    inputs, expected = expected_of(name)
    lm = GPT2CausalLM.from_preset(GOLDEN / name)
    gpt2 = GPT2.from_preset(GOLDEN / name)
    outputs = compiled(lambda inputs: gpt2(inputs, return_hidden_states=True, return_attention=True))(inputs)
    same(outputs["sequence_output"], expected["sequence_output"], tolerance=2e-5)
    *states, last = [to_numpy(state) for state in outputs["hidden_states"]]
    same(np.stack(states), expected["hidden_states"], tolerance=2e-5)
    same(gpt2.decoder.norm(last), expected["sequence_output"], tolerance=2e-5)  # Hugging Face's last has had the norm
    same(np.stack([to_numpy(weights) for weights in outputs["attention"]]), expected["attention"])
    same(compiled(lm)(inputs)["logits"][..., ::8], expected["logits"], tolerance=5e-5)
    assert lm.generate(TEXTS[0], max_new_tokens=8, ignore_end=True) == lm.tokenizer.decode(expected["greedy"].tolist())


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name):
    inputs, _ = expected_of(name)
    batch = GPT2.from_preset(GOLDEN / name).tokenizer(TEXTS)
    assert all(np.array_equal(batch[key], inputs[key]) for key in inputs)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("model_class", [GPT2, GPT2CausalLM])
def test_saved_as_it_was_published(name, model_class, tmp_path):
    """What `save_to_preset` writes has the tensors, to the bit, and the config that Hugging Face wrote."""
    model = model_class.from_preset(GOLDEN / name)
    model.save_to_preset(tmp_path)
    prefix = "transformer." if model_class is GPT2CausalLM else ""
    theirs = {
        prefix + key.removeprefix("transformer."): array
        for key, array in read_tensors(GOLDEN / name).items()
        if not key.endswith((".attn.bias", ".attn.masked_bias"))
    }
    ours = read_tensors(tmp_path)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(array, theirs[key]) for key, array in ours.items())
    config, original = read_json(tmp_path / "config.json"), read_json(GOLDEN / name / "config.json")
    assert config["architectures"] == [{"": "GPT2Model"}.get(prefix, "GPT2LMHeadModel")]
    changed = {key for key in config.keys() & original.keys() if config[key] != original[key]}
    assert changed <= {"architectures", "n_inner"} and config["n_inner"] == model_config(model).intermediate_dim
    assert original.keys() - config.keys() <= huggingface_gpt.GPT2.harmless
    again = model_class.from_preset(tmp_path)
    assert model_config(again) == model_config(model)
    inputs, _ = expected_of(name)
    same(again(inputs), model(inputs), tolerance=0)
    tokenizer = getattr(again, "backbone", again).tokenizer
    assert np.array_equal(tokenizer(TEXTS)["token_ids"], inputs["token_ids"])


def model_config(model):
    return getattr(model, "backbone", model).config


def renamed(function):
    return lambda tensors: {function(name): array for name, array in tensors.items()}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt2-as-published", renamed(lambda name: "transformer." + name)),
        ("gpt2-causal-lm", renamed(lambda name: name.removeprefix("transformer."))),
        ("gpt2-causal-lm", lambda t: t | {"lm_head.weight": t["transformer.wte.weight"]}),
        ("gpt2-as-published", lambda t: t | {"lm_head.weight": t["wte.weight"]}),
        ("gpt2-causal-lm", lambda t: t | {"transformer.h.1.attn.bias": np.ones((1, 1, 40, 40), "uint8")}),
    ],
)
def test_names_of_other_versions(folder, name, change):
    inputs, expected = expected_of(name)
    path = folder(name, change)
    same(GPT2.from_preset(path)(inputs)["sequence_output"], expected["sequence_output"], tolerance=2e-5)
    same(GPT2CausalLM.from_preset(path)(inputs)["logits"][..., ::8], expected["logits"], tolerance=5e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(folder, dtype):
    import ml_dtypes  # noqa: F401  a dependency of TensorFlow and of JAX; it teaches NumPy bfloat16

    inputs, expected = expected_of("gpt2")
    path = folder("gpt2", lambda tensors: {name: array.astype(np.dtype(dtype)) for name, array in tensors.items()})
    gpt2 = GPT2.from_preset(path)
    assert {weight.dtype for weight in gpt2.weights} == {"float32"}
    same(gpt2(inputs)["sequence_output"], expected["sequence_output"], tolerance=0.2)


ATTENTION = "h.1.attn.c_attn"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{ATTENTION}.weight"), rf"for GPT2CausalLM; transformer\.{ATTENTION}\.weight is missing\."),
        (
            lambda t: t.update({f"{ATTENTION}.weight": t[f"{ATTENTION}.weight"].T.copy()}),
            rf"transformer\.{ATTENTION}\.weight has shape \(24, 8\), not \(8, 24\)\.",
        ),
        (
            lambda t: t.update({f"{ATTENTION}.bias": t[f"{ATTENTION}.bias"][:-1]}),
            rf"{ATTENTION}\.bias has shape \(23,\), not \(24,\)\.",
        ),
        (lambda t: t.update({"h.0.attn.rotary": t["wpe.weight"]}), r"transformer\.h\.0\.attn\.rotary is unused"),
        (lambda t: t.update({"h.2.ln_1.weight": t["ln_f.weight"]}), r"transformer\.h\.2\.ln_1\.weight is unused"),
        (
            lambda t: t.update({"lm_head.weight": t["wte.weight"] + 1}),
            r"lm_head\.weight differs from transformer\.wte\.weight, to which it is tied",
        ),
        (lambda t: t.update({"wte.weight": t["wte.weight"].astype("int8")}), r"wte\.weight holds int8, not floats"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, change, message):
    def edit(tensors):
        change(tensors)

    with pytest.raises(ValueError, match=message):
        GPT2CausalLM.from_preset(folder("gpt2", edit))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_theta": 10_000}, r"entries whose meaning is known.*got \['rope_theta'\]"),
        ({"model_type": "bert"}, r"model_type 'gpt2'.*got 'bert'"),
        ({"add_cross_attention": True}, r"add_cross_attention=False.*got True"),
        ({"tie_word_embeddings": False}, r"tie_word_embeddings=True.*got False"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config=None"),
        ({"activation_function": "xielu"}, r"activation_function.*to be one of.*gelu_new.*got 'xielu'"),
        ({"n_head": 3}, r"num_heads to divide hidden_dim; got 3 and 8"),
        ({"n_inner": 16}, r"c_fc\.weight has shape \(8, 12\), not \(8, 16\)"),
        ({"n_inner": 0}, r"intermediate_dim to be a positive integer; got 0"),
        ({"n_layer": 1}, r"transformer\.h\.1.* is unused"),
        ({"n_layer": 3}, r"transformer\.h\.2.* is missing"),
        ({"vocab_size": 270}, r"wte\.weight has shape \(271, 8\), not \(270, 8\)"),
        ({"n_positions": 41}, r"wpe\.weight has shape \(40, 8\), not \(41, 8\)"),
        ({"attn_pdrop": 1.0}, r"attention_dropout in \[0, 1\); got 1.0"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, config, message):
    with pytest.raises(ValueError, match=message):
        GPT2.from_preset(folder("gpt2", **config))


@pytest.mark.one_backend
def test_a_checkpoint_of_another_model_is_refused_both_ways():
    with pytest.raises(ValueError, match=r"model_type 'gpt2'.*got 'bert'"):
        GPT2.from_preset(GOLDEN / "bert")
    with pytest.raises(ValueError, match=r"model_type 'bert'.*got 'gpt2'"):
        Bert.from_preset(GOLDEN / "gpt2")


@pytest.mark.one_backend
def test_every_entry_of_the_config_has_its_field(folder):
    entries = {
        "n_inner": ("intermediate_dim", 12),
        "embd_pdrop": ("embedding_dropout", 0.2),
        "resid_pdrop": ("dropout", 0.3),
        "attn_pdrop": ("attention_dropout", 0.4),
        "activation_function": ("activation", "silu"),
        "layer_norm_epsilon": ("layer_norm_epsilon", 0.01),
        "scale_attn_weights": ("scale_attention", False),
        "scale_attn_by_inverse_layer_idx": ("scale_attention_by_layer", True),
        "initializer_range": ("initializer_range", 0.5),
        "eos_token_id": ("end_token_id", 7),
    }
    for name, (field, value) in entries.items():
        plain = GPT2Config(**huggingface_gpt.GPT2.read(folder("gpt2"))[0])
        changed = GPT2Config(**huggingface_gpt.GPT2.read(folder("gpt2", **{name: value}))[0])
        assert changed == dataclasses.replace(plain, **{field: value})


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    config = read_json(GOLDEN / "gpt2-as-published" / "config.json")
    path = folder("gpt2-as-published", **{key: ... for key in config.keys() - {"n_layer", "n_head", "n_embd"}})
    fields, _ = huggingface_gpt.GPT2.read(path)
    assert GPT2Config(**fields) == GPT2Config(50257, 2, 2, 8)
    assert (fields["end_token_id"], fields["max_sequence_length"]) == (50256, 1024)


@pytest.mark.one_backend
def test_low_rank_adapters_are_merged_when_saved(tmp_path):
    gpt2 = GPT2.from_preset(GOLDEN / "gpt2")
    for part in ("query", "value"):
        layer = getattr(gpt2.decoder.blocks[0].attention, part)
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    gpt2.save_to_preset(tmp_path)
    inputs, expected = expected_of("gpt2")
    outputs = gpt2(inputs)
    same(GPT2.from_preset(tmp_path)(inputs), outputs)
    assert np.abs(to_numpy(outputs["sequence_output"]) - expected["sequence_output"]).max() > 0.01


@pytest.mark.one_backend
def test_the_dtype_is_that_asked_for():
    lm = GPT2CausalLM.from_preset(GOLDEN / "gpt2-causal-lm", dtype="mixed_bfloat16")
    assert {layer.dtype_policy.name for layer in lm._flatten_layers()} == {"mixed_bfloat16"}
    assert keras.config.dtype_policy().name == "float32"
