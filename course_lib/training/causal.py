"""How a GPT-2 is pre-trained: on the next token, at every position of rows that are full.

`course_lib.training.pretrain` runs it. Radford et al., 2018, https://openai.com/index/language-unsupervised/, section
3.1, and 2019, https://github.com/openai/gpt-2.
"""

import dataclasses

from course_lib import objectives
from course_lib.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.packing import TokenStream

TOKENIZER = BytePairTokenizer
MODEL = GPT2CausalLM


def encode(texts, tokenizer, recipe):
    """Documents as what batches are drawn from.

    Args:
        texts: strings.
        tokenizer: a `BytePairTokenizer`.
        recipe: a `Recipe`.

    Returns:
        A `TokenStream`.

    Raises:
        ValueError: if the documents together do not fill a row.
    """
    return TokenStream([tokenizer.encode(text) for text in texts], recipe.length, tokenizer.end_token_id)


def batch_maker(stream, tokenizer, recipe, seed):
    """What makes the batches of a run.

    Args:
        stream: a `TokenStream`.
        tokenizer: a `BytePairTokenizer`.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to the inputs and the targets of its batch, as `course_lib.objectives.causal` describes
        them.
    """

    def batch_of(step):
        rows = stream.draw(recipe.batch_size, seed, step)  # (B, T + 1)
        return {"token_ids": rows[:, :-1]}, {"logits": rows[:, 1:]}

    return batch_of


def new_model(recipe, tokenizer, counts=None):
    """An untrained model, as GPT-2 begins.

    Args:
        recipe: a `Recipe`.
        tokenizer: a `BytePairTokenizer`.
        counts: not needed: the scores have no bias that could start from frequencies.

    Returns:
        A `GPT2CausalLM`.
    """
    names = [field.name for field in dataclasses.fields(GPT2Config) if hasattr(recipe, field.name)]
    fields = {name: getattr(recipe, name) for name in names} | {"vocabulary_size": tokenizer.vocabulary_size}
    config = GPT2Config(**fields, embedding_dropout=recipe.dropout, attention_dropout=recipe.dropout)
    model = GPT2CausalLM(GPT2(config, tokenizer, dtype=recipe.dtype), dtype=recipe.dtype)
    model.build()
    return model


def compile_arguments():
    """What `compile` needs beside the optimizer: the loss and metrics of `course_lib.objectives.causal`."""
    return objectives.causal()
