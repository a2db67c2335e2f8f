"""Pairs of sentences: the true ones follow, the false ones come from elsewhere, and no part alone tells which."""

import numpy as np
import pytest

from course_lib.text.sentence_pairs import SentencePairs, split_sentences

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains. We stay.", ["It rains.", "We stay."]),
        ('"Stay!" she said. "Why?" He left.', ['"Stay!" she said.', '"Why?"', "He left."]),
        ("He said (twice.) Then he left... 3 times", ["He said (twice.)", "Then he left...", "3 times"]),
        ("Rated 7.5 by e.g. me! ", ["Rated 7.5 by e.g. me!"]),
        ("one\nTwo", ["one\nTwo"]),
        (" \n", []),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


def documents(count=40, sentences=8, length=6):
    """Documents whose tokens tell where they stand: document, sentence, place."""
    return [
        [[1000 * number + 10 * sentence + place for place in range(length)] for sentence in range(sentences)]
        for number in range(1, count + 1)
    ]


def test_true_pairs_follow_and_false_pairs_come_from_another_document():
    pairs = SentencePairs(documents(), room=20)
    assert pairs.num_boundaries == 40 * 7 and pairs.num_tokens == 40 * 48
    first, second, labels = pairs.draw(400, seed=0, step=0)
    assert labels.sum() == 200
    for a, b, label in zip(first, second, labels, strict=True):
        assert len(a) >= 1 and len(b) >= 1 and len(a) + len(b) <= 20
        assert len(set(a // 1000)) == len(set(b // 1000)) == 1
        assert a[-1] % 10 == 5 and b[0] % 10 == 0  # both at a boundary
        assert (a[0] // 1000 != b[0] // 1000) == label
        if not label:
            assert b[0] == a[-1] + 5  # the next sentence


@pytest.mark.parametrize("room", [14, 29, 62, 125])
def test_lengths_do_not_tell_true_pairs_from_false_ones(room):
    """Classifies pairs by the two-dimensional histogram of both lengths, on other pairs than it was counted on."""
    rng = np.random.default_rng(0)
    varied = [[list(range(rng.integers(1, 30))) for _ in range(rng.integers(2, 12))] for _ in range(300)]
    pairs, count = SentencePairs(varied, room), 50_000

    def lengths_and_labels(step):
        *parts, labels = pairs.draw(count, seed=0, step=step)
        return (*(np.array([len(part) for part in part_list]) for part_list in parts), labels)

    first, second, labels = lengths_and_labels(0)
    histogram = np.zeros((2, room + 1, room + 1))
    np.add.at(histogram, (labels, first, second), 1)
    first, second, labels = lengths_and_labels(1)
    accuracy = np.mean((histogram[1] > histogram[0])[first, second] == labels)
    assert abs(accuracy - 0.5) < 3 * 0.5 / count**0.5


@pytest.mark.parametrize("lengths", [(2, 2, 9), (3, 8, 8, 8), (5,) * 40])
def test_each_part_alone_looks_the_same_in_both_kinds(lengths):
    """Also where a document with many boundaries stands beside few others, and is never its own partner."""
    corpus = [document[:length] for document, length in zip(documents(40, 9), lengths, strict=False)]
    pairs, count = SentencePairs(corpus, room=12), 40_000
    *parts, labels = pairs.draw(count, seed=0, step=0)
    for part, place in zip(parts, (-1, 0), strict=True):
        tokens = np.array([ids[place] for ids in part])
        _, indices = np.unique(tokens, return_inverse=True)
        counts = np.stack([np.bincount(indices[labels == label], minlength=indices.max() + 1) for label in (0, 1)])
        expected = counts.sum(axis=0) / 2
        chi_square = np.sum((counts[0] - counts[1]) ** 2 / (2 * expected))
        assert chi_square < len(expected) + 4 * (2 * len(expected)) ** 0.5


def test_the_room_is_used():
    pairs = SentencePairs(documents(sentences=30), room=21)
    first, second, _ = pairs.draw(400, seed=0, step=0)
    for a, b in zip(first, second, strict=True):
        assert len(a) == min(11, a[-1] % 1000 // 10 * 6 + 6)  # all that precedes the boundary, or half of the room
        assert len(b) == min(10, (30 - b[0] % 1000 // 10) * 6)


def test_boundaries_without_a_partner_of_the_same_length_are_left_out():
    pairs = SentencePairs([[[1], [2]], [[3], [4]], [[5], [6, 7, 8]]], room=20)
    assert pairs.num_boundaries == 2
    first, _, _ = pairs.draw(40, seed=0, step=0)
    assert {tuple(part) for part in first} == {(1,), (3,)}


def test_no_pair_meets_where_a_document_begins_or_ends():
    pairs = SentencePairs([[[], [1, 2], [], [3], []], [[4], [5]]], room=4)
    assert pairs.num_boundaries == 2
    first, second, _ = pairs.draw(40, seed=0, step=0)
    assert {tuple(part) for part in first} == {(1, 2), (4,)} and {tuple(part) for part in second} == {(3,), (5,)}


def test_seed_and_step_decide():
    pairs = SentencePairs(documents(), room=20)
    drawn = {
        tuple(np.concatenate(pairs.draw(8, seed, step)[0])) for seed in (0, 1) for step in (0, 1) for _ in range(2)
    }
    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("corpus", "room", "message"),
    [
        ([], 20, "at least two documents"),
        ([[[1, 2], [3]]], 20, "at least two documents"),
        ([[[1, 2], [3]], [[1], []], [[4]]], 20, "at least two documents"),
        ([[[1, 2], [3]], []], 20, "document 1 has none"),
        ([[[1], [2]], [[3], [4]]], 1, "room for at least two"),
        ([[[1], [2]], [[3], [4, 5]]], 20, "same length.*Use more documents"),
    ],
)
def test_a_corpus_that_gives_no_pairs(corpus, room, message):
    with pytest.raises(ValueError, match=message):
        SentencePairs(corpus, room)
