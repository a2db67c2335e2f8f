"""What classifiers answer, and the loss of those that give a text several labels.

Shapes: B batch, C classes.
"""

import dataclasses

import keras
import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a classifier says of a text or of a word.

    Attributes:
        label: the most probable name.
        probability: its probability.
        probabilities: a dict with the probability of each name.
    """

    label: str
    probability: float
    probabilities: dict

    @classmethod
    def of(cls, names, probabilities):
        """Makes a prediction from probabilities.

        Args:
            names: C strings.
            probabilities: floats (C,).

        Returns:
            A `Prediction`.
        """
        values = dict(zip(names, map(float, probabilities), strict=True))
        label = names[int(np.argmax(probabilities))]
        return cls(label, values[label], values)


@dataclasses.dataclass(frozen=True)
class MultiLabelPrediction:
    """What a classifier says of a text that may have several labels, or none.

    Attributes:
        labels: the names whose probability reaches their threshold, a tuple.
        probabilities: a dict with the probability of each name. They do not sum to 1.
    """

    labels: tuple
    probabilities: dict


@dataclasses.dataclass(frozen=True)
class Entity:
    """An entity that a classifier of tokens found in a sentence of words.

    Attributes:
        label: its type.
        start: index of its first word.
        end: index after its last word.
        text: its words, with spaces between them.
    """

    label: str
    start: int
    end: int
    text: str


@keras.saving.register_keras_serializable("course_lib")
class MultiLabelCrossEntropy(keras.losses.Loss):
    """Computes the cross-entropy of each label by itself, with the sigmoid of its logit, and averages over labels.

    Unlike `keras.losses.BinaryCrossentropy`, it takes a weight per label, (B, C), as well as one per text, (B,).

    Args:
        name: of the loss.
        **kwargs: arguments of `keras.losses.Loss`.
    """

    def __init__(self, name="multi_label_cross_entropy", **kwargs):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})

    def call(self, y_true, y_pred):
        """Computes the loss of each label.

        Args:
            y_true: floats (B, C), 1 where a text has a label and 0 where it does not.
            y_pred: floats (B, C), the logits.

        Returns:
            float32 (B, C).
        """
        return ops.binary_crossentropy(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32"), from_logits=True)


def softmax(logits):
    """Computes the softmax over the last axis.

    Args:
        logits: floats (..., C), an array.

    Returns:
        Floats (..., C).
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
