"""Word vectors from counts of neighbours, against counts and formulas by hand."""

import numpy as np
import pytest

from course_lib.baselines import word_vectors
from course_lib.baselines.word_vectors import WordVectors, count_neighbours, positive_mutual_information, split_words

pytestmark = pytest.mark.one_backend


def test_words_have_neither_capitals_nor_punctuation():
    assert split_words("It's a DULL film – a café!") == ["it", "s", "a", "dull", "film", "a", "café"]


def test_neighbours_are_counted_in_both_directions_and_within_a_document():
    counts = count_neighbours([["a", "b", "c", "a"], ["b"]], ["a", "b", "c"], window=2).toarray()
    assert counts.tolist() == [[0, 2, 2], [2, 0, 1], [2, 1, 0]]
    # A word without a vector keeps its place between the others.
    assert count_neighbours([["a", "?", "b"]], ["a", "b"], window=1).toarray().tolist() == [[0, 0], [0, 0]]
    assert count_neighbours([["a", "?", "b"]], ["a", "b"], window=2).toarray().tolist() == [[0, 1], [1, 0]]


def test_mutual_information_by_hand():
    counts = count_neighbours([["a", "b"], ["a", "b"], ["b", "c"]], ["a", "b", "c"], window=1)
    assert counts.toarray().tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]
    smooth = np.array([2, 3, 1]) ** word_vectors.SMOOTHING
    smooth /= smooth.sum()
    expected = np.zeros((3, 3))
    expected[1, 0] = np.log(2 / (3 * smooth[0]))  # "b" has three neighbours, two of them "a"
    expected[1, 2] = np.log(1 / (3 * smooth[2]))
    expected[0, 1] = np.log(2 / (2 * smooth[1]))
    expected[2, 1] = np.log(1 / (1 * smooth[1]))
    np.testing.assert_allclose(positive_mutual_information(counts).toarray(), np.maximum(expected, 0), atol=1e-12)


def test_words_in_the_same_places_get_similar_vectors():
    rng = np.random.default_rng(0)
    frames = [f"{a} {{}} {b}" for a in ("a really", "one quite", "some very") for b in ("film", "movie", "story")]
    animals = [f"{a} {{}} {b}" for a in ("my old", "her small", "the wild") for b in ("barks", "sleeps", "eats")]
    texts = [
        frame.format(rng.choice(words))
        for part, words in ((frames, ["good", "bad"]), (animals, ["dog", "cat"]))
        for frame in part * 12
    ]
    learned = WordVectors.learn(texts, dimensions=6, window=2, min_count=5)
    good, bad, dog, cat = learned.encode(["good", "bad", "dog", "cat"])
    assert min(good @ bad, dog @ cat) > 0.9 > 0.3 > max(good @ dog, bad @ cat)
    vectors = learned.encode(["good film", "a bad film", "unheard of"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], atol=1e-6)
    mean = learned.vectors[[learned.rows["good"], learned.rows["film"]]].mean(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    again = WordVectors.learn(texts, dimensions=6, window=2, min_count=5)
    np.testing.assert_array_equal(again.vectors, learned.vectors)


def test_the_nearest_words_have_the_largest_cosines():
    vectors = WordVectors(["far", "here", "near", "long"], [[0, 1], [1, 0], [0.9, 0.1], [9, 3]])
    assert vectors.nearest("here", 2) == ["near", "long"]
    assert vectors.nearest("far") == ["long", "near", "here"]


def test_too_few_words_and_an_unknown_word_are_refused():
    with pytest.raises(ValueError, match="at least 300 words that occur 10 times; got 0"):
        WordVectors.learn(["too short"])
    with pytest.raises(ValueError, match="one of the 1 words that have a vector; got 'b'"):
        WordVectors(["a"], [[1.0, 0.0]]).nearest("b")
