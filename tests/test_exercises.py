"""Each exercise: its solution passes, each common mistake meets its own hint, and a stub is "not written yet"."""

import codecs
import collections
import functools
import itertools
import re

import nbformat
import numpy as np
import pytest
import regex

from course_lib import causal_mask, chapters, scaled_dot_product_attention
from course_lib.attention import attention_weights
from course_lib.exercises import (
    Exercise,
    Property,
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    close,
)
from course_lib.text import bio
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

# Chapter 03


def step_by(
    block=lambda angle: [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]],
    frequency=lambda i, width: 10_000 ** (-2 * i / width),
    side_by_side=True,
):
    def step(k, width):
        matrix = np.zeros((width, width))
        for i in range(width // 2):
            places = [2 * i, 2 * i + 1] if side_by_side else [i, width // 2 + i]
            matrix[np.ix_(places, places)] = block(k * frequency(i, width))
        return matrix

    return step


ROTATION = {
    "a vector": (lambda k, width: k * np.ones(width), "to the D numbers of another"),
    "cosine first": (step_by(lambda a: [[np.sin(a), np.cos(a)], [np.cos(a), -np.sin(a)]]), "is the identity"),
    "other way": (step_by(lambda a: [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), "The sine comes first"),
    "no minus": (step_by(lambda a: [[np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]]), "has a minus"),
    "halves": (step_by(side_by_side=False), "follow the diagonal"),
    "one frequency": (step_by(frequency=lambda i, width: 1), "each slower"),
    "half the exponent": (step_by(frequency=lambda i, width: 10_000 ** (-i / width)), "each slower"),
    "no way back": (lambda k, width: step_by()(abs(k), width), "its sign included"),
}


def forced(targets, end, shift=True, stop=True, weight_of_end=True, weight_of_padding=0, room=1, dtype="int32"):
    length = max(map(len, targets)) + room
    labels, decoder = np.full((len(targets), length), 0, dtype), np.full((len(targets), length), 0, dtype)
    weights = np.full((len(targets), length), weight_of_padding, "float32")
    for row, target in enumerate(targets):
        labels[row, : len(target) + 1] = [*target, end if stop else 0][:length]
        decoder[row, : len(target) + 1] = ([end, *target] if shift else [*target, end])[:length]
        weights[row, : len(target) + weight_of_end] = 1
    return decoder, labels, weights


FORCING = {
    "no room": (functools.partial(forced, room=0), "makes each row one longer"),
    "never stops": (functools.partial(forced, stop=False), "learn where to stop"),
    "sees the label": (functools.partial(forced, shift=False), "what comes before the label"),
    "end without weight": (functools.partial(forced, weight_of_end=False), "never learns to stop"),
    "padding with weight": (functools.partial(forced, weight_of_padding=1), "nothing to predict"),
    "floats": (functools.partial(forced, dtype="float32"), "np.zeros makes floats"),
}


def count_with(tables=1, cross=1, stacks=2, biases=1, norms=5, tables_by_layer=False):
    def count(vocabulary_size, num_layers, hidden_dim, intermediate_dim):
        attention = 4 * hidden_dim**2 + 4 * hidden_dim * biases
        feed_forward = (2 * hidden_dim + 1) * intermediate_dim + hidden_dim
        layer = (2 + cross) * attention + stacks * feed_forward + norms * 2 * hidden_dim
        table = tables * vocabulary_size * hidden_dim
        return num_layers * (layer + table) if tables_by_layer else num_layers * layer + table

    return count


COUNT = {
    "three tables": (count_with(tables=3), "share one table"),
    "one stack": (count_with(stacks=1), "encoder and decoder each have one"),
    "no cross-attention": (count_with(cross=0), "cross-attention besides its own"),
    "no biases": (count_with(biases=0), "Each projection has a bias"),
    "two norms each": (count_with(norms=4), "three in a decoder block"),
    "tables in each layer": (count_with(tables_by_layer=True), "once in all"),
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

# Chapter 05


def mask_with(
    may_be_chosen=np.isin,
    number=lambda available, length: max(1, round(0.15 * available)),
    shares=(0.8, 0.1),
    in_place=False,
    replace=True,
    everywhere=False,
    own_rng=True,
    drawn=lambda rng, regular, size: rng.choice(regular, size),
):
    def mask(token_ids, regular_ids, mask_token_id, rng):
        rng = rng if own_rng else np.random.default_rng()
        places = np.flatnonzero(may_be_chosen(token_ids, regular_ids))
        count = number(len(places), len(token_ids))
        chosen = np.isin(np.arange(len(token_ids)), rng.choice(places, min(count, len(places)), replace=not replace))
        corrupted = token_ids if in_place else token_ids.copy()
        fate, other = rng.random(len(token_ids)), drawn(rng, regular_ids, len(token_ids))
        touched = np.isin(token_ids, regular_ids) if everywhere else chosen
        corrupted[touched & (fate < shares[0])] = mask_token_id
        random = touched & (fate >= shares[0]) & (fate < sum(shares))
        corrupted[random] = other[random]
        return corrupted, chosen

    return mask


def places_chosen(token_ids, regular_ids, mask_token_id, rng):
    corrupted, chosen = mask_with()(token_ids, regular_ids, mask_token_id, rng)
    return corrupted, np.flatnonzero(chosen)


MASKING = {
    "places": (places_chosen, "whether it was chosen"),
    "in place": (mask_with(in_place=True), "Work on a copy"),
    "special ones": (mask_with(may_be_chosen=lambda ids, _: ids >= 0), "whose id is in regular_ids"),
    "of the length": (
        mask_with(number=lambda available, length: max(1, round(0.15 * length))),
        "without special tokens and padding",
    ),
    "none": (mask_with(number=lambda available, length: int(0.15 * available)), "Count the regular tokens"),
    "twice": (mask_with(replace=False), "without replacement"),
    "everywhere": (mask_with(everywhere=True), "chosen positions only"),
    "global": (mask_with(own_rng=False), "nothing from np.random itself"),
    "always hidden": (mask_with(shares=(1.0, 0.0)), "below 0.8"),
    "10 % hidden": (mask_with(shares=(0.1, 0.1)), "below 0.8"),
    "none kept": (mask_with(shares=(0.8, 0.2)), "half stay"),
    "none replaced": (mask_with(shares=(0.8, 0.0)), "half stay"),
    "any id": (mask_with(drawn=lambda rng, regular, size: rng.integers(0, 60, size)), "Draw the replacement"),
    "one for all": (
        mask_with(drawn=lambda rng, regular, size: np.full(size, regular[0])),
        "anew for each token",
    ),
}


def add_up(
    special=True, hide=True, forget=False, combine=np.sum, pick=lambda scores, place, token: scores[place, token]
):
    def pseudo_log_likelihood(token_ids, score, mask_token_id, special_ids):
        row, terms = token_ids.copy(), []
        for place in range(len(token_ids)):
            if special and token_ids[place] in special_ids:
                continue
            row = row if forget else token_ids.copy()
            row[place] = mask_token_id if hide else row[place]
            terms.append(pick(score(row), place, token_ids[place]))
        return combine(terms)

    return pseudo_log_likelihood


PSEUDO = {
    "positive": (add_up(combine=lambda terms: -np.sum(terms)), "without a minus sign"),
    "a list": (add_up(combine=lambda terms: terms), "Add up the logarithms"),
    "not hidden": (add_up(hide=False), "with the mask token in its place"),
    "one after the other": (add_up(forget=True), "a copy of the row of its own"),
    "special ones": (add_up(special=False), "not among special_ids"),
    "mean": (add_up(combine=np.mean), "without dividing"),
    "most probable": (add_up(pick=lambda scores, place, token: scores[place].max()), "that stood there"),
    "place before": (add_up(pick=lambda scores, place, token: scores[place - 1, token]), "At the hidden position"),
}


def perplexity_of(batches):
    losses = np.concatenate([-scores[weights > 0] for scores, weights in batches])
    return np.exp(losses.mean())


def of_all(batches, losses=lambda scores, weights: -scores * weights):
    total = sum(losses(scores, weights).sum() for scores, weights in batches)
    return np.exp(total / sum(weights.sum() for _, weights in batches))


def of_rows(batches):
    return np.exp(
        np.mean(np.concatenate([-(scores * weights).sum(1) / weights.sum(1).clip(1) for scores, weights in batches]))
    )


PERPLEXITY = {
    "a mean": (lambda batches: np.log(perplexity_of(batches)), "The exponential, with base e"),
    "base 2": (lambda batches: 2 ** np.log(perplexity_of(batches)), "with base e"),
    "without weights": (
        lambda batches: np.exp(-np.mean(np.concatenate([scores.ravel() for scores, _ in batches]))),
        "divide by the sum of the weights",
    ),
    "of all positions": (
        lambda batches: np.exp(-np.mean(np.concatenate([(scores * weights).ravel() for scores, weights in batches]))),
        "divide by the sum of the weights",
    ),
    "of rows": (of_rows, "no mean of rows in between"),
    "of batches": (lambda batches: np.mean([perplexity_of([batch]) for batch in batches]), "Keep both sums"),
    "mean of means": (
        lambda batches: np.exp(np.mean([np.log(perplexity_of([batch])) for batch in batches])),
        "Keep both sums",
    ),
    "not a number": (of_all, "use np.where"),
}

# Chapter 06


def make_pairs(documents, seed, skip=1, leave_out=True, labels=(0, 1)):
    rng, made = np.random.default_rng(seed), []
    for number, document in enumerate(documents):
        elsewhere = [s for n, other in enumerate(documents) if n != number or not leave_out for s in other[skip:]]
        for first, second in itertools.pairwise(document):
            made.append((first, second, labels[0]))
            made.append((first, elsewhere[rng.integers(len(elsewhere))], labels[1]))
    return made


def one_a_boundary(documents, seed):
    made = make_pairs(documents, seed)
    return [made[2 * n + coin] for n, coin in enumerate(np.random.default_rng(seed).integers(2, size=len(made) // 2))]


def other_first_sentences(documents, seed):
    made = make_pairs(documents, seed)
    return [(made[0][0], second, 1) if label else (first, second, 0) for first, second, label in made]


MAKE_PAIRS = {
    "no labels": (lambda docs, seed: [triple[:2] for triple in make_pairs(docs, seed)], "two sentences, as strings"),
    "the seed's labels": (lambda docs, seed: make_pairs(docs, seed, labels=(1, 0)), "labels are Google's"),
    "across documents": (
        lambda docs, seed: [*make_pairs(docs, seed), (docs[0][-1], docs[1][0], 0), (docs[0][-1], docs[2][1], 1)],
        "none between two",
    ),
    "a coin for each": (one_a_boundary, "whatever is drawn"),
    "true ones only": (
        lambda docs, seed: [triple for triple in make_pairs(docs, seed) if triple[2] == 0],
        "As many false pairs",
    ),
    "other first sentences": (other_first_sentences, "with the same first sentences"),
    "own document": (lambda docs, seed: make_pairs(docs, seed, leave_out=False), "Leave the document"),
    "beginnings": (lambda docs, seed: make_pairs(docs, seed, skip=0), "never begins a document"),
    "seed ignored": (lambda docs, seed: make_pairs(docs, 0), "made anew in each call"),
    "no seed": (lambda docs, seed: make_pairs(docs, None), "made anew in each call"),
}


def next_sentence_loss(logits, y, power=0.0):
    difference = logits[:, 0] - logits[:, 1]
    return np.sum(np.logaddexp(0, np.where(y == 1, -difference, difference))) / len(y) ** power


def by_formula(term, inside=softmax):
    def loss(logits, y):
        with np.errstate(all="ignore"):
            log = np.log(inside(logits))
            return np.sum(term(y, log[:, 0], log[:, 1]))

    return loss


def unsafe_softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def both_terms(y, yes, no):
    return -np.where(y == 1, yes, no)


NEXT_SENTENCE_LOSS = {
    "a loss each": (
        lambda logits, y: np.array([next_sentence_loss(logits[i : i + 1], y[i : i + 1]) for i in range(len(y))]),
        "Add up over all pairs",
    ),
    "as typeset": (by_formula(lambda y, yes, no: -y * yes + (1 - y) * no), "covers both terms"),
    "no minus": (by_formula(lambda y, yes, no: y * yes + (1 - y) * no), "covers both terms"),
    "first term": (by_formula(lambda y, yes, no: -y * yes), "true and false pairs both count"),
    "bits": (lambda logits, y: next_sentence_loss(logits, y) / np.log(2), "natural logarithms"),
    "Google's labels": (lambda logits, y: next_sentence_loss(logits, 1 - y), "not Google's"),
    "mean": (lambda logits, y: next_sentence_loss(logits, y, power=1.0), "do not take the mean"),
    "softmax twice": (by_formula(both_terms, lambda logits: softmax(softmax(logits))), "once"),
    "overflow": (by_formula(both_terms, unsafe_softmax), "exp overflows"),
    "clipped": (by_formula(both_terms, lambda logits: np.clip(softmax(logits), 1e-7, 1)), "logaddexp"),
}


def order_pairs(documents, seed, draw=None, labels=(0, 1)):
    boundaries = [pair for document in documents for pair in itertools.pairwise(document)]
    rng = np.random.default_rng(seed)
    swap = rng.permutation(np.arange(len(boundaries)) % 2) if draw is None else draw(rng, len(boundaries))
    return [(*pair[::-1], labels[1]) if s else (*pair, labels[0]) for pair, s in zip(boundaries, swap, strict=True)]


ORDER_PAIRS = {
    "no labels": (lambda docs, seed: [triple[:2] for triple in order_pairs(docs, seed)], "two sentences, as strings"),
    "next sentence": (make_pairs, "nothing comes from elsewhere"),
    "both orders": (
        lambda docs, seed: (
            order_pairs(docs, seed, lambda _, n: [0] * n) + order_pairs(docs, seed, lambda _, n: [1] * n)
        ),
        "not both",
    ),
    "labels reversed": (lambda docs, seed: order_pairs(docs, seed, labels=(1, 0)), "exactly where the label is 1"),
    "a coin for each": (
        lambda docs, seed: order_pairs(docs, seed, lambda rng, n: rng.integers(2, size=n)),
        "half on average",
    ),
    "every other": (lambda docs, seed: order_pairs(docs, seed, lambda _, n: np.arange(n) % 2), "Shuffle the labels"),
    "no seed": (lambda docs, seed: order_pairs(docs, None), "made anew in each call"),
}

# Chapter 07


def flat_top_with(add=1, over=1, between=1.0, warm=1, at_end=0):
    def flat_top(step, peak, warmup, decay, steps):
        step = np.asarray(step)
        rising, falling = (step + add) / (warmup + warm - 1), (steps - step - at_end) / (decay + over)
        return peak * np.minimum(between, np.minimum(rising, falling))

    return flat_top


def one_by_one(step, peak, warmup, decay, steps):
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (decay + 1))


FLAT_TOP = {
    "numbers alone": (one_by_one, "min and if do not"),
    "starts at zero": (flat_top_with(add=0), "add 1 before you divide"),
    "late": (flat_top_with(warm=2), "peak .t . 1. / warmup"),
    "no top": (flat_top_with(over=12), "the smallest of three"),
    "ends at zero": (flat_top_with(over=0, at_end=1), "which is never taken"),
    "a part less": (flat_top_with(over=0), "decay . 1 equal parts"),
}


def save_by(place=lambda path: path.with_suffix(".partial"), always=False, last=None, silent=False):
    def save(path, chunks):
        partial, size = place(path), 0
        try:
            with open(partial, "wb") as stream:
                for chunk in chunks:
                    size += stream.write(chunk)
        except Exception:
            if always:
                partial.replace(path)
            if not silent:
                raise
            return 0
        partial.replace(path)
        return size if last is None else last

    return save


def last_chunk(path, chunks):
    for chunk in chunks:
        path.write_bytes(chunk)
    return 11


SAVE = {
    "one after the other": (last_chunk, "write each of them"),
    "other result": (save_by(last=3), "what write returns"),
    "in its place": (save_by(place=lambda path: path), "to another name"),
    "whatever happens": (save_by(always=True), "not in a `finally`"),
    "silent": (save_by(silent=True), "must hear of the error"),
}


def decaying_by(does_not):
    return lambda shapes: [path for path, shape in shapes.items() if not does_not(path, shape)]


def name_of(path):
    return path.rsplit("/", 1)[-1]


NORMS_AND_BIASES = ("bias", "gamma", "beta")
DECAYING = {
    "a dict": (lambda shapes: dict.fromkeys(decaying_by(lambda *_: False)(shapes)), "as a list"),
    "one axis": (decaying_by(lambda path, shape: len(shape) == 1), "the name tells, not the shape"),
    "biases alone": (decaying_by(lambda path, shape: name_of(path) == "bias"), "neither decays"),
    "anywhere": (decaying_by(lambda path, shape: any(n in path for n in NORMS_AND_BIASES)), "last part of the path"),
    "matrices": (
        decaying_by(lambda path, shape: len(shape) == 1 or name_of(path) in NORMS_AND_BIASES),
        "whatever else it is",
    ),
}

# Chapter 09


def next_token_terms(logits, token_ids, shift=True):
    """What each prediction costs, (B, T - 1)."""
    log = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log, labels = (log[:, :-1], token_ids[:, 1:]) if shift else (log, token_ids)
    return -np.take_along_axis(log, labels[..., None], axis=-1)[..., 0]


def next_token_loss(logits, token_ids, padding_mask):
    return np.mean(next_token_terms(logits, token_ids)[padding_mask[:, 1:] == 1])


def backwards(logits, token_ids, padding_mask):
    return next_token_loss(logits[:, ::-1], token_ids[:, ::-1], padding_mask[:, ::-1])


def rolled(logits, token_ids, padding_mask):
    return np.mean(next_token_terms(logits, np.roll(token_ids, -1, axis=1), shift=False))


def mean_of_rows(logits, token_ids, padding_mask):
    terms, counts = next_token_terms(logits, token_ids), padding_mask[:, 1:]
    return np.mean((terms * counts).sum(axis=1) / counts.sum(axis=1))


def unsafe_next_token_loss(logits, token_ids, padding_mask):
    return next_token_loss(np.log(unsafe_softmax(logits)), token_ids, padding_mask)


NEXT_TOKEN_LOSS = {
    "a loss each": (lambda z, ids, mask: next_token_terms(z, ids), "The mean over all predictions"),
    "sum": (lambda z, ids, mask: next_token_terms(z, ids).sum(), "The mean over all predictions"),
    "bits": (lambda z, ids, mask: next_token_loss(z, ids, mask) / np.log(2), "natural logarithms"),
    "no shift": (
        lambda z, ids, mask: next_token_terms(z, ids, shift=False)[mask == 1].mean(),
        "not the one at t",
    ),
    "backwards": (backwards, "T - 1 predictions"),
    "rolled": (rolled, "T - 1 predictions"),
    "no mask": (lambda z, ids, mask: next_token_terms(z, ids).mean(), "shift the mask"),
    "mask not shifted": (
        lambda z, ids, mask: next_token_terms(z, ids)[mask[:, :-1] == 1].mean(),
        "shift the mask",
    ),
    "of rows": (mean_of_rows, "no mean of rows in between"),
    "of all positions": (
        lambda z, ids, mask: (next_token_terms(z, ids) * mask[:, 1:]).mean(),
        "divide by the number of predictions",
    ),
    "overflow": (unsafe_next_token_loss, "np.logaddexp.reduce"),
}


def top_p_with(
    is_kept=lambda before, after, p: before < p,
    share=lambda kept: kept / kept.sum(),
    order=lambda probabilities: np.argsort(-probabilities, kind="stable"),
    put_back=True,
):
    def top_p(probabilities, p):
        places = order(probabilities)
        likely = probabilities[places]
        after = np.cumsum(likely)
        found = share(np.where(is_kept(after - likely, after, p), likely, 0))
        return found[np.argsort(places)] if put_back else found

    return top_p


NUCLEUS = {
    "not divided": (top_p_with(share=lambda kept: kept), "divide what is left by its sum"),
    "stops before": (top_p_with(lambda before, after, p: after <= p), "the one that reaches p belongs"),
    "likely enough": (top_p_with(lambda before, after, p: after - before >= 1 - p), "the one that reaches p belongs"),
    "one too many": (top_p_with(lambda before, after, p: before <= p), "where it is p, it is enough"),
    "softmax": (
        top_p_with(share=lambda kept: np.where(kept > 0, np.exp(kept), 0) / np.exp(kept[kept > 0]).sum()),
        "no second softmax",
    ),
    "equal shares": (top_p_with(share=lambda kept: (kept > 0) / np.sum(kept > 0)), "no equal shares"),
    "sorted": (top_p_with(put_back=False), "put each result back"),
    "as they come": (top_p_with(order=lambda probabilities: np.arange(len(probabilities))), "np.argsort"),
    "always two": (top_p_with(lambda before, after, p: np.arange(len(after)) < 2), "depends on the distribution"),
}


def cached_step_with(write=0, read=1, scale=True, in_place=False, lengthen=False, both=True):
    def step(x, w_query, w_key, w_value, keys, values, position):
        if not in_place:
            keys, values = keys.copy(), values.copy()
        keys[:, position + write] = x @ w_key
        if both:
            values[:, position + write] = x @ w_value
        seen = slice(0, None if read is None else position + read)
        scores = np.einsum("bh,bsh->bs", x @ w_query, keys[:, seen])
        weights = softmax(scores / np.sqrt(keys.shape[-1]) if scale else scores)
        if lengthen:
            keys, values = (np.concatenate([array, array[:, :1]], axis=1) for array in (keys, values))
        return np.einsum("bs,bsh->bh", weights, values[:, seen]), keys, values

    return step


# Chapter 10


def graded(x, classes, kernel, bias, *, mean=True, stable=True, swapped=False, chosen=True, transpose=True):
    logits = x @ kernel + bias
    powers = np.exp(logits - (logits.max(axis=1, keepdims=True) if stable else 0))
    p = powers / powers.sum(axis=1, keepdims=True)
    y = np.eye(len(bias))[classes]
    loss = -np.log((p * y).sum(axis=1))
    g = (y - p if swapped else p - y if chosen else p) / (len(x) if mean else 1)
    return loss.mean() if mean else loss.sum(), x.T @ g if transpose else (g.T @ x).T * len(x), g.sum(axis=0)


def graded_with(**changes):
    return functools.partial(graded, **changes)


def transposed(x, classes, kernel, bias):
    loss, kernel, bias = graded(x, classes, kernel, bias)
    return loss, kernel.T, bias


GRADIENT = {
    "kernel's gradient transposed": (transposed, "the shape of what it is the gradient of"),
    "sum in place of the mean": (graded_with(mean=False), "The mean over the batch of -log"),
    "the loss of another class": (
        lambda x, classes, *layer: (graded(x, (classes + 1) % 3, *layer)[0], *graded(x, classes, *layer)[1:]),
        "the last axis",
    ),
    "nothing taken from the right class": (graded_with(chosen=False), "p - y"),
    "uphill": (graded_with(swapped=True), "p - y"),
    "the kernel's gradient is not a mean": (graded_with(transpose=False), "the mean over the batch"),
    "overflow": (graded_with(stable=False), "Subtract the largest logit"),
}


def loss_at(value, logits, classes):
    scaled = logits / value
    return np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(logits)), classes])


def temperature_by(grid, rounds=3, loss=loss_at):
    """Searches a grid, and again around its best, as often as there are rounds."""

    def fit(logits, classes):
        found, step = 1.0, None
        for _ in range(rounds):
            values = found * np.asarray(grid if step is None else np.geomspace(1 / step, step, 41))
            found = values[np.argmin([loss(value, logits, classes) for value in values])]
            step = grid[1] / grid[0] if step is None else step ** (1 / 10)
        return found

    return fit


WIDE = np.geomspace(1e-4, 1e4, 81)


def naive_loss(value, logits, classes):
    with np.errstate(all="ignore"):
        powers = np.exp(logits / value)
        p = powers / powers.sum(axis=1, keepdims=True)
        loss = -np.mean(np.log(p[np.arange(len(logits)), classes]))
    return loss if np.isfinite(loss) else 1e9


def errors_at(value, logits, classes):
    return np.mean((logits / value).argmax(axis=1) != classes)


FITTED_TEMPERATURE = {
    "one for each class": (lambda logits, classes: np.ones(3), "for all texts and all classes"),
    "the factor in place of the divisor": (lambda *a: 1 / temperature_by(WIDE)(*a), "what they are multiplied by"),
    "always three": (lambda *_: 3.0, "not the error rate"),
    "error rate": (temperature_by(WIDE, loss=errors_at), "are divided by T"),
    "never below one": (temperature_by(np.geomspace(1, 1e4, 81)), "too modest"),
    "coarse": (temperature_by(np.geomspace(1.1**-100, 1.1**100, 201), rounds=1), "A coarse grid"),
    "overflow": (temperature_by(np.geomspace(0.01, 100, 81), loss=naive_loss), "steps that are factors"),
}


def adapted(W, A, B, alpha):
    return W + alpha / A.shape[1] * A @ B, A.size + B.size


def adapted_in_place(W, A, B, alpha):
    W += alpha / A.shape[1] * A @ B
    return W, A.size + B.size


ADAPTER = {
    "count alone inside": (lambda W, A, B, alpha: (adapted(W, A, B, alpha)[0].T, 16), "of the same shape|a count"),
    "replaced": (lambda W, A, B, alpha: (alpha / 2 * A @ B, A.size + B.size), "is added to the kernel"),
    "twice": (lambda W, A, B, alpha: (W + 2 * alpha / 2 * A @ B, A.size + B.size), "a matrix product"),
    "alpha without the rank": (lambda W, A, B, alpha: (W + alpha * A @ B, A.size + B.size), "alpha = R|alpha / R"),
    "no alpha": (lambda W, A, B, alpha: (W + A @ B, A.size + B.size), "alpha / R"),
    "everything learns": (lambda W, A, B, alpha: (adapted(W, A, B, alpha)[0], W.size), "R \\(D \\+ E\\) numbers"),
    "in place": (adapted_in_place, "writes into the array"),
}


def nearest_with(factors=lambda U, S, V: (U * S, V), which=slice, centre=False):
    def nearest(change, rank):
        change = change - change.mean(axis=0) if centre else change
        U, S, V = np.linalg.svd(change, full_matrices=False)
        return factors(U[:, which(rank)], S[which(rank)], V[which(rank)])

    return nearest


def one_by_one(change, rank, guard=True, in_place=False, same=False):
    """Finds the largest component by the power method, takes it away, and so on."""
    rest, left, right = change if in_place else change.copy(), [], []
    for _ in range(rank):
        v = np.ones(change.shape[1])
        for _ in range(2000):
            v = rest.T @ (rest @ v)
            v = v / (max(np.linalg.norm(v), 1e-300) if guard else np.linalg.norm(v))
        left.append(rest @ v)
        right.append(v)
        rest -= 0 if same else np.outer(left[-1], v)
    return np.stack(left, axis=1) / (rank if same else 1), np.stack(right)


def columns(change, rank):
    """Takes the first columns of the change, and the best B for them."""
    return change[:, :rank], np.linalg.lstsq(change[:, :rank], change)[0]


NEAREST_ADAPTER = {
    "all of it": (nearest_with(which=lambda rank: slice(None)), "keep R columns of U"),
    "three factors": (nearest_with(lambda U, S, V: (U, np.diag(S), V)), "Two matrices"),
    "B transposed": (nearest_with(lambda U, S, V: (U * S, V.T)), "R rows of Vᵀ"),
    "no singular values": (nearest_with(lambda U, S, V: (U, V)), "go in once"),
    "singular values twice": (nearest_with(lambda U, S, V: (U * S, S[:, None] * V)), "go in once"),
    "the smallest": (nearest_with(which=lambda rank: slice(-rank, None)), "the largest first"),
    "centred": (nearest_with(centre=True), "nothing is centred"),
    "V for its transpose": (
        lambda change, rank: (nearest_with()(change, rank)[0], np.linalg.svd(change)[2][:, :rank].T),
        "not V",
    ),
    "V for its transpose, cut": (nearest_with(lambda U, S, V: (U * S, V.T[: len(S)])), "R rows of Vᵀ"),
    "the first again and again": (functools.partial(one_by_one, same=True), "its own singular value"),
    "the largest for all": (nearest_with(lambda U, S, V: (U * S[0], V)), "its own singular value"),
    "columns": (columns, "keep the R largest"),
    "zero by zero": (functools.partial(one_by_one, guard=False), "do not divide by them"),
    "in place": (functools.partial(one_by_one, in_place=True), "the array that was handed in"),
}


CACHED_STEP = {
    "lengthened": (cached_step_with(lengthen=True), "keep their S slots"),
    "in place": (cached_step_with(in_place=True), "Write into copies"),
    "one late": (cached_step_with(write=1), "becomes x @ w_key"),
    "one early": (cached_step_with(write=-1), "becomes x @ w_key"),
    "keys only": (cached_step_with(both=False), "becomes x @ w_value"),
    "all slots": (cached_step_with(read=None), "nothing has been written behind them"),
    "without itself": (cached_step_with(read=0), "attends to itself"),
    "no scale": (cached_step_with(scale=False), "√H"),
}

# Chapter 11


def spans_with(begins=lambda before, label: label[:1] == "B" or before[2:] != label[2:], last=True, end=0, kind=2):
    """Where `begins` says so, an entity ends and another begins; `kind` is where its type stands in a label."""

    def find(labels):
        found, current, before = [], None, "O"
        for place, label in enumerate([*labels, "O"] if last else labels):
            if current and (label == "O" or begins(before, label)):
                found.append((*current, place + end))
                current = None
            if current is None and label != "O" and (begins(before, label) or before == "O"):
                current = label[2:] if kind == 2 else label.split("-")[1], place
            before = label
        return found

    return find


def only_after_b(labels):
    """Reads an I that goes on with nothing as O."""
    found = spans_with()(labels)
    return [span for span in found if labels[span[1]][0] == "B"]


SPANS = {
    "inclusive": (spans_with(end=-1), "the end is exclusive"),
    "one word each": (lambda labels: [(x[2:], i, i + 1) for i, x in enumerate(labels) if x != "O"], "moves the end"),
    "open at the end": (spans_with(last=False), "end it after the loop"),
    "joined": (spans_with(lambda before, label: before[2:] != label[2:]), "that is what it is for"),
    "split at hyphens": (spans_with(kind=1), r"label\[2:\]"),
    "type not compared": (spans_with(lambda before, label: label[:1] == "B"), "Compare the types"),
    "strict": (lambda labels: [span for span in spans_with()(labels) if labels[span[1]] != "I-person"], "read I as B"),
    "I ignored": (only_after_b, "Compare the types"),
    "None for none": (lambda labels: spans_with()(labels) or [()], "an empty list"),
}


def align_with(unknown=("[UNK]",), shift=0, rest=0, special=0, everywhere=False, ends=True, label_of=None):
    def align(words, ids, cut):
        pieces, labels, weights = ["[CLS]"], [0], [special]
        for word, index in zip(words, ids, strict=True):
            found = cut(word) or list(unknown)
            pieces += found
            labels += [index] + [index if everywhere else 0] * (len(found) - 1) if found else []
            weights += [1] + [rest] * (len(found) - 1) if found else []
        if shift:
            labels = labels[shift:] + [0] * shift
        if not ends:
            return pieces[1:], labels[1:], weights[1:]
        return [*pieces, "[SEP]"], [*labels, 0], [*weights, special]

    return align


def a_label_a_word(words, ids, cut):
    pieces, _, _ = align_with()(words, ids, cut)
    return pieces, ids, [1] * len(ids)


ALIGN = {
    "a label a word": (a_label_a_word, "has an id and a weight"),
    "no special tokens": (align_with(ends=False), r"\[CLS\] comes first"),
    "shifted": (align_with(shift=1), "moves every word by one place"),
    "no weight": (
        lambda words, ids, cut: (*align_with()(words, ids, cut)[:2], [0] * len(align_with()(words, ids, cut)[0])),
        "the weight is 1",
    ),
    "special": (align_with(special=1), "stand for no word"),
    "every piece": (align_with(rest=1, everywhere=True), "would count many times"),
    "nothing left": (align_with(unknown=()), "put .UNK. there"),
}


def forbid(may):
    return np.where(may, 0.0, -np.inf)


def viterbi_with(
    begin=forbid, follow=forbid, always=False, own=True, remember=True, in_place=False, walk=lambda path: path
):
    def viterbi(scores, may, begins):
        sums = scores if in_place else scores.copy()  # becomes s, row by row
        sums[0] += begin(begins)
        found = []
        for place, row in enumerate(sums.copy()[1:], 1):
            before = sums[place - 1] if remember or place == 1 else scores[place - 1]
            options = before[:, None] + follow(may)
            found.append(options.argmax(axis=0))
            sums[place] = options.max(axis=0) + own * row + (begin(begins) if always else 0)
        path = [int(sums[-1].argmax())]
        for pointers in reversed(found):
            path.append(int(pointers[path[-1]]))
        return walk(path[::-1])

    return viterbi


def viterbi_of_probabilities(scores, may, begins):
    best, found = begins * np.exp(scores[0]), []
    for row in scores[1:]:
        found.append((best[:, None] * may).argmax(axis=0))
        best = (best[:, None] * may).max(axis=0) * np.exp(row)
    path = [best.argmax()]
    for pointers in reversed(found):
        path.append(pointers[path[-1]])
    return path[::-1]


def zero_for_what_may_not_begin(scores, may, begins):
    return viterbi_with(begin=np.zeros_like)(np.vstack([scores[:1] * begins, scores[1:]]), may, begins)


def word_by_word(scores, may, begins):
    """Takes the best label of those that may follow the one before."""
    path = [(scores[0] + forbid(begins)).argmax()]
    for row in scores[1:]:
        path.append((row + forbid(may[path[-1]])).argmax())
    return path


def without_walking_back(scores, may, begins):
    sums = [scores[0] + forbid(begins)]
    for row in scores[1:]:
        sums.append((sums[-1][:, None] + forbid(may)).max(axis=0) + row)
    return np.argmax(sums, axis=1)


def of_all_sequences(scores, may, begins):
    words, labels = scores.shape
    paths = np.indices((labels,) * words).reshape(words, -1)
    sums = scores[np.arange(words)[:, None], paths].sum(axis=0)
    return paths[:, np.argmax(sums + forbid(begins[paths[0]] & may[paths[:-1], paths[1:]].all(axis=0)))]


VITERBI = {
    "the first is missing": (viterbi_with(walk=lambda path: path[1:]), "the first and the last included"),
    "floats": (viterbi_with(walk=lambda path: np.array(path, float)), "from 0 to C - 1"),
    "from one on": (viterbi_with(walk=lambda path: [label + 1 for label in path]), "from 0 to C - 1"),
    "anything begins": (viterbi_with(begin=np.zeros_like), "where begins"),
    "zero in place of minus infinity": (zero_for_what_may_not_begin, "0 is more"),
    "begins at each word": (viterbi_with(always=True), "the first word alone"),
    "without the words' own scores": (viterbi_with(own=False), "adds its own scores"),
    "backwards": (viterbi_with(walk=lambda path: path[::-1]), "finds the last word first"),
    "anything follows": (viterbi_with(follow=np.zeros_like), "gets minus infinity"),
    "the other way": (viterbi_with(follow=lambda may: forbid(may.T)), "a comes before b"),
    "a penalty": (viterbi_with(follow=lambda may: -50.0 * ~may), "gets minus infinity"),
    "not walked back": (without_walking_back, "Walk back along"),
    "word by word": (word_by_word, "Decide nothing on the way"),
    "forgets": (viterbi_with(remember=False), "of all words before"),
    "in place": (viterbi_with(in_place=True), "the array that was handed in"),
    "all sequences": (of_all_sequences, "W C² steps"),
    "probabilities": (viterbi_of_probabilities, "and sums"),
}


def smoothed_with(share=lambda size: 1 / size, right=lambda smoothing, size: 1 - smoothing, reduce=None, unsafe=False,
                  lowest="entropy"):  # fmt: skip
    def smoothed(logits, labels, smoothing):
        size = logits.shape[-1]
        log = np.log(unsafe_softmax(logits)) if unsafe else logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        wanted = np.full(logits.shape, smoothing * share(size))
        wanted[np.arange(len(labels)), labels] += right(smoothing, size)
        losses = -(wanted * log).sum(axis=-1)
        q = np.array([1 - smoothing + smoothing / size, smoothing / size])
        terms = -q * np.log(np.where(q > 0, q, 1.0) if lowest != "nan" else q)
        found = {"entropy": terms[0] + (size - 1) * terms[1], "zero": 0.0, "two": terms.sum(), "right": terms[0]}
        found["nan"] = found["entropy"]
        return (losses if reduce is None else reduce(losses)), found[lowest]

    return smoothed


SMOOTHED = {
    "mean": (smoothed_with(reduce=np.mean), "not their mean"),
    "bits": (smoothed_with(reduce=lambda losses: losses / np.log(2)), "softmax of the logits"),
    "adds up to more": (smoothed_with(right=lambda smoothing, size: 1.0), "has to add up to one"),
    "smooths twice": (smoothed_with(share=lambda size: 2 / size), "has to add up to one"),
    "others alone": (
        smoothed_with(lambda size: 1 / (size - 1), lambda smoothing, size: 1 - smoothing - smoothing / (size - 1)),
        "the right one among them",
    ),
    "overflow": (smoothed_with(unsafe=True), "np.logaddexp.reduce"),
    "0 log 0": (smoothed_with(lowest="nan"), "0 · log 0"),
    "lowest is zero": (smoothed_with(lowest="zero"), "one is right, V - 1 are not"),
    "one wrong token": (smoothed_with(lowest="two"), "one is right, V - 1 are not"),
    "right token alone": (smoothed_with(lowest="right"), "one is right, V - 1 are not"),
}


def chrf_with(
    prepare=lambda text: "".join(text.split()),
    beta=2,
    clip=True,
    percent=100,
    guard=True,
    sentences=False,
    swap=False,
    of_lengths=False,
):
    def chrf(answers, references):
        if sentences:
            return np.mean([chrf_with()([a], [r]) for a, r in zip(answers, references, strict=True)])
        counts = np.zeros((6, 3))
        for answer, reference in zip(map(prepare, answers), map(prepare, references), strict=True):
            for n in range(6):
                found, wanted = (
                    collections.Counter(text[i : i + n + 1] for i in range(len(text) - n))
                    for text in (answer, reference)
                )
                both = found & wanted if clip else {part: found[part] for part in found if part in wanted}
                counts[n] += sum(found.values()), sum(wanted.values()), sum(both.values())
        counts = counts[(counts[:, :2] > 0).all(axis=1)]
        precision, recall = counts[:, 2] / counts[:, 0], counts[:, 2] / counts[:, 1]
        if swap:
            precision, recall = recall, precision
        if not of_lengths:
            precision, recall = precision.mean(), recall.mean()
        if guard and not np.any(precision + recall):
            return 0.0
        with np.errstate(all="ignore"):
            return percent * np.mean((1 + beta**2) * precision * recall / (beta**2 * precision + recall))

    return chrf


CHRF = {
    "a share": (chrf_with(percent=1), "in percent"),
    "zero by zero": (chrf_with(guard=False), "do not divide by their sum"),
    "with spaces": (chrf_with(prepare=lambda text: text), "Take the spaces out"),
    "lower case": (chrf_with(prepare=lambda text: "".join(text.lower().split())), "Leave the characters"),
    "not clipped": (chrf_with(clip=False), "Clip"),
    "F1": (chrf_with(beta=1), "β = 2|Clip"),
    "swapped": (chrf_with(swap=True), "Precision divides|Clip"),
    "equal weight": (
        lambda answers, references: (
            chrf_with()(answers, references) if len(answers[0]) != 9 else chrf_with(beta=1)(answers, references)
        ),
        "β = 2",
    ),
    "of sentences": (chrf_with(sentences=True), "Add up the counts"),
}


def beam_step_with(
    add=True,
    each=False,
    forbid=True,
    order=1,
    included=1,
    divide=True,
    all_divided=False,
    best=np.max,
    extra=False,
):
    def step(scores, log, length, end, penalty):
        total = scores[:, None] + log if add else log.copy()
        ended = best(total[:, end]) / ((length + included) ** penalty if divide else 1)
        if forbid:
            total[:, end] = -np.inf
        if all_divided:
            total = total / (length + 1) ** penalty
        if each:
            beams, tokens = np.arange(len(scores)), total.argmax(axis=1)
        else:
            beams, tokens = np.unravel_index(np.argsort(-total, axis=None)[: len(scores)], total.shape)
        beams, tokens = beams[::order], tokens[::order]
        return beams, tokens, total[beams, tokens], np.full(3, ended) if extra else ended

    return step


BEAM_STEP = {
    "three ends": (beam_step_with(extra=True), "and a number"),
    "unlikeliest": (lambda s, log, *others: beam_step_with()(s, np.where(log < -1e9, log, -log), *others), "greedy"),
    "without the past": (beam_step_with(add=False), "add the beam's score"),
    "one of each": (beam_step_with(each=True), "not each beam's own"),
    "goes on after the end": (beam_step_with(forbid=False), "minus infinity"),
    "the best last": (beam_step_with(order=-1), "highest score first"),
    "the worst end": (beam_step_with(best=np.min), "the largest of"),
    "not divided": (beam_step_with(divide=False), "makes t . 1"),
    "one short": (beam_step_with(included=0), "makes t . 1"),
    "all divided": (beam_step_with(all_divided=True), "equally long"),
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
    "rotation": (chapter_03.rotation, step_by(), ROTATION),
    "forcing": (chapter_03.forcing, forced, FORCING),
    "count": (chapter_03.count, count_with(), COUNT),
    "digits": (chapter_04.digits, split_by(ONE_DIGIT), DIGITS),
    "cheapest": (chapter_04.cheapest, cheapest_by(lambda cost, length: cost), CHEAPEST),
    "stream": (chapter_04.stream, stream_of, STREAM),
    "masking": (chapter_05.masking, mask_with(), MASKING),
    "pseudo_log_likelihood": (chapter_05.pseudo_log_likelihood, add_up(), PSEUDO),
    "perplexity": (chapter_05.perplexity, perplexity_of, PERPLEXITY),
    "pairs": (chapter_06.pairs, make_pairs, MAKE_PAIRS),
    "loss": (chapter_06.loss, next_sentence_loss, NEXT_SENTENCE_LOSS),
    "order": (chapter_06.order, order_pairs, ORDER_PAIRS),
    "flat_top": (chapter_07.flat_top, flat_top_with(), FLAT_TOP),
    "save": (chapter_07.save, save_by(), SAVE),
    "decaying": (chapter_07.decaying, decaying_by(lambda path, _: name_of(path) in NORMS_AND_BIASES), DECAYING),
    "next_token_loss": (chapter_09.next_token_loss, next_token_loss, NEXT_TOKEN_LOSS),
    "nucleus": (chapter_09.nucleus, top_p_with(), NUCLEUS),
    "cached_step": (chapter_09.cached_step, cached_step_with(), CACHED_STEP),
    "spans": (chapter_11.spans, lambda labels: bio.spans(bio.mended(labels)), SPANS),
    "align": (chapter_11.align, align_with(), ALIGN),
    "viterbi": (chapter_11.viterbi, viterbi_with(), VITERBI),
    "smoothed": (chapter_12.smoothed, smoothed_with(), SMOOTHED),
    "chrf": (chapter_12.chrf, chrf_with(), CHRF),
    "beam_step": (chapter_12.beam_step, beam_step_with(), BEAM_STEP),
    "gradient": (chapter_10.gradient, graded, GRADIENT),
    "fitted_temperature": (chapter_10.temperature, temperature_by(WIDE), FITTED_TEMPERATURE),
    "adapter": (chapter_10.adapter, adapted, ADAPTER),
    "nearest_adapter": (chapter_10.nearest_adapter, nearest_with(), NEAREST_ADAPTER),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name, capsys):
    check, solution, _ = EXERCISES[name]
    assert check(solution) is True, capsys.readouterr().out


@pytest.mark.parametrize("form", [tuple, np.array, lambda path: [np.int64(label) for label in path]])
def test_labels_may_be_a_list_or_an_array(form, capsys):
    assert chapter_11.viterbi(viterbi_with(walk=form)) is True, capsys.readouterr().out


@pytest.mark.parametrize(
    "factors", [lambda U, S, V: (U, S[:, None] * V), lambda U, S, V: (U * S**0.5, (V.T * S**0.5).T)]
)
def test_the_singular_values_may_stand_in_either_factor(factors, capsys):
    assert chapter_10.nearest_adapter(nearest_with(factors)) is True, capsys.readouterr().out


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
    modules = {
        "01": chapter_01,
        "02": chapter_02,
        "03": chapter_03,
        "04": chapter_04,
        "05": chapter_05,
        "06": chapter_06,
        "07": chapter_07,
        "09": chapter_09,
        "10": chapter_10,
        "11": chapter_11,
        "12": chapter_12,
    }
    for path in chapters.find(modules):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        number = path.name[:2]
        checks = [name for name, value in vars(modules[number]).items() if isinstance(value, Exercise)]
        for tag in ("exercise", "solution"):
            text = "\n".join(cell.source for cell in cells if tag in cell.metadata.get("tags", []))
            assert [name for name in checks if f"chapter_{number}.{name}(" in text] == checks
