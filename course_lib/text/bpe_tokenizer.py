"""What tokenizers have in common whose words are spelled in symbols, which merges then join."""

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
    """Turns texts into token ids: cuts them into words, spells each in symbols, and merges these by rank.

    A subclass says what the words of a text are, `split`, how one is spelled, `spell`, what is written to
    `tokenizer_config.json`, `settings`, and which function reads the arguments of its constructor from a folder,
    `read_files`. Its special token, written in a text, is the special token, and batches are padded with it.

    Args:
        vocabulary: the pieces in the order of their ids.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken`, or strings, which are found in a text before it is cut into words.
            Those that the vocabulary lacks get the ids after it.
        required: pieces without which nothing can be encoded.
        wanted: these, in words.

    Raises:
        ValueError: if one of these is missing in the vocabulary, a piece occurs twice in it, or a merge is not one of
            pieces into a piece.
    """

    special_token: str
    settings: dict
    read_files: Callable
    normalize = staticmethod(str)  # a text, before tokens are looked for that were added as "normalized"
    spell_token = staticmethod(str)  # an added token, in the characters of the pieces

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
        """The words of a text without special tokens.

        Args:
            text: a string.

        Returns:
            An iterable of strings.
        """
        raise NotImplementedError

    def spell(self, word):
        """The symbols of a word, each of them a piece.

        Args:
            word: a string.

        Returns:
            An iterable of strings.
        """
        raise NotImplementedError

    def _merged(self, word):
        return tuple(self._ids[piece] for piece in apply_merges(self.spell(word), self._ranks))

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
        for part, token in self._splitter(text):
            if token:
                ids.append(self._token_ids[part])
            else:
                ids.extend(itertools.chain.from_iterable(map(self._word_to_ids, self.split(part))))
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

    def joined(self, ids, skip_special_tokens=False):
        """The pieces of some ids, one after the other: what `decode` begins with.

        Args:
            ids: integers.
            skip_special_tokens: whether special tokens are left out.

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
        """Texts as a batch for a model, padded to its longest row with the id of the special token.

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
        return pad(rows, self.special_token_id)

    @classmethod
    def from_preset(cls, preset):
        """Loads a tokenizer in Hugging Face's layout: `vocab.json` with `merges.txt`, or else `tokenizer.json`.

        Args:
            preset: a name in `data/weights/` or `data/registry.toml`, such as "gpt2-vocabulary", the path of a folder,
                or "hf://owner/model" for a repository of the Hugging Face hub.

        Returns:
            A tokenizer of this class.

        Raises:
            ValueError: if there is no such preset, or it describes another kind of tokenizer.
            OSError: if the preset must be downloaded and no source is in reach.
        """
        return cls(**cls.read_files(resolve_preset(preset)))

    def save(self, folder):
        """Writes `vocab.json`, `merges.txt` and `tokenizer_config.json`, as Hugging Face lays them out.

        Args:
            folder: path of the folder. It is made if need be.
        """
        lines = ["#version: 0.2", *(f"{first} {second}" for first, second in self.merges)]
        files = {
            "vocab.json": json.dumps(self._ids, ensure_ascii=False) + "\n",
            "merges.txt": "\n".join(lines) + "\n",
        }
        tokenizers.write(folder, files, self.settings, self.added_tokens, self._token_ids, self._new)
