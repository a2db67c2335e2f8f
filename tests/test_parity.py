"""Live beside `transformers`, KerasHub and Google's code: `make parity`. Measured figures are printed at the end."""

import collections
import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from course_lib import (
    GPT2,
    Bert,
    BertConfig,
    BertPretrainer,
    BytePairTokenizer,
    ChatTokenizer,
    GPT2CausalLM,
    Llama,
    LlamaCausalLM,
    OpenAIGPT,
    OpenAIGPTCausalLM,
    Roberta,
    RobertaConfig,
    RobertaTokenizer,
    WordPieceTokenizer,
    assets,
)
from course_lib.data import reviews
from course_lib.generation.samplers import BeamSearch, MinP, Sampler, TopK, TopP
from course_lib.models.classifiers import TextClassifier, TokenClassifier
from course_lib.models.sentence_encoder import SentenceEncoder
from course_lib.text.word_alignment import pack_words

pytestmark = [pytest.mark.parity, pytest.mark.one_backend]

NAME = "all-MiniLM-L6-v2"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"the a dog cat sat on Moon é 猫 ! , ##s ##ing".split()]
TEXTS = ["The dogs sat, on a moon!", "a cat, unknown", "[MASK] 猫 sating É"]
PAIRS = ["a dog", "the Moon the cat the dogs", "!"]
GRID = [
    {},
    {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    {"hidden_act": "gelu_pytorch_tanh", "type_vocab_size": 1},
    {"hidden_act": "quick_gelu", "type_vocab_size": 4, "num_attention_heads": 1},
    {"hidden_act": "relu", "num_hidden_layers": 1, "num_attention_heads": 8},
    {"hidden_act": "relu6", "layer_norm_eps": 1e-2},
    {"hidden_act": "silu", "num_hidden_layers": 4},
    {"hidden_act": "mish", "intermediate_size": 8},
    {"hidden_act": "tanh", "hidden_size": 24, "num_attention_heads": 3},
    {"hidden_act": "sigmoid", "vocab_size": 64},
    {"hidden_act": "gelu_fast", "max_position_embeddings": 64},
    {"hidden_act": "gelu_python", "num_attention_heads": 4},
    {"hidden_act": "linear", "hidden_dropout_prob": 0.3},
]


@pytest.fixture(scope="module")
def transformers():
    module = pytest.importorskip("transformers")
    module.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="module")
def figures(request):
    """Figures to be reported, by name; pytest's terminal shows them at the end."""
    found = {}
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        for name, value in found.items():
            print(f"{name}: {value:.2g}")


def torch_inputs(batch, segments=2):
    import torch

    names = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "padding_mask"}
    inputs = {theirs: torch.from_numpy(batch[ours]).long() for theirs, ours in names.items()}
    inputs["token_type_ids"] %= segments
    return inputs


def run(model, batch, segments=2):
    import torch

    with torch.no_grad():
        return model.eval()(**torch_inputs(batch, segments))


def difference(a, b):
    return float(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")).max())


@pytest.fixture(scope="module")
def batches():
    """200 real sentences in batches of 20, as they come, so that short ones stand beside long ones."""
    texts = reviews.rotten_tomatoes().test.texts[:200]
    tokenizer = WordPieceTokenizer.from_preset(assets.fetch(NAME))
    return [tokenizer(texts[start : start + 20]) for start in range(0, 200, 20)]


def test_the_real_model_on_real_sentences(transformers, batches, figures):
    ours = Bert.from_preset(NAME)
    theirs = transformers.AutoModel.from_pretrained(assets.fetch(NAME))
    exact = transformers.AutoModel.from_pretrained(assets.fetch(NAME)).double()
    between, our_error, their_error = [], [], []
    for batch in batches:
        tokens = batch["padding_mask"] == 1
        assert not tokens.all()
        outputs = [
            np.asarray(output)[tokens]
            for output in (
                ours(batch)["sequence_output"],
                run(theirs, batch).last_hidden_state,
                run(exact, batch).last_hidden_state,
            )
        ]
        between.append(difference(outputs[0], outputs[1]))
        our_error.append(difference(outputs[0], outputs[2]))
        their_error.append(difference(outputs[1], outputs[2]))
    figures["last_hidden_state of 200 sentences, ours against Hugging Face"] = max(between)
    figures["… ours against float64"] = max(our_error)
    figures["… Hugging Face against float64"] = max(their_error)
    assert max(between) < 5e-5
    assert max(our_error) < 2 * max(their_error)


def test_sentence_vectors(figures):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = reviews.rotten_tomatoes().test.texts[:200]
    theirs = sentence_transformers.SentenceTransformer(str(assets.fetch(NAME)), device="cpu")
    figures["sentence vectors, ours against sentence-transformers"] = error = difference(
        SentenceEncoder.from_preset(NAME).encode(texts), theirs.encode(texts, normalize_embeddings=True)
    )
    assert error < 1e-5


def test_keras_hub_on_the_same_folder(batches, figures):
    """KerasHub computes GELU by its approximation whatever the config says; with that, ours is equal."""
    keras_hub = pytest.importorskip("keras_hub")
    ours, theirs = Bert.from_preset(NAME), keras_hub.models.BertBackbone.from_preset(str(assets.fetch(NAME)))
    approximate = Bert(dataclasses.replace(ours.config, activation="gelu_approximate"))
    approximate.build()
    approximate.set_weights(ours.get_weights())
    for name, model in (("as published", ours), ("with the approximate GELU", approximate)):
        errors = []
        for batch in batches[:3]:
            tokens = batch["padding_mask"] == 1
            expected, outputs = theirs(batch), model(batch)
            errors.append(difference(outputs["sequence_output"][tokens], expected["sequence_output"][tokens]))
            errors.append(difference(outputs["pooled_output"], expected["pooled_output"]))
        figures[f"{NAME} {name}, ours against KerasHub"] = max(errors)
    assert max(errors) < 5e-5


def random_model(transformers, model_class, config):
    """With weights so large that every part matters, and a tokenizer, written into a folder."""
    import torch

    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 32}
    model = getattr(transformers, model_class)(transformers.BertConfig(**sizes | config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model.eval()


def compare(ours, theirs, batch, segments, where, figures):
    """The largest difference between all outputs that both have."""
    expected = run(theirs, batch, segments)
    expected = {
        "sequence_output": expected.get("last_hidden_state"),
        "pooled_output": expected.get("pooler_output"),
        "mlm_logits": expected.get("prediction_logits", expected.get("logits")),
        "nsp_logits": expected.get("seq_relationship_logits"),
    }
    outputs = ours(batch | {"segment_ids": batch["segment_ids"] % segments})
    assert outputs.keys() == {name for name, value in expected.items() if value is not None}
    tokens = batch["padding_mask"] == 1
    for name, output in outputs.items():
        chosen = tokens if output.ndim == 3 else slice(None)
        error = difference(np.asarray(output)[chosen], expected[name][chosen])
        figures[where] = max(error, figures.get(where, 0))
        assert error < 1e-5, name


@pytest.mark.parametrize("config", GRID, ids=lambda config: "-".join(map(str, config.values())) or "default")
@pytest.mark.parametrize("model_class", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_import_and_export(transformers, tmp_path, model_class, config, figures):
    theirs = random_model(transformers, model_class, config)
    segments = theirs.config.type_vocab_size
    theirs.save_pretrained(tmp_path / "theirs")
    transformers.BertTokenizer({word: i for i, word in enumerate(WORDS)}).save_pretrained(tmp_path / "theirs")
    ours = (Bert if model_class == "BertModel" else BertPretrainer).from_preset(tmp_path / "theirs")
    batch = getattr(ours, "backbone", ours).tokenizer(TEXTS, PAIRS)
    compare(ours, theirs, batch, segments, f"imported {model_class}", figures)

    for weight in ours.trainable_weights:  # so that what comes back is what was saved
        weight.assign(weight * 0.9)
    ours.save_to_preset(tmp_path / "ours")
    loaded, report = getattr(transformers, model_class).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    compare(ours, loaded, batch, segments, f"exported {model_class}", figures)
    assert loaded.config.hidden_dropout_prob == theirs.config.hidden_dropout_prob


def test_export_of_a_model_without_pooler(transformers, tmp_path, figures):
    ours = Bert(BertConfig(len(WORDS), 2, 2, 16, 24, 32, pooler=False), WordPieceTokenizer(WORDS))
    ours.save_to_preset(tmp_path)
    loaded = transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    compare(ours, loaded, ours.tokenizer(TEXTS, PAIRS), 2, "exported BertModel", figures)


def test_untied_heads_both_ways(transformers, tmp_path, figures):
    theirs = random_model(transformers, "BertForMaskedLM", {"tie_word_embeddings": False})
    theirs.save_pretrained(tmp_path / "theirs")
    WordPieceTokenizer(WORDS).save(tmp_path / "theirs")
    ours = BertPretrainer.from_preset(tmp_path / "theirs")
    batch = ours.backbone.tokenizer(TEXTS, PAIRS)
    compare(ours, theirs, batch, 2, "imported BertForMaskedLM, untied", figures)
    ours.save_to_preset(tmp_path / "ours")
    loaded = transformers.BertForMaskedLM.from_pretrained(tmp_path / "ours")
    compare(ours, loaded, batch, 2, "exported BertForMaskedLM, untied", figures)


@pytest.mark.parametrize(
    "variant",
    [{}, {"lowercase": False}, {"lowercase": False, "strip_accents": True}, {"split_chinese": False}],
    ids=str,
)
def test_an_exported_tokenizer_gives_the_same_ids_there(transformers, tmp_path, variant):
    ours = WordPieceTokenizer(WORDS, **variant)
    Bert(BertConfig(len(WORDS), 1, 2, 16, 24, 32), ours).save_to_preset(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch, expected = ours(TEXTS, PAIRS), theirs(TEXTS, PAIRS, padding=True, return_tensors="np")
    assert np.array_equal(batch["token_ids"], expected["input_ids"])
    assert np.array_equal(batch["segment_ids"], expected["token_type_ids"])
    assert np.array_equal(batch["padding_mask"], expected["attention_mask"])


def test_the_tokenizer_on_the_reviews(transformers):
    theirs = transformers.AutoTokenizer.from_pretrained(assets.fetch(NAME))
    ours = WordPieceTokenizer.from_preset(assets.fetch(NAME))
    texts = reviews.rotten_tomatoes().test.texts
    assert [ours.encode(text) for text in texts] == theirs(texts, truncation=False)["input_ids"]


def test_a_task_exported_whole_serves_as_a_plain_encoder_there(transformers, tmp_path, figures):
    ours = SentenceEncoder(Bert(BertConfig(len(WORDS), 2, 2, 16, 24, 32), WordPieceTokenizer(WORDS)))
    ours.save_to_preset(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(tmp_path)
    batch = ours.backbone.tokenizer(TEXTS, PAIRS)
    compare(ours.backbone, loaded, batch, 2, "exported BertModel", figures)


# RoBERTa

ROBERTA_TEXTS = ["The dogs sat, on a moon!", "naïve 狗 ☕ <mask>", "a<mask> cat"]
ROBERTA_CLASSES = {
    "RobertaModel": Bert,
    "RobertaForMaskedLM": BertPretrainer,
    "RobertaForSequenceClassification": TextClassifier,
    "RobertaForTokenClassification": TokenClassifier,
}


def compare_roberta(ours, theirs, batch, where, figures):
    with torch_no_grad():
        names = {"input_ids": "token_ids", "attention_mask": "padding_mask"}
        expected = theirs.eval()(**{name: to_torch(batch[key]) for name, key in names.items()})
    tokens = batch["padding_mask"] == 1
    outputs = ours(batch)
    if isinstance(ours, Bert):
        pairs = [(outputs["sequence_output"], expected.last_hidden_state)]
        assert difference(outputs["pooled_output"], expected.pooler_output) < 1e-5
    else:
        pairs = [(outputs["mlm_logits"] if isinstance(outputs, dict) else outputs, expected.logits)]
    for output, their_output in pairs:
        chosen = tokens if output.ndim == 3 else ...
        error = difference(np.asarray(output)[chosen], their_output.numpy()[chosen])
        figures[where] = max(error, figures.get(where, 0))
        assert error < 1e-5


def torch_no_grad():
    import torch

    return torch.no_grad()


def to_torch(array):
    import torch

    return torch.from_numpy(array).long()


@pytest.mark.parametrize("model_class", ROBERTA_CLASSES)
@pytest.mark.parametrize(
    "changes", [{}, {"type_vocab_size": 2, "layer_norm_eps": 1e-2, "num_hidden_layers": 1}], ids=str
)
def test_roberta_both_ways(transformers, tmp_path, model_class, changes, figures):
    import torch

    torch.manual_seed(0)
    tokenizer = RobertaTokenizer.train(ROBERTA_TEXTS, 280)
    sizes = {"vocab_size": tokenizer.vocabulary_size, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 66, "type_vocab_size": 1}
    labels = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    theirs = getattr(transformers, model_class)(transformers.RobertaConfig(**sizes | labels | changes))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    batch, expected = tokenizer(ROBERTA_TEXTS, PAIRS), their_tokenizer(ROBERTA_TEXTS, PAIRS, padding=True)
    assert batch["token_ids"].tolist() == expected["input_ids"]
    ours = ROBERTA_CLASSES[model_class].from_preset(tmp_path / "theirs")
    compare_roberta(ours, theirs, batch, f"imported {model_class}", figures)
    for weight in ours.trainable_weights:
        weight.assign(weight * 0.9)
    ours.save_to_preset(tmp_path / "ours")
    loaded, report = getattr(transformers, model_class).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    compare_roberta(ours, loaded, batch, f"exported {model_class}", figures)


def test_robertas_words_get_the_pieces_that_they_get_there(transformers, tmp_path):
    tokenizer = RobertaTokenizer.train(ROBERTA_TEXTS, 280)
    prefixed = RobertaTokenizer(tokenizer.vocabulary, tokenizer.merges, add_prefix_space=True)
    prefixed.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    sentences = [["The", "dogs", "sat", ","], ["naïve", "cat"]]
    expected = theirs(sentences, is_split_into_words=True, padding=True)
    assert pack_words(prefixed, sentences)["token_ids"].tolist() == expected["input_ids"]
    assert prefixed(ROBERTA_TEXTS)["token_ids"].tolist() == theirs(ROBERTA_TEXTS, padding=True)["input_ids"]


# Google's own code


@pytest.mark.parametrize("changes", [{}, {"num_segments": 1, "num_layers": 3}, {"activation": "relu"}], ids=str)
def test_googles_own_code_on_what_we_save(tmp_path, changes, figures):
    for package in ("bert", "tf_keras", "tf_slim"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 24, "max_sequence_length": 32}
    config = BertConfig(len(WORDS), **sizes | {"activation": "gelu_approximate"} | changes)
    model = BertPretrainer(Bert(config, WordPieceTokenizer(WORDS)))
    model.build()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(float(w.ndim == 1), 0.3, w.shape) for w in model.get_weights()])
    model.save_to_preset(tmp_path / "ours", layout="google")
    batch = model.tokenizer(TEXTS, PAIRS)
    batch["segment_ids"] %= config.num_segments
    np.savez(tmp_path / "inputs.npz", **batch)
    script = pathlib.Path(__file__).parent / "golden" / "make_google_bert.py"
    command = [sys.executable, script, tmp_path / "ours", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    subprocess.run(command, check=True, capture_output=True)
    expected, tokens = np.load(tmp_path / "outputs.npz"), batch["padding_mask"] == 1
    encoded, outputs = model.backbone(batch), model(batch)
    errors = [
        difference(np.asarray(encoded["sequence_output"])[tokens], expected["sequence_output"][tokens]),
        difference(encoded["pooled_output"], expected["pooled_output"]),
    ]
    for ours, theirs, chosen in (("mlm_logits", "mlm_log_probs", tokens), ("nsp_logits", "nsp_log_probs", ...)):
        logits = np.asarray(outputs[ours], "float64")[chosen]
        errors.append(difference(logits - np.logaddexp.reduce(logits, -1, keepdims=True), expected[theirs][chosen]))
    figures["exported to Google's layout, ours against Google's code"] = max(errors)
    assert max(errors) < 1e-5


# GPT-2

GPT_WORDS = ["The cat sat on the mat, didn't it?", "naïve 狗 ☕", "a dog<|endoftext|>Once upon"]
GPT_GRID = [
    {},
    {"n_inner": 12, "activation_function": "relu"},
    {"scale_attn_weights": False, "activation_function": "gelu"},
    {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
    {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "n_head": 4},
    {"layer_norm_epsilon": 1e-2, "activation_function": "silu"},
    {"activation_function": "quick_gelu", "n_head": 1, "n_embd": 24},
    {"activation_function": "gelu_pytorch_tanh", "n_positions": 64},
    {"activation_function": "tanh", "n_layer": 1, "reorder_and_upcast_attn": True},
    {"resid_pdrop": 0.3, "embd_pdrop": 0.0, "attn_pdrop": 0.2},
]


@pytest.fixture(scope="module")
def gpt2_folder(transformers, tmp_path_factory):
    """A GPT-2 of the published size, 124 million weights, as Hugging Face draws them; with the real vocabulary."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
    BytePairTokenizer.from_preset("gpt2-vocabulary").save(folder)
    return folder


@pytest.fixture(scope="module")
def review_starts():
    """The beginnings of 20 reviews, of different lengths."""
    tokenizer = BytePairTokenizer.from_preset("gpt2-vocabulary")
    return [tokenizer.encode(text)[: 5 + index] for index, text in enumerate(reviews.imdb().test.texts[:20])]


def gpt2_inputs(batch):
    import torch

    names = {"input_ids": "token_ids", "attention_mask": "padding_mask"}
    return {theirs: torch.from_numpy(batch[ours]).long() for theirs, ours in names.items()}


def run_gpt2(model, batch):
    import torch

    with torch.no_grad():
        return model.eval()(**gpt2_inputs(batch))


def test_gpt2_of_the_published_size(transformers, gpt2_folder, figures):
    lm = GPT2CausalLM.from_preset(gpt2_folder)
    assert lm.count_params() > 124e6
    texts = reviews.imdb().test.texts[:8]
    batches = [lm.tokenizer(texts[start : start + 4], max_length=length) for start, length in ((0, 64), (4, 200))]
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder)
    compare_logits(lm, theirs, batches, "GPT-2, 124 M weights", figures)


def compare_logits(lm, theirs, batches, model, figures):
    """Beside Hugging Face, and both beside float64."""
    between, our_error, their_error = [], [], []
    outputs = [run_gpt2(theirs, batch).logits.numpy() for batch in batches]
    theirs = theirs.double()
    for batch, their_logits in zip(batches, outputs, strict=True):
        tokens = batch["padding_mask"] == 1
        exact = run_gpt2(theirs, batch).logits.numpy()[tokens]
        logits, their_logits = np.asarray(lm(batch))[tokens], their_logits[tokens]
        between.append(difference(logits, their_logits))
        our_error.append(difference(logits, exact))
        their_error.append(difference(their_logits, exact))
    figures[f"logits of {model}, ours against Hugging Face"] = max(between)
    figures[f"… of {model}, ours against float64"] = max(our_error)
    figures[f"… of {model}, Hugging Face against float64"] = max(their_error)
    assert max(between) < 5e-5
    assert max(our_error) < 2 * max(their_error)


def test_gpt2_continues_as_there(transformers, gpt2_folder, review_starts):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder)
    compare_continuations(GPT2CausalLM.from_preset(gpt2_folder), theirs, review_starts, 16)


def compare_continuations(lm, theirs, prompts, new_tokens):
    import torch

    theirs.eval()
    ours = lm.generate(prompts, new_tokens, ignore_end=True)
    lengths = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
    for prompt, continuation in zip(prompts, ours, strict=True):
        inputs = torch.tensor([prompt])
        expected = theirs.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, **lengths)
        assert continuation == expected[0, len(prompt) :].tolist()


def random_gpt2(transformers, model_class, config, folder, **sizes):
    """With weights so large that every part matters, and a tokenizer, written into a folder."""
    import torch

    torch.manual_seed(0)
    tokenizer = BytePairTokenizer.train(GPT_WORDS * 2, 280)
    sizes = {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 48,
        "vocab_size": tokenizer.vocabulary_size,
    } | sizes
    special = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.end_token_id)
    model = getattr(transformers, model_class)(transformers.GPT2Config(**sizes | special | config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model.eval()


def compare_gpt2(ours, theirs, where, figures, texts=GPT_WORDS):
    batch = ours.tokenizer(texts)
    tokens = batch["padding_mask"] == 1
    found = ours(batch) if hasattr(ours, "backbone") else ours(batch)["sequence_output"]
    key = "logits" if hasattr(ours, "backbone") else "last_hidden_state"
    error = difference(np.asarray(found)[tokens], run_gpt2(theirs, batch)[key].numpy()[tokens])
    figures[where] = max(error, figures.get(where, 0))
    assert figures[where] < 1e-5


@pytest.mark.parametrize("config", GPT_GRID, ids=lambda config: "-".join(map(str, config.values())) or "default")
@pytest.mark.parametrize("model_class", ["GPT2Model", "GPT2LMHeadModel"])
def test_import_and_export_of_gpt2(transformers, tmp_path, model_class, config, figures):
    theirs = random_gpt2(transformers, model_class, config, tmp_path / "theirs")
    ours = (GPT2 if model_class == "GPT2Model" else GPT2CausalLM).from_preset(tmp_path / "theirs")
    compare_gpt2(ours, theirs, f"imported {model_class}", figures)

    for weight in ours.trainable_weights:  # so that what comes back is what was saved
        weight.assign(weight * 0.9)
    ours.save_to_preset(tmp_path / "ours")
    loaded, report = getattr(transformers, model_class).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    compare_gpt2(ours, loaded, f"exported {model_class}", figures)
    for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "eos_token_id", "bos_token_id"):
        assert getattr(loaded.config, name) == getattr(theirs.config, name), name
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")(GPT_WORDS)["input_ids"] == [
        getattr(ours, "backbone", ours).tokenizer.encode(text) for text in GPT_WORDS
    ]


def test_keras_hub_on_the_same_gpt2(transformers, tmp_path, figures):
    keras_hub = pytest.importorskip("keras_hub")
    random_gpt2(transformers, "GPT2LMHeadModel", {}, tmp_path)
    ours, theirs = GPT2.from_preset(tmp_path), keras_hub.models.GPT2Backbone.from_preset(str(tmp_path))
    batch = ours.tokenizer(GPT_WORDS)
    figures["sequence output of GPT-2, ours against KerasHub"] = error = difference(
        ours(batch)["sequence_output"], theirs(batch)
    )
    assert error < 1e-5


@pytest.mark.parametrize(("beams", "length_penalty"), [(2, 1.0), (4, 0.3), (3, 2.0)])
def test_beams_find_what_they_find_there(transformers, tmp_path, beams, length_penalty):
    import torch

    theirs = random_gpt2(transformers, "GPT2LMHeadModel", {}, tmp_path, vocab_size=280)
    lm, rng = GPT2CausalLM.from_preset(tmp_path), np.random.default_rng(0)
    prompts = [rng.integers(6, 280, length).tolist() for length in range(1, 11)]
    whole = lm.generate(prompts, 8, BeamSearch(beams, length_penalty))
    end = collections.Counter(token for row in whole for token in row[2:]).most_common(1)[0][0]  # so that beams do end
    lm.backbone.tokenizer.end_token_id = end
    ours = lm.generate(prompts, 8, BeamSearch(beams, length_penalty))
    assert any(len(row) < 8 for row in ours)
    for prompt, continuation in zip(prompts, ours, strict=True):
        inputs = torch.tensor([prompt])
        options = {"num_beams": beams, "length_penalty": length_penalty, "early_stopping": "never"}
        expected = theirs.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=8,
            pad_token_id=0,
            eos_token_id=end,
            do_sample=False,
            **options,
        )
        expected = expected[0, len(prompt) :].tolist()
        assert continuation == (expected[: expected.index(end)] if end in expected else expected)


# The first GPT

NASTY_TEXTS = [
    "The cat sat on the mat, didn't it?",
    "ÉCOLE  Straße\tİstanbul\n\nǅ ﬁn e\u0301 n\u0303o",
    "naïve 狗☕ 🐕‍🦺 <unk>x<unk> <UNK> </w> a</w>b",
    "\x00\u200b\ufffd\u00a0a\u2028b 3.14 --!!",
]
OPENAI_GRID = [
    {},
    {"afn": "relu", "n_layer": 3},
    {"afn": "silu", "n_head": 4},
    {"layer_norm_epsilon": 1e-2, "n_head": 1, "n_embd": 24},
    {"afn": "swish", "n_positions": 96, "resid_pdrop": 0.3, "embd_pdrop": 0.0, "attn_pdrop": 0.2},
]


def openai_tokenizer(transformers):
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    bpe.normalizer = tokenizers.normalizers.BertNormalizer()
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=100, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(NASTY_TEXTS[:2] * 2, trainer)
    learned = json.loads(bpe.to_str())["model"]
    return transformers.OpenAIGPTTokenizer(vocab=learned["vocab"], merges=list(map(tuple, learned["merges"])))


@pytest.fixture(scope="module")
def openai_folder(transformers, tmp_path_factory):
    """A GPT of the published size, 117 million weights, as Hugging Face draws them; with a small vocabulary."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("openai-gpt")
    transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig()).save_pretrained(folder)
    openai_tokenizer(transformers).save_pretrained(folder)
    return folder


def test_the_first_gpt_of_the_published_size(transformers, openai_folder, figures):
    lm, rng = OpenAIGPTCausalLM.from_preset(openai_folder), np.random.default_rng(0)
    assert lm.count_params() > 116e6
    batches = []
    for length in (64, 200):
        is_token = (np.arange(length) < rng.integers(length // 2, length, (4, 1))).astype("int32")
        batches.append({"token_ids": rng.integers(0, 40478, is_token.shape, "int32"), "padding_mask": is_token})
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(openai_folder)
    compare_logits(lm, theirs, batches, "the first GPT, 117 M weights", figures)


def test_the_first_gpt_continues_as_there(transformers, openai_folder):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 40478, 5 + index).tolist() for index in range(20)]
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(openai_folder)
    compare_continuations(OpenAIGPTCausalLM.from_preset(openai_folder), theirs, prompts, 8)


@pytest.mark.parametrize("config", OPENAI_GRID, ids=lambda config: "-".join(map(str, config.values())) or "default")
@pytest.mark.parametrize("model_class", ["OpenAIGPTModel", "OpenAIGPTLMHeadModel"])
def test_import_and_export_of_the_first_gpt(transformers, tmp_path, model_class, config, figures):
    import torch

    torch.manual_seed(0)
    tokenizer = openai_tokenizer(transformers)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": len(tokenizer)}
    theirs = getattr(transformers, model_class)(transformers.OpenAIGPTConfig(**sizes | config))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    ours = (OpenAIGPT if model_class == "OpenAIGPTModel" else OpenAIGPTCausalLM).from_preset(tmp_path / "theirs")
    compare_gpt2(ours, theirs, f"imported {model_class}", figures, NASTY_TEXTS)

    for weight in ours.trainable_weights:  # so that what comes back is what was saved
        weight.assign(weight * 0.9)
    ours.save_to_preset(tmp_path / "ours")
    loaded, report = getattr(transformers, model_class).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    compare_gpt2(ours, loaded, f"exported {model_class}", figures, NASTY_TEXTS)
    for name in ("afn", "attn_pdrop", "embd_pdrop", "resid_pdrop", "eos_token_id"):
        assert getattr(loaded.config, name) == {"swish": "silu"}.get(old := getattr(theirs.config, name), old), name
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for ids in (tokenizer(NASTY_TEXTS)["input_ids"], exported(NASTY_TEXTS)["input_ids"]):
        assert ids == [getattr(ours, "backbone", ours).tokenizer.encode(text) for text in NASTY_TEXTS]


# Samplers


def test_samplers_draw_from_the_distributions_there(transformers):
    import torch
    from transformers.generation import logits_process

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 400)).astype("float32") * 3
    prompt = rng.integers(0, 400, (8, 30))
    seen = np.zeros((8, 400), bool)
    seen[np.arange(8)[:, None], prompt] = True
    for sampler, processors in (
        (Sampler(0.7), [logits_process.TemperatureLogitsWarper(0.7)]),
        (TopK(20), [logits_process.TopKLogitsWarper(20)]),
        (TopP(0.8), [logits_process.TopPLogitsWarper(0.8)]),
        (MinP(0.1), [logits_process.MinPLogitsWarper(0.1)]),
        (Sampler(repetition_penalty=1.7), [logits_process.RepetitionPenaltyLogitsProcessor(1.7)]),
        (
            Sampler(1.5, top_k=50, top_p=0.9, min_p=0.05, repetition_penalty=0.8),
            [
                logits_process.RepetitionPenaltyLogitsProcessor(0.8),
                logits_process.TemperatureLogitsWarper(1.5),
                logits_process.TopKLogitsWarper(50),
                logits_process.TopPLogitsWarper(0.9),
                logits_process.MinPLogitsWarper(0.05),
            ],
        ),
    ):
        scores = torch.from_numpy(logits)
        for processor in processors:
            scores = processor(torch.from_numpy(prompt), scores)
        probabilities = np.asarray(sampler.probabilities(logits, seen))
        assert difference(probabilities, scores.softmax(-1)) < 1e-6
        assert np.array_equal(probabilities > 0, scores.numpy() > -np.inf)


# Classifiers

NAMES = {"id2label": {0: "cold", 1: "warm", 2: "wet"}, "label2id": {"cold": 0, "warm": 1, "wet": 2}}


def compare_classifiers(ours, theirs, batch, segments, figures, where):
    run_theirs = run_gpt2 if segments is None else lambda *arguments: run(*arguments, segments)
    if segments is not None:
        batch = batch | {"segment_ids": batch["segment_ids"] % segments}
    logits, expected = np.asarray(ours(batch)), run_theirs(theirs, batch).logits.numpy()
    chosen = batch["padding_mask"] == 1 if logits.ndim == 3 else slice(None)
    figures[where] = max(difference(logits[chosen], expected[chosen]), figures.get(where, 0))
    assert figures[where] < 1e-5


def exported(transformers, ours, theirs, folder):
    """The other library's model of what ours becomes with other weights."""
    for weight in ours.trainable_weights:  # so that what comes back is what was saved
        weight.assign(weight * 0.9)
    ours.save_to_preset(folder)
    loaded, report = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert (loaded.config.id2label, loaded.config.label2id) == (NAMES["id2label"], NAMES["label2id"])
    return loaded


@pytest.mark.parametrize("config", GRID[::3], ids=lambda config: "-".join(map(str, config.values())) or "default")
@pytest.mark.parametrize("head", [TextClassifier, TokenClassifier])
def test_import_and_export_of_classifiers(transformers, tmp_path, head, config, figures):
    kind = "Sequence" if head is TextClassifier else "Token"
    theirs = random_model(transformers, f"BertFor{kind}Classification", config | NAMES)
    theirs.save_pretrained(tmp_path / "theirs")
    WordPieceTokenizer(WORDS).save(tmp_path / "theirs")
    ours, segments = head.from_preset(tmp_path / "theirs"), theirs.config.type_vocab_size
    assert ours.names == ("cold", "warm", "wet")
    batch = ours.backbone.tokenizer(TEXTS, PAIRS)
    compare_classifiers(ours, theirs, batch, segments, figures, f"imported BertFor{kind}Classification")
    loaded = exported(transformers, ours, theirs, tmp_path / "ours")
    compare_classifiers(ours, loaded, batch, segments, figures, f"exported BertFor{kind}Classification")


@pytest.mark.parametrize("family", ["GPT2", "OpenAIGPT"])
def test_import_and_export_of_classifiers_on_gpt(transformers, tmp_path, family, figures):
    import torch

    if family == "GPT2":
        theirs = random_gpt2(transformers, "GPT2ForSequenceClassification", NAMES, tmp_path / "theirs")
        theirs.config.pad_token_id = theirs.config.eos_token_id
    else:
        tokenizer = openai_tokenizer(transformers)
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": len(tokenizer)}
        config = transformers.OpenAIGPTConfig(**sizes | NAMES, pad_token_id=tokenizer.unk_token_id)
        theirs = transformers.OpenAIGPTForSequenceClassification(config).eval()
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
        theirs.save_pretrained(tmp_path / "theirs")
        tokenizer.save_pretrained(tmp_path / "theirs")
    ours = TextClassifier.from_preset(tmp_path / "theirs")
    batch = ours.backbone.tokenizer(["the cat sat on the mat", "the mat", "on"])  # none ends in what is padded with
    compare_classifiers(ours, theirs, batch, None, figures, f"imported {family}ForSequenceClassification")
    loaded = exported(transformers, ours, theirs, tmp_path / "ours")
    compare_classifiers(ours, loaded, batch, None, figures, f"exported {family}ForSequenceClassification")


def test_a_pipeline_there_says_what_ours_says(transformers, tmp_path):
    backbone = Bert(BertConfig(len(WORDS), 2, 2, 16, 24, 32, initializer_range=0.5), WordPieceTokenizer(WORDS))
    ours = TextClassifier(backbone, ["cold", "warm", "wet"], "pooled")
    ours.save_to_preset(tmp_path)
    found = transformers.pipeline("text-classification", str(tmp_path))(TEXTS)
    for prediction, expected in zip(ours.predict(TEXTS, verbose=0), found, strict=True):
        assert prediction.label == expected["label"] and abs(prediction.probability - expected["score"]) < 1e-5


def randomized(model):
    """With weights so large that its answers differ."""
    model.build()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(float(w.ndim == 1), 0.4, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_pipelines_there_for_masks_and_entities_answer_as_ours(transformers, tmp_path, kind):
    if kind == "bert":
        tokenizer, config_class, backbone_class = WordPieceTokenizer(WORDS), BertConfig, Bert
    else:
        tokenizer = RobertaTokenizer(*pair_pieces(), add_prefix_space=True)
        config_class, backbone_class = RobertaConfig, Roberta
    config = config_class(tokenizer.vocabulary_size, 2, 2, 16, 24, 64)
    lm = randomized(BertPretrainer(backbone_class(config, tokenizer)))
    lm.save_to_preset(tmp_path / "lm")
    mask = tokenizer.vocabulary[tokenizer.mask_token_id]
    found = transformers.pipeline("fill-mask", str(tmp_path / "lm"))(f"the {mask} sat", top_k=5)
    ours = lm.fill_mask(f"the {mask} sat", top_k=5)
    assert [each["token"] for each in found] == [tokenizer.vocabulary.index(token) for token, _ in ours]
    assert np.abs([each["score"] - score for each, (_, score) in zip(found, ours, strict=True)]).max() < 1e-5

    tagger = randomized(TokenClassifier(backbone_class(config, tokenizer), ["O", "B-x", "I-x"]))
    tagger.save_to_preset(tmp_path / "tagger")
    words = ["the", "dog", "sat", "on", "a", "cat"]
    pipe = transformers.pipeline("token-classification", str(tmp_path / "tagger"), aggregation_strategy="first")
    entities = pipe(" ".join(words))
    labels = [prediction.label for prediction in tagger.predict([words], verbose=0)[0]]
    inside = {name for name in labels if name != "O"}
    assert {entity["entity_group"] for entity in entities} == {name[2:] for name in inside}
    tagged = " ".join(entity["word"].strip() for entity in entities).split()
    assert tagged == [word for word, label in zip(words, labels, strict=True) if label != "O"]


def pair_pieces():
    tokenizer = RobertaTokenizer.train([*ROBERTA_TEXTS, "the dog sat on a cat"], 290)
    return tokenizer.vocabulary, tokenizer.merges


def test_a_model_that_its_trainer_trained_loads_here(transformers, tmp_path):
    import torch

    torch.manual_seed(0)
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    theirs = random_model(transformers, "BertForSequenceClassification", labels)
    tokenizer = transformers.BertTokenizer({word: i for i, word in enumerate(WORDS)})
    rows = [dict(tokenizer(text, padding="max_length", max_length=12), labels=i % 2) for i, text in enumerate(TEXTS)]
    arguments = {"output_dir": str(tmp_path / "runs"), "max_steps": 3, "report_to": [], "use_cpu": True}
    arguments = transformers.TrainingArguments(**arguments, learning_rate=0.01, disable_tqdm=True)
    before = theirs.classifier.weight.detach().clone()
    trainer = transformers.Trainer(theirs, arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(tmp_path / "trained"))
    assert not torch.equal(before, theirs.classifier.weight)
    ours = TextClassifier.from_preset(tmp_path / "trained")
    assert ours.classes == ("bad", "good")
    batch = ours.tokenizer(TEXTS)
    assert difference(ours(batch), run(theirs, batch).logits) < 1e-5


LLAMA_GRID = [
    {},
    {"num_key_value_heads": 1, "rms_norm_eps": 1e-2},
    {"num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": True},
    {"hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 1, "intermediate_size": 24},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}, "max_position_embeddings": 96},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}, "attention_dropout": 0.3},
    {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        }
    },
]


def random_llama(transformers, model_class, config, folder):
    """With weights so large that every part matters, and a tokenizer, written into a folder."""
    import torch

    torch.manual_seed(0)
    trained = BytePairTokenizer.train(GPT_WORDS * 2, 280)
    special = ["<|im_start|>", "<|im_end|>"]
    tokenizer = ChatTokenizer(
        [*trained.vocabulary, *special], trained.merges, special, "<|im_end|>", pre_tokenizer="smollm"
    )
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "intermediate_size": 40}
    sizes |= {"vocab_size": tokenizer.vocabulary_size, "max_position_embeddings": 48}
    ends = {"eos_token_id": tokenizer.end_token_id, "bos_token_id": None}
    model = getattr(transformers, model_class)(transformers.LlamaConfig(**sizes | ends | config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model.eval()


@pytest.mark.parametrize("config", LLAMA_GRID, ids=lambda config: "-".join(config) or "default")
@pytest.mark.parametrize("model_class", ["LlamaModel", "LlamaForCausalLM"])
def test_import_and_export_of_llama(transformers, tmp_path, model_class, config, figures):
    theirs = random_llama(transformers, model_class, config, tmp_path / "theirs")
    ours = (Llama if model_class == "LlamaModel" else LlamaCausalLM).from_preset(tmp_path / "theirs")
    compare_gpt2(ours, theirs, f"imported {model_class}", figures)

    for weight in ours.trainable_weights:  # so that what comes back is what was saved
        weight.assign(weight * 0.9)
    ours.save_to_preset(tmp_path / "ours")
    loaded, report = getattr(transformers, model_class).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    compare_gpt2(ours, loaded, f"exported {model_class}", figures)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")(GPT_WORDS)["input_ids"] == [
        ours.tokenizer.encode(text) for text in GPT_WORDS
    ]


def test_smollm_beside_the_same_file(transformers, figures):
    """Logits within 5e-4, and the same greedy ids on ten beginnings of reviews."""
    import torch

    folder = assets.fetch("smollm2-135m-instruct")
    (path,) = folder.glob("*.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32)
    lm = LlamaCausalLM.from_preset("smollm2-135m-instruct")
    batch = lm.tokenizer(reviews.imdb().test.texts[:4], max_length=100)
    tokens = batch["padding_mask"] == 1
    name = "logits of SmolLM2-135M, ours against Hugging Face"
    figures[name] = difference(np.asarray(lm(batch))[tokens], run_gpt2(theirs, batch).logits.numpy()[tokens])
    assert figures[name] < 5e-4
    prompts = [lm.tokenizer.encode(text)[: 5 + index] for index, text in enumerate(reviews.imdb().test.texts[:10])]
    compare_continuations(lm, theirs, prompts, 16)
