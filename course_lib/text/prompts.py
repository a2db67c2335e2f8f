"""From prompts to rows of token ids, and from new token ids, as they come, to text."""

import numbers

import numpy as np

from course_lib.inputs import check_ids
from course_lib.text.packing import pad

_ROWS = list | tuple | np.ndarray


def read_prompts(prompts, tokenizer, vocabulary_size, longest, max_new_tokens, if_empty=""):
    """The token ids of prompts, checked before any work.

    Args:
        prompts: a string or a list of them; or a list of token ids, or a list of such lists.
        tokenizer: with `encode`, for strings.
        vocabulary_size: V.
        longest: how many tokens a text may have, the new ones included.
        max_new_tokens: how many new ones there may be.
        if_empty: what else to say of an empty prompt.

    Returns:
        A list of lists of integers; whether the prompts were strings; and whether there was but one, not in a list.

    Raises:
        ValueError: if there is no prompt, one is empty or too long or of another type, or has what is no id of the
            vocabulary; strings and ids are mixed; there is no tokenizer for strings; or `max_new_tokens` is not an
            integer of 1 or more.
    """
    if not isinstance(max_new_tokens, numbers.Integral) or max_new_tokens < 1:
        raise ValueError(f"Expected max_new_tokens to be an integer of 1 or more; got {max_new_tokens!r}.")
    of_numbers = isinstance(prompts, _ROWS) and len(prompts) > 0 and isinstance(prompts[0], numbers.Number)
    is_single = isinstance(prompts, str) or of_numbers
    prompts = [prompts] if is_single else prompts
    if not isinstance(prompts, _ROWS) or not all(isinstance(prompt, str | _ROWS) for prompt in prompts):
        raise ValueError(f"Expected a string, token ids, or a list of these; got {prompts!r:.80}.")
    if len(prompts) == 0:
        raise ValueError("Expected at least one prompt; got none.")
    are_texts = isinstance(prompts[0], str)
    if any(isinstance(prompt, str) != are_texts for prompt in prompts):
        raise ValueError("Expected prompts that are all strings or all token ids; got both.")
    if are_texts and tokenizer is None:
        raise ValueError("Expected token ids, since this model has no tokenizer; got a string.")
    rows = [tokenizer.encode(prompt) if are_texts else np.asarray(prompt).tolist() for prompt in prompts]
    for index, row in enumerate(rows):
        if not row:
            raise ValueError(f"Expected prompts of at least one token; prompt {index} has none. {if_empty}".rstrip())
        if len(row) + max_new_tokens > longest:
            raise ValueError(
                f"Expected a prompt and {max_new_tokens} new tokens within the model's {longest} positions; prompt "
                f"{index} has {len(row)} tokens. Cut it, or lower max_new_tokens."
            )
        check_ids(np.asarray(row), vocabulary_size)
    return rows, are_texts, is_single


def read_seed(seed):
    """The seed of a generation.

    Args:
        seed: an integer of 0 or more; if None, one is drawn from NumPy, so that `course_lib.reproducible` settles it.

    Returns:
        An integer.

    Raises:
        ValueError: if it is no integer, or negative.
    """
    seed = int(np.random.randint(2**31)) if seed is None else seed
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"Expected a seed of 0 or more; got {seed!r}.")
    return int(seed)


def pad_rows(rows, longest):
    """Token ids as a batch, padded on the right to a length that serves all lengths near it: a power of two.

    Args:
        rows: B lists of integers.
        longest: the highest length.

    Returns:
        A dict of int32 arrays (B, T): `token_ids`, and `padding_mask` (1 = a token).
    """
    length = min(max(16, 1 << (max(map(len, rows)) - 1).bit_length()), longest)
    return pad(rows, 0, length)


def is_seen(rows, vocabulary_size):
    """Which tokens texts have.

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
    """What is known of a text while its tokens come one by one.

    Args:
        decode: from token ids to the text.
        stop: strings; the text ends before the first of them that it has in full.

    Attributes:
        text: the text so far.
        is_stopped: whether it has had one of the strings.
    """

    def __init__(self, decode, stop=()):
        self.decode, self.stop = decode, stop
        self.text, self.is_stopped, self.shown = "", False, 0

    def update(self, ids):
        """Reads the text again.

        Args:
            ids: all of its tokens so far.
        """
        if self.is_stopped:
            return
        self.text = self.decode(ids)
        ends = [(self.text.index(stop) + len(stop), -len(stop)) for stop in self.stop if stop in self.text]
        if ends:
            end, length = min(ends)
            self.text, self.is_stopped = self.text[: end + length], True

    def new(self, is_last=False):
        """What of the text can no longer change, and was not returned before.

        A character of several tokens is held back until it is whole, and so is what may become a string to stop at.

        Args:
            is_last: whether no token follows.

        Returns:
            A string.
        """
        settled = self.text
        if not (is_last or self.is_stopped):
            settled = settled.rstrip("\ufffd")  # what `decode` makes of a part of a character
            parts = (stop[:length] for stop in self.stop for length in range(1, len(stop)))
            settled = settled[: len(settled) - max((len(part) for part in parts if settled.endswith(part)), default=0)]
        piece, self.shown = settled[self.shown :], max(self.shown, len(settled))
        return piece

    def stream(self, runs):
        """The text in pieces.

        Args:
            runs: an iterator of lists with one list of token ids, all so far, as `Generator.run` yields them.

        Yields:
            Strings, none of them empty.
        """
        for (ids,) in runs:
            self.update(ids)
            if piece := self.new():
                yield piece
        if piece := self.new(is_last=True):
            yield piece
