"""Batches cut to their longest row: every row once per epoch, in an order that the seed decides."""

import numpy as np
import pytest

from course_lib import Bert, BertConfig, BytePairTokenizer, TextClassifier
from course_lib.models.seq2seq_lm import teacher_forcing
from course_lib.text.batches import Examples, Pairs, by_length, check_labels, round_up, widened

rng = np.random.default_rng(0)
LENGTHS = rng.integers(2, 30, 50)
PADDING_MASK = (np.arange(30) < LENGTHS[:, None]).astype("int32")
INPUTS = {
    "token_ids": rng.integers(3, 20, (50, 30)).astype("int32") * PADDING_MASK,
    "padding_mask": PADDING_MASK,
}
LABELS = (INPUTS["token_ids"] == 7).any(axis=1).astype("int32")
NUMBERS = np.arange(50)

SOURCES = ["a b", "a longer text " * 4, "one two three", "c d", "x", "an even longer text than that " * 3]
TARGETS = ["b a", "text", "three two one " * 5, "d c", "y z", "longest"]

# What the first version of this code drew with one seed.
ORDER = ([[41, 42, 32], [11, 19], [26, 22, 47]], [[42, 34, 44], [33, 14]])
ORDER_OF_PAIRS = [(4, [16]), (16, [13, 1, 7]), (4, [3, 9, 4, 6]), (44, [11, 17, 5])]


def of_epoch(examples):
    return [examples[index] for index in range(examples.num_batches)]


@pytest.mark.one_backend
def test_lengths_and_widths_by_hand():
    assert [round_up(length) for length in (1, 8, 9)] == [8, 8, 16] and round_up(9, 4) == 12
    assert [rows.tolist() for rows in by_length([3, 1, 3, 2, 0], 2)] == [[4, 1], [3, 0], [2]]
    assert widened(np.array([[1, 2, 3]]), 2).tolist() == [[1, 2]]
    assert widened(np.array([[1, 2, 3]]), 5).tolist() == [[1, 2, 3, 0, 0]]


# Examples


@pytest.mark.one_backend
@pytest.mark.parametrize("seed", [None, 3])
def test_each_row_comes_once_in_an_epoch_and_is_cut_to_the_longest_of_its_batch(seed):
    examples = Examples(INPUTS | {"number": NUMBERS}, LABELS, batch_size=8, seed=seed)
    orders = []
    for _ in range(3):
        batches = of_epoch(examples)
        for inputs, labels, weights in batches:
            rows, width = inputs["number"], inputs["token_ids"].shape[1]
            longest = LENGTHS[rows].max()
            assert longest <= width < longest + 8 and width in (8, 16, 24, 30)
            np.testing.assert_array_equal(inputs["token_ids"], INPUTS["token_ids"][rows, :width])
            np.testing.assert_array_equal(labels, LABELS[rows])
            assert weights.shape == labels.shape and np.all(weights == 1)
        orders.append(np.concatenate([inputs["number"] for inputs, _, _ in batches]))
        assert sorted(orders[-1]) == list(NUMBERS)
        np.testing.assert_array_equal(examples.in_order(orders[-1]), NUMBERS)
        examples.on_epoch_end()
    same = [np.array_equal(orders[0], order) for order in orders[1:]]
    assert same == [seed is None] * 2
    padding = sum(np.sum(1 - inputs["padding_mask"]) for inputs, _, _ in of_epoch(examples))
    assert padding < 0.6 * np.sum(1 - PADDING_MASK)
    again = Examples(INPUTS | {"number": NUMBERS}, LABELS, batch_size=8, seed=seed)
    assert np.array_equal(np.concatenate([inputs["number"] for inputs, _, _ in of_epoch(again)]), orders[0])


@pytest.mark.one_backend
def test_the_order_of_a_seed_stays_what_it_is():
    """Recorded runs depend on it."""
    examples = Examples(INPUTS, LABELS, batch_size=8, seed=3)
    first = [examples.batches[index][:3].tolist() for index in range(3)]
    examples.on_epoch_end()
    assert (first, [rows[:3].tolist() for rows in examples.batches[:2]]) == ORDER


@pytest.mark.one_backend
@pytest.mark.parametrize("count", [1, 8, 9, 16, 17, 24])
def test_few_rows(count):
    examples = Examples({name: array[:count] for name, array in INPUTS.items()}, LABELS[:count], None, 8, seed=0)
    assert sum(len(labels) for _, labels, _ in of_epoch(examples)) == count


@pytest.mark.one_backend
def test_only_arrays_by_token_are_cut():
    """Positions of words may be as many as tokens, and have labels that are as many."""
    examples = Examples(INPUTS | {"word_positions": PADDING_MASK}, PADDING_MASK, batch_size=8)
    inputs, labels, _ = examples[0]
    assert inputs["token_ids"].shape[1] < 30 and inputs["word_positions"].shape == labels.shape == (8, 30)


@pytest.mark.one_backend
def test_labels_by_token_are_cut_with_them():
    weights = PADDING_MASK.astype("float32")
    examples = Examples(INPUTS, {"next": INPUTS["token_ids"]}, {"next": weights}, batch_size=8, per_token=True)
    for inputs, labels, weights in of_epoch(examples):
        np.testing.assert_array_equal(labels["next"], inputs["token_ids"])
        np.testing.assert_array_equal(weights["next"], inputs["padding_mask"])


@pytest.mark.one_backend
def test_a_transformation_is_told_how_many_batches_came_before():
    examples = Examples(INPUTS, LABELS, batch_size=20, transform=lambda batch, step: (len(batch[1]), step))
    assert of_epoch(examples) == [(20, 0), (20, 1), (10, 2)]
    examples.on_epoch_end()
    assert of_epoch(examples) == [(20, 3), (20, 4), (10, 5)]


@pytest.mark.parametrize("seed", [None, 0])
def test_a_longer_batch_may_come_after_two_short_ones(seed):
    """From the first two batches TensorFlow learns which axes vary."""
    rows = np.argsort(LENGTHS)[[*range(9), *range(9), *range(9), -1]]
    examples = Examples({name: array[rows] for name, array in INPUTS.items()}, LABELS[rows], batch_size=7, seed=seed)
    widths = [inputs["token_ids"].shape[1] for inputs, _, _ in of_epoch(examples)]
    assert len(set(widths[:2])) == 2 and max(widths) in widths[:2]
    config = BertConfig(20, 1, 2, 16, 32, 30, dropout=0.0, attention_dropout=0.0)
    TextClassifier(Bert(config), ["without", "with"]).fit(examples, verbose=0)


@pytest.mark.one_backend
def test_unequal_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"one number of rows; got \[49, 50\]"):
        Examples(INPUTS, LABELS[1:])
    with pytest.raises(ValueError, match=r"one number of rows; got \[3, 50\]"):
        Examples(INPUTS, LABELS, np.ones(3))
    with pytest.raises(ValueError, match=r"got \[0\]"):
        Examples({name: array[:0] for name, array in INPUTS.items()}, LABELS[:0])


@pytest.mark.one_backend
def test_labels_without_weight_do_not_count():
    inputs = {name: array[:3] for name, array in INPUTS.items()}
    check_labels(Examples(inputs, [0, 1, 1]), ["a", "b"])
    for weights, found in (([0, 1, 1], r"\['b'\]"), ([0, 0, 0], r"\[\]")):
        with pytest.raises(ValueError, match=f"got only {found}"):
            check_labels(Examples(inputs, [0, 1, 1], weights), ["a", "b"])


# Pairs


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer.train(SOURCES + TARGETS, 270)


@pytest.mark.one_backend
def test_each_pair_comes_once_an_epoch_in_a_narrow_batch(tokenizer):
    whole, labels, weights = teacher_forcing(tokenizer, SOURCES, TARGETS)
    pairs = Pairs(whole, labels, weights, batch_size=2, seed=1)
    orders, widths = [], set()
    for _ in range(4):
        orders.append([])
        for inputs, label, weight in of_epoch(pairs):
            rows, width = label.shape
            assert rows <= 2 and width % 4 == 0 and inputs["encoder_token_ids"].shape == (rows, width)
            widths.add(width)
            for row in range(rows):
                target = label[row][weight[row] == 1]
                source = inputs["encoder_token_ids"][row][inputs["encoder_padding_mask"][row] == 1]
                place = [tokenizer.encode(text) for text in SOURCES].index(source.tolist())
                assert target.tolist() == labels[place][weights[place] == 1].tolist()
                assert max(len(source), len(target)) > width - 4  # no wider than need be
                given = inputs["decoder_token_ids"][row][: len(target)]
                assert given.tolist() == whole["decoder_token_ids"][place][: len(target)].tolist()
                orders[-1].append(place)
        assert len({pairs[index][1].shape[1] for index in (0, 1)}) == 2
        pairs.on_epoch_end()
    assert all(sorted(order) == [*range(6)] for order in orders) and len(set(map(tuple, orders))) > 1
    assert len(widths) > 2


@pytest.mark.one_backend
def test_the_order_of_pairs_of_a_seed_stays_what_it_is(tokenizer):
    pairs = Pairs(*teacher_forcing(tokenizer, SOURCES * 3, TARGETS * 3), batch_size=4, seed=5)
    found = [(int(width), rows.tolist()) for width, rows in pairs.batches[:3]]
    pairs.on_epoch_end()
    assert [*found, (int(pairs.batches[0][0]), pairs.batches[0][1].tolist())] == ORDER_OF_PAIRS
