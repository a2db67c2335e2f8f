"""Named entities in tweets: the training set of WNUT-2016, tagged word by word.

Splits are drawn by the SHA-256 of the tweet, not by a seed. `data/README.md` has the card.
"""

import dataclasses
import re

from course_lib import assets
from course_lib.data.splits import Splits, by_hash


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Tagged sentences, in the order of their SHA-256.

    Attributes:
        words: a list of n tuples of strings.
        labels: a list of n tuples, a label for each word: "B-person" where an entity begins, "I-person" where it goes
            on, "O" outside of entities.
    """

    words: list
    labels: list

    def __len__(self):
        return len(self.words)

    def __repr__(self):
        entities = sum(label.startswith("B-") for labels in self.labels for label in labels)
        return f"{len(self):,} sentences of {sum(map(len, self.words)):,} words, with {entities:,} entities"


class Entities(Splits):
    """Tagged sentences in three parts, each a `Split`."""

    @property
    def label_names(self):
        """Every label, a sorted list of strings."""
        splits = (self.train, self.validation, self.test)
        return sorted({label for split in splits for labels in split.labels for label in labels})


def tweets():
    """Tweets with ten types of entities (Strauss et al., 2016, https://aclanthology.org/W16-3919).

    A tweet that occurs twice is kept once, and one that occurs with different labels is left out. The 460 with the
    lowest SHA-256 are the test split, and the next 230 the validation split.

    Returns:
        `Entities`: 1,591 tweets to train, 230 to validate, 460 to test.

    Raises:
        ValueError: if a source gave another file, as `assets.fetch` says.
        ConnectionError: if the tweets must be downloaded and no source is in reach.
    """
    return _drawn((assets.fetch("wnut-2016") / "ner.txt").read_text(encoding="utf-8"), test=460, validation=230)


def _drawn(text, test, validation):
    """Splits sentences, of which each is lines of a word, a tab and a label, with an empty line between them."""
    found = {}
    for block in re.split(r"\n\s*\n", text):
        pairs = [line.split("\t") for line in block.splitlines() if line.strip()]
        if pairs:
            words, labels = zip(*pairs, strict=True)
            found.setdefault(words, set()).add(labels)
    kept = {words: labels.pop() for words, labels in found.items() if len(labels) == 1}
    order = by_hash(kept, " ".join)
    parts = {"test": order[:test], "validation": order[test : test + validation], "train": order[test + validation :]}
    return Entities(**{name: Split(part, [kept[words] for words in part]) for name, part in parts.items()})
