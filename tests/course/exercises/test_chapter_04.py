"""The exercises of chapter 04, their solutions, and the mistakes that they must recognise."""

import codecs
import itertools
import typing

import numpy as np
import regex
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_04
from course_lib.text.byte_pair import PATTERN, split_words


def split_by(pattern):
    return regex.compile(pattern).findall


ONE_DIGIT = PATTERN.replace(r" ?\p{N}+", r" ?\p{N}")


DIGITS = {
    "loses spaces": (str.split, "Nothing may be lost"),
    "other words": (split_by(r"\p{N}|[^\p{N}]+"), "Change only the alternative"),
    "unchanged": (split_words, "takes as many digits"),
    "lonely space": (split_by(PATTERN.replace(r" ?\p{N}+", r"\p{N}")), "optional space"),
    "ASCII only": (split_by(PATTERN.replace(r" ?\p{N}+", r" ?[0-9]| ?\p{N}+")), "know fewer digits"),
}


def longest_match(word, costs):
    cut = []
    while word:
        end = max((n for n in range(1, len(word) + 1) if word[:n] in costs), default=0)
        if not end:
            return ["[UNK]"]
        cut.append(word[:end])
        word = word[end:]
    return cut


def cheapest_end_first(word, costs):
    cut = []
    while word:
        ends = {word[start:]: costs[word[start:]] for start in range(len(word)) if word[start:] in costs}
        cut.insert(0, min(ends, key=lambda piece: ends[piece] / len(piece)))
        word = word.removesuffix(cut[0])
    return cut


def cheapest_by(cost, unknown=("[UNK]",)):
    def cut(word, costs):
        best = [(0.0, [])]
        for end in range(1, len(word) + 1):
            options = [
                (best[start][0] + cost(costs[word[start:end]], end - start), [*best[start][1], word[start:end]])
                for start in range(end)
                if word[start:end] in costs and best[start][0] < np.inf
            ]
            best.append(min(options, default=(np.inf, list(unknown))))
        return best[-1][1]

    return cut


CHEAPEST = {
    "reversed": (
        lambda word, costs: cheapest_by(lambda c, n: c)(word, costs)[::-1],
        "from the first letter to the last",
    ),
    "longest match": (longest_match, "may be bad for the rest"),
    "letters": (lambda word, costs: list(word), "may be bad for the rest"),
    "fewest": (cheapest_by(lambda c, n: 1), "do not count the pieces"),
    "end first": (cheapest_end_first, "For each place keep"),
    "stops": (cheapest_by(lambda c, n: c, unknown=()), "its cost is infinite"),
}


def stream_of(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(piece) for piece in pieces]


def stream_whole_pieces(pieces):
    waiting, shown = b"", []
    for piece in pieces:
        waiting += piece
        try:
            shown.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            shown.append("")
    return shown


STREAM = {
    "one string": (lambda pieces: [b"".join(pieces).decode(errors="ignore")], "One string for each piece"),
    "everything so far": (lambda pieces: list(itertools.accumulate(stream_of(pieces))), "not everything so far"),
    "replaced": (lambda pieces: [piece.decode(errors="replace") for piece in pieces], "must wait"),
    "dropped": (lambda pieces: [piece.decode(errors="ignore") for piece in pieces], "in front of the next piece"),
    "all or nothing": (stream_whole_pieces, "show the part before"),
}


class TestChapter04(ExerciseChecks):
    exercises: typing.ClassVar = {
        "digits": (chapter_04.digits, split_by(ONE_DIGIT), DIGITS),
        "cheapest": (chapter_04.cheapest, cheapest_by(lambda cost, length: cost), CHEAPEST),
        "stream": (chapter_04.stream, stream_of, STREAM),
    }
