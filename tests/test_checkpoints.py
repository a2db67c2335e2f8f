"""Checkpoints in Hugging Face's layout: computed as there, to five digits, or refused by the name of what is wrong.

The folders of `golden` were made by `golden/make.py`, with `transformers`.
"""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_checks import compiled, same, to_numpy

from course_lib import Bert, BertConfig, BertPretrainer, WordPieceTokenizer
from course_lib.checkpoints import huggingface
from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.sentence_encoder import SentenceEncoder

GOLDEN = pathlib.Path(__file__).parent / "golden"
OTHERS = ("gpt", "classifier")
FOLDERS = sorted(path.name for path in GOLDEN.glob("*/") if not any(word in path.name for word in OTHERS))
WITH_HEADS = [name for name in FOLDERS if not name.startswith("bert")]
INPUTS = ("token_ids", "segment_ids", "padding_mask")
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "[MASK] cat 狗 É"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]


def expected_of(name):
    with np.load(GOLDEN / name / "expected.npz") as arrays:
        arrays = dict(arrays)
    return {key: arrays.pop(key) for key in INPUTS}, arrays


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
    assert len(FOLDERS) == 6
    assert (GOLDEN / "masked-lm-in-shards" / "model-00003-of-00003.safetensors").is_file()
    assert not (GOLDEN / "bert" / "vocab.txt").exists()
    assert any(name.endswith("LayerNorm.gamma") for name in read_tensors(GOLDEN / "pretraining-in-old-names"))
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 650_000


@pytest.mark.parametrize("name", FOLDERS)
def test_the_encoder_computes_what_hugging_face_computes(name):
    inputs, expected = expected_of(name)
    bert = Bert.from_preset(GOLDEN / name)
    outputs = compiled(lambda inputs: bert(inputs, return_hidden_states=True, return_attention=True))(inputs)
    same(outputs["sequence_output"], expected["sequence_output"])
    same(np.stack([to_numpy(state) for state in outputs["hidden_states"]]), expected["hidden_states"])
    same(np.stack([to_numpy(weights) for weights in outputs["attention"]]), expected["attention"])
    assert ("pooled_output" in outputs) == (
        name not in ("bert-without-pooler", "masked-lm-in-shards", "masked-lm-untied")
    )
    if "pooled_output" in expected:
        same(outputs["pooled_output"], expected["pooled_output"])


@pytest.mark.parametrize("name", WITH_HEADS)
def test_the_heads_compute_what_those_of_hugging_face_compute(name):
    inputs, expected = expected_of(name)
    outputs = compiled(BertPretrainer.from_preset(GOLDEN / name))(inputs)
    assert outputs.keys() == expected.keys() & {"mlm_logits", "nsp_logits"}
    for key, value in outputs.items():
        same(value, expected[key], tolerance=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", FOLDERS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name):
    inputs, _ = expected_of(name)
    batch = Bert.from_preset(GOLDEN / name).tokenizer(TEXTS, PAIRS)
    assert np.array_equal(batch["token_ids"], inputs["token_ids"])
    assert np.array_equal(batch["padding_mask"], inputs["padding_mask"])
    shift = inputs["padding_mask"] if name == "masked-lm-in-shards" else 0  # to reach its third segment
    assert np.array_equal(batch["segment_ids"] + shift, inputs["segment_ids"])


@pytest.mark.parametrize("name", FOLDERS)
def test_saved_as_it_was_published(name, tmp_path):
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
    assert original.keys() - config.keys() <= huggingface.BERT.harmless
    again = model_class.from_preset(tmp_path / "a" / "folder")
    inputs, _ = expected_of(name)
    same(compiled(again)(inputs), compiled(model)(inputs), tolerance=0)
    tokenizers = [getattr(m, "backbone", m).tokenizer for m in (model, again)]
    assert tokenizers[0].vocabulary == tokenizers[1].vocabulary
    assert tokenizers[0](TEXTS)["token_ids"].tolist() == tokenizers[1](TEXTS)["token_ids"].tolist()


def test_saving_replaces_what_was_there(folder):
    path = folder("masked-lm-in-shards")
    bert = Bert.from_preset(path)
    bert.pooler = None
    bert.token_embedding.embeddings.assign(2 * to_numpy(bert.token_embedding.embeddings))
    bert.tokenizer = WordPieceTokenizer(bert.tokenizer.vocabulary, lowercase=False)
    bert.save_to_preset(path)
    again = Bert.from_preset(path)
    same(again.token_embedding.embeddings, bert.token_embedding.embeddings, tolerance=0)
    assert again.tokenizer.lowercase is False and not (path / "tokenizer.json").exists()


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
    inputs, expected = expected_of(name)
    outputs = compiled(Bert.from_preset(folder(name, change)))(inputs)
    same(outputs["sequence_output"], expected["sequence_output"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(folder, dtype):
    import ml_dtypes  # noqa: F401  a dependency of TensorFlow and of JAX; it teaches NumPy bfloat16

    inputs, expected = expected_of("bert")
    path = folder("bert", lambda tensors: {name: array.astype(np.dtype(dtype)) for name, array in tensors.items()})
    bert = Bert.from_preset(path)
    assert {weight.dtype for weight in bert.weights} == {"float32"}
    same(compiled(bert)(inputs)["sequence_output"], expected["sequence_output"], tolerance=0.1)


def test_an_untied_head_ignores_the_bias_that_transformers_leaves_over(folder):
    path = folder("masked-lm-untied", lambda tensors: {k: v for k, v in tensors.items() if k != "cls.predictions.bias"})
    inputs, expected = expected_of("masked-lm-untied")
    same(compiled(BertPretrainer.from_preset(path))(inputs)["mlm_logits"], expected["mlm_logits"], tolerance=2e-5)


QUERY = "encoder.layer.1.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model_class", "name", "change", "message"),
    [
        (Bert, "bert", lambda t: t.pop(QUERY) is None, rf"checkpoint for Bert; bert\.{QUERY} is missing"),
        (Bert, "bert", lambda t: t.update(extra=t[QUERY]), r"bert\.extra is unused"),
        (Bert, "bert", lambda t: t.update({"cls.odd": t[QUERY]}), r"cls\.odd is unused"),
        (
            Bert,
            "bert",
            lambda t: t.update({QUERY: t[QUERY][:4]}),
            rf"bert\.{QUERY} has shape \(4, 8\), not \(8, 8\)",
        ),
        (Bert, "bert", lambda t: t.update({QUERY: t[QUERY].astype("int8")}), rf"bert\.{QUERY} holds int8, not floats"),
        (Bert, "bert", lambda t: t.pop("pooler.dense.bias") is None, r"bert\.pooler\.dense\.bias is missing"),
        (BertPretrainer, "bert", lambda t: None, r"for BertPretrainer; .*seq_relationship\.weight is missing"),
        (
            BertPretrainer,
            "pretraining",
            lambda t: t.pop("cls.predictions.bias") is None,
            r"cls\.predictions\.bias is missing",
        ),
        (
            BertPretrainer,
            "pretraining",
            lambda t: t.update({"cls.predictions.decoder.weight": t[WORDS] + 1}),
            rf"cls\.predictions\.decoder\.weight differs from {WORDS}, to which it is tied",
        ),
        (
            Bert,
            "pretraining",
            lambda t: t.update({"cls.predictions.decoder.bias": t["cls.predictions.bias"] + 1}),
            r"decoder\.bias differs from cls\.predictions\.bias",
        ),
        (
            BertPretrainer,
            "masked-lm-untied",
            lambda t: t.pop("cls.predictions.decoder.weight") is None,
            r"cls\.predictions\.decoder\.weight is missing",
        ),
        (SentenceEncoder, "bert", lambda t: t.pop(QUERY) is None, rf"for SentenceEncoder; bert\.{QUERY} is missing"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(folder, model_class, name, change, message):
    def edit(tensors):
        change(tensors)

    with pytest.raises(ValueError, match=message):
        model_class.from_preset(folder(name, edit))


@pytest.mark.one_backend
def test_everything_that_is_wrong_is_named_at_once(folder):
    path = folder("bert", renamed(lambda name: name.replace("layer.1.attention.self.query", "layer.1.attention.q")))
    with pytest.raises(ValueError, match=r"attention\.q\.bias is unused; .*attention\.self\.query\.weight is missing"):
        Bert.from_preset(path)


@pytest.mark.one_backend
def test_a_load_that_fails_changes_nothing():
    fields, tensors = huggingface.BERT.read(GOLDEN / "bert")
    model = Bert(BertConfig(**fields))
    model.build()
    before = model.get_weights()
    last = list(tensors)[-1]
    for broken in (
        {name: array for name, array in tensors.items() if name != last},
        tensors | {last: tensors[last][:2]},
        tensors | {"bert.extra": tensors[last]},
    ):
        with pytest.raises(ValueError):
            huggingface.BERT.load(broken, fields, model)
        assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    huggingface.BERT.load(tensors, fields, model)
    assert not any(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_theta": 10_000}, r"entries whose meaning is known.*got \['rope_theta'\]"),
        ({"is_decoder": True}, r"is_decoder=False.*got True"),
        ({"position_embedding_type": "relative_key"}, r"position_embedding_type='absolute'.*got 'relative_key'"),
        ({"add_cross_attention": True}, r"add_cross_attention=False"),
        ({"pruned_heads": {"0": [1]}}, r"pruned_heads=\{\}.*got"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config=None"),
        ({"hidden_act": "xielu"}, r"hidden_act.*to be one of.*gelu_new.*got 'xielu'"),
        ({"hidden_act": "leaky_relu"}, r"got 'leaky_relu'"),  # of another slope than that of Keras
        ({"model_type": "roberta"}, r"model_type 'bert'.*got 'roberta'"),
        ({"num_attention_heads": 3}, r"num_heads to divide hidden_dim; got 3 and 8"),
        ({"hidden_size": "8"}, r"hidden_dim to be a positive integer; got '8'"),
        ({"num_hidden_layers": 1}, r"bert\.encoder\.layer\.1.* is unused"),
        ({"num_hidden_layers": 3}, r"bert\.encoder\.layer\.2.* is missing"),
        ({"vocab_size": 41}, r"word_embeddings\.weight has shape \(40, 8\)"),
        ({"type_vocab_size": 3}, r"token_type_embeddings\.weight has shape \(2, 8\)"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, config, message):
    with pytest.raises(ValueError, match=message):
        Bert.from_preset(folder("bert", **config))


@pytest.mark.one_backend
def test_entries_that_are_left_out_have_the_defaults_of_hugging_face(folder):
    """What old configs leave out, as Hugging Face's documentation gives it."""
    config = read_json(GOLDEN / "bert" / "config.json")
    kept = {"vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size"}
    path = folder("bert", **{key: ... for key in config.keys() - kept})
    assert huggingface.BERT.read(path)[0] == dataclasses.asdict(BertConfig(40, 2, 2, 8, 12))
    defaults = {foreign: default for foreign, (_, default) in huggingface.BERT.fields.items()}
    assert (defaults["layer_norm_eps"], defaults["type_vocab_size"], defaults["hidden_act"]) == (1e-12, 2, "gelu")


def test_each_activation_has_the_function_of_its_name(folder):
    names = {"gelu": 0.8413447, "gelu_new": 0.8411920, "gelu_pytorch_tanh": 0.8411920, "quick_gelu": 0.8457958}
    names |= {"relu": 1.0, "silu": 0.7310586, "swish": 0.7310586, "tanh": 0.7615942, "mish": 0.8650984, "linear": 1.0}
    for name, value in names.items():
        bert = Bert.from_preset(folder("bert", hidden_act=name))
        same(bert.encoder.blocks[1].feed_forward.activation(np.ones(1, "float32")), np.array([value]), tolerance=1e-6)


@pytest.mark.one_backend
def test_pickled_weights_are_refused(folder):
    path = folder("bert")
    (path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"weights in .*model\.safetensors; there is no such file\.$"):
        Bert.from_preset(path)
    for name in ("pytorch_model.bin", "tf_model.ckpt"):
        (path / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=r"\['pytorch_model\.bin', 'tf_model\.ckpt'\] are pickles.* not read"):
        Bert.from_preset(path)


@pytest.mark.one_backend
def test_a_truncated_file_is_refused(folder):
    whole = (GOLDEN / "bert" / "model.safetensors").read_bytes()
    path = folder("bert")
    for length in (0, 4, 8, 1000, len(whole) // 2, len(whole) - 1):
        (path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"whole safetensors file .*; it is broken or cut short"):
            Bert.from_preset(path)


@pytest.mark.one_backend
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_altered_header_is_refused_or_says_the_same(tmp_path, data):
    """A byte of the header flips: no other error than ours, and no tensor of ours with other numbers."""
    content = bytearray((GOLDEN / "bert" / "model.safetensors").read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "model.safetensors").write_bytes(content)
    shutil.copy(GOLDEN / "bert" / "config.json", tmp_path)
    model = SHELL
    before = model.get_weights()
    try:
        fields, tensors = huggingface.BERT.read(tmp_path)
        huggingface.BERT.load(tensors, fields, model)
    except ValueError as error:
        assert str(error).startswith("Expected")
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


SHELL = Bert.from_preset(GOLDEN / "bert")


@pytest.mark.one_backend
def test_shards_that_are_missing_or_elsewhere_are_refused(folder):
    path = folder("masked-lm-in-shards")
    (path / "model-00002-of-00003.safetensors").rename(path.parent / "elsewhere.safetensors")
    with pytest.raises(ValueError, match=r"weights in .*model-00002-of-00003\.safetensors; there is no such file"):
        Bert.from_preset(path)
    index = read_json(path / "model.safetensors.index.json")
    for shard in ("../elsewhere.safetensors", str(path.parent / "elsewhere.safetensors")):
        index["weight_map"] = dict.fromkeys(index["weight_map"], shard)
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=r"shards beside .*; got .*elsewhere\.safetensors"):
            Bert.from_preset(path)


@pytest.mark.one_backend
def test_broken_or_missing_text_files_are_refused(folder):
    path = folder("bert")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        text = (path / name).read_text()
        (path / name).write_text(text[: len(text) // 2])
        with pytest.raises(ValueError, match=rf"JSON in .*{name}; got a broken file"):
            Bert.from_preset(path)
        (path / name).write_text(text)
    (path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"a file .*tokenizer\.json; there is none"):
        Bert.from_preset(path)
    (path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"a file .*config\.json; there is none"):
        Bert.from_preset(path)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model"].update(type="BPE"), r"BERT's WordPiece in .*got .*'BPE'"),
        (lambda t: t["model"].update(continuing_subword_prefix="@@"), r"BERT's WordPiece.*'@@'"),
        (lambda t: t["model"].update(max_input_chars_per_word=200), r"BERT's WordPiece.*200"),
        (lambda t: t.update(normalizer=None), r"BERT's WordPiece.*'normalizer': None"),
        (lambda t: t["normalizer"].update(clean_text=False), r"BERT's WordPiece.*'clean_text': False"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), r"BERT's WordPiece.*'Whitespace'"),
        (lambda t: t["added_tokens"].append({"id": 40, "content": "<new>"}), r"no added tokens.*got \['<new>'\]"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(folder, change, message):
    path = folder("bert")
    tokenizer = read_json(path / "tokenizer.json")
    change(tokenizer)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer.from_preset(path)


@pytest.mark.one_backend
def test_tokenizer_settings(folder):
    path = folder("bert")
    vocabulary = WordPieceTokenizer.from_preset(path).vocabulary
    settings_path = path / "tokenizer_config.json"
    settings_path.write_text(json.dumps({"mask_token": "<mask>"}))
    with pytest.raises(ValueError, match=r"mask_token to be '\[MASK\]' in .*; got '<mask>'"):
        WordPieceTokenizer.from_preset(path)
    odd = (*vocabulary[:20], "", "a\u2028b", *vocabulary[20:])
    (path / "vocab.txt").write_bytes("\r\n".join(odd).encode() + b"\r\n")
    settings_path.write_text(json.dumps({"do_lower_case": False, "cls_token": {"content": "[CLS]"}}))
    tokenizer = WordPieceTokenizer.from_preset(path)
    assert tokenizer.vocabulary == odd, "an empty line has its id, and what else may end a line does not"
    assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_chinese) == (False, None, True)
    settings_path.write_text(json.dumps({"strip_accents": False, "tokenize_chinese_chars": False}))
    tokenizer = WordPieceTokenizer.from_preset(path)
    assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_chinese) == (True, False, False)
    settings_path.unlink()
    assert WordPieceTokenizer.from_preset(path).lowercase is True


@pytest.mark.one_backend
def test_a_quantised_model_is_not_saved_as_if_it_were_not(tmp_path):
    bert = Bert.from_preset(GOLDEN / "bert")
    bert.encoder.blocks[0].attention.query.quantize("int8")
    with pytest.raises(ValueError, match=r"floats in .*; got int8\. Save before you quantize"):
        bert.save_to_preset(tmp_path)


def test_an_activation_without_a_name_there_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"activation to be one of .*'quick_gelu'.*; got 'elu'"):
        Bert(BertConfig(10, 1, 1, 4, 4, activation="elu")).save_to_preset(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_low_rank_adapters_are_merged_when_saved(tmp_path):
    bert = Bert.from_preset(GOLDEN / "bert")
    query = bert.encoder.blocks[0].attention.query
    query.enable_lora(2)
    query.lora_kernel_b.assign(np.ones(query.lora_kernel_b.shape))
    bert.save_to_preset(tmp_path)
    inputs, expected = expected_of("bert")
    outputs = compiled(bert)(inputs)
    same(compiled(Bert.from_preset(tmp_path))(inputs), outputs)
    assert np.abs(to_numpy(outputs["sequence_output"]) - expected["sequence_output"]).max() > 0.01
