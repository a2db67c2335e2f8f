"""BERT in Hugging Face's layout: computed as there, to five digits, or refused by the name of what is wrong."""

import dataclasses
import pathlib

import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib import Bert, BertConfig, BertPretrainer, SentenceEncoder, WordPieceTokenizer
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.huggingface.bert import BERT
from course_lib.layers.activations import activation_function

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
WITH_HEADS = ["masked-lm-in-shards", "masked-lm-untied", "pretraining", "pretraining-in-old-names"]
FOLDERS = ["bert", "bert-without-pooler", *WITH_HEADS]
WITHOUT_POOLER = ("bert-without-pooler", "masked-lm-in-shards", "masked-lm-untied")
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "[MASK] cat 狗 É"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]


@pytest.mark.one_backend
def test_the_golden_folders_are_what_they_should_be():
    assert (GOLDEN / "masked-lm-in-shards" / "model-00003-of-00003.safetensors").is_file()
    assert not (GOLDEN / "bert" / "vocab.txt").exists()
    assert any(name.endswith("LayerNorm.gamma") for name in read_tensors(GOLDEN / "pretraining-in-old-names"))
    assert sum(file.stat().st_size for file in GOLDEN.glob("*/*")) < 1_500_000


@pytest.mark.parametrize("name", FOLDERS)
def test_the_encoder_computes_what_hugging_face_computes(name, expected_of, at_tokens):
    inputs, expected = expected_of(name)
    mask = inputs["padding_mask"]
    bert = Bert.from_preset(GOLDEN / name)
    outputs = compiled(lambda inputs: bert(inputs, return_hidden_states=True, return_attention=True))(inputs)
    for key, heads in (("sequence_output", False), ("hidden_states", False), ("attention", True)):
        same(at_tokens(outputs[key], mask, heads), at_tokens(expected[key], mask, heads))
    assert ("pooled_output" in outputs) == (name not in WITHOUT_POOLER)
    if "pooled_output" in expected:
        same(outputs["pooled_output"], expected["pooled_output"])


@pytest.mark.parametrize("name", WITH_HEADS)
def test_the_heads_compute_what_those_of_hugging_face_compute(name, expected_of, at_tokens):
    inputs, expected = expected_of(name)
    mask = inputs["padding_mask"]
    outputs = compiled(BertPretrainer.from_preset(GOLDEN / name))(inputs)
    assert outputs.keys() == expected.keys() & {"mlm_logits", "nsp_logits"}
    same(at_tokens(outputs["mlm_logits"], mask), at_tokens(expected["mlm_logits"], mask), tolerance=2e-5)
    if "nsp_logits" in outputs:
        same(outputs["nsp_logits"], expected["nsp_logits"], tolerance=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name, expected_of):
    inputs, _ = expected_of(name)
    batch = Bert.from_preset(GOLDEN / name).tokenizer(TEXTS, PAIRS)
    assert np.array_equal(batch["token_ids"], inputs["token_ids"])
    assert np.array_equal(batch["padding_mask"], inputs["padding_mask"])
    shift = inputs["padding_mask"] if name == "masked-lm-in-shards" else 0  # to reach its third segment
    assert np.array_equal(batch["segment_ids"] + shift, inputs["segment_ids"])


@pytest.mark.parametrize("name", FOLDERS)
def test_saved_as_it_was_published(name, tmp_path, expected_of):
    """What `save_to_preset` writes has the tensors, to the bit, and the config that Hugging Face wrote."""
    model_class = BertPretrainer if name in WITH_HEADS else Bert
    model = model_class.from_preset(GOLDEN / name)
    model.save_to_preset(tmp_path / "a" / "folder")
    theirs, ours = read_tensors(GOLDEN / name), read_tensors(tmp_path / "a" / "folder")
    if name == "pretraining-in-old-names":
        theirs = {key.replace("gamma", "weight").replace("beta", "bias"): array for key, array in theirs.items()}
    unneeded = {"bert.embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    if name == "masked-lm-untied":
        unneeded = {"cls.predictions.bias"}
    assert ours.keys() == theirs.keys() - unneeded
    assert all(np.array_equal(array, theirs[key]) for key, array in ours.items())
    config, original = read_json(tmp_path / "a" / "folder" / "config.json"), read_json(GOLDEN / name / "config.json")
    assert all(config[key] == original[key] for key in config.keys() & original.keys())
    assert not (original.keys() - config.keys()) & BERT.config_table.fields.keys()
    again = model_class.from_preset(tmp_path / "a" / "folder")
    inputs, _ = expected_of(name)
    same(compiled(again)(inputs), compiled(model)(inputs), tolerance=0)
    tokenizers = [getattr(m, "backbone", m).tokenizer for m in (model, again)]
    assert tokenizers[0].vocabulary == tokenizers[1].vocabulary
    assert tokenizers[0](TEXTS)["token_ids"].tolist() == tokenizers[1](TEXTS)["token_ids"].tolist()


@pytest.mark.one_backend
def test_a_task_without_a_head_is_saved_as_its_backbone(tmp_path):
    model = SentenceEncoder.from_preset(GOLDEN / "bert")
    model.save_to_preset(tmp_path)
    assert read_tensors(tmp_path).keys() == read_tensors(GOLDEN / "bert").keys()
    assert read_json(tmp_path / "config.json")["architectures"] == ["BertModel"]


def renamed(function):
    return lambda tensors: {function(name): array for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bert", renamed(lambda name: "bert." + name)),
        ("pretraining", lambda tensors: {k.removeprefix("bert."): v for k, v in tensors.items() if k[:3] != "cls"}),
        ("pretraining", lambda tensors: tensors | {"bert.embeddings.position_ids": np.arange(32)[None]}),
        ("bert", lambda tensors: tensors | {"embeddings.position_ids": np.arange(32)[None]}),
    ],
)
def test_prefixes_and_buffers_of_other_versions(folder, name, change):
    same_weights(Bert.from_preset(folder(name, change)), Bert.from_preset(GOLDEN / name))


@pytest.mark.one_backend
def test_a_head_loads_from_a_file_without_prefix(folder):
    path = folder("pretraining", renamed(lambda name: name.removeprefix("bert.")))
    same_weights(BertPretrainer.from_preset(path), BertPretrainer.from_preset(GOLDEN / "pretraining"))


def same_weights(model, other):
    assert len(model.weights) == len(other.weights) > 10
    same(model.get_weights(), other.get_weights(), tolerance=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(folder, dtype):
    import ml_dtypes  # noqa: F401  a dependency of TensorFlow and of JAX; it teaches NumPy bfloat16

    path = folder("bert", lambda tensors: {name: array.astype(np.dtype(dtype)) for name, array in tensors.items()})
    bert = Bert.from_preset(path)
    assert {weight.dtype for weight in bert.weights} == {"float32"}
    same(bert.get_weights(), Bert.from_preset(GOLDEN / "bert").get_weights(), tolerance=0.01)


@pytest.mark.one_backend
def test_an_untied_head_ignores_the_bias_that_transformers_leaves_over(folder):
    path = folder("masked-lm-untied", lambda tensors: {k: v for k, v in tensors.items() if k != "cls.predictions.bias"})
    same_weights(BertPretrainer.from_preset(path), BertPretrainer.from_preset(GOLDEN / "masked-lm-untied"))


QUERY = "encoder.layer.1.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder"
NORM = "bert.embeddings.LayerNorm"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model_class", "name", "change", "facts"),
    [
        (Bert, "bert", lambda t: t.pop(QUERY), ["checkpoint for Bert;", f"bert.{QUERY} is missing"]),
        (Bert, "bert", lambda t: t.update(extra=t[QUERY]), ["bert.extra is unused"]),
        (BertPretrainer, "pretraining", lambda t: t.update({"cls.odd": t[WORDS]}), ["cls.odd is unused"]),
        (Bert, "pretraining", lambda t: t.update({"bert.odd": t[WORDS]}), ["bert.odd is unused"]),
        (Bert, "bert", lambda t: t.update({QUERY: t[QUERY][:4]}), [f"bert.{QUERY}", "(4, 8)", "(8, 8)"]),
        (Bert, "bert", lambda t: t.update({QUERY: t[QUERY].astype("int8")}), [f"bert.{QUERY}", "int8"]),
        (Bert, "bert", lambda t: t.pop("pooler.dense.bias"), ["bert.pooler.dense.bias is missing"]),
        (BertPretrainer, "bert", lambda t: None, ["for BertPretrainer;", "cls.seq_relationship.weight is missing"]),
        (
            BertPretrainer,
            "pretraining",
            lambda t: t.pop("cls.predictions.bias"),
            ["cls.predictions.bias is missing"],
        ),
        (
            BertPretrainer,
            "pretraining",
            lambda t: t.update({f"{DECODER}.weight": t[WORDS] + 1}),
            [f"{DECODER}.weight differs", WORDS],
        ),
        (
            Bert,
            "pretraining",
            lambda t: t.update({f"{DECODER}.bias": t["cls.predictions.bias"] + 1}),
            [f"{DECODER}.bias differs", "cls.predictions.bias"],
        ),
        (BertPretrainer, "masked-lm-untied", lambda t: t.pop(f"{DECODER}.weight"), [f"{DECODER}.weight is missing"]),
        (Bert, "pretraining", lambda t: t.update({f"{NORM}.gamma": t[f"{NORM}.weight"] + 1}), [f"{NORM}.gamma"]),
        (SentenceEncoder, "bert", lambda t: t.pop(QUERY), ["for SentenceEncoder;", f"bert.{QUERY} is missing"]),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, refused, model_class, name, change, facts):
    with refused(*facts):
        model_class.from_preset(folder(name, change))


@pytest.mark.one_backend
def test_everything_that_is_wrong_is_named_at_once(folder, refused):
    path = folder("bert", renamed(lambda name: name.replace("layer.1.attention.self.query", "layer.1.attention.q")))
    with refused("attention.q.bias is unused", "attention.self.query.weight is missing"):
        Bert.from_preset(path)
    with refused("pruned_heads", "is_decoder", "True", "hidden_act", "'xielu'"):
        Bert.from_preset(folder("bert", pruned_heads={"0": [1]}, is_decoder=True, hidden_act="xielu"))
    with refused("; and 18 more"):
        Bert.from_preset(folder("bert", lambda t: {"extra": t[QUERY]}))


@pytest.mark.one_backend
def test_a_weight_that_no_row_of_the_format_is_for_is_named(refused, monkeypatch):
    rows = BERT.tensors
    monkeypatch.setattr(BERT, "tensors", lambda fields: (row for row in rows(fields) if "pooler" not in row.name))
    with refused("no row of the format is for", "pooler/kernel", "pooler/bias"):
        Bert.from_preset(GOLDEN / "bert")


@pytest.mark.one_backend
@pytest.mark.parametrize("head", ["qa_outputs", "cls.predictions.odd", "classifier.dense"])
def test_a_backbone_loads_from_a_checkpoint_of_any_task(folder, head):
    path = folder("pretraining", lambda t: t | {f"{head}.weight": t[WORDS], f"{head}.bias": t[f"{NORM}.bias"]})
    same_weights(Bert.from_preset(path), Bert.from_preset(GOLDEN / "pretraining"))
    same_weights(SentenceEncoder.from_preset(path).backbone, Bert.from_preset(GOLDEN / "pretraining"))


LEGACY = {  # generation defaults, which transformers 2 wrote into every config, and what others have been seen to write
    "do_sample": True,
    "eos_token_ids": 0,
    "length_penalty": 2.0,
    "num_beams": 5,
    "num_labels": 7,
    "temperature": 0.1,
    "top_p": 0.5,
    "use_bfloat16": True,
    "rope_theta": 10_000,
    "my_note": ["anything"],
}


@pytest.mark.one_backend
def test_entries_that_the_computation_does_not_read_are_ignored(folder):
    same_weights(Bert.from_preset(folder("bert", **LEGACY)), Bert.from_preset(GOLDEN / "bert"))


@pytest.mark.one_backend
def test_a_load_that_fails_changes_nothing(refused):
    fields, tensors = BERT.read(GOLDEN / "bert")
    model = Bert(BertConfig(**fields))
    model.build()
    before = model.get_weights()
    last = list(tensors)[-1]
    for broken in (
        {name: array for name, array in tensors.items() if name != last},
        tensors | {last: tensors[last][:2]},
        tensors | {"bert.extra": tensors[last]},
    ):
        with refused():
            BERT.load(broken, fields, model)
        assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    BERT.load(tensors, fields, model)
    assert not any(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"auto_map": {"AutoModel": "own.py"}}, ["auto_map", "None", "own.py"]),
        ({"is_decoder": True}, ["is_decoder", "False", "True"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type", "'absolute'", "'relative_key'"]),
        ({"add_cross_attention": True}, ["add_cross_attention"]),
        ({"pruned_heads": {"0": [1]}}, ["pruned_heads"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config", "None"]),
        ({"hidden_act": "xielu"}, ["hidden_act", "gelu_new", "'xielu'"]),
        ({"hidden_act": "leaky_relu"}, ["'leaky_relu'"]),  # of another slope than that of Keras
        ({"hidden_act": ["gelu"]}, ["hidden_act", "['gelu']"]),
        ({"model_type": "gpt2"}, ["'bert'", "'gpt2'", "GPT2 or one of its tasks"]),
        ({"model_type": ["bert"]}, ["'bert'", "['bert']"]),
        ({"num_attention_heads": 3}, ["num_heads", "3", "8"]),
        ({"hidden_size": "8"}, ["hidden_dim", "'8'"]),
        ({"num_hidden_layers": 1}, ["bert.encoder.layer.1", "is unused"]),
        ({"num_hidden_layers": 3}, ["bert.encoder.layer.2", "is missing"]),
        ({"vocab_size": 41}, ["word_embeddings.weight", "(40, 8)", "(41, 8)"]),
        ({"type_vocab_size": 3}, ["token_type_embeddings.weight", "(2, 8)", "(3, 8)"]),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, refused, config, facts):
    with refused(*facts):
        Bert.from_preset(folder("bert", **config))


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    """What old configs leave out, as Hugging Face's documentation gives it."""
    config = read_json(GOLDEN / "bert" / "config.json")
    kept = {"vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size"}
    path = folder("bert", **{key: ... for key in config.keys() - kept})
    assert BERT.read(path)[0] == dataclasses.asdict(BertConfig(40, 2, 2, 8, 12))
    defaults = {foreign: default for foreign, (_, default) in BERT.config_table.fields.items()}
    assert (defaults["layer_norm_eps"], defaults["type_vocab_size"], defaults["hidden_act"]) == (1e-12, 2, "gelu")


def test_each_activation_has_the_function_of_its_name(folder):
    names = {"gelu": 0.8413447, "gelu_new": 0.8411920, "gelu_pytorch_tanh": 0.8411920, "quick_gelu": 0.8457958}
    names |= {"relu": 1.0, "silu": 0.7310586, "swish": 0.7310586, "tanh": 0.7615942, "mish": 0.8650984, "linear": 1.0}
    for name, value in names.items():
        fields, _ = BERT.read(folder("bert", hidden_act=name))
        same(activation_function(fields["activation"])(np.ones(1, "float32")), np.array([value]), tolerance=1e-6)


@pytest.mark.one_backend
def test_saving_replaces_what_was_there(folder):
    path = folder("masked-lm-in-shards")
    bert = Bert.from_preset(path)
    bert.token_embedding.embeddings.assign(2 * to_numpy(bert.token_embedding.embeddings))
    bert.tokenizer = WordPieceTokenizer(bert.tokenizer.vocabulary, lowercase=False)
    bert.save_to_preset(path)
    again = Bert.from_preset(path)
    same(again.token_embedding.embeddings, bert.token_embedding.embeddings, tolerance=0)
    assert again.tokenizer.lowercase is False and not (path / "tokenizer.json").exists()


@pytest.mark.one_backend
def test_what_has_no_counterpart_is_not_saved_and_leaves_no_folder(tmp_path, refused):
    bert = Bert.from_preset(GOLDEN / "bert")
    with refused("dtype", "'int8'"):
        bert.save_to_preset(tmp_path / "new", dtype="int8")
    bert.encoder.blocks[0].attention.query.quantize("int8")
    with refused("encoder.blocks.0.attention.query.kernel", "int8", "before you quantize"):
        bert.save_to_preset(tmp_path / "new")
    with refused("activation", "'quick_gelu'", "'elu'"):
        Bert(BertConfig(10, 1, 1, 4, 4, activation="elu")).save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.one_backend
def test_a_refused_model_leaves_an_older_checkpoint_as_it_was(folder, refused):
    path = folder("bert")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with refused("'elu'"):
        Bert(BertConfig(10, 1, 1, 4, 4, activation="elu"), WordPieceTokenizer([*"abc", *SPECIAL])).save_to_preset(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_weights_are_saved_in_the_dtype_that_is_asked_for(tmp_path, dtype):
    bert = Bert.from_preset(GOLDEN / "bert")
    bert.save_to_preset(tmp_path, dtype=dtype)
    assert {array.dtype.name for array in read_tensors(tmp_path).values()} == {dtype}
    same(Bert.from_preset(tmp_path).get_weights(), bert.get_weights(), tolerance=0.01)


@pytest.mark.one_backend
def test_low_rank_adapters_are_merged_when_saved(tmp_path):
    bert = Bert.from_preset(GOLDEN / "bert")
    query = bert.encoder.blocks[0].attention.query
    before = to_numpy(query.kernel)
    query.enable_lora(2)
    query.lora_kernel_b.assign(np.ones(query.lora_kernel_b.shape))
    bert.save_to_preset(tmp_path)
    again = to_numpy(Bert.from_preset(tmp_path).encoder.blocks[0].attention.query.kernel)
    same(again, query.kernel)
    assert np.abs(again - before).max() > 0.01
