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
from course_lib.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.heads import TextClassifier, TokenClassifier
from course_lib.sampling import BeamSearch, Greedy, MinP, Sampler, TopK, TopP
from course_lib.sentence_encoder import SentenceEncoder
from course_lib.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.text import BytePairTokenizer, WordPieceTokenizer

__all__ = [
    "GPT2",
    "BeamSearch",
    "Bert",
    "BertConfig",
    "BertPretrainer",
    "BytePairTokenizer",
    "GPT2CausalLM",
    "GPT2Config",
    "Greedy",
    "MinP",
    "MultiHeadAttention",
    "Sampler",
    "SentenceEncoder",
    "Seq2Seq",
    "Seq2SeqConfig",
    "TextClassifier",
    "TokenClassifier",
    "TopK",
    "TopP",
    "WordPieceTokenizer",
    "causal_mask",
    "combine_masks",
    "padding_mask",
    "reproducible",
    "scaled_dot_product_attention",
]


def reproducible(seed):
    """Seeds Python, NumPy and Keras, and asks for deterministic operations in full float32: a chapter's first line.

    Without it, recent GPUs and TPUs multiply float32 matrices with 10 or fewer bits of mantissa.

    Args:
        seed: an integer.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
