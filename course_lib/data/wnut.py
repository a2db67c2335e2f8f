"""Named entities in tweets: the training set of WNUT-2016, with a label for each word.

Splits are drawn by the SHA-256 of the tweet, not by a seed. `data/README.md` has the card.
"""

import dataclasses
import re

from course_lib import assets
from course_lib.data.splits import Splits, by_hash


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Tagged sentences, sorted by their SHA-256.

    Attributes:
        words: list of n tuples of strings.
        labels: list of n tuples with one label per word: "B-person" where an entity begins, "I-person" where it goes
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
        """All labels that occur, a sorted list of strings."""
        splits = (self.train, self.validation, self.test)
        return sorted({label for split in splits for labels in split.labels for label in labels})


def tweets():
    """Reads tweets with ten types of entities (Strauss et al., 2016, https://aclanthology.org/W16-3919).

    A repeated tweet is kept once, and one that occurs with different labels is left out. The 460 with the lowest
    SHA-256 go to the test split, and the next 230 to the validation split.

    Returns:
        `Entities`: 1,591 tweets to train, 230 to validate, 460 to test.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the tweets must be downloaded and no source can be reached.
    """
    return _drawn((assets.fetch("wnut-2016") / "ner.txt").read_text(encoding="utf-8"), test=460, validation=230)


def _drawn(text, test, validation):
    """Reads and splits sentences. Each line is a word, a tab and a label; an empty line ends a sentence."""
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
