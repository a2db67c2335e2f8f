"""Probes: what they read, what they cannot, and control tasks."""

import numpy as np
import pytest
import tiny_models

from course_lib.interpretability import control_labels, hidden_states, linear_probe


def vectors(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    features = rng.normal(size=(n, 5))
    features[:, 3] = features[:, 3] * 0.1 + labels
    return features, labels


def test_a_probe_reads_what_is_there_and_no_more():
    (features, labels), (others, theirs) = vectors(200, 0), vectors(100, 1)
    found = linear_probe(features, labels, others, theirs)
    assert found.accuracy > 0.98 and found.correct.mean() == found.accuracy
    blind = linear_probe(np.delete(features, 3, axis=1), labels, np.delete(others, 3, axis=1), theirs)
    assert blind.accuracy < 0.7
    assert found.majority == np.mean(theirs == np.bincount(labels).argmax())


def test_control_labels_belong_to_words():
    words = ["a", "b", "a", "c"] * 50
    real = np.array([0, 0, 0, 1] * 50)
    found = control_labels(words, real)
    assert {word: {*found[np.array(words) == word]} for word in "abc"} == {w: {found["abac".index(w)]} for w in "abc"}
    np.testing.assert_array_equal(found, control_labels(words, real))
    many = control_labels(np.arange(4000), real.repeat(20))
    assert 0.2 < many.mean() < 0.3  # as often as in the real task


def test_hidden_states_are_those_of_the_text_alone():
    model = tiny_models.bert(num_layers=2)
    texts = ["a", "b an c", "d"]
    for text, found in zip(texts, hidden_states(model, texts, batch_size=2), strict=True):
        inputs = model.tokenizer([text])
        states = model(inputs, return_hidden_states=True)["hidden_states"]
        assert found.shape == (3, inputs["token_ids"].shape[1], 8)
        np.testing.assert_allclose(found, np.concatenate(states), atol=1e-5)


def test_what_cannot_be_probed_is_refused():
    features, labels = vectors(20, 0)
    with pytest.raises(ValueError, match="at least two different labels"):
        linear_probe(features, np.zeros(20), features, labels)
    with pytest.raises(ValueError, match="a label for each vector"):
        linear_probe(features, labels[:5], features, labels)
    with pytest.raises(ValueError, match=r"features \(n, D\)"):
        linear_probe(features, labels, features[:, :2], labels)
    with pytest.raises(ValueError, match="a label for each of 3 words"):
        control_labels(["a", "b", "c"], [0])
    with pytest.raises(ValueError, match="at most 8 tokens"):
        hidden_states(tiny_models.bert(), ["a b c d e f g h"])
