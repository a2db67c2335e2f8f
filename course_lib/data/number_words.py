"""Numbers written in words in several languages, by the package `num2words`: as many exact translations as you want."""

import collections
import functools
import hashlib
import re

from course_lib.data.splits import Splits

LANGUAGES = {"English": "en", "German": "de", "French": "fr"}


def draw(train=20_000, validation=1_000, test=2_000, limit=1_000_000, small=1_000):
    """Draws distinct numbers by hash, not by a seed: the i-th candidate is the SHA-256 of i, modulo the limit.

    The first numbers go to the test split and the next to validation, so both are spread evenly below the limit. By
    default only one number in a thousand is below 1,000. The training split therefore also gets all numbers below
    `small` that no other split has.

    Args:
        train: how many numbers are drawn for training. Missing small numbers are added to these.
        validation: number of validation numbers.
        test: number of test numbers.
        limit: upper limit; every number is below it.
        small: every number below it that is in no other split is added to the training split.

    Returns:
        `Splits` of three lists of integers. No number is in two of them.

    Raises:
        ValueError: if there are fewer numbers below the limit than asked for.
    """
    if train + validation + test > limit:
        raise ValueError(f"Expected at most {limit} numbers in all; got {train}, {validation} and {test}.")
    drawn, index = {}, 0
    while len(drawn) < train + validation + test:
        digest = hashlib.sha256(str(index).encode()).digest()
        drawn.setdefault(int.from_bytes(digest) % limit)
        index += 1
    drawn = list(drawn)
    held_out, rest = drawn[: test + validation], drawn[test + validation :]
    missing = sorted({*range(min(small, limit))} - {*drawn})
    return Splits(train=missing + rest, validation=held_out[test:], test=held_out[:test])


def in_words(number, language):
    """Writes a number in words.

    Args:
        number: an integer of 0 or more.
        language: one of `LANGUAGES`.

    Returns:
        A string.

    Raises:
        ValueError: if the number is negative or the language is unknown.

    Example:
        >>> in_words(42, "German")
        'zweiundvierzig'
    """
    from num2words import num2words

    if number < 0 or language not in LANGUAGES:
        raise ValueError(f"Expected a number of 0 or more and one of {[*LANGUAGES]}; got {number} and {language!r}.")
    return num2words(number, lang=LANGUAGES[language])


def pairs(numbers, languages=("German", "French")):
    """Makes translation pairs: sources such as "German: forty-two", and their translations as targets.

    Args:
        numbers: n integers.
        languages: m of `LANGUAGES`, the languages to translate into.

    Returns:
        Two lists of n · m strings, sources and targets. All numbers in the first language come first.

    Raises:
        ValueError: if a number is negative or a language is unknown.
    """
    english = [in_words(number, "English") for number in numbers]
    sources = [f"{language}: {words}" for language in languages for words in english]
    return sources, [in_words(number, language) for language in languages for number in numbers]


def share_without_order(numbers, limit=1_000_000):
    """Computes how often the best translator can be right that sees the English words of a number but not their order.

    Numbers with the same words get the same answer, so of n such numbers one can be right.

    Args:
        numbers: integers, the numbers to translate. All numbers below the limit are equally likely.
        limit: at most 1,000,000; every number is below it.

    Returns:
        The mean of 1/n over the numbers.
    """
    same = collections.Counter(map(_words_without_order, range(limit)))
    return sum(1 / same[_words_without_order(number)] for number in numbers) / len(numbers)


def _words_without_order(number):
    """The words of an English number below a million, sorted. A hyphen and a space belong to the words after them."""
    thousands, rest = divmod(number, 1_000)
    words = [*_small_words(thousands), " thousand"] if thousands else []
    if thousands and rest:
        words.append("," if rest >= 100 else " and")
    return tuple(sorted([*words, *(_small_words(rest) if rest or not thousands else ())]))


@functools.cache
def _small_words(number):
    return tuple(re.findall(r"-|,|\s?\w+", " " + in_words(number, "English")))
