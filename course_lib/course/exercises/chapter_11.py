"""Checks for the exercises of chapter 11, fine-tuning for tokens."""

import numpy as np

from course_lib.course.exercises import Exercise, Property, close
from course_lib.metrics.spans import is_valid_transition, viterbi_decode

# 1. Spans: labels → a list of (type, start, end)


def _spans(answer, text):
    return [tuple(span) for span in answer(text.split())]


spans = Exercise(
    Property(
        "one word that is an entity ends before the next word",
        lambda answer: _spans(answer, "O B-person O") == [("person", 1, 2)],
        "A span is (type, start, end), and the end is exclusive: words[start:end] are its words.",
    ),
    Property(
        "an entity goes on as long as its I labels do",
        lambda answer: _spans(answer, "B-person I-person I-person O B-movie O") == [("person", 0, 3), ("movie", 4, 5)],
        "An I label of the same type as the label before it moves the end of the entity by one.",
    ),
    Property(
        "an entity may reach to the last word",
        lambda answer: _spans(answer, "O B-person I-person") == [("person", 1, 3)],
        "Behind the last word no O comes to end an entity: end it after the loop.",
    ),
    Property(
        "two entities of one type side by side are two",
        lambda answer: _spans(answer, "B-person B-person I-person") == [("person", 0, 1), ("person", 1, 3)],
        "A B label begins a new entity, whatever came before it: that is what it is for.",
    ),
    Property(
        "a type may have a hyphen",
        lambda answer: _spans(answer, "B-geo-loc I-geo-loc") == [("geo-loc", 0, 2)],
        "The type is all that follows the first hyphen: label[2:].",
    ),
    Property(
        "an I label of another type begins an entity",
        lambda answer: _spans(answer, "B-person I-movie I-movie") == [("person", 0, 1), ("movie", 1, 3)],
        "Compare the types: where they differ, the entity before ends and another begins.",
    ),
    Property(
        "an I label behind O begins one, too",
        lambda answer: _spans(answer, "I-person O I-movie O") == [("person", 0, 1), ("movie", 2, 3)],
        "Where there is nothing to go on with, read I as B, as seqeval does.",
    ),
    Property(
        "where all is O there is none",
        lambda answer: _spans(answer, "O O") == [] == _spans(answer, ""),
        "No entity: an empty list.",
    ),
)

# 2. Alignment: words, the ids of their labels, a function that cuts a word into pieces → pieces, ids, weights

_WORDS, _IDS = ["unseen", "", "is", "seldom"], [3, 2, 1, 4]  # one word is empty, so it has no pieces
_PIECES = ["[CLS]", "uns", "##een", "[UNK]", "is", "sel", "##dom", "[SEP]"]
_FIRST = [1, 3, 4, 5]


def _cut(word):
    return [("##" if start else "") + word[start : start + 3] for start in range(0, len(word), 3)]


def _aligned(answer, words=_WORDS, ids=_IDS):
    pieces, labels, weights = answer(list(words), list(ids), _cut)
    return list(pieces), list(labels), list(weights)


align = Exercise(
    Property(
        "pieces, ids and weights are of one length",
        lambda answer: len({len(part) for part in _aligned(answer, ["seldom"], [4])}) == 1,
        "Each piece has an id and a weight, [CLS] and [SEP] included.",
    ),
    Property(
        "the pieces stand between [CLS] and [SEP]",
        lambda answer: _aligned(answer, ["seldom"], [4])[0] == ["[CLS]", "sel", "##dom", "[SEP]"],
        "[CLS] comes first, then all pieces of all words, then [SEP].",
    ),
    Property(
        "a word's label stands at its first piece",
        lambda answer: _aligned(answer, ["seldom", "is"], [4, 1])[1][1::2] == [4, 1],
        "[CLS] moves every word by one place, and each further piece moves the words behind it by another.",
    ),
    Property(
        "the first pieces have weight 1",
        lambda answer: close(_aligned(answer, ["seldom", "is"], [4, 1])[2][1::2], [1, 1]),
        "Where there is a label to learn, the weight is 1.",
    ),
    Property(
        "[CLS] and [SEP] have weight 0",
        lambda answer: close([_aligned(answer, ["is"], [1])[2][place] for place in (0, -1)], [0, 0]),
        "Special tokens stand for no word, so there is nothing to learn at them.",
    ),
    Property(
        "so have the further pieces of a word",
        lambda answer: close(_aligned(answer, ["seldom"], [4])[2], [0, 1, 0, 0]),
        "With a weight on each piece a word of many pieces would count many times.",
    ),
    Property(
        "a word of which nothing is left becomes [UNK], and keeps its label",
        lambda answer: (
            _aligned(answer)[0] == _PIECES
            and [_aligned(answer)[1][place] for place in _FIRST] == _IDS
            and close(_aligned(answer)[2], [float(place in _FIRST) for place in range(len(_PIECES))])
        ),
        "Without a piece the label has no place, and every later label would slip by one: put [UNK] there.",
    ),
)

# 3. Viterbi's algorithm: scores (W, C), allowed transitions (C, C), allowed first labels (C,) → W integers

_rng = np.random.default_rng(11)
_NAMES = ["O", "B-x", "I-x", "B-y", "I-y", "B-z", "I-z"]
_MAY = np.array([[is_valid_transition(before, name) for name in _NAMES] for before in _NAMES])
_EXAMPLE = np.array([[-0.5, -1.0, -4.0], [-2.0, -3.0, -0.2]])
_FREE = np.array([[-2.0, -1.0, -3.0], [-1.0, -2.0, -3.0], [-3.0, -2.0, -1.0], [-1.0, -2.0, -3.0]])
_STEEP = -200.0 * _rng.random((20, 3, 5))
_LONG = _rng.normal(-10.0, 1.0, (200, 7))


def _path(answer, scores, may=_MAY, begins=_MAY[0]):
    """Calls the answer with the rules for the first C labels, where C is the number of columns of the scores."""
    labels = scores.shape[1]
    with np.errstate(all="ignore"):
        return np.asarray(answer(scores.copy(), may[:labels, :labels].copy(), begins[:labels].copy()))


def _are_labels(answer):
    path = _path(answer, _EXAMPLE)
    return path.shape == (2,) and path.dtype.kind in "iu" and path.min() >= 0 and path.max() < 3


def _keeps_to_what_may_be(answer):
    paths = [_path(answer, scores) for scores in _STEEP]
    return all(_MAY[0][path[0]] and _MAY[path[:-1], path[1:]].all() for path in paths)


def _table():
    """Draws scores of two to five words and four labels, and rules that at least one sequence obeys."""
    words, labels = _rng.integers(2, 6), 4
    may, begins = _rng.random((labels, labels)) < 0.4, _rng.random(labels) < 0.4
    path = _rng.integers(labels, size=words)
    may[path[:-1], path[1:]] = begins[path[0]] = True
    return _rng.normal(-2.0, 1.0, (words, labels)), may, begins


_TABLES = [_table() for _ in range(20)]


def _best(scores, may, begins):
    """Finds the best valid sequence by trying all of them."""
    words, labels = scores.shape
    paths = np.indices((labels,) * words).reshape(words, -1)
    sums = scores[np.arange(words)[:, None], paths].sum(axis=0)
    valid = begins[paths[0]] & may[paths[:-1], paths[1:]].all(axis=0)
    return paths[:, np.where(valid, sums, -np.inf).argmax()]


def _leaves_its_input(answer):
    given = [_EXAMPLE.copy(), _MAY[:3, :3].copy(), _MAY[0, :3].copy()]
    answer(*given)
    return all(np.array_equal(a, b) for a, b in zip(given, (_EXAMPLE, _MAY[:3, :3], _MAY[0, :3]), strict=True))


viterbi = Exercise(
    Property(
        "W integers, each of them a label",
        _are_labels,
        "For each word, the first and the last included, the number of its label from 0 to C - 1: a list or an array.",
    ),
    Property(
        "of one word, the best label that may begin",
        lambda answer: all(
            np.array_equal(_path(answer, _FREE[:1], begins=np.array(begins)), [best])
            for begins, best in (([True, True, True], 1), ([True, False, True], 0), ([False, False, True], 2))
        ),
        "s₁[y] is scores[0, y] where begins[y], and minus infinity elsewhere: 0 is more than any log-probability.",
    ),
    Property(
        "where everything may follow everything, the best label of each word",
        lambda answer: np.array_equal(
            _path(answer, _FREE, np.ones((3, 3), bool), np.array([False, True, False])), [1, 0, 2, 0]
        ),
        "Each word adds its own scores; begins is about the first word alone; walking back finds the last word first.",
    ),
    Property(
        "no step that is forbidden, and no such beginning, however high its score",
        _keeps_to_what_may_be,
        "In may[a, b] a comes before b. What is forbidden gets minus infinity. Walk back along the labels you noted.",
    ),
    Property(
        "the example of section 5 is B-x I-x",
        lambda answer: np.array_equal(_path(answer, _EXAMPLE), [1, 2]),
        "Decide nothing on the way: note for each label the best sum that ends in it, and the label before; walk back.",
    ),
    Property(
        "in small random tables, the best of all sequences that may be",
        lambda answer: all(np.array_equal(_path(answer, *table), _best(*table)) for table in _TABLES),
        "The maximum is over the sums s of all words before, not over the scores of the one word before.",
    ),
    Property(
        "what comes in is left as it was",
        _leaves_its_input,
        "scores[w] += … writes into the array that was handed in; put the sums into one of your own.",
    ),
    Property(
        "a sentence of 200 words is no trouble",
        lambda answer: np.array_equal(_path(answer, _LONG), list(map(_NAMES.index, viterbi_decode(_LONG, _NAMES)))),
        "W C² steps, as only the best that ends in a label goes on, and sums, since 200 probabilities multiply to 0.",
    ),
)
