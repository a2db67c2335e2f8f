"""RoBERTa in Hugging Face's layout: computed as there, to five digits, saved as there, and its relatives refused."""

import pathlib

import keras
import numpy as np
import pytest
import tiny_models
from layer_checks import compiled, same

from course_lib import (
    Bert,
    BertPretrainer,
    Roberta,
    RobertaTokenizer,
    SentenceEncoder,
    TextClassifier,
    TokenClassifier,
)
from course_lib.checkpoints.files import read_json, read_tensors

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TEXTS = ["The dogs sit under my moon!", "a bird <mask>, unseen.", "naïve 狗 ☕<mask> cat"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]
MODELS = {
    "roberta": Bert,
    "roberta-masked-lm": BertPretrainer,
    "roberta-classifier-of-texts": TextClassifier,
    "roberta-classifier-of-tokens": TokenClassifier,
}


@pytest.mark.parametrize("name", MODELS)
def test_computes_what_hugging_face_computes(name, expected_of, at_tokens):
    inputs, expected = expected_of(name)
    mask = inputs["padding_mask"]
    model = MODELS[name].from_preset(GOLDEN / name)
    backbone = getattr(model, "backbone", model)
    assert type(backbone) is Roberta
    outputs = compiled(lambda inputs: backbone(inputs, return_hidden_states=True))(inputs)
    same(at_tokens(outputs["hidden_states"], mask), at_tokens(expected["hidden_states"], mask))
    if name == "roberta":
        same(outputs["pooled_output"], expected["pooled_output"])
        return
    logits = compiled(model)(inputs)
    if name == "roberta-masked-lm":
        assert logits.keys() == {"mlm_logits"}, "there is no next sentence"
        same(at_tokens(logits["mlm_logits"], mask)[..., ::8], at_tokens(expected["logits"], mask), tolerance=2e-5)
    elif name == "roberta-classifier-of-texts":
        same(logits, expected["logits"], tolerance=2e-5)
    else:
        same(at_tokens(logits, mask), at_tokens(expected["logits"], mask), tolerance=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", MODELS)
def test_saved_as_it_was_published(name, tmp_path, expected_of):
    """What `save_to_preset` writes has the tensors, to the bit, and the config that Hugging Face wrote."""
    model = MODELS[name].from_preset(GOLDEN / name)
    model.save_to_preset(tmp_path)
    theirs, ours = read_tensors(GOLDEN / name), read_tensors(tmp_path)
    assert ours.keys() == theirs.keys() - {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    for key, array in ours.items():
        unread = 2 if key.endswith("position_embeddings.weight") else 0  # rows that no token gets
        assert array.shape == theirs[key].shape and np.array_equal(array[unread:], theirs[key][unread:]), key
    config, original = read_json(tmp_path / "config.json"), read_json(GOLDEN / name / "config.json")
    changed = {key for key in config.keys() & original.keys() if config[key] != original[key]}
    assert changed <= {"classifier_dropout"}, changed
    again = MODELS[name].from_preset(tmp_path)
    same(again.get_weights(), model.get_weights(), tolerance=0)
    assert again.config == model.config
    tokenizer, inputs = again.backbone.tokenizer if name != "roberta" else again.tokenizer, expected_of(name)[0]
    assert np.array_equal(tokenizer(TEXTS, PAIRS)["token_ids"], inputs["token_ids"])


@pytest.mark.one_backend
@pytest.mark.parametrize("name", MODELS)
def test_the_tokenizer_gives_the_ids_of_hugging_face(name, expected_of):
    inputs, _ = expected_of(name)
    tokenizer = RobertaTokenizer.from_preset(GOLDEN / name)
    batch = tokenizer(TEXTS, PAIRS)
    assert all(np.array_equal(batch[key], inputs[key]) for key in inputs)
    assert not batch["segment_ids"].any() and batch["segment_ids"].shape == batch["token_ids"].shape
    first, second = tokenizer.encode("a"), tokenizer.encode("a", "b")
    assert second[: len(first)] == first and second[len(first)] == tokenizer.end_token_id, "</s></s>"
    assert len(tokenizer.encode(TEXTS[0], PAIRS[0], max_length=9)) == 9
    assert tokenizer.encode(TEXTS[0], PAIRS[0], max_length=4) == [0, 2, 2, 2]


@pytest.mark.one_backend
def test_a_space_before_the_first_word(tmp_path):
    plain = RobertaTokenizer.from_preset(GOLDEN / "roberta")
    prefixed = RobertaTokenizer(plain.vocabulary, plain.merges, add_prefix_space=True)
    assert prefixed.encode("dog cat") == plain.encode(" dog cat") != plain.encode("dog cat")
    assert prefixed.encode(" dog") == plain.encode(" dog") and prefixed.encode("") == plain.encode("")
    assert plain.word_pieces("dog") == plain.encode(" dog")[1:-1], "a word of a sentence, also where it is the first"
    prefixed.save(tmp_path)
    assert RobertaTokenizer.from_preset(tmp_path).add_prefix_space
    assert plain.tokenize("a <mask> b")[1:] == ["<mask>", "Ġ", "b"], "the mask takes the space before it"
    assert plain.decode(plain.encode("naïve ☕"), skip_special_tokens=True) == "naïve ☕"


@pytest.mark.one_backend
def test_every_task_runs_on_raw_text():
    folder = GOLDEN / "roberta"
    lm = BertPretrainer.from_preset(GOLDEN / "roberta-masked-lm")
    assert len(lm.fill_mask("a bird <mask>", top_k=3)) == 3
    with pytest.raises(ValueError, match="Expected a <mask>"):
        lm.fill_mask("a bird")
    lm.fit(TEXTS, verbose=0)
    assert SentenceEncoder.from_preset(folder, pooling="first").encode(TEXTS).shape == (3, 8)
    classifier = TextClassifier.from_preset(GOLDEN / "roberta-classifier-of-texts")
    assert classifier.pooling == "pooled" and classifier.predict(TEXTS)[0].label in ("cold", "warm", "wet")
    tagger = TokenClassifier.from_preset(GOLDEN / "roberta-classifier-of-tokens")
    assert [len(row) for row in tagger.predict([["The", "dog"], ["cat"]])] == [2, 1]


def test_saved_whole_and_loaded(tmp_path):
    model = tiny_models.roberta()
    model.build()
    model.save(tmp_path / "roberta.keras")
    again = keras.saving.load_model(tmp_path / "roberta.keras")
    assert type(again) is Roberta and again.config == model.config
    same(again.get_weights(), model.get_weights(), tolerance=0)
    assert again.tokenizer.encode("a b", "c") == model.tokenizer.encode("a b", "c")


@pytest.mark.one_backend
def test_an_encoder_from_the_files_of_other_tasks(folder):
    for name in MODELS:
        bert = Bert.from_preset(GOLDEN / name)
        assert type(bert) is Roberta and bert.config.max_sequence_length == 78
        assert bert.config.pooler == (name in ("roberta", "roberta-classifier-of-texts")), "a classifier's first layer"

    def with_both(tensors):  # as old versions of transformers saved a classifier
        extra = {f"roberta.pooler.dense.{part}": np.ones((8, 8)[: 2 - (part == "bias")], "float32") for part in PARTS}
        return tensors | extra

    original = TextClassifier.from_preset(GOLDEN / "roberta-classifier-of-texts")
    model = TextClassifier.from_preset(folder("roberta-classifier-of-texts", with_both))
    same(model.get_weights(), original.get_weights(), tolerance=0)


PARTS = "weight", "bias"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"hidden_act": "relu"}, ["hidden_act", "'gelu'", "'relu'"]),
        ({"pad_token_id": 0}, ["pad_token_id must be 1, not 0"]),
        ({"max_position_embeddings": 2}, ["max_position_embeddings above 2"]),
        ({"max_position_embeddings": 81}, ["position_embeddings.weight", "(80, 8)", "(81, 8)"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type"]),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(folder, refused, config, facts):
    with refused(*facts):
        Bert.from_preset(folder("roberta", **config))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model_type", "serves"),
    [
        ("distilbert", "DistilBertModel"),
        ("mpnet", "MPNetModel"),
        ("deberta", "DebertaModel"),
        ("deberta-v2", "DebertaV2Model"),
        ("xlm-roberta", "XLMRobertaModel"),
    ],
)
def test_models_that_only_look_alike_are_refused_by_name(folder, refused, model_type, serves):
    for model_class in (Bert, SentenceEncoder, BertPretrainer):
        with refused(f"'{model_type}'", "none of our classes computes it", f"transformers has {serves}"):
            model_class.from_preset(folder("bert", model_type=model_type))


@pytest.mark.one_backend
def test_a_vocabulary_that_is_not_of_roberta_is_refused(refused):
    tokenizer = RobertaTokenizer.from_preset(GOLDEN / "roberta")
    with refused("<mask>", "256 bytes"):
        RobertaTokenizer(tokenizer.vocabulary[:-1], tokenizer.merges)
    start, pad, *rest = tokenizer.vocabulary
    with refused("<pad> to have the id 1", "got 0"):
        RobertaTokenizer([pad, start, *rest], tokenizer.merges)
    trained = RobertaTokenizer.train(["a b c " * 9], 270)
    assert trained.vocabulary[:5] == ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert trained.decode(trained.encode("déjà vu"), skip_special_tokens=True) == "déjà vu"
