"""Adapters in files of their own: those of PEFT, against its outputs, and our own, there and back.

`tests/golden/make_lora.py` made the folders.
"""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy
from safetensors.numpy import load_file, save_file

from course_lib import GPT2, Bert, BertConfig, BertPretrainer, GPT2CausalLM, GPT2Config, TextClassifier, TokenClassifier
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM
from course_lib.training.adaptation import enable_lora, merge_lora
from course_lib.training.losses import CrossEntropy
from course_lib.training.peft import load_lora, save_lora

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SIZES = {"dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.2}
IDS = np.random.default_rng(0).integers(0, 8, (3, 9)).astype("int32")


def built(model):
    model.build()
    return model


def bert():
    keras.utils.set_random_seed(0)
    return built(Bert(BertConfig(8, 3, 2, 8, 12, 9, **SIZES)))


def gpt2():
    keras.utils.set_random_seed(0)
    return built(GPT2(GPT2Config(8, 3, 2, 8, 12, 9, embedding_dropout=0.0, **SIZES)))


MODELS = {
    "bert": bert,
    "text classifier": lambda: TextClassifier(bert(), ["a", "b"], pooling="mean", dropout=0.0),
    "token classifier": lambda: TokenClassifier(bert(), ["a", "b"], dropout=0.0),
    "gpt2": gpt2,
    "gpt2 classifier": lambda: TextClassifier(gpt2(), ["a", "b"], dropout=0.0),
    "language model": lambda: GPT2CausalLM(gpt2()),
}


def adapted(name, rank=2, alpha=6, projections=("query", "value")):
    """A model whose adapters and head are what training might make of them."""
    model = built(MODELS[name]())
    enable_lora(getattr(model, "backbone", model), rank, alpha, projections)
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def outputs(model, inputs=IDS):
    found = compiled(lambda inputs: model(inputs))(inputs)
    return found["sequence_output"] if isinstance(found, dict) else found


# PEFT's own files


@pytest.mark.parametrize(
    ("name", "base", "kind"), [("classifier", "classifier-of-texts", TextClassifier), ("gpt2", "gpt2", GPT2)]
)
def test_adapters_of_peft_compute_what_they_compute_there(name, base, kind):
    model, expected = kind.from_preset(GOLDEN / base), np.load(GOLDEN / f"peft-{name}" / "expected.npz")
    inputs = {key: expected[key].astype("int32") for key in expected.files if key != "output"}
    before = to_numpy(outputs(model, inputs))
    load_lora(model, GOLDEN / f"peft-{name}")
    is_token = expected["padding_mask"].astype(bool) if kind is GPT2 else slice(None)
    found = to_numpy(outputs(model, inputs))
    np.testing.assert_allclose(found[is_token], expected["output"][is_token], atol=2e-5)
    assert np.abs(found - before)[is_token].max() > 0.1


@pytest.mark.one_backend
def test_what_peft_wrote_is_written_again(tmp_path):
    model = TextClassifier.from_preset(GOLDEN / "classifier-of-texts")
    load_lora(model, GOLDEN / "peft-classifier")
    save_lora(model, tmp_path)
    theirs, ours = (load_file(path / "adapter_model.safetensors") for path in (GOLDEN / "peft-classifier", tmp_path))
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    query = "bert.encoder.layer.{}.attention.self.query".format
    assert config["r"] == 3 and config["rank_pattern"] == {query(1): 2}
    assert config["lora_alpha"] == pytest.approx(5 * 3**0.5)  # there divided by √R, here by R
    assert config["alpha_pattern"] == {query(0): pytest.approx(7 * 3**0.5), query(1): pytest.approx(5 * 2**0.5)}
    assert config["target_modules"] == ["attention.output.dense", "attention.self.query"]
    assert config["modules_to_save"] == ["classifier"] and config["task_type"] == "SEQ_CLS"


# Our own, there and back


@pytest.mark.parametrize("name", MODELS)
def test_adapters_come_back(name, tmp_path):
    model = adapted(name)
    save_lora(model, tmp_path / "adapters")
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    again = MODELS[name]()
    load_lora(again, tmp_path / "adapters")
    same(outputs(again), outputs(model), tolerance=1e-6)
    assert len(again.trainable_weights) == len(model.trainable_weights)
    for new, old in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(to_numpy(new), to_numpy(old), atol=1e-6, err_msg=old.path)


@pytest.mark.one_backend
def test_adapters_of_gpt2_are_one_of_its_fused_matrix(tmp_path):
    model = adapted("gpt2", projections=("query", "value", "output_projection"))
    save_lora(model, tmp_path)
    tensors, config = load_file(tmp_path / "adapter_model.safetensors"), json.loads(
        (tmp_path / "adapter_config.json").read_text()
    )  # fmt: skip
    name = "base_model.model.h.1.attn.c_attn.lora_{}.weight".format
    a, b, attention = tensors[name("A")], tensors[name("B")], model.decoder.blocks[1].attention
    assert a.shape == (4, 8) and b.shape == (24, 4)
    assert config["fan_in_fan_out"] and config["target_modules"] == ["attn.c_attn", "attn.c_proj"]
    scale = 6 / 2
    change = (scale * b @ a).T.reshape(8, 3, 8)  # (in, part, out)
    for place, part in enumerate((attention.query, attention.key, attention.value)):
        expected = to_numpy(part.lora_kernel_a) @ to_numpy(part.lora_kernel_b) * scale if part.lora_enabled else 0
        np.testing.assert_allclose(change[:, place], expected, atol=1e-6)
    ranks = {"attn.c_attn": 4, "attn.c_proj": 2}
    for module in (f"h.{index}.{end}" for index in range(3) for end in ranks):
        rank = config["rank_pattern"].get(module, config["r"])
        assert rank == ranks[module[4:]] and config["alpha_pattern"].get(module, config["lora_alpha"]) == scale * rank


@pytest.mark.one_backend
def test_adapters_in_some_blocks_alone_are_named_in_full(tmp_path):
    model = bert()
    for weight in model.trainable_weights:
        weight.trainable = False
    model.encoder.blocks[1].attention.query.enable_lora(2)
    save_lora(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["encoder.layer.1.attention.self.query"]


def test_adapters_that_were_loaded_learn_and_are_merged(tmp_path):
    save_lora(adapted("text classifier"), tmp_path)
    model = MODELS["text classifier"]()
    load_lora(model, tmp_path)
    expected = outputs(model)
    before = [to_numpy(weight) for weight in model.weights]
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy())
    model.fit(IDS, np.array([0, 1, 0]), verbose=0)
    learning = {id(weight) for weight in model.trainable_weights}
    for weight, old in zip(model.weights, before, strict=True):
        assert (np.abs(to_numpy(weight) - old).max() > 0) == (id(weight) in learning), weight.path
    assert np.abs(to_numpy(outputs(model)) - to_numpy(expected)).max() > 1e-3
    same(outputs(merge_lora(model)), outputs(model))


@pytest.mark.one_backend
def test_a_backbone_takes_the_adapters_of_a_task(tmp_path):
    model = adapted("text classifier")
    save_lora(model, tmp_path)
    backbone = bert()
    load_lora(backbone, tmp_path)
    same(outputs(backbone), outputs(model.backbone), tolerance=1e-6)


# What is refused

QUERY = "base_model.model.bert.encoder.layer.{}.attention.self.query.lora_A.weight"


@pytest.fixture
def folder(tmp_path):
    save_lora(adapted("text classifier"), tmp_path / "adapters")
    return tmp_path / "adapters"


def change(folder, **entries):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.fixture
def unchanged():
    """A model that must be afterwards as it was before."""
    model = built(MODELS["text classifier"]())
    before, learning = [to_numpy(weight) for weight in model.weights], len(model.trainable_weights)
    yield model
    assert len(model.trainable_weights) == learning
    assert all(np.array_equal(to_numpy(weight), old) for weight, old in zip(model.weights, before, strict=True))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "entries",
    [
        {"peft_type": "IA3"},
        {"init_lora_weights": "pissa"},
        {"use_dora": True},
        {"bias": "all"},
        {"trainable_token_indices": [1]},
        {"r": 3},
        {"rank_pattern": {"layer.1.attention.self.query": 1}},
    ],
)
def test_a_config_that_asks_for_something_else(folder, unchanged, entries):
    change(folder, **entries)
    with pytest.raises(ValueError, match="|".join([*entries, "shapes"])):
        load_lora(unchanged, folder)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("base_model.model.classifier.weight", None, "classifier.weight is missing"),
        ("base_model.model.classifier.weight", np.ones((3, 8), "float32"), r"shape \(3, 8\)"),
        (QUERY.format(0), None, "lora_B.weight is unused"),
        (
            "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight",
            np.ones((2, 7), "float32"),
            "2, 7",
        ),
        (QUERY.format(9), np.ones((2, 8)), "is unused"),
    ],
)
def test_tensors_that_do_not_belong(folder, unchanged, name, array, said):
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors = {key: value for key, value in (tensors | {name: array}).items() if value is not None}
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=said):
        load_lora(unchanged, folder)


@pytest.mark.one_backend
def test_folders_that_cannot_be_read(folder):
    path = folder / "adapter_model.safetensors"
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:50]), path.unlink, lambda: shutil.rmtree(folder)):
        spoil()
        with pytest.raises(ValueError, match=str(folder)):
            load_lora(MODELS["text classifier"](), folder)


@pytest.mark.one_backend
def test_models_that_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="has none"):
        save_lora(bert(), tmp_path / "adapters")
    thawed = adapted("bert")
    thawed.encoder.blocks[0].attention_norm.gamma.trainable = True
    pretrainer = built(BertPretrainer(bert()))
    enable_lora(pretrainer.backbone, 2)
    translator = Seq2SeqLM(Seq2Seq(Seq2SeqConfig(8, 1, 2, 8)))
    for model, said in ((thawed, "learn too"), (pretrainer, "BertPretrainer"), (translator, "got a Seq2Seq")):
        with pytest.raises(ValueError, match=said):
            save_lora(model, tmp_path / "adapters")
    assert not (tmp_path / "adapters").exists()
    with pytest.raises(ValueError, match="this one has them"):
        load_lora(thawed, tmp_path)
