"""Texts to train a tokenizer on, from memory or from files."""

import os
import pathlib


def read_text(path):
    """Reads a text file.

    Args:
        path: of the file.

    Returns:
        A string.

    Raises:
        ValueError: if the file is not UTF-8.
        OSError: if it cannot be read.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected text in UTF-8; {path} is not, at byte {error.start}.") from error


def training_texts(texts):
    """Yields the texts that a tokenizer is to learn from. Strings are texts, and `pathlib.Path` objects are files.

    Args:
        texts: a string or a path, or any iterable of them.

    Yields:
        Strings.

    Raises:
        ValueError: if a file is not UTF-8, or the only string is the path of a file.
    """
    if isinstance(texts, str) and len(texts) < 4096 and "\n" not in texts and os.path.isfile(texts):
        raise ValueError(
            f"Expected texts; got {texts!r}, the path of a file. To read it, pass pathlib.Path({texts!r})."
        )
    for text in [texts] if isinstance(texts, str | os.PathLike) else texts:
        yield read_text(text) if isinstance(text, os.PathLike) else text
