"""The hub over HTTP, against a stand-in on this machine: what is published loads, and what goes wrong is said."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
from hub_server import Hub
from layer_checks import same
from safetensors.numpy import load, save

from course_lib import (
    GPT2,
    Bert,
    BertPretrainer,
    GPT2CausalLM,
    OpenAIGPTCausalLM,
    Roberta,
    SentenceEncoder,
    TextClassifier,
    TokenClassifier,
)
from course_lib.checkpoints.files import read_json
from course_lib.checkpoints.hub import model_card, push_to_hub
from course_lib.checkpoints.presets import resolve_preset

pytestmark = pytest.mark.one_backend

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FILES = {  # what lies in these repositories
    "google-bert/bert-base-uncased": """.gitattributes LICENSE README.md config.json
        coreml/fill-mask/float32_model.mlpackage/Data/com.apple.CoreML/model.mlmodel
        coreml/fill-mask/float32_model.mlpackage/Data/com.apple.CoreML/weights/weight.bin
        coreml/fill-mask/float32_model.mlpackage/Manifest.json flax_model.msgpack model.onnx model.safetensors
        pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json vocab.txt""",
    "openai-community/gpt2": """.gitattributes 64-8bits.tflite 64-fp16.tflite 64.tflite README.md config.json
        flax_model.msgpack generation_config.json merges.txt model.safetensors onnx/config.json onnx/decoder_model.onnx
        onnx/decoder_model_merged.onnx onnx/decoder_with_past_model.onnx onnx/generation_config.json onnx/merges.txt
        onnx/special_tokens_map.json onnx/tokenizer.json onnx/tokenizer_config.json onnx/vocab.json pytorch_model.bin
        rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json vocab.json""",
    "openai-community/openai-gpt": """.gitattributes README.md config.json generation_config.json merges.txt
        model.safetensors pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json
        vocab.json""",
    "sentence-transformers/all-MiniLM-L6-v2": """.gitattributes 1_Pooling/config.json README.md config.json
        config_sentence_transformers.json data_config.json model.safetensors modules.json onnx/model.onnx
        openvino/openvino_model.bin openvino/openvino_model.xml pytorch_model.bin rust_model.ot
        sentence_bert_config.json special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json
        train_script.py vocab.txt""",
    "BAAI/bge-small-en-v1.5": """.gitattributes 1_Pooling/config.json README.md config.json
        config_sentence_transformers.json model.safetensors modules.json onnx/model.onnx pytorch_model.bin
        sentence_bert_config.json special_tokens_map.json tokenizer.json tokenizer_config.json vocab.txt""",
    "dslim/bert-base-NER": """.gitattributes README.md added_tokens.json config.json flax_model.msgpack
        model.safetensors onnx/added_tokens.json onnx/config.json onnx/model.onnx onnx/special_tokens_map.json
        onnx/tokenizer.json onnx/tokenizer_config.json onnx/vocab.txt pytorch_model.bin special_tokens_map.json
        tf_model.h5 tokenizer_config.json vocab.txt""",
    "FacebookAI/roberta-base": """.gitattributes README.md config.json dict.txt flax_model.msgpack merges.txt
        model.safetensors pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json
        vocab.json""",
    "distilbert/distilbert-base-uncased": """.gitattributes LICENSE README.md config.json flax_model.msgpack
        model.safetensors pytorch_model.bin rust_model.ot tf_model.h5 tokenizer.json tokenizer_config.json vocab.txt""",
    "microsoft/deberta-v3-base": """.gitattributes README.md config.json generator_config.json pytorch_model.bin
        pytorch_model.generator.bin rust_model.ot spm.model tf_model.h5 tokenizer_config.json""",
}
CLASSES = {
    "google-bert/bert-base-uncased": BertPretrainer,
    "openai-community/gpt2": GPT2CausalLM,
    "openai-community/openai-gpt": OpenAIGPTCausalLM,
    "sentence-transformers/all-MiniLM-L6-v2": SentenceEncoder,
    "BAAI/bge-small-en-v1.5": SentenceEncoder,
    "dslim/bert-base-NER": TokenClassifier,
    "FacebookAI/roberta-base": BertPretrainer,
}
BERT, GPT, ROBERTA = "google-bert/bert-base-uncased", "openai-community/gpt2", "FacebookAI/roberta-base"
FIRST_GPT = "openai-community/openai-gpt"
BERT_ENTRIES = {  # beside the sizes
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "use_cache": True,
}
GPT_ENTRIES = {
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}
POOLING = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}


def json_bytes(content):
    return json.dumps(content).encode()


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "expected.npz"}


def bert_files(name, entries=BERT_ENTRIES, **config):
    """The files of a golden BERT, with the entries of a config of 2021 beside its sizes, and a `vocab.txt`."""
    files = contents_of(GOLDEN / name)
    kept = {"architectures", "id2label", "label2id", "vocab_size", "type_vocab_size", "max_position_embeddings"}
    kept |= {"hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"}
    old = {key: value for key, value in json.loads(files["config.json"]).items() if key in kept}
    tokenizer = (GOLDEN / "bert" / "tokenizer.json").read_bytes()
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    files |= {"config.json": json_bytes(entries | old | config), "tokenizer.json": tokenizer}
    files |= {"vocab.txt": "".join(f"{piece}\n" for piece in vocabulary).encode()}
    return files | {"tokenizer_config.json": json_bytes({"do_lower_case": True, "model_max_length": 512})}


def encoder_files(pooling, max_seq_length):
    kinds = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    steps = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    pooled = {"word_embedding_dimension": 8, **POOLING, pooling: True}
    settings = {"max_seq_length": max_seq_length, "do_lower_case": False}
    return bert_files("bert") | {
        "modules.json": json_bytes(steps),
        "1_Pooling/config.json": json_bytes(pooled),
        "sentence_bert_config.json": json_bytes(settings),
        "special_tokens_map.json": json_bytes({"unk_token": "[UNK]", "mask_token": "[MASK]"}),
    }


def gpt2_files(tmp_path):
    """Twelve layers, without prefix, and with the twelve masks that lie among the published tensors."""
    lm = tiny_models.gpt2_causal_lm(num_layers=12, intermediate_dim=None)
    lm.save_to_preset(tmp_path)
    files, size = contents_of(tmp_path), lm.config.vocabulary_size
    tensors = {name.removeprefix("transformer."): array for name, array in load(files["model.safetensors"]).items()}
    masks = {f"h.{layer}.attn.bias": np.tril(np.ones((1, 1, 8, 8), "float32")) for layer in range(12)}
    sizes = {"n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 12, "n_positions": 8, "vocab_size": size}
    entries = {"model_type": "gpt2", "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"]}
    ends = {"bos_token_id": size - 1, "eos_token_id": size - 1}
    config = json_bytes(GPT_ENTRIES | entries | sizes | ends)
    files |= {"model.safetensors": save(tensors | masks), "config.json": config}
    return files | {"tokenizer_config.json": json_bytes({"model_max_length": 8})}


def openai_gpt_files():
    files = contents_of(GOLDEN / "openai-gpt")
    tensors = {name.removeprefix("transformer."): array for name, array in load(files["model.safetensors"]).items()}
    masks = {f"h.{layer}.attn.bias": np.tril(np.ones((1, 1, 40, 40), "float32")) for layer in range(2)}
    sizes = {"n_ctx": 40, "n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 40, "vocab_size": 90}
    entries = {"model_type": "openai-gpt", "afn": "gelu", "architectures": ["OpenAIGPTLMHeadModel"]}
    odd = {"n_special": 0, "predict_special_tokens": True, "layer_norm_epsilon": 0.05}
    config = json_bytes(GPT_ENTRIES | entries | sizes | odd)
    return files | {"model.safetensors": save(tensors | masks), "config.json": config}


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The files of each repository: those that a library reads are real, with small and random weights."""
    ner = bert_files("classifier-of-tokens")
    ner |= {"tokenizer_config.json": json_bytes({"do_lower_case": False}), "added_tokens.json": b"{}"}
    distil = {"activation": "gelu", "architectures": ["DistilBertForMaskedLM"], "dim": 768, "model_type": "distilbert"}
    deberta = {"model_type": "deberta-v2", "hidden_size": 768, "relative_attention": True, "vocab_size": 128100}
    read = {
        BERT: bert_files("pretraining-in-old-names"),
        GPT: gpt2_files(tmp_path_factory.mktemp("gpt2")),
        FIRST_GPT: openai_gpt_files(),
        "sentence-transformers/all-MiniLM-L6-v2": encoder_files("pooling_mode_mean_tokens", 24),
        "BAAI/bge-small-en-v1.5": encoder_files("pooling_mode_cls_token", 32),
        "dslim/bert-base-NER": ner,
        ROBERTA: contents_of(GOLDEN / "roberta-masked-lm"),
        "distilbert/distilbert-base-uncased": {"config.json": json_bytes(distil)},
        "microsoft/deberta-v3-base": {"config.json": json_bytes(deberta)},
    }
    other = {"generation_config.json": b'{"_from_model_config": true}', "special_tokens_map.json": b"{}"}
    other |= {"config_sentence_transformers.json": b"{}", "data_config.json": b"[]", "generator_config.json": b"{}"}
    whole = {}
    for name, listed in FILES.items():
        whole[name] = {path: read[name].get(path, other.get(path, b"not read")) for path in listed.split()}
    for files in (whole[ROBERTA], whole[FIRST_GPT]):  # their golden folders have these in tokenizer.json only
        model = json.loads(files["tokenizer.json"])["model"]
        merges = "".join(f"{first} {second}\n" for first, second in model["merges"])
        files |= {"vocab.json": json_bytes(model["vocab"]), "merges.txt": f"#version: 0.2\n{merges}".encode()}
    del whole[GPT]["tokenizer.json"]  # ours are in the other two files
    return whole


@pytest.fixture
def hub(contents, tmp_path, monkeypatch):
    """The stand-in, with all repositories; `huggingface_hub` asks it, and keeps what it gets in an empty cache."""
    with Hub() as server:
        for name, files in contents.items():
            server.add(name, files)
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        yield server


def in_folder(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_published_loads(hub, contents, name, tmp_path):
    model = CLASSES[name].from_preset(f"hf://{name}")
    original = CLASSES[name].from_preset(in_folder(tmp_path / "folder", contents[name]))
    same(model.get_weights(), original.get_weights(), tolerance=0)
    assert model.config == original.config
    assert model.tokenizer.encode("a dog") == original.tokenizer.encode("a dog")
    fetched = {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request}
    endings = (".bin", ".h5", ".msgpack", ".ot", ".onnx", ".py", ".md", ".tflite", ".xml", ".mlmodel")
    assert "config.json" in fetched and not [path for path in fetched if path.endswith(endings)]
    assert not [request for request in hub.requests if "/onnx/" in request or "/coreml/" in request]


def test_what_the_folders_imply_is_honoured(hub):
    first, second = (SentenceEncoder.from_preset(f"hf://{name}") for name in [*CLASSES][3:5])
    assert (first.pooling, second.pooling) == ("mean", "first") and first.normalize and second.normalize
    assert (first.max_length, second.max_length) == (24, 32)
    assert not TokenClassifier.from_preset("hf://dslim/bert-base-NER").tokenizer.lowercase
    assert type(Bert.from_preset(f"hf://{ROBERTA}")) is Roberta


@pytest.mark.parametrize(
    ("name", "serves"),
    [
        ("distilbert/distilbert-base-uncased", "DistilBertModel"),
        ("microsoft/deberta-v3-base", "DebertaV2Model"),
    ],
)
def test_what_none_of_our_classes_computes_is_refused_by_name(hub, refused, name, serves):
    with refused("model_type 'bert'", serves):
        Bert.from_preset(f"hf://{name}")


def test_a_broken_download_continues_where_it_stopped(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # so that it is written bit by bit
    hub.cuts["model.safetensors"] = 1000
    GPT2.from_preset(f"hf://{GPT}")
    assert hub.ranges == ["bytes=1000-"]
    assert not [*(tmp_path / "cache").rglob("*.incomplete")]


def test_a_download_that_fails_leaves_nothing_half_written(hub, tmp_path):
    hub.cuts["model.safetensors"] = 1000
    hub.broken.add("model.safetensors")
    with pytest.raises(ConnectionError, match=rf"Expected all of {GPT}"):
        GPT2.from_preset(f"hf://{GPT}")
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert "model.safetensors" not in kept and not [name for name in kept if name.endswith(".incomplete")]


def test_what_is_in_the_cache_needs_no_network(hub, monkeypatch):
    model = Bert.from_preset(f"hf://{BERT}")
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    same(Bert.from_preset(f"hf://{BERT}").get_weights(), model.get_weights(), tolerance=0)
    assert len(hub.requests) == asked
    with pytest.raises(ConnectionError, match=GPT):
        GPT2.from_preset(f"hf://{GPT}")


def test_a_second_time_only_the_revision_is_asked_for(hub):
    resolve_preset(f"hf://{BERT}")
    asked = len(hub.requests)
    assert resolve_preset(f"hf://{BERT}").name == hub.branches[BERT, "main"]
    assert hub.requests[asked:] == [f"GET /api/models/{BERT}/revision/main"]


def test_a_revision(hub, contents, refused):
    tensors = load(contents[BERT]["model.safetensors"])
    changed = {name: array + 1 for name, array in tensors.items()}
    changed["bert.embeddings.position_ids"] = tensors["bert.embeddings.position_ids"]
    commit = hub.add(BERT, contents[BERT] | {"model.safetensors": save(changed)}, revision="v2")
    old, by_name, by_commit = (Bert.from_preset(f"hf://{BERT}{at}") for at in ("", "@v2", f"@{commit}"))
    same(by_name.get_weights(), by_commit.get_weights(), tolerance=0)
    same(by_name.get_weights(), [weight + 1 for weight in old.get_weights()])
    with refused(f"hf://{BERT}@v3", "Revision Not Found"):
        Bert.from_preset(f"hf://{BERT}@v3")


def test_what_the_hub_refuses_is_said(hub, refused, monkeypatch, tmp_path):
    with refused("hf://nobody/nothing", "Repository Not Found"):
        Bert.from_preset("hf://nobody/nothing")
    hub.gated.add(BERT)
    with refused(f"hf://{BERT}", "gated"):
        Bert.from_preset(f"hf://{BERT}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    assert Bert.from_preset(f"hf://{BERT}").config.hidden_dim == 8
    hub.refusals = [429] * 9
    with pytest.raises(ConnectionError, match="429"):
        GPT2.from_preset(f"hf://{GPT}")
    hub.refusals, hub.html = [], True
    with refused("answers of a hub", GPT):
        GPT2.from_preset(f"hf://{GPT}")
    assert not [*(tmp_path / "cache").glob("models--openai*/snapshots/*/*")]


def test_a_file_with_a_page_in_place_of_weights_or_outside_of_the_folder_is_refused(hub, contents, refused, tmp_path):
    hub.add("owner/page", contents[BERT] | {"model.safetensors": b"<html>Log in</html>"})
    with refused("model.safetensors", "broken"):
        Bert.from_preset("hf://owner/page")
    hub.add("owner/evil", contents[BERT] | {"../../../../evil.json": b"{}"})
    with refused("owner/evil"):
        Bert.from_preset("hf://owner/evil")
    assert not [*tmp_path.rglob("evil.json")]


def test_upload_and_download(hub, monkeypatch, refused):
    classifier = tiny_models.text_classifier()
    classifier.build()
    with pytest.raises(PermissionError, match=r"HF_TOKEN"):
        push_to_hub(classifier, "me/reviews")
    monkeypatch.setenv("HF_TOKEN", "hf_of_mine")
    address = push_to_hub(classifier, "me/reviews", figures={"accuracy": "0.83 ± 0.01 (three seeds)"}, licence="mit")
    assert address == f"{hub.url}/me/reviews/commit/{hub.branches['me/reviews', 'main']}"
    files = hub.repositories["me/reviews"][hub.branches["me/reviews", "main"]]
    assert files.keys() == {"README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    card = files["README.md"].decode()
    assert "license: mit" in card and "| accuracy | 0.83 ± 0.01 (three seeds) |" in card
    again = TextClassifier.from_preset("hf://me/reviews")
    same(again.get_weights(), classifier.get_weights(), tolerance=0)
    assert again.names == classifier.names
    weights = classifier.get_weights()
    classifier.set_weights([weight + 1 for weight in weights])
    push_to_hub(classifier, "me/reviews", dtype="float16")
    same(TextClassifier.from_preset("hf://me/reviews").get_weights(), [w + 1 for w in weights], tolerance=1e-2)
    for name in ("a/b/c", "me/with space"):
        with refused("owner/name", name):
            push_to_hub(classifier, name)


def test_a_card_says_what_is_known_and_what_is_not():
    model = tiny_models.text_classifier()
    card = model_card(model, "me/reviews", data="Film reviews.", limits="English only.", licence="apache-2.0")
    header, _, text = card.removeprefix("---\n").partition("\n---\n")
    for line in ("license: apache-2.0", "library_name: transformers", "pipeline_tag: text-classification"):
        assert line in header.split("\n"), line
    assert "## Training\n\nNot stated." in text and "## Data\n\nFilm reviews." in text
    assert f"{model.count_params():,} weights" in text and "bad, good, neither" in text
    assert 'TextClassifier.from_preset("hf://me/reviews")' in text
    assert 'BertForSequenceClassification.from_pretrained("me/reviews")' in text
    own = model_card(tiny_models.seq2seq_lm(), "me/translator")
    assert "transformers" not in own and 'Seq2SeqLM.from_preset("hf://me/translator")' in own


def test_a_process_of_its_own_finds_the_hub_by_its_environment(hub, tmp_path):
    program = f"from course_lib import Bert; print(Bert.from_preset('hf://{BERT}').config.hidden_dim)"
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "own"), "HF_HUB_DISABLE_XET": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=os.environ | own, capture_output=True, text=True)
    assert run.stdout.split() == ["8"], run.stderr
    assert f"GET /api/models/{BERT}/revision/main" in hub.requests
    (snapshot,) = (tmp_path / "own").glob("models--google-bert--bert-base-uncased/snapshots/*")
    assert read_json(snapshot / "config.json")["hidden_size"] == 8
