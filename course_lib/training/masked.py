"""How a BERT is pre-trained: words to fill in, and whether a sentence follows another.

`course_lib.training.pretrain` runs it. Devlin et al., 2019, https://arxiv.org/abs/1810.04805, sections 3.1 and A.2.
"""

import dataclasses

import numpy as np

from course_lib import objectives
from course_lib.bert import Bert, BertConfig, BertPretrainer
from course_lib.text.masking import Masking
from course_lib.text.packing import pack_segments
from course_lib.text.sentence_pairs import SentencePairs, split_sentences
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.training import starts

TOKENIZER = WordPieceTokenizer
MODEL = BertPretrainer


def encode(texts, tokenizer, recipe):
    """Documents as what batches are drawn from.

    Args:
        texts: strings.
        tokenizer: a `WordPieceTokenizer`.
        recipe: a `Recipe`.

    Returns:
        `SentencePairs`.

    Raises:
        ValueError: if a document has no sentence, or fewer than two have two sentences or more.
    """
    documents = [[tokenizer.encode(sentence)[1:-1] for sentence in split_sentences(text)] for text in texts]
    return SentencePairs(documents, recipe.length - 3)


def batch_maker(pairs, tokenizer, recipe, seed):
    """What makes the batches of a run.

    Args:
        pairs: `SentencePairs`.
        tokenizer: a `WordPieceTokenizer`.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to the inputs, the targets and the sample weights of its batch, as
        `course_lib.objectives.pretraining` describes them.
    """
    masking = Masking.of(tokenizer, recipe.whole_words, rate=recipe.masking_rate, positions=recipe.predictions)
    special = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id

    def batch_of(step):
        first, second, labels = pairs.draw(recipe.batch_size, seed, step)
        inputs, tokens, weights = masking(pack_segments(first, second, *special, recipe.length), seed, step)
        targets = {"mlm_logits": tokens, "nsp_logits": labels}
        return inputs, targets, {"mlm_logits": weights, "nsp_logits": np.ones(len(labels), "float32")}

    return batch_of


def new_model(recipe, tokenizer, counts=None):
    """An untrained model that looks at neighbours, and scores tokens by their frequency.

    Args:
        recipe: a `Recipe`.
        tokenizer: a `WordPieceTokenizer`.
        counts: int (V,), how often each token occurs in the corpus, for the scores to start from; even if None.

    Returns:
        A `BertPretrainer`.
    """
    names = [field.name for field in dataclasses.fields(BertConfig) if hasattr(recipe, field.name)]
    fields = {name: getattr(recipe, name) for name in names} | {"vocabulary_size": tokenizer.vocabulary_size}
    config = BertConfig(**fields, attention_dropout=recipe.dropout)
    model = BertPretrainer(Bert(config, tokenizer, dtype=recipe.dtype), dtype=recipe.dtype)
    model.build()
    starts.look_at_neighbours(model.backbone)
    if counts is not None:
        starts.score_by_frequency(model.masked_lm, counts)
    return model


def compile_arguments():
    """What `compile` needs beside the optimizer: the losses and metrics of `course_lib.objectives.pretraining`."""
    return objectives.pretraining()
