"""Tagged tweets: read whole, without repeats, and split by their hash."""

import hashlib

import pytest

from course_lib.data import wnut

pytestmark = pytest.mark.one_backend

BEN = "Big\tB-geo-loc\nBen\tI-geo-loc\n"
TEXT = f"A\tO\ndog\tB-other\n\t\nA\tO\ndog\tB-other\n\n{BEN}\n\nA\tO\ncat\tO\n\nA\tO\ncat\tB-other\n"


def digest(words):
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def test_repeats_are_kept_once_and_contradictions_never():
    data = wnut._drawn(TEXT, test=1, validation=0)
    parts = dict(zip(data.train.words + data.test.words, data.train.labels + data.test.labels, strict=True))
    assert parts == {("A", "dog"): ("O", "B-other"), ("Big", "Ben"): ("B-geo-loc", "I-geo-loc")}
    assert data.test.words == [min(parts, key=digest)] and len(data.validation) == 0
    assert data.label_names == ["B-geo-loc", "B-other", "I-geo-loc", "O"]


def test_the_tweets():
    data = wnut.tweets()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1591, 230, 460]
    assert len(data.label_names) == 21 and repr(data.test) == "460 sentences of 9,015 words, with 248 entities"
    order = [digest(words) for split in (data.test, data.validation, data.train) for words in split.words]
    assert order == sorted(set(order))
    for words, labels in zip(data.train.words, data.train.labels, strict=True):
        assert len(words) == len(labels) and all(words)
        for before, label in zip(("O", *labels), labels, strict=False):
            assert not label.startswith("I-") or before[2:] == label[2:]  # an entity goes on only where one began
