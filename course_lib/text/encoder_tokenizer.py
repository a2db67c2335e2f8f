"""What the tokenizers of encoders share: special tokens around one text or around a pair, and batches.

Shapes: B rows, T length.
"""

import numpy as np

from course_lib.text.packing import pack_segments, truncate_longest_first


class EncoderTokenizer:
    """Turns texts, or pairs of texts, into the rows that an encoder such as BERT reads.

    A subclass splits a text into pieces (`pieces`), and has `start_token_id`, `end_token_id`, `pad_token_id`,
    `mask_token_id` and `unknown_token_id`.

    Attributes:
        end_tokens_between: number of end tokens between the two texts of a pair.
        has_segments: whether the second text of a pair gets other segment ids than the first.
    """

    end_tokens_between = 1
    has_segments = True

    def pieces(self, text):
        """Turns a text into ids, without the special tokens around it.

        Args:
            text: a string.

        Returns:
            A list of integers.

        Raises:
            ValueError: if `text` is not a string, or contains a lone surrogate.
        """
        raise NotImplementedError

    def word_pieces(self, word):
        """Turns a word that stands in a sentence into ids, without special tokens.

        Args:
            word: a string.

        Returns:
            A list of integers. It is empty if nothing is left of the word.

        Raises:
            ValueError: if `word` is not a string, or contains a lone surrogate.
        """
        return self.pieces(word)

    def tokenize(self, text):
        """Splits a text into pieces, without the special tokens around it.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if `text` is not a string, or contains a lone surrogate.
        """
        return [self.vocabulary[piece] for piece in self.pieces(text)]

    def encode(self, text, pair=None, max_length=None):
        """Turns texts into the ids of a row: in BERT `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.

        Args:
            text: a string.
            pair: a second string, or None.
            max_length: maximum number of ids. Pieces are dropped from the end of the longer text first. By default
                nothing is dropped.

        Returns:
            A list of integers.

        Raises:
            ValueError: if a text is not a string or contains a lone surrogate, or `max_length` is too small for the
                special tokens.
        """
        first, second = self._segments(text, pair, max_length)
        ids = [self.start_token_id, *first, self.end_token_id]
        return ids if second is None else [*ids, *second, self.end_token_id]

    def _segments(self, text, pair, max_length):
        """Computes the ids of both segments, without special tokens around them. Without a pair, the second is None."""
        between = [self.end_token_id] * (self.end_tokens_between - 1)
        first = self.pieces(text)
        second = [] if pair is None else self.pieces(pair)
        if max_length is not None:
            room = max_length - (2 if pair is None else 3 + len(between))
            if room < 0:
                raise ValueError(f"Expected a max_length that holds the special tokens; got {max_length}.")
            first, second = truncate_longest_first(first, second, room)
        return first, None if pair is None else between + second

    def __call__(self, texts, pairs=None, max_length=None):
        """Turns texts into a batch for a model, padded to the longest row.

        Args:
            texts: B strings; a single string is a batch of one.
            pairs: B more strings, the second segment of each row; or None.
            max_length: maximum number of tokens per row. Longer rows are cut as in `encode`. By default nothing is cut.

        Returns:
            A dict of int32 arrays (B, T): `token_ids`, `segment_ids` (0 for the first text; for the second 1 in BERT,
            and 0 in a model without segments) and `padding_mask` (1 = a token, 0 = padding).

        Raises:
            ValueError: if there is no text, a text is not a string, the numbers of texts and pairs differ, or
                `max_length` is too small for the special tokens.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        pairs = [pairs] if isinstance(pairs, str) else pairs
        pairs = [None] * len(texts) if pairs is None else list(pairs)
        if not texts:
            raise ValueError("Expected at least one text; got none.")
        if len(pairs) != len(texts):
            raise ValueError(f"Expected as many pairs as texts, {len(texts)}; got {len(pairs)}.")
        rows = [self._segments(text, pair, max_length) for text, pair in zip(texts, pairs, strict=True)]
        batch = pack_segments(*zip(*rows, strict=True), self.start_token_id, self.end_token_id, self.pad_token_id)
        return batch if self.has_segments else batch | {"segment_ids": np.zeros_like(batch["segment_ids"])}
