"""The first GPT (Radford et al., 2018, https://openai.com/index/language-unsupervised/): GPT-2, but post-norm.

Shapes: D model width, V vocabulary.
"""

import dataclasses

import keras

from course_lib.checkpoints import openai
from course_lib.checkpoints.huggingface import gpt as huggingface
from course_lib.models.causal_lm import CausalLM
from course_lib.models.gpt2 import GPT2, GPT2Config
from course_lib.text.openai_gpt import OpenAIGPTTokenizer


@dataclasses.dataclass(frozen=True)
class OpenAIGPTConfig(GPT2Config):
    """Everything that changes what a GPT computes. The fields are those of `GPT2Config`.

    Args:
        max_sequence_length: number of positions that have an embedding.
        end_token_id: -1, since no token ends a text.
    """

    max_sequence_length: int = 512
    end_token_id: int = -1


@keras.saving.register_keras_serializable("course_lib")
class OpenAIGPT(GPT2):
    """The decoder of the first GPT. Its norms come after the sublayers, as in the Transformer paper.

    Args:
        config: an `OpenAIGPTConfig`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = OpenAIGPTConfig
    tokenizer_class = OpenAIGPTTokenizer
    checkpoint_format = huggingface.OPENAI_GPT
    other_formats = (openai.OPENAI_GPT,)
    norm_first = False


@keras.saving.register_keras_serializable("course_lib")
class OpenAIGPTCausalLM(CausalLM):
    """The first GPT as a language model. Its head is the transpose of the token embeddings.

    Args:
        backbone: an `OpenAIGPT`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    backbone_class = OpenAIGPT
