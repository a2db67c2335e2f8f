"""BPE on characters, as in OpenAI's first GPT: lower-cased words, split as in BERT, spelled in characters and merged.

The algorithm is that of Sennrich et al. (2016, https://arxiv.org/abs/1508.07909): the last character of a word is
marked, so pieces at the end of a word differ from pieces inside one. Unlike a byte, a character may be unknown, and
decoding does not restore case, accents and spaces. The variant is that of the `tokenizers` library; the tests compare
our ids with it.
"""

from course_lib.checkpoints import openai
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.word_piece import Normalizer

UNKNOWN_TOKEN = "<unk>"
WORD_END = "</w>"


class OpenAIGPTTokenizer(BPETokenizer):
    """Turns texts into the token ids of the first GPT (Radford et al., 2018).

    Where "<unk>" is written in a text, it is read as the unknown token. No token marks the end of a text.

    Args:
        vocabulary: the pieces in the order of their ids; those that end a word end with "</w>".
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
            Tokens that are not in the vocabulary get the ids that follow it.

    Raises:
        ValueError: if the vocabulary lacks the unknown token or has a piece twice, or if a merge's parts or result are
            not pieces.

    Example:
        >>> merges = [("d", "o"), ("do", "g</w>")]
        >>> tokenizer = OpenAIGPTTokenizer(["<unk>", "d", "o", "g", "s</w>", "g</w>", "do", "dog</w>"], merges)
        >>> tokenizer.tokenize("Dog dogs")
        ['dog</w>', 'do', 'g', 's</w>']
        >>> tokenizer.decode([7, 6, 3, 4])
        'dog dogs'
    """

    special_token = UNKNOWN_TOKEN
    settings = {"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": UNKNOWN_TOKEN}  # noqa: RUF012  read, never changed
    read_files = staticmethod(openai.read_openai_gpt)
    end_token_id = None

    def __init__(self, vocabulary, merges, added_tokens=()):
        whole = Normalizer(split_punctuation=False)
        self.normalize = lambda text: text.translate(whole)
        super().__init__(vocabulary, merges, added_tokens, (UNKNOWN_TOKEN,), UNKNOWN_TOKEN)
        self.unknown_token_id = self.special_token_id
        self.split = Normalizer().words

    def spell(self, word):
        """Spells a word in characters, and replaces unknown ones by "<unk>".

        Args:
            word: a string.

        Returns:
            A list of strings. The last one ends with "</w>", unless it is unknown.
        """
        spelled = (*word[:-1], word[-1] + WORD_END)
        return [symbol if symbol in self._ids else UNKNOWN_TOKEN for symbol in spelled]

    def decode(self, ids, skip_special_tokens=False):
        """Turns token ids back into text, with a space between words and around each punctuation mark.

        Args:
            ids: token ids.
            skip_special_tokens: whether to leave out special tokens.

        Returns:
            A string.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        return self.joined(ids, skip_special_tokens).removesuffix(WORD_END).replace(WORD_END, " ")
