"""Transformer-based pre-trained models in Keras 3: the library of the course."""

from course_lib.generation.samplers import BeamSearch, Greedy, MinP, Sampler, TopK, TopP
from course_lib.layers import (
    MultiHeadAttention,
    TransformerBlock,
    TransformerStack,
    causal_mask,
    combine_masks,
    padding_mask,
    scaled_dot_product_attention,
)
from course_lib.models.bert import Bert, BertConfig
from course_lib.models.bert_pretrainer import BertPretrainer
from course_lib.models.classifiers import TextClassifier, TokenClassifier
from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.models.llama import Llama, LlamaCausalLM, LlamaConfig
from course_lib.models.openai_gpt import OpenAIGPT, OpenAIGPTCausalLM, OpenAIGPTConfig
from course_lib.models.roberta import Roberta, RobertaConfig
from course_lib.models.sentence_encoder import SentenceEncoder
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM
from course_lib.text import BytePairTokenizer, ChatTokenizer, RobertaTokenizer, WordPieceTokenizer

__version__ = "0.2.0"

__all__ = [
    "GPT2",
    "BeamSearch",
    "Bert",
    "BertConfig",
    "BertPretrainer",
    "BytePairTokenizer",
    "ChatTokenizer",
    "GPT2CausalLM",
    "GPT2Config",
    "Greedy",
    "Llama",
    "LlamaCausalLM",
    "LlamaConfig",
    "MinP",
    "MultiHeadAttention",
    "OpenAIGPT",
    "OpenAIGPTCausalLM",
    "OpenAIGPTConfig",
    "Roberta",
    "RobertaConfig",
    "RobertaTokenizer",
    "Sampler",
    "SentenceEncoder",
    "Seq2Seq",
    "Seq2SeqConfig",
    "Seq2SeqLM",
    "TextClassifier",
    "TokenClassifier",
    "TopK",
    "TopP",
    "TransformerBlock",
    "TransformerStack",
    "WordPieceTokenizer",
    "__version__",
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

    from course_lib.course.quiet import quiet

    quiet()
    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
