"""Labels and spans: each stands for the other; what is not valid, and the best that is; F1 by entity is seqeval's."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score

from course_lib.metrics import spans

pytestmark = pytest.mark.one_backend

NAMES = ["B-geo-loc", "B-x", "I-geo-loc", "I-x", "O"]
LABELS = st.lists(st.sampled_from(NAMES), max_size=8)
PAIRS = st.lists(st.lists(st.tuples(*[st.sampled_from(NAMES)] * 2), max_size=8), min_size=1, max_size=5)


def is_valid(labels):
    return all(spans.is_valid_transition(before, label) for before, label in itertools.pairwise(["O", *labels]))


def test_by_hand():
    labels = "B-x I-x B-x O B-geo-loc I-geo-loc".split()
    assert spans.bio_to_spans(labels) == [("x", 0, 2), ("x", 2, 3), ("geo-loc", 4, 6)]
    assert spans.spans_to_bio(reversed(spans.bio_to_spans(labels)), 6) == labels and spans.spans_to_bio([], 2) == [
        "O",
        "O",
    ]
    assert spans.repair_bio("I-x I-x O I-x I-geo-loc".split()) == "B-x I-x O B-x B-geo-loc".split()


@given(LABELS)
def test_spans_and_valid_labels_stand_for_each_other(labels):
    mended = spans.repair_bio(labels)
    assert is_valid(mended) and spans.spans_to_bio(spans.bio_to_spans(mended), len(labels)) == mended
    if is_valid(labels):
        assert mended == labels
    else:
        with pytest.raises(ValueError, match="go on where an entity of its type is"):
            spans.bio_to_spans(labels)


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 10**6))
def test_the_best_valid_labels_are_the_best_of_all_valid_ones(length, seed):
    scores = np.random.default_rng(seed).normal(size=(length, len(NAMES)))
    every = [labels for labels in itertools.product(NAMES, repeat=length) if is_valid(labels)]
    best = max(every, key=lambda labels: sum(scores[i, NAMES.index(label)] for i, label in enumerate(labels)))
    assert spans.viterbi_decode(scores, NAMES) == list(best)


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_what_is_valid_anyway_stays(length, seed):
    scores = np.random.default_rng(seed).normal(size=(length, len(NAMES)))
    plain = [NAMES[index] for index in scores.argmax(axis=1)]
    found = spans.viterbi_decode(scores, NAMES)
    assert is_valid(found) and (found == plain or not is_valid(plain))


@given(PAIRS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # seqeval warns of what is 0/0
def test_f1_by_entity_is_that_of_seqeval(pairs):
    right, predicted = ([[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1))
    ours = spans.f1_by_entity(
        *([spans.bio_to_spans(spans.repair_bio(labels)) for labels in side] for side in (right, predicted))
    )
    assert ours["all"]["f1"] == pytest.approx(f1_score(right, predicted, zero_division=0))
    if any(label != "O" for labels in right for label in labels):
        theirs = classification_report(right, predicted, output_dict=True, zero_division=0)
        for kind in {"x", "geo-loc"} & set(theirs):
            counts = ours[kind]
            assert counts["right"] == theirs[kind]["support"]
            names = [("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")]
            assert all(counts[name] == pytest.approx(theirs[kind][other]) for name, other in names)


def test_an_entity_counts_once_in_its_own_sentence():
    one, other = [("x", 0, 1)], [("x", 0, 2)]
    assert spans.f1_by_entity([one, []], [[], one])["all"]["both"] == 0
    found = spans.f1_by_entity([one, other], [one, one])
    assert found["all"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "right": 2, "predicted": 2, "both": 1}
    assert spans.f1_by_entity([[]], [[]])["all"]["f1"] == 0 and set(found) == {"all", "x"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spans.bio_to_spans(["person"]), "'B-type' and 'I-type'; got 'person'"),
        (lambda: spans.bio_to_spans(["O", "I-x"]), "word 1 is not there"),
        (lambda: spans.repair_bio(["B-"]), "got 'B-'"),
        (lambda: spans.spans_to_bio([("x", 1, 1)], 3), "start < end <= 3"),
        (lambda: spans.spans_to_bio([("x", 1, 4)], 3), "start < end <= 3"),
        (lambda: spans.spans_to_bio([("x", 0, 2), ("y", 1, 3)], 3), "do not overlap"),
        (lambda: spans.viterbi_decode(np.zeros((2, 3)), NAMES), r"\(W, 5\).*got shape \(2, 3\)"),
        (lambda: spans.viterbi_decode(np.full((2, 5), np.nan), NAMES), "finite"),
        (lambda: spans.viterbi_decode(np.zeros((2, 1)), ["B-x"]), "'O' among the labels"),
        (lambda: spans.f1_by_entity([[]], []), "1 sentences; got 0"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
