"""Intervals of an accuracy over two sources of chance: the labelled texts, and the test texts."""

import numpy as np

from course_lib.metrics.classification import bootstrap_accuracy


def test_the_mean_is_the_accuracy_and_the_shape_keeps_the_leading_axes():
    correct = np.random.default_rng(0).random((2, 5, 300)) < [[[0.6]], [[0.8]]]
    samples = bootstrap_accuracy(correct, resamples=2000)
    assert samples.shape == (2000, 2)
    np.testing.assert_allclose(samples.mean(axis=0), correct.mean(axis=(1, 2)), atol=0.01)


def test_both_sources_of_chance_count():
    """Where all draws agree, only the test texts vary, and where all texts agree within a draw, only the draws do."""
    texts = np.tile(np.random.default_rng(1).random(400) < 0.7, (10, 1))
    np.testing.assert_allclose(
        bootstrap_accuracy(texts, 4000).std(), np.sqrt(texts.mean() * (1 - texts.mean()) / 400), rtol=0.1
    )
    draws = np.tile(np.arange(10)[:, None] < 7, (1, 400))
    np.testing.assert_allclose(bootstrap_accuracy(draws, 4000).std(), np.sqrt(0.7 * 0.3 / 10), rtol=0.1)


def test_two_classifiers_are_compared_on_the_same_samples():
    correct = np.random.default_rng(2).random((3, 200)) < 0.7
    assert np.array_equal(bootstrap_accuracy(correct), bootstrap_accuracy(correct))
    other = correct.copy()
    other[:, 0] = ~other[:, 0]
    assert (bootstrap_accuracy(correct) - bootstrap_accuracy(other)).std() < bootstrap_accuracy(correct).std() / 2
