"""WordPiece as in BERT: normalises a text, splits it into words, and splits each word into the longest known pieces.

The algorithm is that of Google's BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, `tokenization.py`), in
the variant of the `tokenizers` library. The tests compare our ids with it.
"""

import collections
import functools
import itertools
import unicodedata

from course_lib.checkpoints import google_bert
from course_lib.checkpoints.huggingface import tokenizers
from course_lib.checkpoints.presets import resolve_preset
from course_lib.text.bpe import learn_merges
from course_lib.text.corpora import training_texts
from course_lib.text.encoder_tokenizer import EncoderTokenizer
from course_lib.text.special_tokens import AddedToken, TokenSplitter, place_tokens

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_LENGTH = 100  # characters; a longer word becomes a single unknown token
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class Normalizer(dict):
    """A table for `str.translate` that normalises a text and puts spaces between its words.

    Control characters are removed, punctuation marks and Chinese characters become separate words, and case and accents
    are removed if requested. A character's entry is computed when the character is first met.

    Args:
        lowercase: whether to turn letters into lower case.
        strip_accents: whether to remove accents. Defaults to `lowercase`.
        split_chinese: whether each Chinese character becomes a word.
        split_punctuation: whether each punctuation mark becomes a word.
    """

    def __init__(self, lowercase=True, strip_accents=None, split_chinese=True, split_punctuation=True):
        super().__init__()
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.split_chinese = split_chinese
        self.split_punctuation = split_punctuation

    def __missing__(self, code):
        self[code] = entry = self._entry(chr(code))
        return entry

    def _entry(self, character):
        category = unicodedata.category(character)
        if category == "Cs":
            raise ValueError(f"Expected text; got the lone surrogate U+{ord(character):04X}, which is not a character.")
        if (character.isspace() and category != "Cc") or character in "\t\n\r":
            return " "
        if category in ("Cc", "Cf", "Co") or character == "\ufffd":
            return ""
        word = self.split_chinese and any(low <= ord(character) <= high for low, high in _CJK)
        if self.strip_accents:
            decomposed = unicodedata.normalize("NFD", character)
            character = "".join(part for part in decomposed if unicodedata.category(part) != "Mn")
        if self.lowercase:
            character = character.lower()
        if not word and self.split_punctuation:
            character = "".join(f" {part} " if _is_punctuation(part) else part for part in character)
        return f" {character} " if word else character

    def words(self, text):
        """Normalises a text and splits it into words.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if the text contains a lone surrogate.
        """
        return text.translate(self).split()


def _is_punctuation(character):
    ascii_symbol = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_symbol or unicodedata.category(character).startswith("P")


class WordPieceTokenizer(EncoderTokenizer):
    """Turns texts, or pairs of texts, into BERT's token ids: `[CLS] text [SEP]`.

    Where a special token such as "[MASK]" is written in a text, it is read as the special token.

    Args:
        vocabulary: the pieces in the order of their ids. Pieces that continue a word begin with "##".
        lowercase: whether to turn letters into lower case.
        strip_accents: whether to remove accents. Defaults to `lowercase`.
        split_chinese: whether each Chinese character becomes a word.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
            Tokens that are not in the vocabulary get the ids that follow it.

    Raises:
        ValueError: if the vocabulary lacks a special token, or has a piece twice.

    Example:
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "##s"])
        >>> tokenizer.tokenize("Dogs [MASK]")
        ['dog', '##s', '[MASK]']
        >>> tokenizer.encode("Dogs [MASK]")
        [2, 5, 6, 4, 3]
    """

    def __init__(self, vocabulary, lowercase=True, strip_accents=None, split_chinese=True, added_tokens=()):
        vocabulary = tuple(vocabulary)
        self.lowercase, self.strip_accents, self.split_chinese = lowercase, strip_accents, split_chinese
        self._ids = {piece: index for index, piece in enumerate(vocabulary)}
        missing = [token for token in SPECIAL_TOKENS if token not in self._ids]
        if missing:
            raise ValueError(f"Expected a vocabulary with the tokens {', '.join(SPECIAL_TOKENS)}; it lacks {missing}.")
        if len(self._ids) < len(vocabulary):
            raise ValueError(f"Expected each piece once; {len(vocabulary) - len(self._ids)} occur again.")
        self.pad_token_id, self.unknown_token_id, self.start_token_id, self.end_token_id, self.mask_token_id = (
            self._ids[token] for token in SPECIAL_TOKENS
        )
        tokens, self._token_ids, self._new = place_tokens(vocabulary, SPECIAL_TOKENS, added_tokens)
        self.vocabulary, self.added_tokens = vocabulary + self._new, tuple(tokens.values())
        self.special_ids = tuple(self._token_ids[token.content] for token in self.added_tokens if token.special)
        self._normalizer = Normalizer(lowercase, strip_accents, split_chinese)
        whole = Normalizer(lowercase, strip_accents, split_chinese, split_punctuation=False)
        self._splitter = TokenSplitter(self.added_tokens, lambda text: text.translate(whole))
        self._word_to_ids = functools.lru_cache(maxsize=1 << 18)(self._longest_match)

    @property
    def vocabulary_size(self):
        """V, the number of pieces, added tokens included."""
        return len(self.vocabulary)

    def _longest_match(self, word):
        if len(word) > MAX_WORD_LENGTH:
            return (self.unknown_token_id,)
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if (piece := self._ids.get(prefix + word[start:end])) is not None:
                    break
            else:
                return (self.unknown_token_id,)
            ids.append(piece)
            start = end
        return tuple(ids)

    def pieces(self, text):
        """Turns a text into ids, without `[CLS]` and `[SEP]`.

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
                ids.extend(itertools.chain.from_iterable(map(self._word_to_ids, self._normalizer.words(part))))
        return ids

    def decode(self, ids, skip_special_tokens=True):
        """Turns token ids back into text. It does not restore what normalisation has removed.

        Args:
            ids: token ids.
            skip_special_tokens: whether to leave out `[CLS]`, `[SEP]` and other special tokens.

        Returns:
            A string.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        outside = [int(piece) for piece in ids if not 0 <= piece < len(self.vocabulary)]
        if outside:
            raise ValueError(f"Expected ids from 0 to {len(self.vocabulary) - 1}; got {outside[:5]}.")
        kept = (self.vocabulary[piece] for piece in ids if not (skip_special_tokens and piece in self.special_ids))
        return " ".join(kept).replace(" ##", "")

    @classmethod
    def train(cls, texts, vocabulary_size, lowercase=True, strip_accents=None, split_chinese=True):
        """Learns a vocabulary by merging the most frequent pairs, as `tokenizers.trainers.WordPieceTrainer` does.

        The special tokens get the first ids. Then come all characters, first as beginnings of words and then as
        continuations ("##"), and then the merged pieces in the order in which they were learned.

        Args:
            texts: strings, any iterable of them, or one; a `pathlib.Path` stands for the content of a file.
            vocabulary_size: V. There are fewer pieces if every word has become a single piece before.
            lowercase: whether to turn letters into lower case.
            strip_accents: whether to remove accents. Defaults to `lowercase`.
            split_chinese: whether each Chinese character becomes a word.

        Returns:
            A `WordPieceTokenizer`.

        Raises:
            ValueError: if the texts have no words, one is not a string, or `vocabulary_size` is too small for the
                special tokens and all characters.
        """
        normalizer = Normalizer(lowercase, strip_accents, split_chinese)
        splitter = TokenSplitter([AddedToken(token) for token in SPECIAL_TOKENS])
        words = collections.Counter()
        for text in training_texts(texts):
            for part, token in splitter(text):
                if token is None:
                    words.update(normalizer.words(part))
        if not words:
            raise ValueError("Expected texts with at least one word; got none.")
        spelled = {(word[0], *(f"##{character}" for character in word[1:])): words[word] for word in words}
        alphabet = sorted(set("".join(words))) + sorted(set().union(*(symbols[1:] for symbols in spelled)))
        symbols = [*SPECIAL_TOKENS, *alphabet]
        if vocabulary_size < len(symbols):
            raise ValueError(
                f"Expected a vocabulary_size that holds the {len(SPECIAL_TOKENS)} special tokens and the alphabet of "
                f"{len(alphabet)}; got {vocabulary_size}."
            )
        _, vocabulary = learn_merges(spelled, symbols, vocabulary_size, join=_join)
        return cls(vocabulary, lowercase, strip_accents, split_chinese)

    @classmethod
    def from_preset(cls, preset, lowercase=None):
        """Loads a tokenizer in Hugging Face's or Google's layout: from `vocab.txt`, `tokenizer.json`, or both.

        Args:
            preset: a name in `data/weights/` or `data/registry.toml`, such as "all-MiniLM-L6-v2"; the path of a folder;
                or "hf://owner/model" for a repository of the Hugging Face hub.
            lowercase: whether to turn letters into lower case. Defaults to what the files say, or in Google's layout,
                whose files do not say it, the folder's name.

        Returns:
            A `WordPieceTokenizer`.

        Raises:
            ValueError: if there is no such preset, it describes a different kind of tokenizer, or nothing says whether
                to turn letters into lower case.
            OSError: if the preset must be downloaded and no source can be reached.
        """
        folder = resolve_preset(preset)
        if google_bert.BERT.is_in(folder):
            return cls(**google_bert.read_tokenizer(folder, lowercase))
        arguments = tokenizers.read_word_piece(folder)
        return cls(**arguments | ({} if lowercase is None else {"lowercase": lowercase}))

    def save(self, folder):
        """Writes `vocab.txt` and `tokenizer_config.json`, in Hugging Face's layout.

        Args:
            folder: path of the folder. It is created if it does not exist.
        """
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        settings = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.split_chinese,
            **dict(zip(names, SPECIAL_TOKENS, strict=True)),
        }
        files = {"vocab.txt": "".join(f"{piece}\n" for piece in self._ids)}
        tokenizers.write(folder, files, settings, self.added_tokens, self._token_ids, self._new)


def _join(first, second):
    return first + second.removeprefix("##")
