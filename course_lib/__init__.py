"""Transformer-based pre-trained models in Keras 3: attention, BERT, tokenizers, and what the course's chapters need."""

import course_lib._quiet  # noqa: F401  first, since it starts Keras and its backend
from course_lib.attention import (
    MultiHeadAttention,
    causal_mask,
    combine_masks,
    padding_mask,
    scaled_dot_product_attention,
)
from course_lib.bert import Bert, BertConfig, BertPretrainer
from course_lib.heads import SentenceEncoder
from course_lib.text import WordPieceTokenizer

__all__ = [
    "Bert",
    "BertConfig",
    "BertPretrainer",
    "MultiHeadAttention",
    "SentenceEncoder",
    "WordPieceTokenizer",
    "causal_mask",
    "combine_masks",
    "padding_mask",
    "reproducible",
    "scaled_dot_product_attention",
]


def reproducible(seed):
    """Seeds Python, NumPy and Keras, and asks the backend for deterministic operations: a chapter's first line.

    Args:
        seed: an integer.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
