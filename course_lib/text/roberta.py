"""RoBERTa's tokenizer (Liu et al., 2019, https://arxiv.org/abs/1907.11692): GPT-2's byte-level BPE, for an encoder.

It splits and merges as GPT-2's does, and puts "<s>" and "</s>" around a text. The tests compare our ids with those of
the `tokenizers` library.
"""

from course_lib.checkpoints.huggingface import tokenizers
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.byte_pair import BYTE_CHARACTERS, BytePairTokenizer
from course_lib.text.encoder_tokenizer import EncoderTokenizer
from course_lib.text.special_tokens import AddedToken

START_TOKEN, PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, MASK_TOKEN = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
# The mask takes the space before it, as the word does in whose place it stands.
_SPECIAL = (
    *map(AddedToken, (START_TOKEN, PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN), [True] * 4),
    AddedToken(MASK_TOKEN, special=True, lstrip=True),
)


class RobertaTokenizer(EncoderTokenizer, BytePairTokenizer):
    """Turns texts, or pairs of texts, into RoBERTa's token ids: `<s> text </s>`, or `<s> text </s></s> pair </s>`.

    Where a special token such as "<mask>" is written in a text, it is read as the special token. There are no segments,
    so `segment_ids` are all 0.

    Args:
        vocabulary: the pieces in the order of their ids, written in the characters of
            `course_lib.text.byte_pair.BYTE_CHARACTERS`.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
            Tokens that are not in the vocabulary get the ids that follow it.
        add_prefix_space: whether a text that does not begin with a space is read as if it did, so that its first word
            gets the pieces that it has within a text.

    Raises:
        ValueError: if the vocabulary lacks a special token or a byte, has a piece twice, or does not have "<pad>" at 1,
            after which RoBERTa counts positions; or if a merge's parts or result are not pieces.

    Example:
        >>> tokenizer = RobertaTokenizer.from_preset("hf://FacebookAI/roberta-base")
        >>> tokenizer.tokenize("A <mask> dog")
        ['A', '<mask>', 'Ġdog']
    """

    special_token = PAD_TOKEN
    end_tokens_between = 2
    has_segments = False
    read_files = staticmethod(tokenizers.read_roberta)
    encode = EncoderTokenizer.encode
    __call__ = EncoderTokenizer.__call__

    def __init__(self, vocabulary, merges, added_tokens=(), add_prefix_space=False):
        self.add_prefix_space = add_prefix_space
        required = *(token.content for token in _SPECIAL), *BYTE_CHARACTERS
        wanted = f"{', '.join(required[: len(_SPECIAL)])} and all 256 bytes"
        BPETokenizer.__init__(self, vocabulary, merges, (*_SPECIAL, *added_tokens), required, wanted)
        names = START_TOKEN, PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, MASK_TOKEN
        self.start_token_id, self.pad_token_id, self.end_token_id, self.unknown_token_id, self.mask_token_id = (
            self._ids[name] for name in names
        )
        if self.pad_token_id != 1:
            raise ValueError(
                f"Expected {PAD_TOKEN} to have the id 1 in a vocabulary of RoBERTa's; got {self.pad_token_id}."
            )

    @property
    def settings(self):
        """The content of `tokenizer_config.json`, a dict."""
        return {
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": self.add_prefix_space,
            **tokenizers.ROBERTA_TOKENS,
        }

    def split(self, text):
        """Splits a text without special tokens into words.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if the text contains a lone surrogate, which cannot be encoded in UTF-8.
        """
        is_prefixed = self.add_prefix_space and text and not text.startswith(" ")
        return BytePairTokenizer.split(f" {text}" if is_prefixed else text)

    def pieces(self, text):
        """Turns a text into ids, without the special tokens around it.

        Args:
            text: a string.

        Returns:
            A list of integers.

        Raises:
            ValueError: if `text` is not a string, or contains a lone surrogate.
        """
        return BPETokenizer.encode(self, text)

    def word_pieces(self, word):
        """Turns a word that stands in a sentence into ids. The space before it belongs to it.

        Args:
            word: a string.

        Returns:
            A list of integers.

        Raises:
            ValueError: if `word` is not a string, or contains a lone surrogate.
        """
        return self.pieces(word if word.startswith(" ") else f" {word}")

    @classmethod
    def train(cls, texts, vocabulary_size=8192):
        """Learns merges from texts, as `BytePairTokenizer.train` does, and puts the special tokens first.

        Args:
            texts: strings, any iterable of them, or one; a `pathlib.Path` stands for the content of a file.
            vocabulary_size: V. There are fewer pieces if every word has become a single piece before.

        Returns:
            A `RobertaTokenizer`.

        Raises:
            ValueError: if the texts are empty, one is not a string or contains a lone surrogate, or `vocabulary_size`
                is too small for the special tokens and the bytes.
        """
        learned = BytePairTokenizer.train(texts, vocabulary_size - len(_SPECIAL) + 1)
        pieces = learned.vocabulary[:-1]  # without GPT-2's end token
        return cls([*(token.content for token in _SPECIAL), *pieces], learned.merges)
