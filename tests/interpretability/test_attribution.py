"""Attributions against Captum's on the same weights, completeness, words from pieces, and what is refused."""

import pathlib
import warnings

import numpy as np
import pytest
import tiny_models
from explained_models import causal_lm, classifier, translator

from course_lib import GPT2CausalLM, LlamaCausalLM, TextClassifier
from course_lib.interpretability import (
    Question,
    attention_attribution,
    gradient_x_input,
    integrated_gradients,
    occlusion,
    random_attribution,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CLASSES = {"classifier-of-texts": TextClassifier, "gpt2-causal-lm": GPT2CausalLM, "llama-causal-lm": LlamaCausalLM}
METHODS = [gradient_x_input, integrated_gradients, occlusion, attention_attribution, random_attribution]


@pytest.mark.parametrize("name", CLASSES)
def test_gradients_are_those_of_captum(name):
    expected, model = np.load(GOLDEN / "attributions.npz"), CLASSES[name].from_preset(GOLDEN / name)
    texts = expected[f"{name}/texts"].tolist()
    question = Question.ask(model, texts)
    found = {
        "integrated_gradients": integrated_gradients(model, texts, steps=12),
        "gradient_x_input": gradient_x_input(model, texts),
    }
    for index, length in enumerate(question.lengths):
        of_text = {key: expected[f"{name}/{index}/{key}"] for key in ("token_ids", "target", "score", *found)}
        assert question.inputs["token_ids"][index, :length].tolist() == of_text["token_ids"].tolist()
        assert question.targets[index] == of_text["target"]
        for method, attributions in found.items():
            np.testing.assert_allclose(attributions[index].values, of_text[method], atol=2e-5)
            np.testing.assert_allclose(attributions[index].score, of_text["score"], atol=2e-5)


def test_integrated_gradients_are_complete():
    model, texts = classifier(), ["a b", "c d e f", "gno", "m"]
    for found in integrated_gradients(model, texts, target="bad", tolerance=1e-3):
        empty = " ".join(["[MASK]"] * (len(found.tokens) - 2))
        difference = found.score - Question.ask(model, empty, "bad").scores()[0]
        assert abs(found.values.sum() - difference) <= 1e-3 * max(1, abs(difference)) + 1e-5
        assert found.error <= 1e-3 * max(1, abs(difference))


def test_integrated_gradients_say_when_they_do_not_converge():
    model = classifier()
    model.classifier.kernel.assign(100 * np.asarray(model.classifier.kernel))
    with pytest.warns(UserWarning, match=r"did not converge in 1 steps for \d of 2 texts.*miss.*by"):
        integrated_gradients(model, ["a b c", "d e f"], max_steps=1, tolerance=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integrated_gradients(model, ["a b c", "d e f"], steps=1)  # asked for, so no news


def test_a_text_gets_the_same_values_alone_and_among_longer_ones():
    model, texts = classifier(), ["a", "b c d e f", "go no", "h i j", "k l", "m a"]
    for method in METHODS[:-1]:
        for text, found in zip(texts, method(model, texts, target="good"), strict=True):
            alone = method(model, text, target="good")
            assert found.tokens == alone.tokens and found.words == alone.words == tuple(text.split())
            np.testing.assert_allclose(found.values, alone.values, atol=1e-5)
            np.testing.assert_allclose(found.score, alone.score, atol=1e-5)


def test_compiling_changes_nothing():
    model, texts = classifier(), ["a", "b c d e f", "go no", "h i j", "k l", "m a"] * 2
    for plain, found in zip(
        integrated_gradients(model, texts, "good", steps=4),
        integrated_gradients(model, texts, "good", steps=4, batch_size=1),  # 48 calls
        strict=True,
    ):
        np.testing.assert_allclose(found.values, plain.values, atol=1e-5)


def test_the_value_of_a_word_is_that_of_its_pieces():
    found = integrated_gradients(classifier(), "an b")
    assert found.tokens == ("[CLS]", "a", "##n", "b", "[SEP]")
    assert found.word_ids.tolist() == [-1, 0, 0, 1, -1]
    np.testing.assert_allclose(found.word_values, [found.values[1] + found.values[2], found.values[3]])


def test_words_of_byte_pairs_end_at_white_space():
    found = occlusion(causal_lm(), "a bc\n d")
    assert found.words == ("a", "bc", "d")
    assert "".join(found.tokens) == "a bc\n d"
    joined = ["".join(t for t, w in zip(found.tokens, found.word_ids, strict=True) if w == i).strip() for i in range(3)]
    assert joined == ["a", "bc", "d"]


def test_occlusion_is_the_score_without_the_word():
    model = classifier()
    found, rest = occlusion(model, "a b an", "bad"), ["b an", "a an", "a b"]
    np.testing.assert_allclose(found.word_values, found.score - Question.ask(model, rest, "bad").scores(), atol=1e-5)
    assert found.values[3] == found.values[4]  # the two pieces of "an"


@pytest.mark.parametrize("make", [classifier, causal_lm])
@pytest.mark.parametrize("how", ["last", "rollout", "gradient"])
def test_attention_attributes_nothing_negative(make, how):
    found = attention_attribution(make(), "a b c", how=how)
    assert (found.values >= 0).all() and found.values.sum() > 0
    if how != "gradient":
        np.testing.assert_allclose(found.values.sum(), 1, atol=1e-5)


def test_log_odds_are_those_of_the_probabilities():
    model = classifier()
    texts = ["a b", "c"]
    for target in range(3):
        chances = np.array([list(each.probabilities.values())[target] for each in model.predict(texts, verbose=0)])
        np.testing.assert_allclose(
            Question.ask(model, texts, target).scores(), np.log(chances / (1 - chances)), atol=1e-4
        )
    pair = Question.ask(model, texts, "bad", "good")
    np.testing.assert_allclose(pair.scores(), pair.logits()[:, 0] - pair.logits()[:, 1], atol=1e-5)


def test_a_translator_is_asked_for_the_next_token():
    model = translator()
    first, second = model.generate([model.tokenizer.encode("a b c")], max_new_tokens=2)[0]
    assert Question.ask(model, "a b c").targets.tolist() == [first]
    start = model.tokenizer.decode([first])
    if model.tokenizer.encode(start) == [first]:
        assert Question.ask(model, "a b c", start=start).targets.tolist() == [second]
    found = integrated_gradients(model, ["a b c", "d"], steps=4)
    assert [each.words for each in found] == [("a", "b", "c"), ("d",)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "texts, options, message",
    [
        ("a b c d e f g h", {}, "at most 8 tokens"),
        ("a", {"target": "splendid"}, "a class of .*'splendid'"),
        ("a", {"target": 3}, "from 0 to 2; got 3"),
        ("a", {"target": -1}, "from 0 to 2; got -1"),
        ("a", {"target": ["bad", "good"]}, "one for each of 1 texts; got 2"),
        ("a", {"target": "bad", "against": "bad"}, "differs from the target"),
        (["a", ""], {}, "at least one token"),
        ([], {}, "at least one text"),
    ],
)
def test_what_cannot_be_asked_is_refused(method, texts, options, message):
    with pytest.raises(ValueError, match=message):
        method(classifier(), texts, **options)


def test_a_target_of_a_language_model_is_one_token_of_its_vocabulary():
    with pytest.raises(ValueError, match=r"one token; 'xyz' is 3"):
        occlusion(causal_lm(), "a b", target="xyz")
    with pytest.raises(ValueError, match="a target from 0 to"):
        occlusion(causal_lm(), "a b", target=10_000)


@pytest.mark.parametrize("make", [tiny_models.bert, tiny_models.token_classifier, tiny_models.bert_pretrainer])
def test_other_models_are_refused_by_name(make):
    with pytest.raises(ValueError, match="Expected a TextClassifier"):
        gradient_x_input(make(), "a")


def test_other_options_are_refused():
    model = classifier()
    with pytest.raises(ValueError, match="a baseline that is a token"):
        integrated_gradients(model, "a", baseline="nothing")
    with pytest.raises(ValueError, match="at least one step"):
        integrated_gradients(model, "a", steps=0)
    with pytest.raises(ValueError, match="'last', 'rollout' or 'gradient'"):
        attention_attribution(model, "a", how="first")
    with pytest.raises(ValueError, match="a model of one stack"):
        attention_attribution(tiny_models.seq2seq_lm(), "a")
    with pytest.raises(ValueError, match="with a tokenizer"):
        occlusion(classifier(tokenizer=None), "a")
