"""Byte-level BPE as GPT-2 uses it: cut a text into words, spell them in bytes, merge by rank.

The algorithm is that of OpenAI's GPT-2 (Radford et al., 2019, https://github.com/openai/gpt-2, `encoder.py`), after
byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909). Since any text is bytes, no text is
unknown, and every text comes back as it was. The tests compare ids and merges to those of the `tokenizers` library.
"""

import collections
import functools
import itertools

from course_lib.checkpoints.huggingface import tokenizers
from course_lib.text.bpe import learn_merges
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.special_tokens import AddedToken, TokenSplitter

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

    Raises:
        ValueError: if the text holds a lone surrogate, which has no bytes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"Expected text; got the lone surrogate U+{code:04X}, which stands for nothing.") from error
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


class BytePairTokenizer(BPETokenizer):
    """Turns texts into token ids as GPT-2 was trained on them, and back, byte for byte.

    The special token "<|endoftext|>", written in a text, is the special token.

    Args:
        vocabulary: the pieces in the order of their ids, in the characters of `BYTE_CHARACTERS`.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken`, or strings, which are found in a text before it is cut into words.
            Those that the vocabulary lacks get the ids after it.

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

    special_token = END_TOKEN
    settings = {  # noqa: RUF012  read, never changed
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_TOKEN),
    }
    read_files = staticmethod(tokenizers.read_byte_pair)
    split = staticmethod(split_words)
    spell = spell_token = staticmethod(spell)

    def __init__(self, vocabulary, merges, added_tokens=()):
        required = END_TOKEN, *BYTE_CHARACTERS
        super().__init__(vocabulary, merges, added_tokens, required, f"{END_TOKEN} and all 256 bytes")
        if foreign := set("".join(self._ids)) - set(BYTE_CHARACTERS):
            raise ValueError(f"Expected pieces in the characters that stand for bytes; got {sorted(foreign)[:5]}.")
        self.end_token_id = self.special_token_id

    def decode(self, ids, skip_special_tokens=False):
        """The text of some ids; `decode(encode(text))` is the text.

        Args:
            ids: integers.
            skip_special_tokens: whether special tokens are left out.

        Returns:
            A string. Bytes that are no UTF-8, as when a character is cut in two, become "\ufffd".

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        spelled = self.joined(ids, skip_special_tokens)
        return spelled.translate(_TO_BYTES).encode("latin-1").decode(errors="replace")

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
        splitter = TokenSplitter([AddedToken(END_TOKEN)])
        words = collections.Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            for part, token in splitter(text):
                if token is None:
                    words.update(split_words(part))
        if not words:
            raise ValueError("Expected texts with at least one word; got none.")
        spelled = {tuple(spell(word)): count for word, count in words.items()}
        merges, pieces = learn_merges(spelled, sorted(BYTE_CHARACTERS), vocabulary_size - 1)
        return cls([*pieces, END_TOKEN], merges)
