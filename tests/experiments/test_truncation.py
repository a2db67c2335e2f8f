"""The experiment on reviews that are cut: what is kept, and that both kinds of features see the same."""

import dataclasses

import keras
import numpy as np
import pytest

from course_lib import Bert, BertConfig, WordPieceTokenizer, assets
from course_lib.data import reviews
from course_lib.experiments import truncation
from course_lib.experiments.truncation import BOTH, FIRST, GRADE, LAST, Truncation, cut

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("kept", "room", "expected"),
    [
        (FIRST, 3, [0, 1, 2]),
        (LAST, 3, [4, 5, 6]),
        (BOTH, 4, [0, 1, 5, 6]),
        (BOTH, 3, [0, 1, 6]),
        (LAST, 7, [0, 1, 2, 3, 4, 5, 6]),
        (BOTH, 9, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_is_kept(kept, room, expected):
    assert cut(list(range(7)), kept, room) == expected


def test_both_kinds_of_features_see_what_is_left(tmp_path, monkeypatch):
    """The verdict is the last of many words, so that only who keeps the end can know it."""
    keras.utils.set_random_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"good bad one two three four".split()]
    config = BertConfig(len(vocabulary), 1, 2, 16, 32, 20, initializer_range=0.5)
    backbone = Bert(config, WordPieceTokenizer(vocabulary))
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype="int32") % 2
    texts = [" ".join([*rng.choice(vocabulary[7:], 9), ("bad", "good")[label]]) for label in labels]
    split = reviews.Split(texts, labels)
    monkeypatch.setattr(reviews, "imdb", lambda: reviews.Reviews(split, split, split))
    monkeypatch.setattr(Bert, "from_preset", lambda _: backbone)
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path)
    small = dataclasses.replace(
        Truncation(), cuts=((FIRST, 6), (LAST, 6)), lengths=(6, 0), sizes=(40, 20, 20), regularisations=(100.0,)
    )
    *results, last = small.run()
    assert [(each["features"], each["kept"], each["length"]) for each in results] == [
        (truncation.FROZEN, FIRST, 6),
        (truncation.FROZEN, LAST, 6),
        (truncation.TF_IDF, FIRST, 6),
        (truncation.TF_IDF, FIRST, 0),
        (truncation.TF_IDF, LAST, 6),
        (truncation.TF_IDF, BOTH, 6),
        (truncation.NO_GRADES, FIRST, 6),
        (truncation.NO_GRADES, FIRST, 0),
        (truncation.NO_GRADES, LAST, 6),
        (truncation.NO_GRADES, BOTH, 6),
    ]
    assert all(each["accuracy"] == 1 - len(each["wrong"]) / 20 for each in results)
    accuracy = {(each["features"], each["kept"], each["length"]): each["accuracy"] for each in results}
    for (_, kept, length), found in accuracy.items():
        assert found > 0.95 if kept in (LAST, BOTH) or length == 0 else found < 0.8
    assert last == {"lengths": [12] * 20, "graded": []}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Dull. 3/10", "Dull.  "),
        ("I give it 8.5 out of ten.", "I give it  ."),
        ("Rating: 9", " "),
        ("*** (of 5)", "  (of 5)"),
        ("On 24/7, with 10 friends and 2 stars", "On 24/7, with 10 friends and 2 stars"),
    ],
)
def test_grades(text, left):
    assert GRADE.sub(" ", text) == left
