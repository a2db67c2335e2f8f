"""Chats with a language model that was trained on them."""


class Chat:
    """Adds `chat` to a `CausalLM` whose tokenizer is a `course_lib.text.chat_tokenizer.ChatTokenizer`."""

    def chat(self, messages, max_new_tokens=256, **kwargs):
        """Answers a question, or the last message of a conversation.

        The messages are written as the model saw conversations in its training, by the template that came with its
        tokenizer. The answer ends at the token that ends a turn.

        Args:
            messages: a string, the user's question; or a list of dicts with `role` ("system", "user" or "assistant")
                and `content`, a string. The last one is the user's.
            max_new_tokens: highest number of tokens of the answer.
            **kwargs: further arguments of `generate`, such as `sampler`, `temperature`, `seed` and `stream`.

        Returns:
            The answer, a string; or, with `stream`, an iterator over its pieces.

        Raises:
            ValueError: if the tokenizer has no template, the messages have another form or another role, the template
                refuses them, or the conversation leaves no room for `max_new_tokens` in the model.
            ImportError: if jinja2, which renders the template, is not installed.
        """
        self.check_tokenizer()
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.generate(self.tokenizer.write_chat(messages), max_new_tokens, **kwargs)
