"""Minimal pairs that differ where they should, and scores that add up."""

import collections

import numpy as np
import pytest

from course_lib.experiments.against_counting import EXPERIMENT, OTHER, SAME
from course_lib.text.byte_pair import BytePairTokenizer

pytestmark = pytest.mark.one_backend

PAIRS = EXPERIMENT.pairs()


def test_sentences_differ_in_their_last_word():
    assert len({(pair.right, pair.wrong) for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        (*start, right), (*other_start, wrong) = pair.right.split(), pair.wrong.split()
        assert start == other_start and right != wrong


def test_verbs_agree_with_their_subject_and_the_other_noun_is_as_named():
    number = {word: plural for pair in EXPERIMENT.nouns + EXPERIMENT.verbs for plural, word in enumerate(pair)}
    kinds = collections.Counter(pair.kind for pair in PAIRS)
    assert [kinds[kind] for kind in kinds] == [72] * 5 + [90, 42]
    for pair in PAIRS:
        if pair.kind not in ("capitals", "sums"):
            words = pair.right.split()
            assert number[words[3]] == number[words[-1]] != number[pair.wrong.split()[-1]]
            assert words[3] in dict(EXPERIMENT.nouns) or pair.group in dict(EXPERIMENT.nouns)
            if pair.kind.endswith((SAME, OTHER)):
                assert (number[words[-2]] == number[words[3]]) == pair.kind.endswith(SAME)
                assert words[-2] not in next(nouns for nouns in EXPERIMENT.nouns if pair.group in nouns)


def test_preferring_an_answer_whatever_the_question_is_right_in_half_of_the_pairs():
    for kind in ("capitals", "sums"):
        ends = [(pair.right.split()[-1], pair.wrong.split()[-1]) for pair in PAIRS if pair.kind == kind]
        assert sum(right < wrong for right, wrong in ends) == len(ends) / 2


def test_scores_are_sums_of_losses_without_the_end_of_a_sentence():
    tokenizer = BytePairTokenizer.train(["I think the film is good"], 260)

    def losses_of(rows):
        return [np.array([*row, 1000.0]) for row in rows]  # a token costs its id

    scored = EXPERIMENT.scored(losses_of, tokenizer, ["a", "film"], every=100)
    chosen = PAIRS[::100]
    assert scored["margins"] == [
        sum(tokenizer.encode(pair.wrong)) - sum(tokenizer.encode(pair.right)) for pair in chosen
    ]
    expected = (sum(tokenizer.encode("film")) + 1000) / np.log(2)
    assert scored["bits"][1] == pytest.approx(expected, abs=0.05)
