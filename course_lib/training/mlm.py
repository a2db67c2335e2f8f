"""Masked language modelling, BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1).

`course_lib.training.pretrain` runs it. `course_lib.training.clm` has the same interface.

Shapes: B batch, P predictions per row, V vocabulary.
"""

import numpy as np

from course_lib.models.bert import Bert, BertConfig
from course_lib.models.bert_pretrainer import BertPretrainer
from course_lib.text.masking import Masking
from course_lib.text.packing import pack_segments
from course_lib.text.sentence_pairs import SentencePairs, split_sentences
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.training.initialization import relative_position_initialization, unigram_output_bias


class MaskedLanguageModeling:
    """Trains a BERT to fill in masked tokens, and to tell whether a sentence follows another.

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
            `SentencePairs`.

        Raises:
            ValueError: if a document has no sentence, or fewer than two documents have two or more sentences.
        """
        documents = [[tokenizer.encode(sentence)[1:-1] for sentence in split_sentences(text)] for text in texts]
        return SentencePairs(documents, self.recipe.length - 3)

    def batch_maker(self, data, tokenizer, seed):
        """Makes the function that draws batches.

        Args:
            data: what `encode` returned.
            tokenizer: a `WordPieceTokenizer`.
            seed: an integer of 0 or more.

        Returns:
            A function from a step to its batch. The batch is a triple: the inputs; the labels, a dict of integers with
            `mlm_logits` (B, P), the original tokens, and `nsp_logits` (B,), 0 if the second segment follows the first
            and 1 if it does not; and the weights, a dict of floats with `mlm_logits` (B, P), 0 where a row has fewer
            than P predictions, and `nsp_logits` (B,).
        """
        recipe = self.recipe
        masking = Masking.of(tokenizer, recipe.whole_words, rate=recipe.masking_rate, positions=recipe.predictions)
        special = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id

        def batch_of(step):
            first, second, follows = data.draw(recipe.batch_size, seed, step)
            inputs, tokens, weights = masking(pack_segments(first, second, *special, recipe.length), seed, step)
            labels = {"mlm_logits": tokens, "nsp_logits": follows}
            return inputs, labels, {"mlm_logits": weights, "nsp_logits": np.ones(len(follows), "float32")}

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
            unigram_output_bias(model.masked_lm, counts)
        return model
