"""Numbers in words, in several languages: exact translations, as many as wanted, by the package `num2words`."""

import hashlib

from course_lib.data.splits import Splits

LANGUAGES = {"English": "en", "German": "de", "French": "fr"}


def draw(train=20_000, validation=1_000, test=2_000, limit=1_000_000, small=1_000):
    """Draws numbers by hash, not by a seed: the i-th is the SHA-256 of i, modulo the limit, and none comes twice.

    The first drawn are for the test, the next for validation, so that both are spread evenly below the limit. Of such
    numbers one in a thousand is below 1,000; the training split has all of these that the others have not, too.

    Args:
        train: how many numbers are drawn for training, small ones aside.
        validation: how many for choosing among models.
        test: how many for the final figure.
        limit: every number is below it.
        small: every number below it is trained on, if it is in no other split.

    Returns:
        `Splits` of three lists of integers that share none.

    Raises:
        ValueError: if there are not so many numbers below the limit.
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
    """A number in words.

    Args:
        number: an integer of 0 or more.
        language: one of `LANGUAGES`.

    Returns:
        A string.

    Raises:
        ValueError: if the number is negative or the language is another.

    Example:
        >>> in_words(42, "German")
        'zweiundvierzig'
    """
    from num2words import num2words

    if number < 0 or language not in LANGUAGES:
        raise ValueError(f"Expected a number of 0 or more and one of {[*LANGUAGES]}; got {number} and {language!r}.")
    return num2words(number, lang=LANGUAGES[language])


def pairs(numbers, languages=("German", "French")):
    """Numbers to be translated from English: sources such as "German: forty-two", and their translations.

    Args:
        numbers: n integers.
        languages: m of `LANGUAGES`, into which each number is translated.

    Returns:
        Two lists of n · m strings, sources and targets: first all numbers in the first language.

    Raises:
        ValueError: if a number is negative or a language is unknown.
    """
    english = [in_words(number, "English") for number in numbers]
    sources = [f"{language}: {words}" for language in languages for words in english]
    return sources, [in_words(number, language) for language in languages for number in numbers]
