"""Byte-level BPE as later models use it: words are split in another way, and there is a template for chats."""

import json

from course_lib.checkpoints import gguf
from course_lib.checkpoints.huggingface import tokenizers
from course_lib.text.bpe_tokenizer import BPETokenizer
from course_lib.text.byte_pair import BYTE_CHARACTERS, PATTERN, BytePairTokenizer, spell, split_words

ROLES = "system", "user", "assistant"
# How a text is split into words, by the name that GGUF files give to the split. "smollm" first cuts out every digit.
# What is between two digits is then split as in GPT-2, so white space before a digit stands at an end.
PATTERNS = {
    "gpt-2": PATTERN,
    "smollm": PATTERN.replace(r" ?\p{N}+", r"\p{N}").replace(r"\s+(?!\S)", r"\s+(?![^\s\p{N}])"),
}


class ChatTokenizer(BytePairTokenizer):
    r"""A byte-level BPE tokenizer as SmolLM2 has it.

    It differs from GPT-2's in three ways: a text may be split into words in another way; several special tokens are
    read where they are written in a text; and bytes that never occurred in training may have no piece. Such bytes are
    left out, as the `tokenizers` library does. In SmolLM2's vocabulary they are 21: six control characters, 13 that no
    UTF-8 has, and two that begin characters beyond U+40000, which are unassigned.

    Args:
        vocabulary: the pieces in the order of their ids, written in the characters of
            `course_lib.text.byte_pair.BYTE_CHARACTERS`.
        merges: pairs of pieces, in the order in which they were learned.
        added_tokens: `course_lib.text.AddedToken` or strings. They are found in a text before it is split into words.
        end_token: the token that ends a text, or a turn of a chat. Batches are padded with it.
        start_token: the token that begins a text, for the files. It is not added to texts.
        pre_tokenizer: how a text is split into words, a key of `PATTERNS`.
        chat_template: how a conversation is written, in the language of Jinja, or None.

    Raises:
        ValueError: if the vocabulary lacks a special token or has a piece twice, a merge's parts or result are not
            pieces, or the split is unknown.
    """

    def __init__(
        self,
        vocabulary,
        merges,
        added_tokens=(),
        end_token="<|endoftext|>",
        start_token=None,
        pre_tokenizer="gpt-2",
        chat_template=None,
    ):
        if pre_tokenizer not in PATTERNS:
            raise ValueError(f"Expected a pre-tokenizer of {sorted(PATTERNS)}; got {pre_tokenizer!r}.")
        self.special_token = end_token
        self.start_token = start_token
        self.pre_tokenizer = pre_tokenizer
        self.chat_template = chat_template
        vocabulary = tuple(vocabulary)
        self._bytes = frozenset(BYTE_CHARACTERS) & frozenset(vocabulary)
        required = [token for token in (end_token, start_token) if token is not None]
        BPETokenizer.__init__(self, vocabulary, merges, added_tokens, required, " and ".join(required))
        self.end_token_id = self.special_token_id

    @staticmethod
    def read_files(folder):
        """Reads the constructor's arguments from the files of a preset.

        Args:
            folder: path of the folder, with a GGUF file or in Hugging Face's layout.

        Returns:
            A dict.

        Raises:
            ValueError: if the folder describes a tokenizer that this class cannot reproduce.
        """
        return gguf.read_tokenizer(folder) if gguf.LLAMA.is_in(folder) else tokenizers.read_chat(folder)

    @property
    def settings(self):
        """The content of `tokenizer_config.json`, a dict."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.start_token,
            "eos_token": self.special_token,
            "pad_token": self.special_token,
        } | ({"chat_template": self.chat_template} if self.chat_template else {})

    def split(self, text):
        """Splits a text without special tokens into words.

        Args:
            text: a string.

        Returns:
            A list of strings.

        Raises:
            ValueError: if the text contains a lone surrogate, which cannot be encoded in UTF-8.
        """
        return split_words(text, PATTERNS[self.pre_tokenizer])

    def spell(self, word):
        """Spells a word in UTF-8 bytes, each as its printable character, without those that the vocabulary lacks.

        Args:
            word: a string.

        Returns:
            A string.
        """
        return "".join(character for character in spell(word) if character in self._bytes)

    def write_chat(self, messages):
        """Writes a conversation by the chat template, up to where the assistant's answer begins.

        Args:
            messages: dicts with `role` ("system", "user" or "assistant") and `content`, a string. The last one is the
                user's.

        Returns:
            A string.

        Raises:
            ValueError: if there is no template, the messages have another form or another role, or the template
                refuses them or asks for something that it may not do.
            ImportError: if jinja2 is not installed.
        """
        if not self.chat_template:
            raise ValueError(
                "Expected a tokenizer with a chat template; this one has none. `generate` continues texts."
            )
        _check_messages(messages)
        try:
            import jinja2
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise ImportError("Writing a chat needs a package: pip install jinja2") from error

        def raise_exception(message):
            raise jinja2.TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, loader=jinja2.DictLoader({}))
        environment.globals["raise_exception"] = raise_exception
        tokens = {"bos_token": self.start_token or "", "eos_token": self.special_token}
        try:
            return environment.from_string(self.chat_template).render(
                messages=messages, add_generation_prompt=True, **tokens
            )
        except jinja2.TemplateError as error:  # a SecurityError is one, too
            raise ValueError(f"Expected a conversation that the chat template accepts; it says: {error}.") from error

    def save(self, folder):
        """Writes `tokenizer.json` and `tokenizer_config.json`, in Hugging Face's layout.

        Args:
            folder: path of the folder. It is created if it does not exist.
        """
        files = {"tokenizer.json": json.dumps(tokenizers.describe_chat(self), ensure_ascii=False, indent=1) + "\n"}
        tokenizers.write(folder, files, self.settings, self.added_tokens, self._token_ids, self._new)

    @classmethod
    def train(cls, texts, vocabulary_size=8192):
        """Learns merges from texts, as `BytePairTokenizer.train` does.

        Args:
            texts: as `BytePairTokenizer.train` takes them.
            vocabulary_size: V.

        Returns:
            A `ChatTokenizer`, without a chat template.
        """
        return super().train(texts, vocabulary_size)


def _check_messages(messages):
    """Checks the form of a conversation."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"Expected a list of messages, dicts with role and content; got {messages!r:.80}.")
    for message in messages:
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise ValueError(f"Expected each message to be a dict with role and content; got {message!r:.80}.")
        if message["role"] not in ROLES:
            raise ValueError(f"Expected a role of {', '.join(ROLES)}; got {message['role']!r}.")
        if not isinstance(message["content"], str):
            raise ValueError(f"Expected the content of a message to be a string; got {message['content']!r:.80}.")
    if messages[-1]["role"] != "user":
        raise ValueError(f"Expected the user's message at the end; got the {messages[-1]['role']}'s.")
