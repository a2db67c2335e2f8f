"""Packing: every token in its place, once, and no row across what it must not cross."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.text.packing import pack_documents, pack_segments

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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_segments([], None, 1, 2, 0), "at least one row"),
        (lambda: pack_segments([[10]], [[11], [12]], 1, 2, 0), "as many second segments"),
        (lambda: pack_segments([[10, 11]], None, 1, 2, 0, length=3), "at most 3 tokens"),
        (lambda: pack_documents([], 8, 1, 0), "at least one document"),
        (lambda: pack_documents([[10]], 0, 1, 0), "length of at least 1"),
    ],
)
def test_what_cannot_be_packed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
