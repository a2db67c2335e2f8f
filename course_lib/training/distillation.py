r"""Distillation: a small student learns to give the answers of a large teacher.

The teacher reads each text once, before the student is trained. It may therefore have another tokenizer, and the texts
need no labels. `keras.distillation.Distiller` runs both in every step instead, on the same inputs.

Shapes: n texts, B batch, C classes, D model width of the student, D' that of the teacher.

Example:
    >>> logits = logits_of(teacher, teacher.examples(texts))
    >>> distil(student, texts, logits, validation, learning_rate=3e-4, epochs=4)
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from course_lib.models.pooling import pool
from course_lib.models.text_inputs import raw_text
from course_lib.text.batches import Examples
from course_lib.training.adaptation import embeddings_and_blocks, has_adapters
from course_lib.training.finetuning import fine_tune
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay


@keras.saving.register_keras_serializable("course_lib")
class DistillationCrossEntropy(CrossEntropy):
    r"""The loss of Hinton et al., 2015 (https://arxiv.org/abs/1503.02531, section 2), for a student's logits z.

    With the teacher's logits v and a temperature τ it is
    $-\alpha \tau^2 \sum_c \text{softmax}(v / \tau)_c \log \text{softmax}(z / \tau)_c - (1 - \alpha) \log
    \text{softmax}(z)_{label}$. The factor τ² keeps the gradient of the first term
    roughly as large as without a temperature.

    Args:
        temperature: τ. The higher it is, the more the teacher's less likely classes count.
        alpha: α, the share of the teacher. With 1, labels do not count.
        name: of the loss.
        **kwargs: arguments of `CrossEntropy`.

    Raises:
        ValueError: unless τ is positive and α is in [0, 1].
    """

    def __init__(self, temperature=2.0, alpha=1.0, name="distillation", **kwargs):
        super().__init__(name=name, **kwargs)
        if not temperature > 0 or not 0 <= alpha <= 1:
            raise ValueError(f"Expected a temperature above 0 and alpha in [0, 1]; got {temperature} and {alpha}.")
        self.temperature, self.alpha = temperature, alpha

    def call(self, y_true, y_pred):
        """Computes the loss of each text.

        Args:
            y_true: floats (B, C + 1), the teacher's logits and, last, the label; or integers (B,), labels alone, for
                the usual cross-entropy.
            y_pred: floats (B, C), the student's logits.

        Returns:
            Floats (B,).
        """
        if len(y_true.shape) < len(y_pred.shape):
            return super().call(y_true, y_pred)
        y_pred = ops.cast(y_pred, "float32")
        teacher = ops.softmax(ops.cast(y_true[..., :-1], "float32") / self.temperature)
        soft = -ops.sum(teacher * ops.log_softmax(y_pred / self.temperature), axis=-1)
        loss = self.alpha * self.temperature**2 * soft
        return loss if self.alpha == 1 else loss + (1 - self.alpha) * super().call(y_true[..., -1], y_pred)

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"temperature": self.temperature, "alpha": self.alpha}


def distil(
    student,
    texts,
    logits,
    validation,
    learning_rate,
    epochs,
    labels=None,
    temperature=2.0,
    alpha=None,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Trains a classifier to give a teacher's answers, and keeps the epoch with the lowest validation loss.

    Args:
        student: a `TextClassifier`.
        texts: n strings. They need no labels.
        logits: floats (n, C), the teacher's, with the student's classes in the same order.
        validation: a pair of raw texts and labels; or `Examples`.
        learning_rate: the peak.
        epochs: highest number of epochs.
        labels: the class of each text, if known.
        temperature: τ, as in `DistillationCrossEntropy`.
        alpha: α, as there. Defaults to 1 without labels, and to 0.5 with them.
        batch_size: B.
        seed: seed for shuffling.
        **kwargs: further arguments of `course_lib.training.finetuning.fine_tune`.

    Returns:
        A list with the validation loss of each epoch.

    Raises:
        ValueError: if there is not one row of C logits per text, or `alpha` is below 1 without labels.
    """
    texts, classes = raw_text(texts), len(student.classes)
    if np.shape(logits) != (len(texts), classes):
        raise ValueError(
            f"Expected logits of {len(texts)} texts and {classes} classes; got an array of shape {np.shape(logits)}."
        )
    alpha = (1.0 if labels is None else 0.5) if alpha is None else alpha
    if labels is None and alpha < 1:
        raise ValueError(f"Expected labels for alpha below 1; got alpha={alpha} and none.")
    examples = student.examples(texts, labels, batch_size=batch_size, seed=seed)
    targets = np.column_stack([logits, examples.labels]).astype("float32")
    train = Examples(examples.inputs, targets, np.ones(len(texts), "float32"), batch_size, seed)
    loss = DistillationCrossEntropy(temperature, alpha)
    return fine_tune(student, train, validation, learning_rate, epochs, loss=loss, batch_size=batch_size, **kwargs)


class _Projected(keras.Model):
    """A backbone and a pooling, then a dense layer to the teacher's width."""

    def __init__(self, student, width):
        super().__init__(name="student")
        self.backbone, self.pooling = student.backbone, student.pooling
        self.projection = keras.layers.Dense(width, dtype="float32")

    def call(self, inputs, training=None):
        vectors = pool(self.backbone(inputs, training=training), inputs["padding_mask"], self.pooling)
        return self.projection(vectors)


def imitate(student, texts, vectors, learning_rate, epochs, batch_size=32, seed=0, jit_compile="auto", verbose=0):
    """Trains a classifier's backbone, so that a dense layer can map its vector of a text to the teacher's.

    This is the hidden-state loss of TinyBERT (Jiao et al., 2020, https://arxiv.org/abs/1909.10351, equation 8), on one
    vector per text instead of one per token, since the tokens may differ. Train the head afterwards, with `distil`.

    Args:
        student: a `TextClassifier`. Its backbone is trained, and its head stays as it is.
        texts: n strings. They need no labels.
        vectors: floats (n, D'), the teacher's.
        learning_rate: the peak.
        epochs: number of epochs.
        batch_size: B.
        seed: seed for shuffling, and of the dense layer's first weights.
        jit_compile: as `course_lib.training.finetuning.fine_tune` takes it.
        verbose: as `keras.Model.fit` takes it.

    Returns:
        A list with the loss of each epoch: the mean square of the differences.

    Raises:
        ValueError: if there is not one vector per text.
    """
    texts, vectors = raw_text(texts), np.asarray(vectors, "float32")
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"Expected a vector for each of {len(texts)} texts; got an array of shape {vectors.shape}.")
    keras.utils.set_random_seed(seed)
    student.build()
    inputs = student.examples(texts, None, batch_size=batch_size).inputs
    train = Examples(inputs, vectors, np.ones(len(texts), "float32"), batch_size, seed)
    steps = epochs * train.num_batches
    model = _Projected(student, vectors.shape[1])
    optimizer = AdamW(WarmupLinearDecay(learning_rate, steps // 10, steps), global_clipnorm=1.0)
    model.compile(optimizer, loss="mse", jit_compile=jit_compile)
    history = model.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
    return [float(loss) for loss in history.history["loss"]]


def drop_layers(backbone, kept):
    """Copies a backbone without some of its blocks. Nothing is trained: it is a baseline for distilled students.

    Args:
        backbone: a backbone with one stack of blocks, such as a `Bert` or a `GPT2`.
        kept: indices of the blocks that stay, in order.

    Returns:
        A backbone of the same class.

    Raises:
        ValueError: if an index is wrong or occurs twice, there are low-rank adapters, or the scale of the scores
            depends on the number of the block.
    """
    _, blocks = embeddings_and_blocks(backbone)
    kept = list(kept)
    if not kept or sorted({*kept}) != kept or not 0 <= kept[0] <= kept[-1] < len(blocks):
        raise ValueError(f"Expected indices from 0 to {len(blocks) - 1}, each once and in order; got {kept}.")
    if has_adapters(backbone):
        raise ValueError("Expected a backbone without low-rank adapters; merge them first, with merge_lora.")
    if getattr(backbone.config, "scale_attention_by_layer", False):
        raise ValueError("Expected scale_attention_by_layer=False: a block that moves up would get another scale.")
    backbone.build()
    config = dataclasses.replace(backbone.config, num_layers=len(kept))
    smaller = type(backbone)(config, backbone.tokenizer, dtype=backbone.dtype_policy)
    smaller.build()
    own, theirs = (embeddings_and_blocks(model)[1] for model in (smaller, backbone))
    for block, index in zip(own, kept, strict=True):
        block.set_weights(theirs[index].get_weights())
    inside = {id(weight) for block in own for weight in block.weights}
    outside = {id(weight) for block in theirs for weight in block.weights}
    rest = ([w for w in model.weights if id(w) not in skip] for model, skip in ((smaller, inside), (backbone, outside)))
    for weight, trained in zip(*rest, strict=True):
        weight.assign(trained)
    return smaller
