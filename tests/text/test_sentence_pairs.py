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


def test_each_part_alone_looks_the_same_in_true_and_false_pairs():
    rng = np.random.default_rng(0)
    varied = [[list(range(rng.integers(1, 9))) for _ in range(rng.integers(2, 12))] for _ in range(300)]
    pairs = SentencePairs(varied, room=16)
    first, second, labels = pairs.draw(40_000, seed=0, step=0)
    for parts in (first, second):
        lengths = np.array([len(part) for part in parts])
        counts = [np.bincount(lengths[labels == label], minlength=17) for label in (0, 1)]
        # The lengths of the two parts share the row's room, so that those of one kind depend a little on the other.
        assert np.abs(counts[0] - counts[1]).max() < 0.05 * 20_000


def test_the_room_is_used():
    """Where the documents have enough on both sides, the row is full, and in a true pair wherever it meets."""
    pairs = SentencePairs(documents(sentences=30), room=21)
    first, second, labels = pairs.draw(400, seed=0, step=0)
    full = np.array([len(a) + len(b) == 21 for a, b in zip(first, second, strict=True)])
    assert full.mean() > 0.9 and full[labels == 0].all()


def test_no_pair_meets_where_a_document_begins_or_ends():
    pairs = SentencePairs([[[], [1, 2], [], [3], []], [[4], [5, 6]]], room=4)
    assert pairs.num_boundaries == 2
    first, second, _ = pairs.draw(40, seed=0, step=0)
    assert {tuple(part) for part in first} == {(1, 2), (4,)} and {tuple(part) for part in second} == {(3,), (5, 6)}


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
    ],
)
def test_a_corpus_that_gives_no_pairs(corpus, room, message):
    with pytest.raises(ValueError, match=message):
        SentencePairs(corpus, room)
