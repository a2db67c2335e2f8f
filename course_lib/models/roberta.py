"""RoBERTa (Liu et al., 2019, https://arxiv.org/abs/1907.11692): BERT's encoder, pre-trained on masked tokens alone."""

import dataclasses

import keras

from course_lib.checkpoints.huggingface import roberta as huggingface
from course_lib.models.bert import Bert, BertConfig
from course_lib.text.roberta import RobertaTokenizer


@dataclasses.dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """Everything that changes what a RoBERTa computes. The fields are those of `BertConfig`.

    Args:
        num_segments: 1, since it has no segments.
        layer_norm_epsilon: added to the variance in every norm.
        pad_token_id: id of the tokenizer's padding token.
    """

    num_segments: int = 1
    layer_norm_epsilon: float = 1e-5
    pad_token_id: int = 1


@keras.saving.register_keras_serializable("course_lib")
class Roberta(Bert):
    """The encoder of RoBERTa. `Bert.from_preset` and the tasks on a `Bert` make one where a folder holds a RoBERTa.

    It differs from BERT in its tokenizer, byte-level BPE, in its one segment, and in what it was pre-trained for: a
    `BertPretrainer` on it has no next-sentence head. In the files, its positions begin at 2; here they begin at 0.

    A `TextClassifier` with `pooling="pooled"` computes what `RobertaForSequenceClassification` computes, whose first
    dense layer is the pooler. In training, `transformers` also applies dropout before that layer.

    Args:
        config: a `RobertaConfig`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> roberta = Bert.from_preset("hf://FacebookAI/roberta-base")
        >>> roberta(roberta.tokenizer(["Hello, my dog is cute"]))["sequence_output"].shape
        (1, 8, 768)
    """

    config_class = RobertaConfig
    tokenizer_class = RobertaTokenizer
    tokenizer_options = ()
    checkpoint_format = huggingface.ROBERTA
    other_formats = ()
    has_next_sentence = False
