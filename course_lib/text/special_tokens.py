"""Special tokens written in a text are the special tokens: both tokenizers first cut a text at them."""

import functools
import re


def split_special(text, tokens):
    """Cuts a text at its special tokens.

    Args:
        text: a string.
        tokens: a tuple of the special tokens.

    Returns:
        A list of strings, which together are the text; those at odd places are special tokens.

    Raises:
        ValueError: if `text` is no string.
    """
    if not isinstance(text, str):
        raise ValueError(f"Expected a text of type str; got {text!r} of type {type(text).__name__}.")
    return _pattern(tokens).split(text)


@functools.cache
def _pattern(tokens):
    return re.compile("(" + "|".join(map(re.escape, tokens)) + ")")
