"""Raw text as models take it in place of arrays.

Shapes: n texts.
"""

import numpy as np


def is_raw_text(x):
    """Tells raw text from what Keras takes.

    Args:
        x: what a model was given.

    Returns:
        Whether it is a string, a sequence of strings, or a sequence of sequences of strings (words, or pairs of texts).
    """
    if isinstance(x, str):
        return True
    if isinstance(x, list | tuple):
        first = x[0] if len(x) else ""
        return isinstance(first, str) or (isinstance(first, list | tuple) and all(isinstance(s, str) for s in first))
    if getattr(getattr(x, "dtype", None), "kind", None) in ("U", "T"):
        return True
    return getattr(getattr(x, "dtype", None), "kind", None) == "O" and len(x) > 0 and is_raw_text(list(x)[:1])


def as_texts(x):
    """Makes a list of raw texts.

    Args:
        x: a string, or a sequence of n strings.

    Returns:
        A list of n strings.

    Raises:
        ValueError: if there is no text, or one is no string.
    """
    texts = [x] if isinstance(x, str) else list(x)
    if not texts:
        raise ValueError("Expected at least one text; got none.")
    wrong = [index for index, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise ValueError(f"Expected strings; got a {type(texts[wrong[0]]).__name__} at {wrong[:5]}.")
    return texts


def check_lengths(lengths, longest):
    """Checks that a model has a position for each token.

    Args:
        lengths: integers (n,), the number of tokens of each text.
        longest: the number of positions.

    Raises:
        ValueError: if a text has more tokens than there are positions.
    """
    lengths = np.asarray(lengths)
    if lengths.max() > longest:
        raise ValueError(
            f"Expected texts of at most {longest} tokens; text {lengths.argmax()} has {lengths.max()}. "
            f"Pass max_length={longest} to cut longer texts."
        )
