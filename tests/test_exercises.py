"""Each exercise: its solution passes, each common mistake meets its own hint, and a stub is "not written yet"."""

import codecs
import itertools
import re

import nbformat
import numpy as np
import pytest
import regex

from course_lib import causal_mask, chapters, scaled_dot_product_attention
from course_lib.attention import attention_weights
from course_lib.exercises import Exercise, Property, chapter_01, chapter_02, chapter_04, close
from course_lib.text.byte_pair import PATTERN, split_words

# The framework


def test_an_exercise_reports_the_first_property_that_fails(capsys):
    double = Exercise(
        Property("2 becomes 4", lambda answer: answer(2) == 4, "Multiply by 2."),
        Property("-1 becomes -2", lambda answer: answer(-1) == -2, "Negative numbers, too."),
    )
    assert double(lambda x: 2 * x) is True
    assert capsys.readouterr().out == "holds: 2 becomes 4\nholds: -1 becomes -2\nAll 2 properties hold.\n"
    assert double(lambda x: abs(2 * x)) is False
    assert capsys.readouterr().out == "holds: 2 becomes 4\nfails: -1 becomes -2.\nLook here: Negative numbers, too.\n"
    assert double(lambda x: x + "2") is False
    assert "It raised TypeError" in capsys.readouterr().out


@pytest.mark.parametrize("actual, same", [([1, 2], True), ([1, 2.1], False), ([[1, 2]], False), ([1, np.nan], False)])
def test_close(actual, same):
    assert close(actual, [1, 2]) is same


# Chapter 01


def softmax(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def scores_of(query, key):
    return query @ key.T / np.sqrt(query.shape[-1])


def without_subtraction(scores):
    with np.errstate(all="ignore"):
        return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)


LOOPS = {
    "averages keys": (lambda q, k, v: softmax(scores_of(q, k)) @ k, "values are averaged"),
    "one vector": (lambda q, k, v: (softmax(scores_of(q, k)) @ v)[0], "One row for each query"),
    "not normalised": (lambda q, k, v: np.exp(scores_of(q, k)) @ v, "sum of the exponentials"),
    "over queries": (lambda q, k, v: softmax(scores_of(q, k), axis=0) @ v, "while i stands still"),
    "no scale": (lambda q, k, v: softmax(q @ k.T) @ v, "divides by something"),
    "width itself": (lambda q, k, v: softmax(q @ k.T / q.shape[-1]) @ v, "square root of the width"),
    "scaled by length": (lambda q, k, v: softmax(q @ k.T / np.sqrt(len(k))) @ v, "by hand, with two keys"),
    "sign": (lambda q, k, v: softmax(-scores_of(q, k)) @ v, "by hand, with two keys"),
    "overflow": (lambda q, k, v: without_subtraction(scores_of(q, k)) @ v, "Subtract the largest score"),
}
TEMPERATURE = {
    "transposed": (lambda q, k, t: softmax(k @ q.T / t), "a row for each query"),
    "divides weights": (lambda q, k, t: softmax(scores_of(q, k)) / t, "softmax must come last"),
    "drops the root": (lambda q, k, t: softmax(q @ k.T / t), "square root of the width, which stays"),
    "no effect": (lambda q, k, t: softmax(scores_of(q, k)), "Divide the scores"),
    "multiplies": (lambda q, k, t: softmax(scores_of(q, k) * t), "not multiplied"),
    "root of it": (lambda q, k, t: softmax(scores_of(q, k) / np.sqrt(t)), "temperature itself"),
    "overflow": (lambda q, k, t: without_subtraction(scores_of(q, k) / t), "Subtract the largest score"),
}


def distance(length):
    return np.abs(np.arange(length)[:, None] - np.arange(length))


WINDOW = {
    "a row": (lambda length, radius: np.arange(length) <= radius, "A row for each position"),
    "numbers": (lambda length, radius: (distance(length) <= radius).astype(float), "booleans"),
    "inverted": (lambda length, radius: distance(length) > radius, "True stands where attention is allowed"),
    "one-sided": (lambda length, radius: np.tril(distance(length) <= radius), "without a sign"),
    "off by one": (lambda length, radius: distance(length) < max(radius, 1), "still inside"),
    "too far": (lambda length, radius: distance(length) <= radius + 1, "Beyond the radius"),
}


def wide(function):
    return lambda scores: function(scores.astype("float32")).astype("float16")


def subtracting_the_largest_of_all(scores):
    with np.errstate(all="ignore"):
        powers = np.exp(scores - scores.max())
        return powers / powers.sum(axis=-1, keepdims=True)


def quietly(function):
    def call(scores):
        with np.errstate(all="ignore"):
            return function(scores)

    return call


HALF_SOFTMAX = {
    "float32": (lambda scores: softmax(scores.astype("float32")), "dtype that it was given"),
    "axis": (wide(lambda scores: softmax(scores, axis=0)), "Sum over the last axis"),
    "no subtraction": (wide(without_subtraction), "Subtract the largest score"),
    "one largest": (wide(subtracting_the_largest_of_all), "its own largest score"),
    "float16 inside": (quietly(softmax), "compute in float32"),
}

# Chapter 02


def with_axes(x):
    return x.reshape(*x.shape[:2], -1)


HEADS_FIRST = {
    "no transpose": (lambda x, n: x.reshape(*x.shape[:2], n, -1), "then move N before T"),
    "mixes": (lambda x, n: np.moveaxis(x.reshape(*x.shape[:2], n, -1), 2, 1)[:, ::-1] + 1, "nothing to mix"),
    "interleaved": (
        lambda x, n: x.reshape(*x.shape[:2], -1, n).transpose(0, 3, 1, 2),
        r"not \(H, N\)",
    ),
    "reshape alone": (lambda x, n: x.reshape(len(x), n, x.shape[1], -1), "then transpose"),
}
PARAMETERS = {
    "no output": (lambda d, n, v, bias: d * d + 2 * d * v, "projection of the output"),
    "for each head": (lambda d, n, v, bias: n * (2 * d * d + 2 * d * v + 4 * d * bias), "times narrower"),
    "no biases": (lambda d, n, v, bias: 2 * d * d + 2 * d * v, "output projection has a bias"),
    "one width": (lambda d, n, v, bias: 4 * d * d + 4 * d * bias, "take value_dim numbers to hidden_dim"),
    "queries from value": (lambda d, n, v, bias: d * d + 3 * d * v + 4 * d * bias, "queries and output stay"),
}


def same_document(ids):
    return ids[:, None, :, None] == ids[:, None, None, :]


def past(ids):
    return np.tri(ids.shape[1], dtype=bool)


PACKED = {
    "no axis of heads": (lambda ids: same_document(ids)[:, 0] & past(ids), "the one of the heads"),
    "numbers": (lambda ids: (same_document(ids) & past(ids)).astype(int), "the one of the heads"),
    "inverted": (lambda ids: ~(same_document(ids) & past(ids)), "True stands where"),
    "causal only": (lambda ids: past(ids) & np.ones_like(same_document(ids)), "join them by and"),
    "or": (lambda ids: past(ids) | same_document(ids), "join them by and"),
    "not causal": (same_document, "what came before"),
    "neighbour": (
        lambda ids: same_document(ids) & past(ids) & ~np.tri(ids.shape[1], k=-2, dtype=bool),
        "not only the neighbour",
    ),
}


def multi_query_with(attend=softmax, merge=lambda x: with_axes(x.swapaxes(1, 2)), mean=False, scale=True):
    def multi_query(queries, key, value):
        queries = np.broadcast_to(queries.mean(axis=2, keepdims=True), queries.shape) if mean else queries
        scores = np.einsum("btnh,bsh->bnts", queries, key) * (queries.shape[-1] ** -0.5 if scale else 1)
        return merge(np.einsum("bnts,bsh->bnth", attend(scores), value))

    return multi_query


MULTI_QUERY = {
    "not merged": (multi_query_with(merge=lambda x: x.swapaxes(1, 2)), "Merge the heads"),
    "no axis": (lambda q, k, v: scaled_dot_product_attention(q.swapaxes(1, 2), k, v)[0], "insert one of length 1"),
    "over heads": (multi_query_with(lambda scores: softmax(scores, axis=1)), "last axis of the scores"),
    "no scale": (multi_query_with(scale=False), "square root of H"),
    "one query": (multi_query_with(mean=True), "its own query"),
    "merged without transpose": (
        multi_query_with(merge=lambda x: x.reshape(len(x), x.shape[2], -1)),
        "transposed to",
    ),
}

# Chapter 04


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

EXERCISES = {  # its check, a solution, and mistakes with a part of the hint that each should meet
    "loops": (chapter_01.loops, lambda q, k, v: scaled_dot_product_attention(q, k, v)[0], LOOPS),
    "temperature": (chapter_01.temperature, lambda q, k, t: attention_weights(q / t, k), TEMPERATURE),
    "window": (chapter_01.window, lambda length, radius: distance(length) <= radius, WINDOW),
    "half_softmax": (chapter_01.half_softmax, wide(softmax), HALF_SOFTMAX),
    "heads_first": (chapter_02.heads_first, lambda x, n: np.stack(np.split(x, n, axis=-1), axis=1), HEADS_FIRST),
    "parameters": (chapter_02.parameters, lambda d, n, v, bias: 2 * d * (d + v) + 4 * d * bias, PARAMETERS),
    "packed": (
        chapter_02.packed,
        lambda ids: same_document(ids) & np.asarray(causal_mask(ids.shape[1])),
        PACKED,
    ),
    "multi_query": (chapter_02.multi_query, multi_query_with(), MULTI_QUERY),
    "digits": (chapter_04.digits, split_by(ONE_DIGIT), DIGITS),
    "cheapest": (chapter_04.cheapest, cheapest_by(lambda cost, length: cost), CHEAPEST),
    "stream": (chapter_04.stream, stream_of, STREAM),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name, capsys):
    check, solution, _ = EXERCISES[name]
    assert check(solution) is True, capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("stub", [lambda *_: None, lambda *_: ..., None, ...])
def test_a_stub_is_not_written_yet(name, stub, capsys):
    assert EXERCISES[name][0](stub) is False
    assert capsys.readouterr().out == "Not written yet.\n"


@pytest.mark.parametrize("name, mistake", [(name, one) for name in EXERCISES for one in EXERCISES[name][2]])
def test_a_mistake_meets_its_hint(name, mistake, capsys):
    check, _, mistakes = EXERCISES[name]
    answer, hint = mistakes[mistake]
    assert check(answer) is False
    said = capsys.readouterr().out
    assert re.search(f"Look here: .*(?:{hint})", said), said


@pytest.mark.parametrize("name", EXERCISES)
def test_each_property_meets_a_mistake(name, capsys):
    check, _, mistakes = EXERCISES[name]
    for answer, _ in mistakes.values():
        check(answer)
    said = capsys.readouterr().out
    assert not [prop.claim for prop in check.properties if f"fails: {prop.claim}." not in said]


@pytest.mark.one_backend
def test_chapters_use_each_exercise_of_theirs_as_a_stub_and_in_the_solutions():
    modules = {"01": chapter_01, "02": chapter_02, "04": chapter_04}
    for path in chapters.find(modules):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        number = path.name[:2]
        checks = [name for name, value in vars(modules[number]).items() if isinstance(value, Exercise)]
        for tag in ("exercise", "solution"):
            text = "\n".join(cell.source for cell in cells if tag in cell.metadata.get("tags", []))
            assert [name for name in checks if f"chapter_{number}.{name}(" in text] == checks
