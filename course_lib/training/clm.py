"""Causal language modelling, GPT-2's objective: predict the next token at every position of full rows.

Radford et al., 2018, https://openai.com/index/language-unsupervised/, section 3.1, and 2019,
https://github.com/openai/gpt-2. `course_lib.training.pretrain` runs it. `course_lib.training.mlm` has the same
interface.

Shapes: B batch, T length.
"""

from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.packing import TokenStream


class CausalLanguageModeling:
    """Trains a GPT-2 to predict the next token.

    Args:
        recipe: a `course_lib.training.recipes.Recipe`.
    """

    tokenizer_class = BytePairTokenizer
    model_class = GPT2CausalLM

    def __init__(self, recipe):
        self.recipe = recipe

    def encode(self, texts, tokenizer):
        """Turns documents into data that batches are drawn from.

        Args:
            texts: strings.
            tokenizer: a `BytePairTokenizer`.

        Returns:
            A `TokenStream`.

        Raises:
            ValueError: if the documents together do not fill a row.
        """
        return TokenStream([self.token_ids(text, tokenizer) for text in texts], self.row_length, tokenizer.end_token_id)

    @property
    def row_length(self):
        """Number of tokens from the corpus in a row: T."""
        return self.recipe.length

    def token_ids(self, text, tokenizer):
        """Turns a document into token ids, without the end token.

        Args:
            text: a string.
            tokenizer: a `BytePairTokenizer`.

        Returns:
            A list of integers.
        """
        return tokenizer.encode(text)

    def batch_maker(self, data, tokenizer, seed):
        """Makes the function that draws batches.

        Args:
            data: a `TokenStream`, or a `ShardedStream`.
            tokenizer: not used.
            seed: an integer of 0 or more.

        Returns:
            A function from a step to its batch: the inputs, a dict with `token_ids` (B, T); and the labels, integers
            (B, T), the next token at each position. If it gets a slice as well, it returns these rows of the batch.
        """

        def batch_of(step, rows=slice(None)):
            ids = data.draw(self.recipe.batch_size, seed, step, rows)  # (B, T + 1)
            return {"token_ids": ids[:, :-1]}, ids[:, 1:]

        return batch_of

    def new_model(self, tokenizer, counts=None):
        """Makes an untrained model, initialised as GPT-2 is.

        Args:
            tokenizer: a `BytePairTokenizer`.
            counts: not used, since the head has no bias that could be set to frequencies.

        Returns:
            A `GPT2CausalLM`.
        """
        rate = self.recipe.dropout
        config = self.recipe.config(
            GPT2Config, vocabulary_size=tokenizer.vocabulary_size, embedding_dropout=rate, attention_dropout=rate
        )
        model = GPT2CausalLM(GPT2(config, tokenizer, dtype=self.recipe.dtype), dtype=self.recipe.dtype)
        model.build()
        return model
