"""Turns prompts into rows of token ids, and new token ids into text as they arrive.

Shapes: B batch, T length, V vocabulary.
"""

import numbers

import numpy as np

from course_lib.text.packing import pad
from course_lib.validation import check_ids


def read_prompts(prompts, tokenizer, vocabulary_size, max_length, max_new_tokens, if_empty=""):
    """Turns prompts into token ids, and checks them before any work begins.

    Args:
        prompts: a string or a sequence of token ids; or several of either in a list, a tuple, or an array of NumPy,
            pandas or the backend. Strings may also be bytes in UTF-8.
        tokenizer: the tokenizer that encodes strings, or None.
        vocabulary_size: V.
        max_length: highest number of tokens of a prompt and its continuation together.
        max_new_tokens: highest number of new tokens.
        if_empty: a sentence of advice, which is added to the error about an empty prompt.

    Returns:
        A list of B lists of integers; whether the prompts were strings; and whether there was a single prompt.

    Raises:
        ValueError: if there is no prompt, or one is empty, too long or of an unsupported type; if strings and token ids
            are mixed, a token id is outside the vocabulary, or there is no tokenizer for strings; or if
            `max_new_tokens` is not an integer of 1 or more.
    """
    if not isinstance(max_new_tokens, numbers.Integral) or max_new_tokens < 1:
        raise ValueError(f"Expected max_new_tokens to be an integer of 1 or more; got {max_new_tokens!r}.")
    rows = prompts if isinstance(prompts, str | bytes | list | tuple) else np.asarray(prompts).tolist()
    is_single = isinstance(rows, str | bytes) or (_is_row(rows) and len(rows) > 0 and _is_number(rows[0]))
    rows = [rows] if is_single else rows
    if not _is_row(rows) or not all(isinstance(row, str | bytes) or _is_row(row) for row in rows):
        raise ValueError(f"Expected a string, token ids, or a list of these; got {prompts!r:.80}.")
    if len(rows) == 0:
        raise ValueError("Expected at least one prompt; got none.")
    are_texts = isinstance(rows[0], str | bytes)
    if any(isinstance(row, str | bytes) != are_texts for row in rows):
        raise ValueError("Expected prompts that are all strings or all token ids; got both.")
    if are_texts and tokenizer is None:
        raise ValueError("Expected token ids, since this model has no tokenizer; got a string.")
    if are_texts:
        rows = [tokenizer.encode(row.decode() if isinstance(row, bytes) else row) for row in rows]
    else:
        rows = [np.asarray(row).tolist() for row in rows]
    for index, row in enumerate(rows):
        if not row:
            raise ValueError(f"Expected prompts of at least one token; prompt {index} has none. {if_empty}".rstrip())
        if len(row) + max_new_tokens > max_length:
            raise ValueError(
                f"Expected a prompt and {max_new_tokens} new tokens within the model's {max_length} positions; prompt "
                f"{index} has {len(row)} tokens. Cut it, or lower max_new_tokens."
            )
        check_ids(np.asarray(row), vocabulary_size)
    return rows, are_texts, is_single


def _is_row(x):
    return isinstance(x, list | tuple | np.ndarray)


def _is_number(x):
    return isinstance(x, numbers.Number)


def read_seed(seed):
    """Checks the seed of a generation, or draws one.

    Args:
        seed: an integer of 0 or more. With None, NumPy's global generator draws the seed, so
            `keras.utils.set_random_seed` and `course_lib.reproducible` make it reproducible.

    Returns:
        An integer.

    Raises:
        ValueError: if the seed is negative or not an integer.
    """
    seed = int(np.random.randint(2**31)) if seed is None else seed
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"Expected the seed to be an integer of 0 or more; got {seed!r}.")
    return int(seed)


def pad_rows(rows, max_length):
    """Pads rows on the right to a power of two, at least 16, so that a few compiled graphs serve all lengths.

    Args:
        rows: B lists of integers.
        max_length: highest T.

    Returns:
        A dict of int32 arrays (B, T): `token_ids`, and `padding_mask` (1 = a real token).
    """
    length = min(max(16, 1 << (max(map(len, rows)) - 1).bit_length()), max_length)
    return pad(rows, 0, length)


def is_seen(rows, vocabulary_size):
    """Marks the tokens that occur in each text.

    Args:
        rows: B lists of integers.
        vocabulary_size: V.

    Returns:
        Booleans (B, V).
    """
    seen = np.zeros((len(rows), vocabulary_size), bool)
    for index, row in enumerate(rows):
        seen[index, row] = True
    return seen


class GrowingText:
    """A text whose tokens arrive one by one. It ends before a stop string, and shows only whole characters.

    Args:
        decode: a function from a list of token ids to their text.
        stop: strings. The text ends before the first one that is complete.

    Attributes:
        text: the text so far.
        is_stopped: whether a stop string was found.
    """

    def __init__(self, decode, stop=()):
        self.decode = decode
        self.stop = stop
        self.text, self.is_stopped, self.shown = "", False, 0

    def update(self, ids):
        """Decodes the text again, unless a stop string has already ended it.

        Args:
            ids: all token ids so far.
        """
        if self.is_stopped:
            return
        self.text = self.decode(ids)
        found = [(self.text.index(stop) + len(stop), len(stop)) for stop in self.stop if stop in self.text]
        if found:
            end, length = min(found, key=lambda pair: (pair[0], -pair[1]))  # the longer one if both end together
            self.text, self.is_stopped = self.text[: end - length], True

    def new(self, is_last=False):
        """Returns the part of the text that no later token can change and that was not returned before.

        It holds back an incomplete character, and anything that may be the start of a stop string.

        Args:
            is_last: whether this is the end of the text. Then nothing is held back.

        Returns:
            A string.
        """
        settled = self.text
        if not (is_last or self.is_stopped):
            settled = settled.rstrip("\ufffd")  # `decode` writes it for an incomplete character
            starts = (stop[:length] for stop in self.stop for length in range(1, len(stop)))
            held_back = max((len(start) for start in starts if settled.endswith(start)), default=0)
            settled = settled[: len(settled) - held_back]
        piece, self.shown = settled[self.shown :], max(self.shown, len(settled))
        return piece

    def stream(self, runs):
        """Yields the text in pieces, none of which is empty.

        Args:
            runs: an iterator, as `Generator.run` returns it for one text. Each item is a list that holds one list: all
                token ids so far.

        Yields:
            Strings.
        """
        for (ids,) in runs:
            self.update(ids)
            if piece := self.new():
                yield piece
        if piece := self.new(is_last=True):
            yield piece
