"""Masking: how many, which ones, what stands in their place, and that nothing else decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import WordPieceTokenizer
from course_lib.text.masking import Masking

pytestmark = pytest.mark.one_backend

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij")]
TOKENIZER = WordPieceTokenizer(VOCABULARY)
SPECIAL = range(5)


@st.composite
def batches(draw):
    """Rows of regular tokens between special ones, then padding."""
    rows, length = draw(st.integers(1, 4)), draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    token_ids = rng.integers(5, len(VOCABULARY), (rows, length), dtype="int32")
    token_ids[:, 0] = TOKENIZER.start_token_id
    for row, end in enumerate(rng.integers(2, length, rows)):
        token_ids[row, end] = TOKENIZER.end_token_id
        token_ids[row, end + 1 :] = TOKENIZER.pad_token_id
    return {"token_ids": token_ids}


@given(batches(), st.floats(0.01, 0.99), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_what_holds_of_every_batch(batch, rate, positions, whole_words, step):
    before = batch["token_ids"].copy()
    masking = Masking.of(TOKENIZER, whole_words, rate=rate, positions=positions)
    inputs, labels, weights = masking(batch, seed=0, step=step)
    assert np.array_equal(batch["token_ids"], before)  # the batch itself is left alone
    assert inputs["mask_positions"].shape == labels.shape == weights.shape == (len(before), positions)
    assert inputs["token_ids"].dtype == inputs["mask_positions"].dtype == labels.dtype == "int32"
    changed = inputs["token_ids"] != before
    for row, weight in enumerate(weights):
        chosen = inputs["mask_positions"][row][weight == 1]
        regular = np.flatnonzero(before[row] > 4)
        wanted = min(max(int(rate * len(regular) + 0.5), 1), positions, len(regular))
        assert len(chosen) <= wanted if whole_words else len(chosen) == wanted
        assert np.all(np.diff(chosen) > 0) and set(chosen) <= set(regular)
        assert np.array_equal(labels[row][weight == 1], before[row][chosen])
        assert set(np.flatnonzero(changed[row])) <= set(chosen)
        assert not labels[row][weight == 0].any() and not inputs["mask_positions"][row][weight == 0].any()
    assert not np.isin(inputs["token_ids"][changed], [0, 1, 2, 3]).any()  # no special token but the mask is drawn


def test_the_shares_are_80_10_10_and_every_place_is_as_likely():
    rng = np.random.default_rng(0)
    token_ids = rng.integers(5, len(VOCABULARY), (4000, 22), dtype="int32")
    token_ids[:, 0] = TOKENIZER.start_token_id
    token_ids[:, -1] = TOKENIZER.end_token_id
    inputs, labels, weights = Masking.of(TOKENIZER, positions=3)({"token_ids": token_ids}, seed=0, step=0)
    assert weights.all()  # 3 of 20
    seen = np.take_along_axis(inputs["token_ids"], inputs["mask_positions"], axis=1)
    tolerance = 4 * 0.5 / np.sqrt(labels.size)
    assert abs(np.mean(seen == TOKENIZER.mask_token_id) - 0.8) < tolerance
    assert abs(np.mean(seen == labels) - (0.1 + 0.1 / 20)) < tolerance  # one draw in twenty gives the token itself
    drawn = seen[(seen != TOKENIZER.mask_token_id) & (seen != labels)]
    assert set(drawn) == set(range(5, len(VOCABULARY)))
    places = np.bincount(inputs["mask_positions"].ravel(), minlength=22)[1:-1]
    assert np.all(np.abs(places - 600) < 5 * np.sqrt(600))


def test_seed_and_step_decide_and_nothing_else():
    batch = TOKENIZER(["a b c d e f g h i j a b c d e f g h i j"] * 3)
    masking = Masking.of(TOKENIZER)
    np.random.seed(0)
    first = masking(batch, seed=1, step=2)
    np.random.seed(1)
    again = masking(batch, seed=1, step=2)
    assert np.array_equal(first[0]["token_ids"], again[0]["token_ids"])
    assert len({masking(batch, seed, step)[0]["mask_positions"].tobytes() for seed in (1, 2) for step in (2, 3)}) == 4


def test_whole_words():
    """A word is masked with all of its pieces or not at all, and words of every length are."""
    batch = TOKENIZER(["abc d efg h ij a b cd e f"] * 200)
    continues = np.char.startswith(np.array(VOCABULARY)[batch["token_ids"]], "##")
    inputs, _, weights = Masking.of(TOKENIZER, whole_words=True, rate=0.3)(batch, seed=0, step=0)
    chosen = np.zeros(continues.shape, bool)
    for row, weight in enumerate(weights):
        chosen[row, inputs["mask_positions"][row][weight == 1]] = True
    assert np.array_equal(chosen[:, 1:][continues[:, 1:]], chosen[:, :-1][continues[:, 1:]])
    assert np.all(chosen.any(axis=0) == (batch["token_ids"][0] > 4))


def test_a_word_longer_than_what_may_be_masked_is_passed_over():
    batch = TOKENIZER(["abcdefghij a"])
    for step in range(20):
        inputs, _, weights = Masking.of(TOKENIZER, whole_words=True)(batch, seed=0, step=step)
        assert inputs["mask_positions"][0][weights[0] == 1].tolist() in ([11], [])


def test_where_a_row_begins_inside_a_word_its_rest_is_a_word():
    row = np.array([[TOKENIZER.start_token_id, VOCABULARY.index("##a"), TOKENIZER.end_token_id]])
    inputs, _, weights = Masking.of(TOKENIZER, whole_words=True)({"token_ids": row}, seed=0, step=0)
    assert inputs["mask_positions"][0][weights[0] == 1].tolist() == [1]


def test_a_row_with_nothing_to_mask_has_no_prediction():
    inputs, _, weights = Masking.of(TOKENIZER)(TOKENIZER(["", "a b"]), seed=0, step=0)
    assert weights.sum(axis=1).tolist() == [0, 1]
    assert np.array_equal(inputs["token_ids"][0], TOKENIZER(["", "a b"])["token_ids"][0])
    with pytest.raises(ValueError, match="something to mask"):
        Masking.of(TOKENIZER)(TOKENIZER(["", ""]), seed=0, step=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate between 0 and 1"),
        ({"rate": 1}, "rate between 0 and 1"),
        ({"mask_fraction": 0.8, "random_fraction": 0.3}, "add up to at most 1"),
        ({"mask_fraction": -0.1}, "add up to at most 1"),
        ({"positions": 0}, "at least one prediction"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Masking.of(TOKENIZER, **settings)


@pytest.mark.parametrize("ids", [[], [4, 5]])
def test_regular_ids_that_cannot_be(ids):
    with pytest.raises(ValueError, match="regular_ids"):
        Masking(4, np.array(ids))
