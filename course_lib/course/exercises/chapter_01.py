"""Checks for the exercises of chapter 01, self-attention."""

import weakref

import numpy as np

from course_lib.course.exercises import Exercise, Property, close


def _softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _weights(query, key, scale=None):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _softmax(scale * query @ key.T)


def _draw(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in shapes]


# 1. Temperature: query (T, H), key (S, H), temperature → weights (T, S)

_QUERY, _KEY, _VALUE = _draw((3, 4), (5, 4), (5, 2))

temperature = Exercise(
    Property(
        "3 queries and 5 keys have weights of shape (3, 5)",
        lambda answer: np.shape(answer(_QUERY, _KEY, 1.0)) == (3, 5),
        "Return the weights, a row for each query and a column for each key, not the mean of anything.",
    ),
    Property(
        "each row sums to one, at a temperature of 2, too",
        lambda answer: close(np.sum(answer(_QUERY, _KEY, 2.0), axis=-1), np.ones(3)),
        "The softmax must come last: what is divided after it no longer sums to one.",
    ),
    Property(
        "a temperature of 1 gives the weights of formula 1",
        lambda answer: close(answer(_QUERY, _KEY, 1.0), _weights(_QUERY, _KEY)),
        "The temperature comes on top of the square root of the width, which stays; and the sum runs over the keys.",
    ),
    Property(
        "another temperature gives other weights",
        lambda answer: not close(answer(_QUERY, _KEY, 2.0), _weights(_QUERY, _KEY)),
        "Dividing all weights of a row by one number and normalising again gives the same row. Divide the scores.",
    ),
    Property(
        "a higher temperature is nearer to uniform",
        lambda answer: np.ptp(answer(_QUERY, _KEY, 10.0)) < np.ptp(answer(_QUERY, _KEY, 1.0)),
        "Heat evens out: scores are divided by the temperature, not multiplied.",
    ),
    Property(
        "at a temperature of 2, scores are halved",
        lambda answer: close(answer(_QUERY, _KEY, 2.0), _weights(_QUERY, _KEY, scale=1 / 4)),
        "Divide by the temperature itself, not by its root or its square.",
    ),
    Property(
        "at a temperature near zero each query takes one key alone, without NaN",
        lambda answer: close(
            answer(_QUERY, _KEY, 1e-6), np.eye(5)[np.argmax(_QUERY @ _KEY.T, axis=-1)], tolerance=1e-3
        ),
        "The divided scores are huge. Subtract the largest score of each row before the exponential.",
    ),
)


# 2. Window: length T, radius → booleans (T, T)


def _distance(length):
    return np.abs(np.arange(length)[:, None] - np.arange(length))


window = Exercise(
    Property(
        "a mask for 6 positions has shape (6, 6)",
        lambda answer: np.shape(answer(6, 2)) == (6, 6),
        "A row for each position that looks, a column for each that may be looked at.",
    ),
    Property(
        "it is boolean",
        lambda answer: str(np.asarray(answer(6, 2)).dtype) == "bool",
        "A comparison gives booleans: no 0 and 1, and no minus infinity.",
    ),
    Property(
        "each position may look at itself",
        lambda answer: bool(np.all(np.diagonal(answer(6, 2)))),
        "True stands where attention is allowed, and a position is at distance 0 from itself.",
    ),
    Property(
        "it looks both ways",
        lambda answer: np.array_equal(answer(6, 2), np.transpose(answer(6, 2))),
        "The distance between i and j is |i - j|, without a sign.",
    ),
    Property(
        "it reaches as far as the radius",
        lambda answer: bool(np.all(np.asarray(answer(6, 2))[_distance(6) == 2])),
        "A distance equal to the radius is still inside.",
    ),
    Property(
        "it reaches no further",
        lambda answer: all(np.array_equal(answer(6, radius), _distance(6) <= radius) for radius in (0, 1, 2, 9)),
        "Beyond the radius, the mask is False; with a radius of 0, each position sees itself alone.",
    ),
)


# 3. One pass: query (H,), an iterator of pairs of key (H,) and value (d_v,) → output (d_v,)


def _formula(query, key, value, scale=None):
    return _weights(query[None], key, scale)[0] @ value


def _pairs(key, value):
    return iter(list(zip(key, value, strict=True)))


def _streams(answer, expected, key=None, value=None, factor=1.0, tolerance=1e-5):
    key, value = _KEY if key is None else key, _VALUE if value is None else value
    return close(answer(factor * _QUERY[0], _pairs(key, value)), expected(factor * _QUERY[0], key, value), tolerance)


def _in_order(sign):
    scores = _KEY @ _QUERY[0]
    order = np.argsort(sign * scores)
    return {"key": _KEY[order], "value": _VALUE[order]}


def _most_held(answer, length=50):
    """Counts the values that exist at once while an answer reads pairs that nobody else holds."""
    seen, most = [], 0

    def pairs():
        nonlocal most
        random = np.random.default_rng(1)
        for _ in range(length):
            value = random.normal(size=2)
            seen.append(weakref.ref(value))
            most = max(most, sum(one() is not None for one in seen))
            yield random.normal(size=4), value

    answer(_QUERY[0], pairs())
    return most


one_pass = Exercise(
    Property(
        "with a single pair, the output is its value",
        lambda answer: _streams(answer, lambda q, k, v: v[0], _KEY[:1], _VALUE[:1]),
        "The pairs can be read once: a second loop finds nothing. In one loop, add up powers times values, and powers; "
        "divide after it.",
    ),
    Property(
        "where all values are the same, so is the output",
        lambda answer: _streams(answer, lambda q, k, v: v[0], value=np.full((5, 2), 7.0)),
        "The weights must sum to one: divide the sum of powers times values by the sum of the powers.",
    ),
    Property(
        "the scores are scaled",
        lambda answer: not _streams(answer, lambda q, k, v: _formula(q, k, v, 1)),
        "Formula 1 divides the product of query and key by the square root of their width.",
    ),
    Property(
        "five pairs, the largest score first, give what formula 1 gives",
        lambda answer: _streams(answer, _formula, **_in_order(-1)),
        "Work out the output of two pairs by hand, and compare the two sums after each of them.",
    ),
    Property(
        "scores of thousands give a finite output",
        lambda answer: _streams(answer, _formula, **_in_order(-1), factor=10_000, tolerance=1e-4),
        "exp(1000) is infinite. Keep the largest score so far, and take exp(score - largest).",
    ),
    Property(
        "the largest score may come last",
        lambda answer: all(
            _streams(answer, _formula, **_in_order(1), factor=factor, tolerance=1e-4) for factor in (1, 10_000)
        ),
        "When a score exceeds the largest so far, both sums were made with the old one: multiply them by "
        "exp(old - new) before you add.",
    ),
    Property(
        "it holds no more than a few values at a time",
        lambda answer: _most_held(answer) <= 5,
        "The pairs may be more than memory holds: keep a running largest score and two running sums, and no list.",
    ),
)


# 4. A pair of one's own: → two sentences, two referents, a dict of vectors (D,), and layers, each (W_Q, W_K, W_V)


def _embedded(sentence, vectors):
    width = len(next(iter(vectors.values())))
    return np.array([vectors.get(word, np.zeros(width)) for word in sentence], "float64")


def _attention_of_it(sentence, vectors, layers):
    """The weights that "it" gives in the last layer, after layers of formula 1 with residual connections."""
    x = _embedded(sentence, vectors)
    for to_query, to_key, to_value in layers:
        weights = _weights(x @ np.asarray(to_query), x @ np.asarray(to_key))
        x = x + weights @ (x @ np.asarray(to_value))
    return weights[sentence.index("it")]


def _parts(answer):
    sentences, referents, vectors, layers = answer()
    return [sentence.split() for sentence in sentences], list(referents), dict(vectors), list(layers)


def _differences(answer):
    (one, two), *_ = _parts(answer)
    return [(a, b) for a, b in zip(one, two, strict=False) if a != b]


def _finds(answer, number):
    sentences, referents, vectors, layers = _parts(answer)
    weights = _attention_of_it(sentences[number], vectors, layers)
    return weights[sentences[number].index(referents[number])] > 0.5


def _fit(answer):
    *_, vectors, layers = _parts(answer)
    width = len(next(iter(vectors.values())))
    if any(np.shape(vector) != (width,) for vector in vectors.values()):
        return False
    shapes = [[np.shape(matrix) for matrix in layer] for layer in layers]
    return all(q == k and len(q) == 2 and q[0] == width and v == (width, width) for q, k, v in shapes)


own_pair = Exercise(
    Property(
        "both sentences contain “it”",
        lambda answer: all("it" in sentence for sentence in _parts(answer)[0]),
        "The first result holds two strings of words with spaces between them, and no punctuation.",
    ),
    Property(
        "they differ in one word, and it is not “it”",
        lambda answer: (
            len({len(sentence) for sentence in _parts(answer)[0]}) == 1
            and len(_differences(answer)) == 1
            and "it" not in _differences(answer)[0]
        ),
        "One word decides, as “hungry” and “open” do; all others are the same, in the same order.",
    ),
    Property(
        "the two referents differ, and each occurs in both sentences",
        lambda answer: (
            len(set(_parts(answer)[1])) == 2
            and all(word in sentence for word in _parts(answer)[1] for sentence in _parts(answer)[0])
        ),
        "The second result holds what “it” means in the first sentence, and what it means in the second.",
    ),
    Property(
        "they are not the dog and the gate",
        lambda answer: not {"dog", "gate"} & set(_parts(answer)[1]),
        "Take a pair of your own; the chapter's is solved.",
    ),
    Property(
        "the shapes fit",
        _fit,
        "With vectors of width D, the matrices of queries and keys are (D, H), and those of values (D, D).",
    ),
    Property(
        "there is more than one layer",
        lambda answer: len(_parts(answer)[3]) > 1,
        "Section 5: in the first layer, the ratio between the two referents is the same in both sentences.",
    ),
    Property(
        "in the first sentence, “it” gives more than half of its attention to its referent",
        lambda answer: _finds(answer, 0),
        "Follow “it” layer by layer: print what it attends to, and its vector after the layer. Scores are divided by "
        "the root of H, so a preference has to be strong: try larger numbers in the matrix of queries.",
    ),
    Property(
        "in the second sentence, too",
        lambda answer: _finds(answer, 1),
        "The same vectors and matrices have to serve both: only the word that differs may decide. Does the first "
        "layer hand over what differs?",
    ),
)
