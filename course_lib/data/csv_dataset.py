"""Reads your own labelled texts from a CSV file, and holds some of them out."""

import csv
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

    Args:
        texts: n strings.
        labels: n labels.
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
    order = by_hash(set(texts))
    held_out = set(order[: round(fraction * len(order))])
    if not held_out or len(held_out) == len(order):
        raise ValueError(
            f"Expected texts for both parts; got {len(order)} different ones, and a fraction of {fraction}."
        )
    parts = ([], []), ([], [])
    for each, label in zip(texts, labels, strict=True):
        part = parts[each in held_out]
        part[0].append(each)
        part[1].append(label)
    return parts
