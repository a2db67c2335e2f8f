r"""Measures the loss of a language model on held-out documents, in nats per token and in bits per byte.

Bits per byte do not depend on the vocabulary, so they also allow a comparison with programs that compress files: with a
model that gives a text the probability p, the text can be stored in at most $-\log_2 p + 2$ bits (Witten et al., 1987,
https://doi.org/10.1145/214762.214771).

Shapes: B windows, T length, V vocabulary.
"""

import keras
import numpy as np
from keras import ops

from course_lib.validation import check_ids


def without_label(y_true, sample_weight, label):
    """Gives the predictions that have a certain label the weight 0, and another label.

    Args:
        y_true: integers (...), the labels.
        sample_weight: floats (...), or with fewer axes, such as one per row; or None.
        label: the label that does not count, such as -100 in `transformers`.

    Returns:
        The labels, with 0 in its place, and the weights, both (...).
    """
    y_true = ops.convert_to_tensor(y_true)
    counts = ops.not_equal(y_true, ops.cast(label, y_true.dtype))
    weights = ops.cast(counts, "float32")
    if sample_weight is not None:
        given = ops.cast(sample_weight, "float32")
        given = ops.squeeze(given, -1) if len(given.shape) > len(weights.shape) else given
        weights *= ops.reshape(given, (*ops.shape(given), *(1,) * (len(weights.shape) - len(given.shape))))
    return ops.where(counts, y_true, 0), weights


@keras.saving.register_keras_serializable("course_lib")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    r"""Computes $e^{\text{cross-entropy}}$: the number of equally likely tokens that are as hard to predict.

    Args:
        ignore_class: label of predictions to leave out. By default none are left out.
        name: name of the metric.
        dtype: dtype of the result. Defaults to float32.
    """

    def __init__(self, ignore_class=None, name="perplexity", dtype=None):
        super().__init__(from_logits=True, name=name, dtype=dtype)
        self.ignore_class = ignore_class

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch of predictions.

        Args:
            y_true: integers (...), the labels.
            y_pred: floats (..., V), the logits.
            sample_weight: floats (...), or with fewer axes, such as one per row. Defaults to 1.
        """
        if self.ignore_class is not None:
            y_true, sample_weight = without_label(y_true, sample_weight, self.ignore_class)
        super().update_state(y_true, y_pred, sample_weight)

    def result(self):
        """Returns the perplexity of everything since the last reset, a scalar."""
        return ops.exp(super().result())

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"ignore_class": self.ignore_class, "name": self.name, "dtype": self.dtype}


def token_losses(model, documents, stride=None, batch_size=16):
    r"""Computes the loss of a GPT-2 on each token: $-\log p$, in nats.

    The model reads each document after an end token, as in pre-training, and also predicts the document's own end
    token. A document that is longer than the model's T positions is read in windows that start `stride` tokens apart. A
    window only counts the tokens that no earlier window has covered, so every token has at least T - stride tokens of
    context, or all tokens before it.

    Args:
        model: a `GPT2CausalLM`.
        documents: n sequences of token ids, without end tokens.
        stride: from 1 to T. Defaults to T // 2.
        batch_size: B, number of windows read at once.

    Returns:
        A list of n float32 arrays. Each has one entry more than the document has tokens, for its end token.

    Raises:
        ValueError: if there are no documents, a token id is outside the vocabulary, the stride is outside its range, or
            the model has no end token.
    """
    config, documents = model.backbone.config, list(documents)
    length, end = config.max_sequence_length, config.end_token_id
    stride = max(1, length // 2) if stride is None else stride
    if not documents:
        raise ValueError("Expected at least one document; got none.")
    for document in documents:
        if len(document):
            check_ids(np.asarray(document), config.vocabulary_size)
    if not 1 <= stride <= length:
        raise ValueError(f"Expected a stride from 1 to {length}, the model's length; got {stride}.")
    if end < 0:
        raise ValueError("Expected a model with an end token, which documents begin after; this one has none.")
    length = min(length, max(map(len, documents)) + 1)
    windows, streams = [], [np.array([end, *document, end], "int32") for document in documents]
    for number, stream in enumerate(streams):
        last = max(0, len(stream) - 1 - length)
        windows += [(number, start) for start in [*range(0, last, stride), -(-last // stride) * stride]]
    rows = np.full((len(windows), length + 1), end, "int32")
    for row, (number, start) in zip(rows, windows, strict=True):
        part = streams[number][start : start + length + 1]
        row[: len(part)] = part
    found = _Losses(model).predict({"inputs": rows[:, :-1], "targets": rows[:, 1:]}, batch_size, verbose=0)  # (…, T)
    losses = [np.empty(len(stream) - 1, "float32") for stream in streams]
    for (number, start), loss in reversed(
        list(zip(windows, found, strict=True))
    ):  # in reverse, so that earlier windows overwrite later ones
        part = losses[number][start : start + length]
        part[:] = loss[: len(part)]
    return losses


class _Losses(keras.Model):
    """Outputs only the loss of each target, so at most one batch of logits (B, T, V) is in memory."""

    def __init__(self, language_model):
        super().__init__(name="token_losses")
        self.language_model = language_model

    def build(self, input_shape=None):
        self.language_model.build()
        self.built = True

    def call(self, batch):
        logits = ops.cast(self.language_model(batch["inputs"]), "float32")
        return ops.sparse_categorical_crossentropy(batch["targets"], logits, from_logits=True)


def bits_per_byte(losses, texts):
    """Computes the loss of texts in bits, divided by their length in UTF-8 bytes.

    Args:
        losses: for each text, the losses of its tokens in nats, end token included, as `token_losses` returns them.
        texts: strings.

    Returns:
        A number.
    """
    return sum(float(np.sum(loss, dtype="float64")) for loss in losses) / np.log(2) / num_bytes(texts)


def num_bytes(texts):
    """Counts the UTF-8 bytes of all texts together.

    Args:
        texts: strings.

    Returns:
        An integer.
    """
    return sum(len(text.encode()) for text in texts)
