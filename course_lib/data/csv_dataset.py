"""Reads your own labelled texts from a CSV file, and holds some of them out."""

import csv
import hashlib
import numbers
import pathlib

from course_lib.data.splits import by_hash


def read_csv(path, text="text", label="label", delimiter=","):
    """Reads a CSV file whose first line names its columns.

    Args:
        path: path of the file, in UTF-8.
        text: name of the column that holds the texts.
        label: name of the column that holds the labels.
        delimiter: character between two columns.

    Returns:
        Two lists of n strings: the texts and their labels.

    Raises:
        ValueError: if a column is missing, there are no rows, a row has no text or no label, or the file is not in
            UTF-8.
        OSError: if the file cannot be read.
    """
    path = pathlib.Path(path)
    texts, labels = [], []
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:  # with or without a byte order mark
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = reader.fieldnames or []
            if missing := [name for name in (text, label) if name not in columns]:
                raise ValueError(
                    f"Expected the columns {text!r} and {label!r} in {path}; {missing} not among {columns}."
                )
            for row in reader:
                if not (row[text] or "").strip() or not (row[label] or "").strip():
                    raise ValueError(
                        f"Expected a text and a label in each row of {path}; the row that ends in line "
                        f"{reader.line_num} lacks one."
                    )
                texts.append(row[text])
                labels.append(row[label].strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected text in UTF-8 in {path}; got something else: {error}.") from error
    if not texts:
        raise ValueError(f"Expected at least one row below the names of the columns in {path}; got none.")
    return texts, labels


def train_test_split(texts, labels, fraction=0.2):
    """Splits labelled texts in two, by the SHA-256 of the text. Equal texts always end up in the same part.

    Each class gives the same fraction of its texts (a stratified split), as far as single labels tell classes apart.

    Args:
        texts: n strings, or n lists of words.
        labels: n labels. Only names and numbers are classes; lists of them are not.
        fraction: fraction of the distinct texts that is held out, in (0, 1).

    Returns:
        Two pairs (texts, labels) of lists, the training part and the held-out part. Both keep the original order.

    Raises:
        ValueError: if the fraction is not in (0, 1), the numbers of labels and texts differ, or one part would be
            empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a fraction between 0 and 1; got {fraction}.")
    if len(texts) != len(labels):
        raise ValueError(f"Expected a label for each of {len(texts)} texts; got {len(labels)}.")
    keys = [text if isinstance(text, str) else "\0".join(text) for text in texts]
    class_of = {}  # of each distinct text, the label that it has first
    for key, label in zip(keys, labels, strict=True):
        class_of.setdefault(key, label if isinstance(label, str | numbers.Number) else None)
    place = {}  # of each text within its class, from 0 to 1; a class of few texts takes part by chance
    for name in dict.fromkeys(class_of.values()):
        order = by_hash([key for key in class_of if class_of[key] == name])
        place |= {key: (rank + _uniform(key)) / len(order) for rank, key in enumerate(order)}
    held_out = set(sorted(place, key=place.get)[: round(fraction * len(place))])
    if not held_out or len(held_out) == len(class_of):
        raise ValueError(
            f"Expected texts for both parts; got {len(class_of)} different ones, and a fraction of {fraction}."
        )
    parts = ([], []), ([], [])
    for key, text, label in zip(keys, texts, labels, strict=True):
        part = parts[key in held_out]
        part[0].append(text)
        part[1].append(label)
    return parts


def _uniform(text):
    """A number between 0 and 1 that depends on a text, and not on its rank in `by_hash`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[8:16]) / 2**64
