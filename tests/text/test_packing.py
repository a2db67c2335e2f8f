"""Packing: every token in its place, once, and no row across what it must not cross."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.text.packing import TokenStream, pack_documents, pack_segments

pytestmark = pytest.mark.one_backend

IDS = st.lists(st.integers(10, 99), max_size=12)


def test_segments_by_hand():
    batch = pack_segments([[10, 11], [12]], [[13], None], 1, 2, 9, length=7)
    assert batch["token_ids"].tolist() == [[1, 10, 11, 2, 13, 2, 9], [1, 12, 2, 9, 9, 9, 9]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0] * 7]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]
    assert all(array.dtype == "int32" for array in batch.values())
    assert pack_segments([[10]], None, 1, 2, 0)["token_ids"].tolist() == [[1, 10, 2]]


@given(st.lists(IDS, min_size=1, max_size=6), st.integers(1, 9), st.booleans())
def test_documents_come_back(documents, length, cross):
    batch = pack_documents(documents, length, end_token_id=1, pad_token_id=9, cross_documents=cross)
    ids, is_token = batch["token_ids"], batch["padding_mask"] == 1
    assert ids.shape[1] == length
    assert ids[is_token].tolist() == list(itertools.chain.from_iterable([*document, 1] for document in documents))
    assert np.all(ids[~is_token] == 9) and np.all(np.diff(batch["padding_mask"], axis=1) <= 0)
    if cross:
        assert is_token[:-1].all()
    else:
        assert not np.any((ids[:, :-1] == 1) & is_token[:, 1:])  # nothing after the end of a document
        assert len(ids) == sum(-(-(len(document) + 1) // length) for document in documents)


@given(st.lists(IDS, min_size=1, max_size=9), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_an_epoch_of_the_stream_predicts_each_token_once(documents, length, count, seed):
    total = sum(map(len, documents)) + len(documents)
    if total <= length:
        return
    stream = TokenStream(documents, length, end_token_id=1)
    assert (stream.num_tokens, stream.num_rows) == (total, (total - 1) // length)
    rows = np.concatenate([stream.draw(1, seed, step) for step in range(stream.num_rows)])
    assert rows.shape == (stream.num_rows, length + 1) and rows.dtype == "int32"
    spare = total - 1 - stream.num_rows * length  # at the end of the stream, and one at its beginning
    counts = stream.counts(100)
    assert np.array_equal(
        counts, np.bincount([*itertools.chain.from_iterable(documents), *[1] * len(documents)], None, 100)
    )
    left = counts - np.bincount(rows[:, 1:].ravel(), minlength=100)
    assert left.min() >= 0 and left.sum() == spare + 1
    several = [stream.draw(count, seed, step) for step in range(2 * stream.num_rows)]  # across the ends of epochs
    ones = [stream.draw(1, seed, step) for step in range(2 * stream.num_rows * count)]
    assert np.array_equal(np.concatenate(several), np.concatenate(ones))


def test_a_stream_is_in_another_order_in_each_epoch_and_for_each_seed():
    documents = [np.arange(10 * n, 10 * n + 9) for n in range(1, 9)]
    stream = TokenStream(documents, 4, end_token_id=1)
    whole = {tuple(part) for document in documents for part in np.lib.stride_tricks.sliding_window_view(document, 2)}
    orders = []
    for seed, epoch in itertools.product(range(2), range(3)):
        rows = stream.draw(stream.num_rows, seed, epoch)
        inside = (rows[:, :-1] != 1) & (rows[:, 1:] != 1)
        assert set(zip(rows[:, :-1][inside], rows[:, 1:][inside], strict=True)) <= whole  # documents stay whole
        orders.append(rows.tobytes())
    assert len(set(orders)) == 6
    assert TokenStream(documents, 4, end_token_id=1).draw(stream.num_rows, 1, 2).tobytes() == orders[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_segments([], None, 1, 2, 0), "at least one row"),
        (lambda: pack_segments([[10]], [[11], [12]], 1, 2, 0), "as many second segments"),
        (lambda: pack_segments([[10, 11]], None, 1, 2, 0, length=3), "at most 3 tokens"),
        (lambda: pack_documents([], 8, 1, 0), "at least one document"),
        (lambda: pack_documents([[10]], 0, 1, 0), "length of at least 1"),
        (lambda: TokenStream([[10]], 0, 1), "length of at least 1"),
        (lambda: TokenStream([[10], [11]], 4, 1), "fill a row of 4 tokens and one more; got 4"),
    ],
)
def test_what_cannot_be_packed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
