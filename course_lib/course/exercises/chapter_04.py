"""Checks for the exercises of chapter 04, tokenization."""

import itertools
import math

from course_lib.course.exercises import Exercise, Property
from course_lib.text.byte_pair import split_words

# 1. Digit by digit: a text → its words, each digit by itself

_WITHOUT_DIGITS = "Hello, my dog  isn't cute.\n\n    猫 é"
_WITH_DIGITS = "In 1999, 12x7 = 84\n  007  2nd x1"


def _digits(answer, text):
    return [piece for piece in answer(text) if any(character.isnumeric() for character in piece)]


digits = Exercise(
    Property(
        "the pieces together are the text",
        lambda answer: all("".join(answer(text)) == text for text in (_WITH_DIGITS, _WITHOUT_DIGITS)),
        "Nothing may be lost or added, spaces and line breaks included: use findall with alternatives for everything.",
    ),
    Property(
        "a text without digits is cut as before",
        lambda answer: list(answer(_WITHOUT_DIGITS)) == split_words(_WITHOUT_DIGITS),
        "Change only the alternative for digits, and leave the others of PATTERN as they are.",
    ),
    Property(
        "no piece has two digits",
        lambda answer: all(len(piece.strip()) == 1 for piece in _digits(answer, _WITH_DIGITS)),
        r"The + behind \p{N} takes as many digits as there are.",
    ),
    Property(
        "the space before a number stays with its first digit",
        lambda answer: list(answer(" 1999!")) == [" 1", "9", "9", "9", "!"],
        "The optional space in front of the digits belongs to the pattern.",
    ),
    Property(
        "digits of other scripts are digits, too",
        lambda answer: list(answer("١٢½")) == ["١", "٢", "½"],
        r"[0-9] and \d know fewer digits than \p{N}.",
    ),
)


# 2. The cheapest cut: a word and the cost of each piece → pieces

_LETTERS = dict.fromkeys("abcde", 1.0)
_FEWEST = _LETTERS | {"ab": 1.0, "abc": 1.0, "cde": 1.0}
_COUNTS = {"a": 40, "b": 30, "c": 10, "ab": 20, "bc": 15, "ca": 25, "abc": 3}
_COSTS = {piece: -math.log(count / sum(_COUNTS.values())) for piece, count in _COUNTS.items()}


def _all_cuts(word):
    for marks in itertools.product((False, True), repeat=max(len(word) - 1, 0)):
        ends = [place for place, mark in enumerate(marks, 1) if mark]
        yield [word[start:end] for start, end in itertools.pairwise([0, *ends, len(word)])]


def _lowest(word, costs):
    return min(sum(costs.get(piece, math.inf) for piece in cut) for cut in _all_cuts(word))


def _is_cheapest(answer, word, costs):
    cut = list(answer(word, costs))
    return "".join(cut) == word and math.isclose(sum(costs[piece] for piece in cut), _lowest(word, costs))


cheapest = Exercise(
    Property(
        "the pieces together are the word, and each has a cost",
        lambda answer: all(
            "".join(answer(word, _FEWEST)) == word and set(answer(word, _FEWEST)) <= set(_FEWEST)
            for word in ("abcde", "edcba", "a", "ab")
        ),
        "Go through the word from the first letter to the last, and take only pieces that costs has.",
    ),
    Property(
        "abcde is ab·cde, where the longest match would be abc·d·e",
        lambda answer: list(answer("abcde", _FEWEST)) == ["ab", "cde"],
        "The longest piece at the beginning may be bad for the rest: compare all pieces that end at a place.",
    ),
    Property(
        "costs may differ: abc is a·bc where that is more probable",
        lambda answer: list(answer("abc", _COSTS)) == ["a", "bc"],
        "Add up the costs of the pieces; do not count the pieces.",
    ),
    Property(
        "no cut of any word of a, b and c is cheaper",
        lambda answer: all(
            _is_cheapest(answer, "".join(word), _COSTS)
            for length in range(1, 6)
            for word in itertools.product("abc", repeat=length)
        ),
        "For each place keep the cheapest cut of what is before it, of all the pieces that can end there.",
    ),
    Property(
        "a word that no pieces make up is unknown",
        lambda answer: list(answer("abx", _FEWEST)) == list(answer("xab", _FEWEST)) == ["[UNK]"],
        "Where no piece ends at a place, its cost is infinite; if that is so at the end, return ['[UNK]'].",
    ),
)


# 3. Half a character: the bytes of each piece → what can be shown after each

_STREAM_TEXT = "a猫, 🐕é!"
_BYTES = [bytes([byte]) for byte in _STREAM_TEXT.encode()]

stream = Exercise(
    Property(
        "a list of as many strings",
        lambda answer: len(answer([b"My", b" dog"])) == 2 and all(isinstance(part, str) for part in answer([b"a"])),
        "One string for each piece, the empty one where nothing new is complete.",
    ),
    Property(
        "whole characters are shown at once, and once",
        lambda answer: list(answer([b"My", b" dog", " é猫".encode()])) == ["My", " dog", " é猫"],
        "Return what is new with each piece, not everything so far.",
    ),
    Property(
        "half a character is not shown",
        lambda answer: "\ufffd" not in "".join(answer(_BYTES)),
        "Bytes that are no whole character must wait: decode fails on them, or writes U+FFFD.",
    ),
    Property(
        "byte by byte, everything is shown in the end",
        lambda answer: "".join(answer(_BYTES)) == _STREAM_TEXT,
        "What waits goes in front of the next piece.",
    ),
    Property(
        "what is complete does not wait for what is not",
        lambda answer: list(answer([b"a\xe7", b"\x8c", b"\xab!"])) == ["a", "", "猫!"],
        "Of a piece that ends within a character, show the part before that character.",
    ),
)
