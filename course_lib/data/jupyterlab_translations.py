"""Real parallel text: the interface of JupyterLab and its extensions in English, Chinese and French.

The texts are those of JupyterLab's language packs, translated by volunteers. Splits are drawn by the SHA-256 of the
English text, not by a seed. `data/README.md` has the card.
"""

import dataclasses
import json
import re

from course_lib import assets
from course_lib.data.splits import Splits, by_hash

LANGUAGES = {"Chinese": "jupyterlab-chinese", "French": "jupyterlab-french"}  # and the asset of each
TOKENIZERS = {"Chinese": "zh", "French": "13a"}  # by which sacrebleu cuts each into words, for BLEU
_CONTEXT = "\x04"  # gettext writes "context\x04text"


@dataclasses.dataclass(frozen=True)
class Text:
    """An English text and what it became.

    Attributes:
        english: a string.
        translations: a string for each of `LANGUAGES`, in this order.
        place: where the packs have it: the name of the file and gettext's key.
    """

    english: str
    translations: tuple
    place: str

    @property
    def key(self):
        """The letters, digits and placeholders of the English text, in lower case: what makes two texts one."""
        return " ".join(re.findall(r"\w+", self.english.lower().replace("_", " ")))

    def __getitem__(self, language):
        return self.translations[[*LANGUAGES].index(language)]


def texts():
    """All that the packs translate into every language, in the order of files and places.

    Left out is what is empty or has no letter in English, and what a language leaves as it is in English, as it does
    with names. Of a text with a plural, the first form of each language is taken; white space becomes a single space.

    Returns:
        A list of `Text`, in which the same English text may come more than once, in other places.

    Raises:
        ValueError: if a source gave another file, as `assets.fetch` says.
        ConnectionError: if the packs must be downloaded and no source is in reach.
    """
    found = []
    for file in sorted(assets.registry()[LANGUAGES["Chinese"]]["files"]):
        packs = [json.loads((assets.fetch(asset) / file).read_text("utf-8")) for asset in LANGUAGES.values()]
        for place in packs[0]:
            if place and all(place in pack for pack in packs):  # "" holds what gettext says of the file
                english, *translations = (
                    " ".join(text.split()) for text in (place.split(_CONTEXT)[-1], *(pack[place][0] for pack in packs))
                )
                if re.search(r"[^\W\d_]", english) and all(text not in ("", english) for text in translations):
                    found.append(Text(english, tuple(translations), f"{file} {place}"))
    return found


def jupyterlab(longest=60, test=400, validation=200):
    """The texts in three parts. Those that differ in case and punctuation alone count as one, and the first is kept.

    The test split has the lowest SHA-256 of `Text.key`, the validation split the next: an English text is in one split,
    for all languages.

    Args:
        longest: how many characters of English a text may have.
        test: how many texts are for the final figure.
        validation: how many are for choosing among models.

    Returns:
        `Splits` of three lists of `Text` that share no key.

    Raises:
        ValueError: if a source gave another file, as `assets.fetch` says.
        ConnectionError: if the packs must be downloaded and no source is in reach.
    """
    kept = {}
    for text in texts():
        if len(text.english) <= longest:
            kept.setdefault(text.key, text)
    order = by_hash(kept.values(), lambda text: text.key)
    held_out = test + validation
    return Splits(train=order[held_out:], validation=order[test:held_out], test=order[:test])


def pairs(chosen, languages=tuple(LANGUAGES)):
    """Texts to be translated: sources such as "French: Close all tabs", and their translations.

    Args:
        chosen: n `Text`.
        languages: m of `LANGUAGES`, into which each is translated.

    Returns:
        Two lists of n · m strings, sources and targets: first all texts in the first language.

    Raises:
        ValueError: if a language is unknown.
    """
    if wrong := [language for language in languages if language not in LANGUAGES]:
        raise ValueError(f"Expected languages of {[*LANGUAGES]}; got {wrong}.")
    sources = [f"{language}: {text.english}" for language in languages for text in chosen]
    return sources, [text[language] for language in languages for text in chosen]
