"""BPE on characters, as OpenAI's first GPT uses it: BERT's words in lower case, spelled in characters, merged by rank.

The algorithm is that of Sennrich et al. (2016, https://arxiv.org/abs/1508.07909): the last character of a word carries
a mark, so that pieces which end a word are others than those inside one. Unlike bytes, a character may be unknown; and
case, accents and spaces do not come back. The variant is that of the `tokenizers` library, to whose ids the tests
compare ours.
"""

from course_lib.checkpoints.huggingface import tokenizers
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.word_piece import Normalizer

UNKNOWN_TOKEN = "<unk>"
WORD_END = "</w>"


class OpenAIGPTTokenizer(BPETokenizer):
    """Turns texts into token ids as GPT was trained on them (Radford et al., 2018).

    "<unk>", written in a text, is the unknown token. There is no token that ends a text.

    Args:
        vocabulary: the pieces in the order of their ids; those that end a word end with "</w>".
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken`, or strings, which are found in a text before it is cut into words.
            Those that the vocabulary lacks get the ids after it.

    Raises:
        ValueError: if the unknown token is missing in the vocabulary, a piece occurs twice in it, or a merge is not one
            of pieces into a piece.

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
    read_files = staticmethod(tokenizers.read_openai_gpt)
    end_token_id = None

    def __init__(self, vocabulary, merges, added_tokens=()):
        whole = Normalizer(split_punctuation=False)
        self.normalize = lambda text: text.translate(whole)
        super().__init__(vocabulary, merges, added_tokens, (UNKNOWN_TOKEN,), UNKNOWN_TOKEN)
        self.unknown_token_id = self.special_token_id
        self.split = Normalizer().words

    def spell(self, word):
        """The characters of a word, those unknown replaced.

        Args:
            word: a string.

        Returns:
            A list of strings, the last of which ends with "</w>" if it is known.
        """
        spelled = (*word[:-1], word[-1] + WORD_END)
        return [symbol if symbol in self._ids else UNKNOWN_TOKEN for symbol in spelled]

    def decode(self, ids, skip_special_tokens=False):
        """The text of some ids, with a space between words and before each punctuation mark.

        Args:
            ids: integers.
            skip_special_tokens: whether special tokens are left out.

        Returns:
            A string.

        Raises:
            ValueError: if an id is outside the vocabulary.
        """
        return self.joined(ids, skip_special_tokens).removesuffix(WORD_END).replace(WORD_END, " ")
