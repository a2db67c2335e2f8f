"""Packing: token sequences as rows of a batch.

Shapes: B rows, T length.
"""

import functools
import itertools

import numpy as np


def pad(rows, pad_token_id, length=None):
    """Sequences of ids as a batch, padded on the right.

    Args:
        rows: B sequences of ids.
        pad_token_id: id of the padding.
        length: T; that of the longest row if None.

    Returns:
        A dict of int32 arrays (B, T): `token_ids` and `padding_mask` (1 = a token, 0 = padding).
    """
    shape = len(rows), max(map(len, rows)) if length is None else length
    batch = {"token_ids": np.full(shape, pad_token_id, "int32"), "padding_mask": np.zeros(shape, "int32")}
    for index, row in enumerate(rows):
        batch["token_ids"][index, : len(row)] = row
        batch["padding_mask"][index, : len(row)] = 1
    return batch


def pack_segments(first, second, start_token_id, end_token_id, pad_token_id, length=None):
    """`[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`: one row each.

    Args:
        first: B sequences of ids.
        second: B more, each None where the row has one segment; None for all.
        start_token_id: id of `[CLS]`.
        end_token_id: id of `[SEP]`.
        pad_token_id: id of `[PAD]`.
        length: T; that of the longest row if None.

    Returns:
        A dict of int32 arrays (B, T): `token_ids`, `segment_ids` (1 in the second segment, its `[SEP]` included) and
        `padding_mask` (1 = a token, 0 = padding).

    Raises:
        ValueError: if there is no row, the second sequences are more or fewer than the first, or a row is longer than
            `length`.
    """
    first = list(first)
    second = [None] * len(first) if second is None else list(second)
    if not first:
        raise ValueError("Expected at least one row; got none.")
    if len(second) != len(first):
        raise ValueError(f"Expected as many second segments as first ones, {len(first)}; got {len(second)}.")
    rows = [
        [start_token_id, *a, end_token_id] + ([] if b is None else [*b, end_token_id])
        for a, b in zip(first, second, strict=True)
    ]
    longest = max(map(len, rows))
    if length is not None and longest > length:
        raise ValueError(f"Expected rows of at most {length} tokens, special tokens included; got {longest}.")
    token_ids, padding_mask = pad(rows, pad_token_id, length).values()
    segment_ids = np.zeros_like(token_ids)
    for segments, ids, row in zip(segment_ids, first, rows, strict=True):
        segments[len(ids) + 2 : len(row)] = 1
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}


def truncate_longest_first(first, second, room):
    """Cuts two sequences, together longer than `room`, at their ends: the longer one down to the other, then both.

    Args:
        first: a sequence.
        second: a sequence.
        room: how many elements may stay.

    Returns:
        Both, cut.
    """
    shorter = min(len(first), len(second), room // 2)
    if len(first) <= len(second):
        first_room = min(len(first), max(shorter, room - len(second)))
        return first[:first_room], second[: room - first_room]
    second_room = min(len(second), max(shorter, room - len(first)))
    return first[: room - second_room], second[:second_room]


def pack_documents(documents, length, end_token_id, pad_token_id, cross_documents=False):
    """Whole documents, each closed by the end token, cut into rows of full length.

    Args:
        documents: sequences of ids.
        length: T.
        end_token_id: id of the token that closes a document.
        pad_token_id: id of the padding.
        cross_documents: whether a row goes on with the next document where one ends, as GPT-2 and RoBERTa were trained;
            then no row but the last has padding. Otherwise each document begins a row of its own, and attention never
            looks from one into another.

    Returns:
        A dict of int32 arrays (rows, T): `token_ids` and `padding_mask` (1 = a token, 0 = padding).

    Raises:
        ValueError: if there is no document, or the length is not positive.
    """
    if length < 1:
        raise ValueError(f"Expected a length of at least 1; got {length}.")
    streams = [[*document, end_token_id] for document in documents]
    if not streams:
        raise ValueError("Expected at least one document; got none.")
    if cross_documents:
        streams = [list(itertools.chain.from_iterable(streams))]
    rows = [stream[start : start + length] for stream in streams for start in range(0, len(stream), length)]
    return pad(rows, pad_token_id, length)


class TokenStream:
    """Whole documents, each closed by the end token, one after the other, to be cut into full rows.

    In each epoch the documents stand in another order, and so do the rows. A row has one token more than T, which is
    the first of the next row of the stream: each token but the first is predicted once in an epoch, those at the end
    that fill no row aside.

    Args:
        documents: sequences of ids.
        length: T.
        end_token_id: id of the token that closes a document.

    Raises:
        ValueError: if the length is not positive, or the documents do not fill a row.

    Attributes:
        num_tokens: how many tokens there are, end tokens included.
        num_rows: how many rows an epoch has.
    """

    def __init__(self, documents, length, end_token_id):
        if length < 1:
            raise ValueError(f"Expected a length of at least 1; got {length}.")
        self.length = length
        self._documents = [np.array([*document, end_token_id], "int32") for document in documents]
        self.num_tokens = sum(map(len, self._documents))
        self.num_rows = (self.num_tokens - 1) // length
        if self.num_rows < 1:
            raise ValueError(
                f"Expected documents that fill a row of {length} tokens and one more; got {self.num_tokens} in all, "
                f"end tokens included."
            )
        self._epoch = functools.lru_cache(maxsize=2)(self._rows)  # a batch may reach into the next

    def _rows(self, seed, epoch):
        """All rows of an epoch, in its order."""
        rng = np.random.default_rng((seed, epoch))
        stream = np.concatenate([self._documents[index] for index in rng.permutation(len(self._documents))])
        starts = self.length * rng.permutation(self.num_rows)
        return np.lib.stride_tricks.sliding_window_view(stream, self.length + 1)[starts]

    def counts(self, vocabulary_size):
        """How often each token occurs, end tokens included.

        Args:
            vocabulary_size: V.

        Returns:
            int64 (V,).
        """
        return np.bincount(np.concatenate(self._documents), minlength=vocabulary_size)

    def draw(self, count, seed, step):
        """The rows of a step; they depend on the documents, a seed and the step alone.

        Args:
            count: B, how many rows.
            seed: an integer of 0 or more.
            step: an integer of 0 or more; with each, the rows go on where they were, into the next epoch at the end of
                one.

        Returns:
            int32 (B, T + 1).
        """
        places = (divmod(row, self.num_rows) for row in range(step * count, (step + 1) * count))
        return np.stack([self._epoch(seed, epoch)[row] for epoch, row in places])
