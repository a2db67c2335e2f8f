"""Llama in Hugging Face's layout and in GGUF: computed as there, or refused by the name of what is wrong."""

import dataclasses
import json
import pathlib

import gguf
import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib import GPT2, Llama, LlamaCausalLM
from course_lib.checkpoints.files import read_json, read_tensors

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FOLDERS = ["llama", "llama-causal-lm", "llama-tied-in-shards"]
TEXTS = ["The cat sat on my mat in 2024, didn't it?", "a dog", "naïve 狗 ☕ 12<|im_end|>\nOnce"]


@pytest.mark.parametrize("name", FOLDERS)
def test_computes_what_hugging_face_computes(name, expected_of, at_tokens):
    inputs, expected = expected_of(name)
    mask, llama = inputs["padding_mask"], Llama.from_preset(GOLDEN / name)
    outputs = compiled(lambda inputs: llama(inputs, return_hidden_states=True, return_attention=True))(inputs)
    states = [to_numpy(state) for state in outputs["hidden_states"]][:-1]
    same(at_tokens(outputs["sequence_output"], mask), at_tokens(expected["sequence_output"], mask), tolerance=2e-5)
    same(at_tokens(states, mask), at_tokens(expected["hidden_states"], mask), tolerance=2e-5)
    same(at_tokens(outputs["attention"], mask, heads=True), at_tokens(expected["attention"], mask, heads=True))
    if name != "llama":  # which has no head
        lm = LlamaCausalLM.from_preset(GOLDEN / name)
        same(at_tokens(compiled(lm)(inputs), mask)[..., ::8], at_tokens(expected["logits"], mask), tolerance=1e-4)
        found = lm.generate(TEXTS[0], max_new_tokens=8, ignore_end=True)
        assert found == lm.tokenizer.decode(expected["greedy"].tolist())


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name, expected_of):
    inputs, _ = expected_of(name)
    tokenizer = Llama.from_preset(GOLDEN / name).tokenizer
    batch = tokenizer(TEXTS)
    assert all(np.array_equal(batch[key], inputs[key]) for key in inputs)
    assert tokenizer.write_chat([{"role": "user", "content": "Hi"}]).endswith("assistant\n")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "model_class"),
    [("llama", Llama), ("llama-causal-lm", LlamaCausalLM), ("llama-tied-in-shards", LlamaCausalLM)],
)
def test_saved_as_it_was_published(name, model_class, tmp_path):
    model = model_class.from_preset(GOLDEN / name)
    model.save_to_preset(tmp_path)
    ours, theirs = read_tensors(tmp_path), read_tensors(GOLDEN / name)
    assert ours.keys() == theirs.keys() and all(np.array_equal(array, theirs[key]) for key, array in ours.items())
    config, original = (read_json(folder / "config.json") for folder in (tmp_path, GOLDEN / name))
    assert config["architectures"] == original["architectures"]
    again = model_class.from_preset(tmp_path)
    assert again.config == model.config
    assert again.tokenizer.encode(TEXTS[0]) == model.tokenizer.encode(TEXTS[0])
    assert again.tokenizer.chat_template == model.tokenizer.chat_template


@pytest.mark.one_backend
def test_a_backbone_is_loaded_from_its_language_model(expected_of):
    inputs, expected = expected_of("llama-causal-lm")
    llama = Llama.from_preset(GOLDEN / "llama-causal-lm")
    ours, theirs = (output[inputs["padding_mask"] > 0] for output in (
        to_numpy(llama(inputs)["sequence_output"]), expected["sequence_output"]))  # fmt: skip
    same(ours, theirs, tolerance=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"attention_bias": True}, ["attention_bias must be False"]),
        ({"mlp_bias": True}, ["mlp_bias must be False"]),
        ({"hidden_act": "xielu"}, ["hidden_act", "xielu"]),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, ["linear", "llama3", "yarn"]),
        ({"rope_parameters": ..., "rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["linear", "dynamic"]),
        ({"eos_token_id": [2, 999]}, ["stop_token_ids", "(999,)"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ({"num_key_value_heads": 3}, ["num_key_value_heads", "3"]),
        ({"model_type": "mistral"}, ["'llama'", "'mistral'"]),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(folder, refused, config, facts):
    with refused(*facts):
        LlamaCausalLM.from_preset(folder("llama-causal-lm", **config))


@pytest.mark.one_backend
def test_several_tokens_may_end_a_text(folder, tmp_path):
    path = folder("llama-causal-lm", eos_token_id=[2, 7])
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9], "temperature": 0.6}))
    lm = LlamaCausalLM.from_preset(path)
    assert (lm.config.end_token_id, lm.config.stop_token_ids) == (2, (7, 9))
    lm.save_to_preset(tmp_path / "saved")
    assert read_json(tmp_path / "saved" / "config.json")["eos_token_id"] == [2, 7, 9]
    assert LlamaCausalLM.from_preset(tmp_path / "saved").config == lm.config

    prompt = lm.tokenizer.encode(TEXTS[0])
    ids = lm.generate(prompt, 6, ignore_end=True)
    for stop in ids[1], ids[3]:
        stopping = LlamaCausalLM.from_preset(folder("llama-causal-lm", eos_token_id=[2, stop]))
        assert stopping.generate(prompt, 6) == ids[: ids.index(stop)]


@pytest.mark.one_backend
def test_older_and_newer_entries_of_rotary_positions(folder):
    scaling = {"rope_type": "linear", "factor": 4.0}
    new = Llama.from_preset(folder("llama-causal-lm", rope_parameters=scaling | {"rope_theta": 70.0})).config
    old = Llama.from_preset(
        folder("llama-causal-lm", rope_parameters=..., rope_theta=70.0, rope_scaling=scaling)
    ).config
    assert new == old and (new.rotary_base, new.rotary_scaling) == (70.0, scaling)
    default = {"rope_type": "default", "rope_theta": 70.0}
    assert Llama.from_preset(folder("llama-causal-lm", rope_parameters=default)).config.rotary_scaling is None


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda t: t.pop("lm_head.weight"), ["lm_head.weight is missing"]),
        (
            lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(24, "float32")}),
            ["q_proj.bias is unused"],
        ),
        (lambda t: t.pop("model.layers.1.mlp.gate_proj.weight"), ["gate_proj.weight is missing"]),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, refused, change, facts):
    with refused(*facts):
        LlamaCausalLM.from_preset(folder("llama-causal-lm", change))


@pytest.mark.one_backend
def test_the_folder_of_another_model_names_its_class(refused):
    with refused("'gpt2'", "'llama'", "Llama"):
        GPT2.from_preset(GOLDEN / "llama")


# GGUF


@pytest.fixture
def as_gguf(tmp_path):
    """Writes the golden model with a tied head as llama.cpp's converter does; `changes` are of the metadata."""

    def write(tensors=None, dtype=None, **changes):
        model = LlamaCausalLM.from_preset(GOLDEN / "llama-tied-in-shards")
        config, tokenizer = model.config, model.tokenizer
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
        values = {
            "llama.block_count": config.num_layers,
            "llama.context_length": config.max_sequence_length,
            "llama.embedding_length": config.hidden_dim,
            "llama.feed_forward_length": config.intermediate_dim,
            "llama.attention.head_count": config.num_heads,
            "llama.attention.head_count_kv": config.num_key_value_heads,
            "llama.attention.layer_norm_rms_epsilon": config.rms_norm_epsilon,
            "llama.rope.freq_base": config.rotary_base,
            "llama.rope.dimension_count": config.head_dim,
            "llama.rope.scaling.type": "linear",
            "llama.rope.scaling.factor": config.rotary_scaling["factor"],
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": list(tokenizer.vocabulary),
            "tokenizer.ggml.token_type": [3] * 3 + [1] * (tokenizer.vocabulary_size - 3),
            "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer.merges],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": tokenizer.chat_template,
        } | changes
        for key, value in values.items():
            if value is None:
                continue
            kind = gguf.GGUFValueType.get_type(value)
            writer.add_key_value(
                key, value, kind, gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
            )
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_layers)
        for name, array in read_tensors(GOLDEN / "llama-tied-in-shards").items():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                heads = config.num_heads if "q_proj" in name else config.num_key_value_heads
                rows, width = array.shape
                array = array.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), array)
        for name, array in (tensors or {}).items():
            writer.add_tensor(name, array, raw_dtype=dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path

    return write


def test_a_gguf_file_computes_what_its_original_computes(as_gguf, expected_of):
    """llama.cpp turns neighbours as pairs: rows of queries and keys are put back into Hugging Face's order."""
    inputs, _ = expected_of("llama-tied-in-shards")
    original, lm = (LlamaCausalLM.from_preset(path) for path in (GOLDEN / "llama-tied-in-shards", as_gguf()))
    assert dataclasses.asdict(lm.config) == dataclasses.asdict(original.config)
    same(lm(inputs), original(inputs), tolerance=0)
    assert lm.tokenizer.encode(TEXTS[2]) == original.tokenizer.encode(TEXTS[2])
    assert lm.tokenizer.chat_template == original.tokenizer.chat_template
    talkative = as_gguf(**{"tokenizer.ggml.eot_token_id": 5})
    assert (lm.config.stop_token_ids, LlamaCausalLM.from_preset(talkative).config.stop_token_ids) == ((), (5,))
    same(Llama.from_preset(as_gguf())(inputs), original.backbone(inputs), tolerance=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"architecture": "qwen2"}, ["architecture 'llama'", "'qwen2'"]),
        ({"llama.rope.scaling.type": "yarn"}, ["scaling.type", "'yarn'"]),
        ({"llama.rope.dimension_count": 2}, ["rope.dimension_count", "4, not 2"]),
        ({"llama.expert_count": 4}, ["no rule for llama.expert_count"]),
        ({"llama.block_count": None}, ["llama.block_count is missing"]),
        ({"tokenizer.ggml.model": "llama"}, ["tokenizer.ggml.model", "'gpt2'", "'llama'"]),
        ({"tokenizer.ggml.pre": "qwen2"}, ["pre-tokenizer", "smollm", "'qwen2'"]),
        ({"tokenizer.ggml.add_bos_token": True}, ["add_bos_token must be False"]),
        ({"tensors": {"rope_freqs.weight": np.ones(2, "float32")}}, ["rope_freqs.weight"]),
        ({"tensors": {"blk.0.attn_q.bias": np.ones(16, "float32")}}, ["self_attn.q_proj.bias is unused"]),
    ],
)
def test_a_gguf_file_that_holds_something_else_is_refused(as_gguf, refused, changes, facts):
    with refused(*facts):
        LlamaCausalLM.from_preset(as_gguf(**changes))


@pytest.mark.one_backend
def test_weights_that_gguf_cannot_read_are_refused(as_gguf, refused, monkeypatch):
    def dequantize(data, kind):
        raise NotImplementedError(kind)

    monkeypatch.setattr(gguf.quants, "dequantize", dequantize)
    with refused("dequantize", "token_embd.weight is of type F32"):
        LlamaCausalLM.from_preset(as_gguf())


@pytest.mark.one_backend
@pytest.mark.parametrize("kept", [0, 3, 40, 4_000, 20_000, -100])
def test_a_gguf_file_that_was_cut_short_is_refused(as_gguf, refused, kept):
    path = as_gguf() / "model.gguf"
    path.write_bytes(path.read_bytes()[:kept])
    with refused("whole GGUF file", "model.gguf"):
        LlamaCausalLM.from_preset(path.parent)


@pytest.mark.one_backend
def test_two_gguf_files_are_one_too_many(as_gguf, refused):
    folder = as_gguf()
    (folder / "other.gguf").write_bytes(b"GGUF")
    with refused("one GGUF file", "model.gguf", "other.gguf"):
        LlamaCausalLM.from_preset(folder)
