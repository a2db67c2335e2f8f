"""Real parallel text: the user interface of JupyterLab and its extensions in English, Chinese and French.

The texts are those of JupyterLab's language packs, translated by volunteers. Splits are drawn by the SHA-256 of the
English text, not by a seed. `data/README.md` has the card.
"""

import dataclasses
import json
import re

from course_lib import assets
from course_lib.data.splits import Splits, by_hash

LANGUAGES = {"Chinese": "jupyterlab-chinese", "French": "jupyterlab-french"}  # language → asset
TOKENIZERS = {"Chinese": "zh", "French": "13a"}  # sacrebleu's tokenizer for each language, for BLEU
_CONTEXT = "\x04"  # gettext writes "context\x04text"


@dataclasses.dataclass(frozen=True)
class Text:
    """An English text and its translations.

    Attributes:
        english: a string.
        translations: a tuple with one string for each of `LANGUAGES`, in the same order.
        place: where the text is in the language packs: the name of the file and gettext's key.
    """

    english: str
    translations: tuple
    place: str

    @property
    def key(self):
        """The words, numbers and placeholders of the English text, in lower case. Equal keys mean equal texts."""
        return " ".join(re.findall(r"\w+", self.english.lower().replace("_", " ")))

    def __getitem__(self, language):
        return self.translations[[*LANGUAGES].index(language)]


def texts():
    """Reads all texts that are translated into every language, in the order of the files and their entries.

    A text is left out if its English has no letter, if a translation is empty, or if a translation equals the English
    text, as with names. If a text has plural forms, the first form of each language is used. Runs of white space become
    a single space.

    Returns:
        A list of `Text`. The same English text may occur several times, in different places of the interface.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the packs must be downloaded and no source can be reached.
    """
    found = []
    for file in sorted(assets.registry()[LANGUAGES["Chinese"]]["files"]):
        packs = [json.loads((assets.fetch(asset) / file).read_text("utf-8")) for asset in LANGUAGES.values()]
        for place in packs[0]:
            if place and all(place in pack for pack in packs):  # the key "" holds gettext's header
                english, *translations = (
                    " ".join(text.split()) for text in (place.split(_CONTEXT)[-1], *(pack[place][0] for pack in packs))
                )
                if re.search(r"[^\W\d_]", english) and all(text not in ("", english) for text in translations):
                    found.append(Text(english, tuple(translations), f"{file} {place}"))
    return found


def jupyterlab(longest=60, test=400, validation=200):
    """Splits the texts in three parts. Of texts that differ only in case and punctuation, the first is kept.

    The test split gets the texts with the lowest SHA-256 of `Text.key`, and the validation split the next. So an
    English text is in the same split for all languages.

    Args:
        longest: maximum number of characters of the English text.
        test: number of texts in the test split.
        validation: number of texts in the validation split.

    Returns:
        `Splits` of three lists of `Text` that share no key.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the packs must be downloaded and no source can be reached.
    """
    kept = {}
    for text in texts():
        if len(text.english) <= longest:
            kept.setdefault(text.key, text)
    order = by_hash(kept.values(), lambda text: text.key)
    held_out = test + validation
    return Splits(train=order[held_out:], validation=order[test:held_out], test=order[:test])


def pairs(chosen, languages=tuple(LANGUAGES)):
    """Makes translation pairs: sources such as "French: Close all tabs", and their translations as targets.

    Args:
        chosen: the texts, n `Text`.
        languages: m of `LANGUAGES`, the languages to translate into.

    Returns:
        Two lists of n · m strings, sources and targets. All texts in the first language come first.

    Raises:
        ValueError: if a language is unknown.
    """
    if wrong := [language for language in languages if language not in LANGUAGES]:
        raise ValueError(f"Expected languages of {[*LANGUAGES]}; got {wrong}.")
    sources = [f"{language}: {text.english}" for language in languages for text in chosen]
    return sources, [text[language] for language in languages for text in chosen]
