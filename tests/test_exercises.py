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
from course_lib.exercises import Exercise, Property, chapter_01, chapter_02, chapter_04, chapter_05, chapter_06, close
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
    "masking": (chapter_05.masking, mask_with(), MASKING),
    "pseudo_log_likelihood": (chapter_05.pseudo_log_likelihood, add_up(), PSEUDO),
    "perplexity": (chapter_05.perplexity, perplexity_of, PERPLEXITY),
    "pairs": (chapter_06.pairs, make_pairs, MAKE_PAIRS),
    "loss": (chapter_06.loss, next_sentence_loss, NEXT_SENTENCE_LOSS),
    "order": (chapter_06.order, order_pairs, ORDER_PAIRS),
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
    modules = {"01": chapter_01, "02": chapter_02, "04": chapter_04, "05": chapter_05, "06": chapter_06}
    for path in chapters.find(modules):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        number = path.name[:2]
        checks = [name for name, value in vars(modules[number]).items() if isinstance(value, Exercise)]
        for tag in ("exercise", "solution"):
            text = "\n".join(cell.source for cell in cells if tag in cell.metadata.get("tags", []))
            assert [name for name in checks if f"chapter_{number}.{name}(" in text] == checks
