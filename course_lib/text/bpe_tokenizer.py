"""Base class of the BPE tokenizers."""

import functools
import itertools
import json
from collections.abc import Callable

from course_lib.checkpoints.huggingface import tokenizers
from course_lib.checkpoints.presets import resolve_preset
from course_lib.text.bpe import apply_merges
from course_lib.text.packing import pad
from course_lib.text.special_tokens import TokenSplitter, place_tokens


class BPETokenizer:
    """Turns texts into token ids: splits them into words, spells each word in symbols, and merges these by rank.

    A subclass defines `special_token`, `split` (a text into words), `spell` (a word as symbols), `settings` (the
    content of `tokenizer_config.json`), and `read_files` (a function that reads the constructor's arguments from a
    folder). The special token is recognised where it is written in a text, and batches are padded with it.

    Args:
        vocabulary: the pieces in the order of their ids.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
            Tokens that are not in the vocabulary get the ids that follow it.
        required: pieces that the vocabulary must have.
        wanted: description of the required pieces, for the error message.

    Raises:
        ValueError: if the vocabulary lacks a required piece or has a piece twice, or if a merge's parts or result are
            not pieces.
    """

    special_token: str
    settings: dict
    read_files: Callable
    normalize = staticmethod(str)  # normalises a text, to find the added tokens that are marked "normalized"
    spell_token = staticmethod(str)  # spells an added token in the characters of the pieces

    def __init__(self, vocabulary, merges, added_tokens, required, wanted):
        vocabulary = tuple(vocabulary)
        self.merges = tuple((first, second) for first, second in merges)
        self._ids = {piece: index for index, piece in enumerate(vocabulary)}
        if missing := [piece for piece in required if piece not in self._ids]:
            raise ValueError(f"Expected a vocabulary with {wanted}; it lacks {missing[:5]}.")
        if len(self._ids) < len(vocabulary):
            raise ValueError(f"Expected each piece once; {len(vocabulary) - len(self._ids)} occur again.")
        for first, second in self.merges:
            if not {first, second, first + second} <= self._ids.keys():
                raise ValueError(f"Expected merges of pieces into a piece; got {first!r} and {second!r}.")
        self.special_token_id = self._ids[self.special_token]
        tokens, self._token_ids, self._new = place_tokens(vocabulary, (self.special_token,), added_tokens)
        self.vocabulary, self.added_tokens = vocabulary + self._new, tuple(tokens.values())
        self.special_ids = tuple(self._token_ids[token.content] for token in self.added_tokens if token.special)
        self._splitter = TokenSplitter(self.added_tokens, self.normalize)
        self._spelled = vocabulary + tuple(map(self.spell_token, self._new))
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._word_to_ids = functools.lru_cache(maxsize=1 << 18)(self._merged)

    @property
    def vocabulary_size(self):
        """V, the number of pieces, added tokens included."""
        return len(self.vocabulary)

    def split(self, text):
        """Splits a text without special tokens into words.

        Args:
            text: a string.

        Returns:
            An iterable of strings.
        """
        raise NotImplementedError

    def spell(self, word):
        """Spells a word in symbols, each of which is a piece of the vocabulary.

        Args:
            word: a string.

        Returns:
            An iterable of strings.
        """
        raise NotImplementedError

    def _merged(self, word):
        return tuple(self._ids[piece] for piece in apply_merges(self.spell(word), self._ranks))

    def encode(self, text):
        """Turns a text into token ids.

        Args:
            text: a string.

        Returns:
            A list of integers.

        Raises:
            ValueError: if `text` is not a string, or contains a lone surrogate.
        """
        ids = []
        for part, token in self._splitter(text):
            if token:
                ids.append(self._token_ids[part])
            else:
                ids.extend(itertools.chain.from_iterable(map(self._word_to_ids, self.split(part))))
        return ids

    def tokenize(self, text):
        """Splits a text into pieces.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if `text` is not a string, or contains a lone surrogate.
        """
        return [self.vocabulary[piece] for piece in self.encode(text)]

    def joined(self, ids, skip_special_tokens=False):
        """Joins the pieces of token ids, the first step of `decode`.

        Args:
            ids: token ids.
            skip_special_tokens: whether to leave out special tokens.

        Returns:
            A string.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        if outside := [int(piece) for piece in ids if not 0 <= piece < len(self.vocabulary)]:
            raise ValueError(f"Expected ids from 0 to {len(self.vocabulary) - 1}; got {outside[:5]}.")
        kept = (piece for piece in ids if not (skip_special_tokens and piece in self.special_ids))
        return "".join(self._spelled[piece] for piece in kept)

    def __call__(self, texts, max_length=None):
        """Turns texts into a batch for a model, padded to the longest row with the id of the special token.

        Args:
            texts: B strings; a single string is a batch of one.
            max_length: maximum number of tokens per row. Longer texts are cut at the end. By default nothing is cut.

        Returns:
            A dict of int32 arrays (B, T): `token_ids`, and `padding_mask` (1 = a token, 0 = padding).

        Raises:
            ValueError: if there is no text, a text is not a string or contains a lone surrogate, or `max_length` is
                below 1.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"Expected a max_length of 1 or more; got {max_length}.")
        rows = [self.encode(text)[:max_length] for text in ([texts] if isinstance(texts, str) else texts)]
        if not rows:
            raise ValueError("Expected at least one text; got none.")
        return pad(rows, self.special_token_id)

    @classmethod
    def from_preset(cls, preset):
        """Loads a tokenizer from what lies in a folder, in the layouts that the class knows.

        In Hugging Face's, that is `vocab.json` with `merges.txt`, `tokenizer.json`, or both. In OpenAI's, the first two
        have other names.

        Args:
            preset: a name in `data/weights/` or `data/registry.toml`, such as "gpt2-vocabulary"; the path of a folder;
                or "hf://owner/model" for a repository of the Hugging Face hub.

        Returns:
            A tokenizer of this class.

        Raises:
            ValueError: if there is no such preset, or it describes a different kind of tokenizer.
            OSError: if the preset must be downloaded and no source can be reached.
        """
        return cls(**cls.read_files(resolve_preset(preset)))

    def save(self, folder, names=tokenizers.PAIR_FILES):
        """Writes `vocab.json`, `merges.txt` and `tokenizer_config.json`, in Hugging Face's layout.

        Args:
            folder: path of the folder. It is created if it does not exist.
            names: names of the first two files, for another layout.
        """
        lines = ["#version: 0.2", *(f"{first} {second}" for first, second in self.merges)]
        contents = json.dumps(self._ids, ensure_ascii=False) + "\n", "\n".join(lines) + "\n"
        files = dict(zip(names, contents, strict=True))
        tokenizers.write(folder, files, self.settings, self.added_tokens, self._token_ids, self._new)
