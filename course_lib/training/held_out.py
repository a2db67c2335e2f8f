r"""What held-out documents cost a language model, in nats a token and in bits a byte.

The bits a byte are the same measure for any vocabulary, and for programs that compress files: a model that gives a text
the probability p can store it in $-\log_2 p$ bits, and two more at most (Witten et al., 1987,
https://doi.org/10.1145/214762.214771).

Shapes: B rows, T length, V vocabulary.
"""

import keras
import numpy as np
from keras import ops

from course_lib.inputs import check_ids


def token_losses(model, documents, stride=None, batch_size=16):
    r"""What each token costs a GPT-2: $-\log p$, in nats.

    A document is read after an end token, as in pre-training, and its own end token is predicted. Where it is longer
    than T, the model's length, it is read in windows, each `stride` further on; of each only what those before have not
    reached is counted, so that every token has at least T - stride tokens to go by, or all that there are.

    Args:
        model: a `GPT2CausalLM`.
        documents: n sequences of token ids, without end tokens.
        stride: from 1 to T; T // 2 if None.
        batch_size: B, how many windows at once.

    Returns:
        A list of n float32 arrays, each with one entry more than the document has tokens, for its end token.

    Raises:
        ValueError: if there is no document, one has token ids outside the vocabulary, the stride is outside its range,
            or the model has no end token.
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
        raise ValueError("Expected a model with an end token, after which documents begin; this one has none.")
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
    for (number, start), loss in reversed(list(zip(windows, found, strict=True))):  # the earlier windows prevail
        part = losses[number][start : start + length]
        part[:] = loss[: len(part)]
    return losses


class _Losses(keras.Model):
    """A model whose output is what each target costs, so that the logits (B, T, V) of no more than a batch are kept."""

    def __init__(self, language_model):
        super().__init__(name="token_losses")
        self.language_model = language_model

    def build(self, input_shape=None):
        self.language_model.build()
        self.built = True

    def call(self, batch):
        logits = ops.cast(self.language_model(batch["inputs"])["logits"], "float32")
        return ops.sparse_categorical_crossentropy(batch["targets"], logits, from_logits=True)


def bits_per_byte(losses, texts):
    """The bits that texts cost, by the bytes that they have in UTF-8.

    Args:
        losses: of each text an array of its tokens' losses in nats, end token included.
        texts: strings.

    Returns:
        A number.
    """
    return sum(float(np.sum(loss, dtype="float64")) for loss in losses) / np.log(2) / num_bytes(texts)


def num_bytes(texts):
    """How many bytes texts have in UTF-8, together.

    Args:
        texts: strings.

    Returns:
        An integer.
    """
    return sum(len(text.encode()) for text in texts)
