"""GPT-2 in Hugging Face's layout: computed as there, to five digits, or refused by the name of what is wrong."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib import GPT2, Bert, GPT2CausalLM, GPT2Config
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.huggingface.gpt import GPT2 as FORMAT
from course_lib.models.openai_gpt import OpenAIGPT

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FOLDERS = ["gpt2", "gpt2-as-published", "gpt2-causal-lm"]
TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "naïve 狗 ☕<|endoftext|>Once"]


@pytest.mark.one_backend
def test_the_golden_folders_are_what_they_should_be():
    published = read_tensors(GOLDEN / "gpt2-as-published")
    assert published["h.1.attn.bias"].shape == (1, 1, 40, 40) and "h.0.attn.masked_bias" in published
    assert not any(name.startswith(("transformer.", "lm_head.")) for name in published)
    assert all(name.startswith("transformer.") for name in read_tensors(GOLDEN / "gpt2-causal-lm"))
    names = {path.name for path in (GOLDEN / "gpt2-as-published").iterdir()}
    assert {"vocab.json", "merges.txt"} <= names and "tokenizer.json" not in names


@pytest.mark.parametrize("name", FOLDERS)
def test_computes_what_hugging_face_computes(name, expected_of, at_tokens):
    inputs, expected = expected_of(name)
    mask = inputs["padding_mask"]
    lm = GPT2CausalLM.from_preset(GOLDEN / name)
    gpt2 = GPT2.from_preset(GOLDEN / name)
    outputs = compiled(lambda inputs: gpt2(inputs, return_hidden_states=True, return_attention=True))(inputs)
    *states, last = [to_numpy(state) for state in outputs["hidden_states"]]
    last = gpt2.decoder.norm(last)  # Hugging Face's last has had the norm
    for output in (outputs["sequence_output"], last):
        same(at_tokens(output, mask), at_tokens(expected["sequence_output"], mask), tolerance=2e-5)
    same(at_tokens(states, mask), at_tokens(expected["hidden_states"], mask), tolerance=2e-5)
    same(at_tokens(outputs["attention"], mask, heads=True), at_tokens(expected["attention"], mask, heads=True))
    same(at_tokens(compiled(lm)(inputs), mask)[..., ::8], at_tokens(expected["logits"], mask), tolerance=5e-5)
    assert lm.generate(TEXTS[0], max_new_tokens=8, ignore_end=True) == lm.tokenizer.decode(expected["greedy"].tolist())


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name, expected_of):
    inputs, _ = expected_of(name)
    batch = GPT2.from_preset(GOLDEN / name).tokenizer(TEXTS)
    assert all(np.array_equal(batch[key], inputs[key]) for key in inputs)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("model_class", [GPT2, GPT2CausalLM])
def test_saved_as_it_was_published(name, model_class, tmp_path, expected_of):
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
    assert not {"auto_map", "quantization_config"} & config.keys()  # AutoConfig would look into a null
    assert config["architectures"] == [{"": "GPT2Model"}.get(prefix, "GPT2LMHeadModel")]
    changed = {key for key in config.keys() & original.keys() if config[key] != original[key]}
    assert changed <= {"architectures", "n_inner"} and config["n_inner"] == model.config.intermediate_dim
    assert not (original.keys() - config.keys()) & FORMAT.config_table.fields.keys()
    again = model_class.from_preset(tmp_path)
    assert again.config == model.config
    inputs, _ = expected_of(name)
    same(again(inputs), model(inputs), tolerance=0)
    assert np.array_equal(again.tokenizer(TEXTS)["token_ids"], inputs["token_ids"])


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
    path = folder(name, change)
    model, original = GPT2CausalLM.from_preset(path), GPT2CausalLM.from_preset(GOLDEN / name)
    same(model.get_weights(), original.get_weights(), tolerance=0)


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(folder, dtype):
    import ml_dtypes  # noqa: F401  a dependency of TensorFlow and of JAX; it teaches NumPy bfloat16

    path = folder("gpt2", lambda tensors: {name: array.astype(np.dtype(dtype)) for name, array in tensors.items()})
    gpt2 = GPT2.from_preset(path)
    assert {weight.dtype for weight in gpt2.weights} == {"float32"}
    same(gpt2.get_weights(), GPT2.from_preset(GOLDEN / "gpt2").get_weights(), tolerance=0.01)


ATTENTION = "h.1.attn.c_attn"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda t: t.pop(f"{ATTENTION}.weight"), ["for GPT2CausalLM;", f"transformer.{ATTENTION}.weight is missing."]),
        (
            lambda t: t.update({f"{ATTENTION}.weight": t[f"{ATTENTION}.weight"].T.copy()}),
            [f"transformer.{ATTENTION}.weight", "(24, 8)", "(8, 24)"],
        ),
        (
            lambda t: t.update({f"{ATTENTION}.bias": t[f"{ATTENTION}.bias"][:-1]}),
            [f"{ATTENTION}.bias", "(23,)", "(24,)"],
        ),
        (lambda t: t.update({"h.0.attn.rotary": t["wpe.weight"]}), ["transformer.h.0.attn.rotary is unused"]),
        (lambda t: t.update({"h.2.ln_1.weight": t["ln_f.weight"]}), ["transformer.h.2.ln_1.weight is unused"]),
        (lambda t: t.update({"lm_head.weight": t["wte.weight"] + 1}), ["lm_head.weight differs from", "wte.weight"]),
        (lambda t: t.update({"wte.weight": t["wte.weight"].astype("int8")}), ["wte.weight", "int8"]),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, refused, change, facts):
    with refused(*facts):
        GPT2CausalLM.from_preset(folder("gpt2", change))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"hidden_size": 16}, ["hidden_size", "n_embd", "differ"]),
        ({"add_cross_attention": True}, ["add_cross_attention", "False", "True"]),
        ({"tie_word_embeddings": False}, ["tie_word_embeddings", "True", "False"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config", "None"]),
        ({"activation_function": "xielu"}, ["activation_function", "gelu_new", "'xielu'"]),
        ({"n_head": 3}, ["num_heads", "3", "8"]),
        ({"n_inner": 16}, ["c_fc.weight", "(8, 12)", "(8, 16)"]),
        ({"n_inner": 0}, ["intermediate_dim", "0"]),
        ({"n_layer": 1}, ["transformer.h.1", "is unused"]),
        ({"n_layer": 3}, ["transformer.h.2", "is missing"]),
        ({"vocab_size": 270}, ["wte.weight", "(271, 8)", "(270, 8)"]),
        ({"n_positions": 41}, ["wpe.weight", "(40, 8)", "(41, 8)"]),
        ({"attn_pdrop": 1.0}, ["attention_dropout", "1.0"]),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, refused, config, facts):
    with refused(*facts):
        GPT2.from_preset(folder("gpt2", **config))


@pytest.mark.one_backend
@pytest.mark.parametrize("model_class", [Bert, GPT2, GPT2CausalLM, OpenAIGPT])
def test_a_folder_of_another_model_is_met_with_the_class_that_loads_it(model_class, refused):
    format_ = getattr(model_class, "backbone_class", model_class).checkpoint_format
    for name, right in (("bert", "Bert"), ("gpt2", "GPT2"), ("openai-gpt", "OpenAIGPT")):
        if name != format_.model_type:
            with refused(f"'{format_.model_type}'", f"'{name}'", f"with {right} "):
                model_class.from_preset(GOLDEN / name)


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
        plain = GPT2Config(**FORMAT.read(folder("gpt2"))[0])
        changed = GPT2Config(**FORMAT.read(folder("gpt2", **{name: value}))[0])
        assert changed == dataclasses.replace(plain, **{field: value})


@pytest.mark.one_backend
def test_an_entry_has_the_second_name_that_it_has_in_transformers(folder):
    plain, _ = FORMAT.read(folder("gpt2"))
    fields, _ = FORMAT.read(folder("gpt2", n_layer=..., num_hidden_layers=2, n_embd=..., hidden_size=8, notes="any"))
    assert fields == plain


@pytest.mark.one_backend
def test_a_model_without_an_end_token_has_none_when_it_comes_back(folder, tmp_path):
    gpt2 = GPT2.from_preset(folder("gpt2", bos_token_id=None, eos_token_id=None))
    assert gpt2.config.end_token_id == -1
    gpt2.save_to_preset(tmp_path / "again")
    config = read_json(tmp_path / "again" / "config.json")
    assert config["bos_token_id"] is config["eos_token_id"] is None
    assert GPT2.from_preset(tmp_path / "again").config == gpt2.config


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    config = read_json(GOLDEN / "gpt2-as-published" / "config.json")
    path = folder("gpt2-as-published", **{key: ... for key in config.keys() - {"n_layer", "n_head", "n_embd"}})
    fields, _ = FORMAT.read(path)
    assert GPT2Config(**fields) == GPT2Config(50257, 2, 2, 8)
    assert (fields["end_token_id"], fields["max_sequence_length"]) == (50256, 1024)


@pytest.mark.one_backend
def test_low_rank_adapters_are_merged_when_saved(tmp_path):
    gpt2 = GPT2.from_preset(GOLDEN / "gpt2")
    attention = gpt2.decoder.blocks[0].attention
    before = {part: to_numpy(getattr(attention, part).kernel) for part in ("query", "key", "value")}
    for part in ("query", "value"):
        layer = getattr(attention, part)
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    gpt2.save_to_preset(tmp_path)
    again = GPT2.from_preset(tmp_path).decoder.blocks[0].attention
    for part, kernel in before.items():
        same(getattr(again, part).kernel, getattr(attention, part).kernel)
        assert (np.abs(to_numpy(getattr(again, part).kernel) - kernel).max() > 0.01) == (part != "key")


@pytest.mark.one_backend
def test_the_dtype_is_that_asked_for():
    lm = GPT2CausalLM.from_preset(GOLDEN / "gpt2-causal-lm", dtype="mixed_bfloat16")
    assert {layer.dtype_policy.name for layer in lm._flatten_layers()} == {"mixed_bfloat16"}
    assert keras.config.dtype_policy().name == "float32"
