"""Numbers in words: drawn by hash, in splits that share none, and translated right."""

import collections
import re

import numpy as np
import pytest

from course_lib.data import number_words

pytestmark = pytest.mark.one_backend


def test_splits_share_no_number_and_are_drawn_by_hash():
    splits = number_words.draw(train=500, validation=100, test=200)
    parts = splits.train, splits.validation, splits.test
    assert [len(part) for part in parts[1:]] == [100, 200] and len(splits.train) in range(1490, 1501)
    together = [number for part in parts for number in part]
    assert len(set(together)) == len(together) and all(0 <= number < 1_000_000 for number in together)
    assert {*range(1000)} <= {*together}
    assert splits.test[:3] == [595_305, 922_315, 159_861]
    more = number_words.draw(train=900, validation=100, test=200)
    assert more.test == splits.test and more.validation == splits.validation and {*splits.train} <= {*more.train}


def test_numbers_below_another_limit():
    splits = number_words.draw(train=60, validation=10, test=30, limit=100)
    assert sorted(splits.train + splits.validation + splits.test) == [*range(100)]
    with pytest.raises(ValueError, match="at most 100 numbers in all; got 60, 10 and 31"):
        number_words.draw(train=60, validation=10, test=31, limit=100)


@pytest.mark.parametrize(
    ("number", "english", "german", "french"),
    [
        (0, "zero", "null", "zéro"),
        (42, "forty-two", "zweiundvierzig", "quarante-deux"),
        (71, "seventy-one", "einundsiebzig", "soixante et onze"),
        (97, "ninety-seven", "siebenundneunzig", "quatre-vingt-dix-sept"),
        (
            301_016,
            "three hundred and one thousand and sixteen",
            "dreihunderteinstausendsechzehn",
            "trois cent un mille seize",
        ),
    ],
)
def test_words(number, english, german, french):
    assert number_words.in_words(number, "English") == english
    assert number_words.in_words(number, "German") == german
    assert number_words.in_words(number, "French") == french


def test_pairs():
    sources, targets = number_words.pairs([42, 7])
    assert sources == ["German: forty-two", "German: seven", "French: forty-two", "French: seven"]
    assert targets == ["zweiundvierzig", "sieben", "quarante-deux", "sept"]
    assert number_words.pairs([42], ["French"]) == (["French: forty-two"], ["quarante-deux"])


@pytest.mark.parametrize(("number", "language"), [(-1, "German"), (1, "Latin")])
def test_what_has_no_words_is_refused(number, language):
    with pytest.raises(ValueError, match=r"0 or more and one of \['English', 'German', 'French'\]; got"):
        number_words.in_words(number, language)


def test_the_best_without_order_is_one_in_as_many_as_have_the_same_words():
    """Counted below 10,000 in the plain way: 1,002 and 2,001 differ, and 23 shares its words with no other number."""
    limit = 10_000

    def unordered(number):
        words = number_words.in_words(number, "English")
        return tuple(sorted(re.findall(r"-|,|\s?\w+", " " + words)))

    same = collections.Counter(map(unordered, range(limit)))
    numbers = [7, 23, 101, 1_002, 2_001, 5_060, 9_999]
    expected = np.mean([1 / same[unordered(number)] for number in numbers])
    assert np.isclose(number_words.share_without_order(numbers, limit), expected)
    assert number_words.share_without_order([23], 100) == 1
