"""BPE on characters, as OpenAI's first GPT uses it: BERT's words in lower case, spelled in characters, merged by rank.

The algorithm is that of Sennrich et al. (2016, https://arxiv.org/abs/1508.07909): the last character of a word carries
a mark, so that pieces which end a word are others than those inside one. Unlike bytes, a character may be unknown; and
case, accents and spaces do not come back. The variant is that of the `tokenizers` library, to whose ids the tests
compare ours.
"""

import functools
import itertools
import json
import pathlib

import numpy as np

from course_lib.text.byte_pair import apply_merges
from course_lib.text.special import split_special
from course_lib.text.word_piece import Normalizer

UNKNOWN_TOKEN = "<unk>"
WORD_END = "</w>"


class CharacterPairTokenizer:
    """Turns texts into token ids as GPT was trained on them (Radford et al., 2018).

    "<unk>", written in a text, is the unknown token. There is no token that ends a text.

    Args:
        vocabulary: the pieces in the order of their ids; those that end a word end with "</w>".
        merges: pairs of pieces, in the order in which they were learned.

    Raises:
        ValueError: if the unknown token is missing in the vocabulary, a piece occurs twice in it, or a merge is not one
            of pieces into a piece.

    Example:
        >>> merges = [("d", "o"), ("do", "g</w>")]
        >>> tokenizer = CharacterPairTokenizer(["<unk>", "d", "o", "g", "s</w>", "g</w>", "do", "dog</w>"], merges)
        >>> tokenizer.tokenize("Dog dogs")
        ['dog</w>', 'do', 'g', 's</w>']
        >>> tokenizer.decode([7, 6, 3, 4])
        'dog dogs'
    """

    end_token_id = None

    def __init__(self, vocabulary, merges):
        self.vocabulary = tuple(vocabulary)
        self.merges = tuple((first, second) for first, second in merges)
        self._ids = {piece: index for index, piece in enumerate(self.vocabulary)}
        if UNKNOWN_TOKEN not in self._ids:
            raise ValueError(f"Expected a vocabulary with {UNKNOWN_TOKEN}; it lacks it.")
        if len(self._ids) < len(self.vocabulary):
            raise ValueError(f"Expected each piece once; {len(self.vocabulary) - len(self._ids)} occur again.")
        for first, second in self.merges:
            if not {first, second, first + second} <= self._ids.keys():
                raise ValueError(f"Expected merges of pieces into a piece; got {first!r} and {second!r}.")
        self.unknown_token_id = self._ids[UNKNOWN_TOKEN]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._normalizer = Normalizer()
        self._word_to_ids = functools.lru_cache(maxsize=1 << 18)(self._merged)

    @property
    def vocabulary_size(self):
        """V, the number of pieces."""
        return len(self.vocabulary)

    def _merged(self, word):
        spelled = (*word[:-1], word[-1] + WORD_END)
        known = (symbol if symbol in self._ids else UNKNOWN_TOKEN for symbol in spelled)
        return tuple(self._ids[piece] for piece in apply_merges(known, self._ranks))

    def encode(self, text):
        """The ids of a text.

        Args:
            text: a string.

        Returns:
            A list of integers.

        Raises:
            ValueError: if `text` is no string, or holds a lone surrogate.
        """
        ids = []
        for part in split_special(text, (UNKNOWN_TOKEN,)):
            if part == UNKNOWN_TOKEN:
                ids.append(self.unknown_token_id)
            else:
                ids.extend(itertools.chain.from_iterable(map(self._word_to_ids, self._normalizer.words(part))))
        return ids

    def tokenize(self, text):
        """The pieces of a text.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if `text` is no string, or holds a lone surrogate.
        """
        return [self.vocabulary[piece] for piece in self.encode(text)]

    def decode(self, ids, skip_special_tokens=False):
        """The text of some ids, with a space between words and before each punctuation mark.

        Args:
            ids: integers.
            skip_special_tokens: whether "<unk>" is left out.

        Returns:
            A string.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        outside = [int(piece) for piece in ids if not 0 <= piece < len(self.vocabulary)]
        if outside:
            raise ValueError(f"Expected ids from 0 to {len(self.vocabulary) - 1}; got {outside[:5]}.")
        kept = (piece for piece in ids if not (skip_special_tokens and piece == self.unknown_token_id))
        return "".join(self.vocabulary[piece] for piece in kept).removesuffix(WORD_END).replace(WORD_END, " ")

    def __call__(self, texts, max_length=None):
        """Texts as a batch for a model, padded to its longest row with the id of "<unk>".

        Args:
            texts: B strings; a single string is a batch of one.
            max_length: at most so many tokens a row; the rest of a longer text is cut off. Nothing is cut by default.

        Returns:
            A dict of int32 arrays (B, T): `token_ids`, and `padding_mask` (1 = a token, 0 = padding).

        Raises:
            ValueError: if there is no text, a text is no string or holds a lone surrogate, or `max_length` is below 1.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"Expected a max_length of 1 or more; got {max_length}.")
        rows = [self.encode(text)[:max_length] for text in ([texts] if isinstance(texts, str) else texts)]
        if not rows:
            raise ValueError("Expected at least one text; got none.")
        shape = len(rows), max(map(len, rows))
        batch = {"token_ids": np.full(shape, self.unknown_token_id, "int32"), "padding_mask": np.zeros(shape, "int32")}
        for index, row in enumerate(rows):
            batch["token_ids"][index, : len(row)] = row
            batch["padding_mask"][index, : len(row)] = 1
        return batch

    @classmethod
    def from_preset(cls, preset):
        """The tokenizer of a folder in Hugging Face's layout: `vocab.json` and `merges.txt`, or else `tokenizer.json`.

        Args:
            preset: path of the folder.

        Returns:
            A `CharacterPairTokenizer`.

        Raises:
            ValueError: if the folder has no tokenizer, or one of another kind.
        """
        from course_lib.checkpoints import huggingface

        return cls(**huggingface.read_character_pair(preset))

    def save(self, folder):
        """Writes `vocab.json`, `merges.txt` and `tokenizer_config.json`, as Hugging Face lays them out.

        Args:
            folder: path of an existing folder.
        """
        folder = pathlib.Path(folder)
        (folder / "tokenizer.json").unlink(missing_ok=True)  # which transformers would prefer, if one was there before
        (folder / "vocab.json").write_text(json.dumps(self._ids, ensure_ascii=False) + "\n", encoding="utf-8")
        lines = ["#version: 0.2", *(f"{first} {second}" for first, second in self.merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = {"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": UNKNOWN_TOKEN}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
