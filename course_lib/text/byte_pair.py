"""Byte-level BPE as GPT-2 uses it: cut a text into words, spell them in bytes, merge by rank.

The algorithm is that of OpenAI's GPT-2 (Radford et al., 2019, https://github.com/openai/gpt-2, `encoder.py`), after
byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909). Since any text is bytes, no text is
unknown, and every text comes back as it was. The tests compare ids and merges to those of the `tokenizers` library.
"""

import collections
import functools
import heapq
import itertools
import json
import pathlib

import numpy as np

from course_lib.text.merges import learn_merges
from course_lib.text.special import split_special

END_TOKEN = "<|endoftext|>"
# A contraction's end; letters, digits or other signs, each with the space before them; white space, of which the last
# one is left to the word that follows. Nothing is ever merged across two of these.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_others = itertools.count(0x100)
# The printable character that stands for each byte, so that pieces can be read: itself if it is one, else the next from
# U+0100 on. A space becomes "Ġ", a line break "Ċ".
BYTE_CHARACTERS = "".join(chr(byte if byte in _PRINTABLE else next(_others)) for byte in range(0x100))
_TO_CHARACTERS = dict(enumerate(BYTE_CHARACTERS))
_TO_BYTES = {ord(character): byte for byte, character in enumerate(BYTE_CHARACTERS)}


def split_words(text):
    """The words of a text, by GPT-2's regular expression `PATTERN`.

    Args:
        text: a string.

    Returns:
        A list of strings, which together are the text: words with the space before them, and runs of white space.
    """
    return _pattern().findall(text)


@functools.cache
def _pattern():
    import regex  # Python's own `re` does not know \p{L}, all letters, and \p{N}, all digits

    return regex.compile(PATTERN)


def spell(word):
    """The bytes of a word in UTF-8, each as its printable character.

    Args:
        word: a string.

    Returns:
        A string as long as there are bytes.
    """
    return word.encode().decode("latin-1").translate(_TO_CHARACTERS)


def apply_merges(symbols, ranks):
    """Merges the pair of neighbours with the lowest rank, the leftmost of several, until no pair has a rank.

    A queue of the pairs that can be merged makes this n log n in the number of symbols: GPT-2's own loop looks for the
    lowest rank among all pairs each time, which a long word, such as a page of Chinese, makes slow.

    Args:
        symbols: strings.
        ranks: a dict from a pair of symbols to the place of its merge among all merges.

    Returns:
        A list of strings, which together are the same.
    """
    symbols = [*symbols, None]  # None is the neighbour of the first and of the last, and what merging leaves behind
    before, after = [-1, *range(len(symbols) - 1)], [*range(1, len(symbols)), 0]
    queue = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        rank, left = heapq.heappop(queue)
        right = after[left]
        if ranks.get((symbols[left], symbols[right])) != rank:
            continue  # one of the two has been merged with another since
        symbols[left], symbols[right] = symbols[left] + symbols[right], None
        after[left] = after[right]
        before[after[left]] = left
        for place in (before[left], left):
            pair = symbols[place], symbols[after[place]]
            if pair in ranks:
                heapq.heappush(queue, (ranks[pair], place))
    return [symbol for symbol in symbols if symbol is not None]


class BytePairTokenizer:
    """Turns texts into token ids as GPT-2 was trained on them, and back, byte for byte.

    The special token "<|endoftext|>", written in a text, is the special token.

    Args:
        vocabulary: the pieces in the order of their ids, in the characters of `BYTE_CHARACTERS`.
        merges: pairs of pieces, in the order in which they were learned.

    Raises:
        ValueError: if the special token or a byte is missing in the vocabulary, a piece occurs twice in it or has
            characters that stand for no byte, or a merge is not one of pieces into a piece.

    Example:
        >>> tokenizer = BytePairTokenizer.from_preset("gpt2-vocabulary")
        >>> tokenizer.tokenize("Hello, my dog is cute")
        ['Hello', ',', 'Ġmy', 'Ġdog', 'Ġis', 'Ġcute']
        >>> tokenizer.decode(tokenizer.encode("naïve ☕"))
        'naïve ☕'
    """

    def __init__(self, vocabulary, merges):
        self.vocabulary = tuple(vocabulary)
        self.merges = tuple((first, second) for first, second in merges)
        self._ids = {piece: index for index, piece in enumerate(self.vocabulary)}
        missing = [piece for piece in (END_TOKEN, *BYTE_CHARACTERS) if piece not in self._ids]
        if missing:
            raise ValueError(f"Expected a vocabulary with {END_TOKEN} and all 256 bytes; it lacks {missing[:5]}.")
        if len(self._ids) < len(self.vocabulary):
            raise ValueError(f"Expected each piece once; {len(self.vocabulary) - len(self._ids)} occur again.")
        if foreign := set("".join(self.vocabulary)) - set(BYTE_CHARACTERS):
            raise ValueError(f"Expected pieces in the characters that stand for bytes; got {sorted(foreign)[:5]}.")
        for first, second in self.merges:
            if not {first, second, first + second} <= self._ids.keys():
                raise ValueError(f"Expected merges of pieces into a piece; got {first!r} and {second!r}.")
        self.end_token_id = self._ids[END_TOKEN]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._word_to_ids = functools.lru_cache(maxsize=1 << 18)(self._merged)

    @property
    def vocabulary_size(self):
        """V, the number of pieces."""
        return len(self.vocabulary)

    def _merged(self, word):
        return tuple(self._ids[piece] for piece in apply_merges(spell(word), self._ranks))

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
        for part in _parts(text):
            if part == END_TOKEN:
                ids.append(self.end_token_id)
            else:
                ids.extend(itertools.chain.from_iterable(map(self._word_to_ids, split_words(part))))
        return ids

    def tokenize(self, text):
        """The pieces of a text, each byte as its printable character: "Ġ" is a space.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if `text` is no string, or holds a lone surrogate.
        """
        return [self.vocabulary[piece] for piece in self.encode(text)]

    def decode(self, ids, skip_special_tokens=False):
        """The text of some ids; `decode(encode(text))` is the text.

        Args:
            ids: integers.
            skip_special_tokens: whether "<|endoftext|>" is left out.

        Returns:
            A string. Bytes that are no UTF-8, as when a character is cut in two, become "\ufffd".

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        outside = [int(piece) for piece in ids if not 0 <= piece < len(self.vocabulary)]
        if outside:
            raise ValueError(f"Expected ids from 0 to {len(self.vocabulary) - 1}; got {outside[:5]}.")
        kept = (piece for piece in ids if not (skip_special_tokens and piece == self.end_token_id))
        spelled = "".join(self.vocabulary[piece] for piece in kept)
        return spelled.translate(_TO_BYTES).encode("latin-1").decode(errors="replace")

    def __call__(self, texts, max_length=None):
        """Texts as a batch for a model, padded to its longest row with the id of "<|endoftext|>".

        Args:
            texts: B strings; a single string is a batch of one.
            max_length: at most so many tokens a row; the rest of a longer text is cut off. Nothing is cut by default.

        Returns:
            A dict of int32 arrays (B, T): `token_ids`, and `padding_mask` (1 = a token, 0 = padding).

        Raises:
            ValueError: if there is no text, a text is no string or holds a lone surrogate, or `max_length` is below 1.
        """
        rows = [self.encode(text)[:max_length] for text in ([texts] if isinstance(texts, str) else texts)]
        if not rows:
            raise ValueError("Expected at least one text; got none.")
        if max_length is not None and max_length < 1:
            raise ValueError(f"Expected a max_length of 1 or more; got {max_length}.")
        shape = len(rows), max(map(len, rows))
        batch = {"token_ids": np.full(shape, self.end_token_id, "int32"), "padding_mask": np.zeros(shape, "int32")}
        for index, row in enumerate(rows):
            batch["token_ids"][index, : len(row)] = row
            batch["padding_mask"][index, : len(row)] = 1
        return batch

    @classmethod
    def train(cls, texts, vocabulary_size=8192):
        """Learns merges, as `tokenizers.trainers.BpeTrainer` does.

        As in GPT-2's vocabulary, the 256 bytes have the first ids, in the order of their characters; then come the
        merges, the most frequent first, and last the special token.

        Args:
            texts: strings, any iterable of them. What "<|endoftext|>" stands between are texts of their own.
            vocabulary_size: V. There are fewer pieces where every word has become one.

        Returns:
            A `BytePairTokenizer`.

        Raises:
            ValueError: if the texts are empty, one is no string or holds a lone surrogate, or `vocabulary_size` does
                not hold the special token and the bytes.
        """
        if vocabulary_size < 257:
            raise ValueError(
                f"Expected a vocabulary_size that holds {END_TOKEN} and the alphabet of 256 bytes; "
                f"got {vocabulary_size}."
            )
        words = collections.Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            for part in _parts(text):
                if part != END_TOKEN:
                    words.update(split_words(part))
        if not words:
            raise ValueError("Expected texts with at least one word; got none.")
        spelled = {tuple(spell(word)): count for word, count in words.items()}
        merges, pieces = learn_merges(spelled, sorted(BYTE_CHARACTERS), vocabulary_size - 1)
        return cls([*pieces, END_TOKEN], merges)

    @classmethod
    def from_preset(cls, preset):
        """The tokenizer of a folder in Hugging Face's layout: `vocab.json` and `merges.txt`, or else `tokenizer.json`.

        Args:
            preset: path of the folder, or a name of `data/registry.toml`, such as "gpt2-vocabulary".

        Returns:
            A `BytePairTokenizer`.

        Raises:
            ValueError: if there is no such preset, or it describes another kind of tokenizer.
            ConnectionError: if it must be downloaded and no source is in reach.
        """
        from course_lib.checkpoints import huggingface
        from course_lib.data import assets

        folder = pathlib.Path(preset)
        return cls(**huggingface.read_byte_pair(folder if folder.is_dir() else assets.fetch(str(preset))))

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
        settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
        settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_TOKEN)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _parts(text):
    """A text cut at its special tokens, which are parts themselves."""
    parts = split_special(text, (END_TOKEN,))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"Expected text; got the lone surrogate U+{code:04X}, which stands for nothing.") from error
    return parts
