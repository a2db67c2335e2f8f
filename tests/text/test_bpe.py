"""Learning merges: against counting everything anew at every step, and by hand."""

import collections
import itertools
import operator
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course_lib.text.bpe import learn_merges, merge

pytestmark = pytest.mark.one_backend

WORDS = st.dictionaries(st.text("abcd", min_size=1, max_size=8).map(tuple), st.integers(1, 5), min_size=1)


def recount(words, symbols, vocabulary_size, join=operator.add):
    """The same, with every pair counted anew before every merge."""
    words, symbols, merges = dict(words), list(symbols), []
    while len(symbols) < vocabulary_size:
        counts = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                counts[pair] += count
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], *map(symbols.index, pair)))
        if join(*pair) not in symbols:
            symbols.append(join(*pair))
        merges.append(pair)
        merged = collections.Counter()
        for word, count in words.items():
            merged[tuple(merge(word, pair, join(*pair)))] += count
        words = merged
    return merges, symbols


def test_by_hand():
    words = {tuple("hug"): 10, tuple("pug"): 5, tuple("pun"): 12, tuple("bun"): 4, (*"hugs",): 5}
    # ug 20, un 16, hu 15; then un 16, h·ug 15; then h·ug 15, p·un 12
    assert learn_merges(words, "bghnpsu", 10) == (
        [("u", "g"), ("u", "n"), ("h", "ug")],
        [*"bghnpsu", "ug", "un", "hug"],
    )


def test_of_equally_frequent_pairs_the_smaller_ids_come_first():
    words = {tuple("ab"): 2, tuple("cd"): 2, tuple("ad"): 2, tuple("dc"): 1}
    assert learn_merges(words, "abcd", 7)[0] == [("a", "b"), ("a", "d"), ("c", "d")]
    assert learn_merges(words, "dcba", 7)[0] == [("c", "d"), ("a", "d"), ("a", "b")]


@given(WORDS, st.integers(0, 30))
@example({tuple("aaaaa"): 3, tuple("aab"): 2}, 10)  # neighbours that overlap
@example({tuple("abcd"): 1, tuple("bc"): 5, tuple("ab"): 3, tuple("abab"): 1}, 20)
def test_the_same_as_counting_anew_at_every_step(words, more):
    assert learn_merges(words, "abcd", 4 + more) == recount(words, "abcd", 4 + more)


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_words_does_not_matter(words, rng):
    shuffled = list(words.items())
    rng.shuffle(shuffled)
    assert learn_merges(dict(shuffled), "abcd", 20) == learn_merges(words, "abcd", 20)


def test_two_ways_to_one_symbol():
    """With a join that forgets, two pairs become one symbol, which exists once and whose pairs are counted on."""
    rng = random.Random(0)
    words = {tuple(rng.choices("ab", k=rng.randint(2, 9))): rng.randint(1, 9) for _ in range(50)}

    def join(first, second):
        return "".join(sorted(first + second))

    merges, symbols = learn_merges(words, "ab", 30, join)
    assert (merges, symbols) == recount(words, "ab", 30, join)
    assert len(symbols) == len(set(symbols)) == 30 and len(merges) > 28


def test_it_ends_where_nothing_is_left_to_merge():
    assert learn_merges({("a", "b"): 1}, "ab", 1000) == ([("a", "b")], ["a", "b", "ab"])
    assert learn_merges({("a",): 1}, "a", 1000) == learn_merges({}, "a", 1000) == ([], ["a"])
    assert learn_merges({("a", "b"): 1}, "ab", 2) == ([], ["a", "b"])


def test_a_pair_is_merged_from_left_to_right():
    assert merge([1, 1, 1, 1, 1], (1, 1), 2) == [2, 2, 1]
    assert merge([3, 1, 2, 1, 2, 2], (1, 2), 4) == [3, 4, 4, 2]
    assert merge([], (1, 2), 4) == []
