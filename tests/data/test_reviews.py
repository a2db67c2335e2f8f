"""Reviews: both data sets are clean, and their splits follow from the texts alone."""

import hashlib
import random
import re

import numpy as np
import pytest

from course_lib.data import reviews

pytestmark = pytest.mark.one_backend

SIZES = {"rotten_tomatoes": (6932, 532, 1066), "imdb": (21152, 1250, 2500)}
POSITIVE = {"rotten_tomatoes": (3466, 266, 533), "imdb": (10596, 625, 1250)}
CONTENT = {
    "rotten_tomatoes": ("335a92a0af01c12f", "ff0dc599962325e7", "71a1d353b76642b2"),
    "imdb": ("e25a287ac2c85331", "eb863d4436efd90a", "644f3be4969997cd"),
}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module", params=["rotten_tomatoes", "imdb"])
def loaded(request):
    data = getattr(reviews, request.param)()
    return request.param, data, (data.train, data.validation, data.test)


def test_sizes_and_labels(loaded):
    name, _, splits = loaded
    assert tuple(len(split) for split in splits) == SIZES[name]
    assert tuple(int(split.labels.sum()) for split in splits) == POSITIVE[name]
    for split in splits:
        assert split.labels.dtype == "int32" and split.labels.shape == (len(split.texts),)
        assert set(split.labels.tolist()) == {0, 1}


def test_splits_share_no_text(loaded):
    _, data, splits = loaded
    assert len(set(data.all_texts)) == len(data.all_texts) == sum(map(len, splits)) == len(data.all_labels)


def test_all_texts_are_train_validation_test(loaded):
    _, data, (train, validation, _) = loaded
    assert data.all_texts[: len(train)] == train.texts
    assert data.all_texts[len(train) :][: len(validation)] == validation.texts
    assert np.array_equal(data.all_labels[len(train) :][: len(validation)], validation.labels)


def test_the_content_of_each_split_is_pinned(loaded):
    name, _, splits = loaded
    assert tuple(sha256("\n".join(sorted(split.texts)))[:16] for split in splits) == CONTENT[name]


def test_of_each_class_the_lowest_hashes_are_the_test_split(loaded):
    _, _, splits = loaded
    for label in (0, 1):
        train, validation, test = (
            [sha256(text) for text, found in zip(split.texts, split.labels, strict=True) if found == label]
            for split in splits
        )
        assert max(test) < min(validation) and max(validation) < min(train)


def test_texts_are_in_the_order_of_their_hash(loaded):
    for split in loaded[2]:
        hashes = [sha256(text) for text in split.texts]
        assert hashes == sorted(hashes)


def test_texts_are_clean(loaded):
    for text in loaded[1].all_texts:
        assert text and "<br" not in text and "  " not in text and text == text.strip()
        assert not re.search("[\x80-\x9f]", text)


def test_labels_belong_to_their_texts():
    data = reviews.rotten_tomatoes()
    labels = dict(zip(data.all_texts, data.all_labels.tolist(), strict=True))
    for word, positive in (("refreshing", True), ("enjoyable", True), ("dull", False), ("tedious", False)):
        share = np.mean([label for text, label in labels.items() if word in text.split()])
        assert (share > 0.7) if positive else (share < 0.3)


def test_the_split_does_not_depend_on_the_order_of_the_file():
    pairs = [(f"text {i}", i % 2) for i in range(40)]
    expected = reviews._drawn(reviews._deduplicated(pairs), test=3, validation=2)
    random.Random(0).shuffle(pairs)
    got = reviews._drawn(reviews._deduplicated(pairs), test=3, validation=2)
    assert (got.test.texts, got.all_texts) == (expected.test.texts, expected.all_texts)
    assert [len(split) for split in (got.train, got.validation, got.test)] == [30, 4, 6]


def test_a_duplicate_is_kept_once_and_a_contradiction_never():
    pairs = [("good", 1), ("bad", 0), ("good", 1), ("so so", 1), ("so so", 0)]
    assert reviews._deduplicated(pairs) == {"good": 1, "bad": 0}


def test_clean():
    assert reviews.clean(" One.<br /><br />Two\t three \x96 \x91four\x92\x85\x8d ") == "One. Two three – ‘four’…"
    assert reviews.clean("café — Ōkami") == "café — Ōkami"


def test_what_is_returned_can_be_changed_without_harm():
    first = reviews.rotten_tomatoes()
    first.train.texts.clear()
    first.train.labels[:] = 7
    second = reviews.rotten_tomatoes()
    assert len(second.train) == 6932 and second.train.labels.max() == 1


@pytest.mark.parametrize("count", [2, 50, 1000])
def test_few_shot_is_balanced_and_drawn_by_the_seed(count):
    train = reviews.rotten_tomatoes().train
    draw = reviews.few_shot(train, count, seed=1)
    assert len(draw) == len(set(draw.texts)) == count and draw.labels.sum() == count // 2
    labels = dict(zip(train.texts, train.labels, strict=True))
    assert [labels[text] for text in draw.texts] == draw.labels.tolist()
    chosen = set(draw.texts)
    assert draw.texts == [text for text in train.texts if text in chosen]
    assert draw.texts == reviews.few_shot(train, count, seed=1).texts
    assert draw.texts != reviews.few_shot(train, count, seed=2).texts
    assert set(draw.texts) < set(reviews.few_shot(train, 2 * count, seed=1).texts)


@pytest.mark.parametrize("count", [-2, 0, 1, 51, 6934])
def test_few_shot_refuses_what_it_cannot_balance(count):
    train = reviews.rotten_tomatoes().train
    with pytest.raises(ValueError, match=rf"even number of examples, from 2 to 6932 in this split; got {count}"):
        reviews.few_shot(train, count, seed=0)


def test_a_split_is_shown_in_one_line():
    assert repr(reviews.rotten_tomatoes().test) == "1,066 texts, 533 of them positive"
