"""Masked language modelling, BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1).

`course_lib.training.pretrain` runs it. `course_lib.training.clm` has the same interface.

Shapes: B batch, P predictions per row, V vocabulary.
"""

import keras
import numpy as np

from course_lib.models.bert import Bert, BertConfig
from course_lib.models.bert_pretrainer import BertPretrainer
from course_lib.text.masking import Masking
from course_lib.text.packing import TokenStream, pack_segments
from course_lib.text.sentence_pairs import SentencePairs, split_sentences
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.training.initialization import relative_position_initialization, unigram_output_bias


class MaskedLanguageModeling:
    """Trains a BERT to fill in masked tokens, and, by default, to tell whether a sentence follows another.

    Args:
        recipe: a `course_lib.training.recipes.Recipe`.
    """

    tokenizer_class = WordPieceTokenizer
    model_class = BertPretrainer

    def __init__(self, recipe):
        self.recipe = recipe

    def encode(self, texts, tokenizer):
        """Turns documents into data that batches are drawn from.

        Args:
            texts: strings.
            tokenizer: a `WordPieceTokenizer`.

        Returns:
            `SentencePairs`; without next-sentence prediction, a `TokenStream`.

        Raises:
            ValueError: if a document has no sentence, or fewer than two documents have two or more sentences; or if the
                documents of a stream do not fill a row.
        """
        if not self.recipe.next_sentence:
            documents = [self.token_ids(text, tokenizer) for text in texts]
            return TokenStream(documents, self.row_length, tokenizer.end_token_id)
        documents = [[tokenizer.encode(sentence)[1:-1] for sentence in split_sentences(text)] for text in texts]
        return SentencePairs(documents, self.recipe.length - 3)

    @property
    def row_length(self):
        """Number of tokens from the corpus in a row of a stream: T without `[CLS]` and `[SEP]`.

        Raises:
            ValueError: if the recipe asks for next-sentence prediction.
        """
        if self.recipe.next_sentence:
            raise ValueError(
                "Expected next_sentence = false in the recipe, since shards are a stream of tokens, and sentence pairs "
                "are drawn from documents in memory. Set it, or train on the text itself."
            )
        return self.recipe.length - 2

    def token_ids(self, text, tokenizer):
        """Turns a document into token ids, without special tokens.

        Args:
            text: a string.
            tokenizer: a `WordPieceTokenizer`.

        Returns:
            A list of integers.
        """
        return tokenizer.encode(text)[1:-1]

    def batch_maker(self, data, tokenizer, seed):
        """Makes the function that draws batches.

        Args:
            data: what `encode` returned, or a `ShardedStream`.
            tokenizer: a `WordPieceTokenizer`.
            seed: an integer of 0 or more.

        Returns:
            A function from a step to its batch. The batch is a triple: the inputs; the labels, a dict of integers with
            `mlm_logits` (B, P), the original tokens, and `nsp_logits` (B,), 0 if the second segment follows the first
            and 1 if it does not; and the weights, a dict of floats with `mlm_logits` (B, P), 0 where a row has fewer
            than P predictions, and `nsp_logits` (B,). Without next-sentence prediction, `nsp_logits` is left out. If
            the function gets a slice as well, it returns these rows of the batch.
        """
        recipe = self.recipe
        masking = Masking.of(tokenizer, recipe.whole_words, rate=recipe.masking_rate, positions=recipe.predictions)
        special = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id

        def stream_rows(step, rows):
            shape = recipe.batch_size, recipe.length
            token_ids = np.full(shape, tokenizer.pad_token_id, "int32")  # rows of other hosts stay empty
            ids = data.draw(recipe.batch_size, seed, step, rows)[:, :-1]  # (rows, T - 2)
            token_ids[rows] = np.pad(ids, [(0, 0), (1, 1)], constant_values=[(0, 0), special[:2]])
            return {
                "token_ids": token_ids,
                "segment_ids": np.zeros(shape, "int32"),
                "padding_mask": np.ones(shape, "int32"),
            }

        def batch_of(step, rows=slice(None)):
            labels, weights = {}, {}
            if recipe.next_sentence:
                first, second, labels["nsp_logits"] = data.draw(recipe.batch_size, seed, step)
                weights["nsp_logits"] = np.ones(recipe.batch_size, "float32")
                inputs = pack_segments(first, second, *special, recipe.length)
            else:
                inputs = stream_rows(step, rows)
            inputs, labels["mlm_logits"], weights["mlm_logits"] = masking(inputs, seed, step)
            return keras.tree.map_structure(lambda array: array[rows], (inputs, labels, weights))

        return batch_of

    def new_model(self, tokenizer, counts=None):
        """Makes an untrained model. Its attention heads look at neighbours, and it roughly predicts token frequencies.

        Args:
            tokenizer: a `WordPieceTokenizer`.
            counts: integers (V,), how often each token occurs in the corpus. Without them, all tokens are equally
                likely at first.

        Returns:
            A `BertPretrainer`.
        """
        config = self.recipe.config(
            BertConfig, vocabulary_size=tokenizer.vocabulary_size, attention_dropout=self.recipe.dropout
        )
        model = BertPretrainer(Bert(config, tokenizer, dtype=self.recipe.dtype), dtype=self.recipe.dtype)
        model.build()
        relative_position_initialization(model.backbone)
        if counts is not None:
            if not self.recipe.next_sentence:  # the end tokens of a stream are never predicted
                counts = np.where(np.arange(len(counts)) == tokenizer.end_token_id, 0, counts)
            unigram_output_bias(model.masked_lm, counts)
        return model
