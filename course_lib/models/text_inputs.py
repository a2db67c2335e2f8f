"""Raw text as models take it in place of arrays, in every container that Keras users have it in.

Shapes: n texts.
"""

import collections.abc
import itertools

import numpy as np


def raw_text(x):
    """Reads raw text from whatever holds it.

    Args:
        x: what a model was given. Raw text is a string; or n strings; or n lists of words, or n pairs of strings. They
            are in a list, a tuple, any other sequence, an array of NumPy or pandas, or a tensor. A string may be bytes
            in UTF-8.

    Returns:
        A string, or a list of n strings or of n lists of strings. None if x does not hold raw text.

    Raises:
        ValueError: if bytes are not UTF-8.
    """
    if isinstance(x, str | bytes):
        return _decoded(x)
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    if getattr(getattr(x, "dtype", None), "name", None) == "string":  # a tensor, or an array of pandas
        x = x.numpy().tolist() if hasattr(x, "numpy") else list(x)
    elif kind in ("U", "T", "S", "O"):
        x = x.tolist()
        if kind == "O" and not x:
            return None
    elif not isinstance(x, collections.abc.Sequence):
        return None
    first = x[0] if len(x) else ""
    if isinstance(first, str | bytes):
        return [_decoded(text) for text in x]
    if isinstance(first, list | tuple) and all(isinstance(word, str | bytes) for word in first):
        return [[_decoded(word) for word in row] if isinstance(row, list | tuple) else row for row in x]
    return None


def _decoded(text):
    if not isinstance(text, bytes):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected bytes in UTF-8; got {text[:40]!r}. Decode them first.") from error


def is_data_set_of_text(x):
    """Tells a `tf.data.Dataset` of strings from other input.

    Args:
        x: what a model was given.

    Returns:
        A boolean.
    """
    spec = getattr(x, "element_spec", None)
    spec = spec[0] if isinstance(spec, tuple) else spec
    return getattr(getattr(spec, "dtype", None), "name", None) == "string"


def read_data_set(x):
    """Reads a `tf.data.Dataset` of strings into memory.

    Args:
        x: a data set of texts, of texts and labels, or of texts, labels and weights. Its elements are single texts or
            batches.

    Returns:
        The texts, the labels and the weights, each a list, or None if there is none; and the size of a batch, or None
        if the elements are single texts.

    Raises:
        ValueError: if the data set never ends, or bytes are not UTF-8.
    """
    if x.cardinality() == -1:  # `tf.data.INFINITE_CARDINALITY`
        raise ValueError("Expected a data set of texts that ends, since it is read as a whole; use `take` on this one.")
    elements = [element if isinstance(element, tuple) else (element,) for element in x.as_numpy_iterator()]
    sizes = [len(element[0]) for element in elements if np.ndim(element[0])]
    if sizes:
        columns = [list(itertools.chain.from_iterable(column)) for column in zip(*elements, strict=True)]
    else:
        columns = [list(column) for column in zip(*elements, strict=True)]
    texts, labels, weights = [*columns, None, None, None][:3]
    return raw_text([np.asarray(text).tolist() for text in texts or ()]), labels, weights, max(sizes, default=None)


def labels_of(y):
    """Reads labels, names or numbers.

    Args:
        y: n labels, or n sequences of them, in any of the containers of `raw_text`; or None.

    Returns:
        A list, or None.
    """
    if y is None:
        return None
    names = raw_text(y)
    if names is not None:
        return names
    return list(y) if isinstance(y, list | tuple) else np.asarray(y).tolist()


def as_texts(x):
    """Makes a list of raw texts.

    Args:
        x: a string, or n strings in any of the containers of `raw_text`.

    Returns:
        A list of n strings.

    Raises:
        ValueError: if there is no text, or one is not a string.
    """
    texts = raw_text(x)
    texts = [texts] if isinstance(texts, str) else list(x) if texts is None else texts
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


def check_max_length(max_length, longest):
    """Checks the number of tokens to which raw texts are cut.

    Args:
        max_length: an integer, or None.
        longest: the number of positions of the model.

    Raises:
        ValueError: if it is not from 1 to the number of positions.
    """
    if max_length is not None and not 0 < max_length <= longest:
        raise ValueError(f"Expected a max_length from 1 to {longest}, the number of positions; got {max_length}.")
