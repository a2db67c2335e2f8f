"""Packs token sequences into the rows of a batch.

Shapes: B rows, T length.
"""

import functools
import itertools

import numpy as np


def pad(rows, pad_token_id, length=None):
    """Pads sequences of ids on the right to make a batch.

    Args:
        rows: B sequences of ids.
        pad_token_id: id of the padding.
        length: T. Defaults to the length of the longest row.

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
    """Makes rows `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`.

    Args:
        first: B sequences of ids.
        second: B more, with None for each row of one segment; or None if all rows have one.
        start_token_id: id of `[CLS]`.
        end_token_id: id of `[SEP]`.
        pad_token_id: id of `[PAD]`.
        length: T. Defaults to the length of the longest row.

    Returns:
        A dict of int32 arrays (B, T): `token_ids`, `segment_ids` (1 in the second segment, its `[SEP]` included) and
        `padding_mask` (1 = a token, 0 = padding).

    Raises:
        ValueError: if there are no rows, the numbers of first and second sequences differ, or a row is longer than
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
    """Cuts two sequences at their ends to a total length: first the longer one down to the other's length, then both.

    Args:
        first: a sequence.
        second: a sequence.
        room: maximum number of elements that both keep together.

    Returns:
        Both sequences, cut if necessary.
    """
    shorter = min(len(first), len(second), room // 2)
    if len(first) <= len(second):
        first_room = min(len(first), max(shorter, room - len(second)))
        return first[:first_room], second[: room - first_room]
    second_room = min(len(second), max(shorter, room - len(first)))
    return first[: room - second_room], second[:second_room]


def pack_documents(documents, length, end_token_id, pad_token_id, cross_documents=False):
    """Appends the end token to each document, and cuts the documents into rows of T tokens.

    Args:
        documents: sequences of ids.
        length: T.
        end_token_id: id of the token that closes a document.
        pad_token_id: id of the padding.
        cross_documents: whether the next document continues in the same row, as when GPT-2 and RoBERTa were trained.
            Only the last row then has padding. Otherwise each document begins a new row, so attention never crosses
            from one document to another.

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
    """Joins documents, each followed by the end token, into a stream, and cuts the stream into full rows.

    Each epoch shuffles the documents and the rows. A row has T + 1 tokens: its last token is also the first token of
    the next row in the stream. So each token of an epoch is predicted once, except the first one and those at the end
    that do not fill a row.

    Args:
        documents: sequences of ids.
        length: T.
        end_token_id: id of the token that closes a document.

    Raises:
        ValueError: if the length is not positive, or the documents do not fill a row.

    Attributes:
        num_tokens: number of tokens, end tokens included.
        num_rows: number of rows in an epoch.
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
        self._epoch = functools.lru_cache(maxsize=2)(self._rows)  # a batch may span two epochs

    def _rows(self, seed, epoch):
        """Makes all rows of an epoch, in its order."""
        rng = np.random.default_rng((seed, epoch))
        stream = np.concatenate([self._documents[index] for index in rng.permutation(len(self._documents))])
        starts = self.length * rng.permutation(self.num_rows)
        return np.lib.stride_tricks.sliding_window_view(stream, self.length + 1)[starts]

    def counts(self, vocabulary_size):
        """Counts how often each token occurs, end tokens included.

        Args:
            vocabulary_size: V.

        Returns:
            int64 (V,).
        """
        return np.bincount(np.concatenate(self._documents), minlength=vocabulary_size)

    def draw(self, count, seed, step, rows=slice(None)):
        """Returns the rows of a step. They depend only on the documents, a seed and the step.

        Args:
            count: B, the number of rows.
            seed: an integer of 0 or more.
            step: an integer of 0 or more. Each step continues after the previous one, and from one epoch into the next.
            rows: a slice of the B rows, if not all of them are needed.

        Returns:
            int32 (B, T + 1), or the rows of the slice alone.
        """
        places = (divmod(row, self.num_rows) for row in range(step * count, (step + 1) * count)[rows])
        return np.stack([self._epoch(seed, epoch)[row] for epoch, row in places])
