"""The exercises of chapter 11, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
import pytest
from exercise_checks import ExerciseChecks, forbid

from course_lib.course.exercises import chapter_11
from course_lib.metrics import spans


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


class TestChapter11(ExerciseChecks):
    exercises: typing.ClassVar = {
        "spans": (chapter_11.spans, lambda labels: spans.bio_to_spans(spans.repair_bio(labels)), SPANS),
        "align": (chapter_11.align, align_with(), ALIGN),
        "viterbi": (chapter_11.viterbi, viterbi_with(), VITERBI),
    }


@pytest.mark.parametrize("form", [tuple, np.array, lambda path: [np.int64(label) for label in path]])
def test_labels_may_be_a_list_or_an_array(form, capsys):
    assert chapter_11.viterbi(viterbi_with(walk=form)) is True, capsys.readouterr().out
