"""Live beside `transformers` and KerasHub: `make parity`. The measured figures are printed at the end."""

import dataclasses

import numpy as np
import pytest

from course_lib import Bert, BertConfig, BertPretrainer, WordPieceTokenizer
from course_lib.data import assets, reviews
from course_lib.heads import SentenceEncoder

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
