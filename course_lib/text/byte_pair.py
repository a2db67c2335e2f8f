"""Byte-level BPE as in GPT-2: splits a text into words, spells them in bytes, and merges these by rank.

The algorithm is that of OpenAI's GPT-2 (Radford et al., 2019, https://github.com/openai/gpt-2, `encoder.py`), after
byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909). Every text consists of bytes, so there is
no unknown token, and decoding restores every text exactly. The tests compare ids and merges with those of the
`tokenizers` library.
"""

import collections
import functools
import itertools

from course_lib.checkpoints import openai
from course_lib.text.bpe import learn_merges
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.corpora import training_texts
from course_lib.text.special_tokens import AddedToken, TokenSplitter

END_TOKEN = "<|endoftext|>"
# Matches the end of a contraction; a run of letters, digits or other signs, with the space before it; or white space,
# without the last character if a word follows. Merges never cross from one match to the next.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_others = itertools.count(0x100)
# The printable character that stands for each byte, so that pieces can be read: the byte's own character if it is
# printable, otherwise the next one from U+0100 on. A space becomes "Ġ", a line break "Ċ".
BYTE_CHARACTERS = "".join(chr(byte if byte in _PRINTABLE else next(_others)) for byte in range(0x100))
_TO_CHARACTERS = dict(enumerate(BYTE_CHARACTERS))
_TO_BYTES = {ord(character): byte for byte, character in enumerate(BYTE_CHARACTERS)}


def split_words(text, pattern=PATTERN):
    """Splits a text into words by a regular expression.

    Args:
        text: a string.
        pattern: matches one word after another, without a gap. Defaults to GPT-2's.

    Returns:
        A list of strings: words with the space before them, and runs of white space. Joined, they give the text.

    Raises:
        ValueError: if the text contains a lone surrogate, which cannot be encoded in UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"Expected text; got the lone surrogate U+{code:04X}, which is not a character.") from error
    return _compiled(pattern).findall(text)


@functools.cache
def _compiled(pattern):
    import regex  # Python's own `re` does not support \p{L}, all letters, and \p{N}, all digits

    return regex.compile(pattern)


def spell(word):
    """Spells a word in UTF-8 bytes, each as its printable character.

    Args:
        word: a string.

    Returns:
        A string with one character per byte.
    """
    return word.encode().decode("latin-1").translate(_TO_CHARACTERS)


class BytePairTokenizer(BPETokenizer):
    """Turns texts into GPT-2's token ids, and token ids back into the same text, byte for byte.

    Where "<|endoftext|>" is written in a text, it is read as the special token.

    Args:
        vocabulary: the pieces in the order of their ids, written in the characters of `BYTE_CHARACTERS`.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
            Tokens that are not in the vocabulary get the ids that follow it.

    Raises:
        ValueError: if the vocabulary lacks the special token or a byte, has a piece twice, or has a piece with a
            character that stands for no byte; or if a merge's parts or result are not pieces.

    Example:
        >>> tokenizer = BytePairTokenizer.from_preset("gpt2-vocabulary")
        >>> tokenizer.tokenize("Hello, my dog is cute")
        ['Hello', ',', 'Ġmy', 'Ġdog', 'Ġis', 'Ġcute']
        >>> tokenizer.decode(tokenizer.encode("naïve ☕"))
        'naïve ☕'
    """

    special_token = END_TOKEN
    settings = {  # noqa: RUF012  read, never changed
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_TOKEN),
    }
    read_files = staticmethod(openai.read_byte_pair)
    split = staticmethod(split_words)
    spell = spell_token = staticmethod(spell)

    def __init__(self, vocabulary, merges, added_tokens=()):
        required = END_TOKEN, *BYTE_CHARACTERS
        super().__init__(vocabulary, merges, added_tokens, required, f"{END_TOKEN} and all 256 bytes")
        if foreign := set("".join(self._ids)) - set(BYTE_CHARACTERS):
            raise ValueError(f"Expected pieces in the characters that stand for bytes; got {sorted(foreign)[:5]}.")
        self.end_token_id = self.special_token_id

    def decode(self, ids, skip_special_tokens=False):
        """Turns token ids back into text. `decode(encode(text))` equals `text`.

        Args:
            ids: token ids.
            skip_special_tokens: whether to leave out special tokens.

        Returns:
            A string. Invalid UTF-8, for example half of a character, becomes "\ufffd".

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        spelled = self.joined(ids, skip_special_tokens)
        return spelled.translate(_TO_BYTES).encode("latin-1").decode(errors="replace")

    @classmethod
    def train(cls, texts, vocabulary_size=8192):
        """Learns merges from texts, as `tokenizers.trainers.BpeTrainer` does.

        As in GPT-2's vocabulary, the 256 bytes get the first ids, in the order of their characters. The merged pieces
        follow in the order in which they were learned, and the special token comes last.

        Args:
            texts: strings, any iterable of them, or one; a `pathlib.Path` stands for the content of a file. A string is
                cut into several texts at "<|endoftext|>".
            vocabulary_size: V. There are fewer pieces if every word has become a single piece before.

        Returns:
            A `BytePairTokenizer`.

        Raises:
            ValueError: if the texts are empty, one is not a string or contains a lone surrogate, or `vocabulary_size`
                is too small for the special token and the bytes.
        """
        if vocabulary_size < 257:
            raise ValueError(
                f"Expected a vocabulary_size that holds {END_TOKEN} and the alphabet of 256 bytes; "
                f"got {vocabulary_size}."
            )
        splitter = TokenSplitter([AddedToken(END_TOKEN)])
        words = collections.Counter()
        for text in training_texts(texts):
            for part, token in splitter(text):
                if token is None:
                    words.update(split_words(part))
        if not words:
            raise ValueError("Expected texts with at least one word; got none.")
        spelled = {tuple(spell(word)): count for word, count in words.items()}
        merges, pieces = learn_merges(spelled, sorted(BYTE_CHARACTERS), vocabulary_size - 1)
        return cls([*pieces, END_TOKEN], merges)
