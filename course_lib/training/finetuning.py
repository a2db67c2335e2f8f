"""Fine-tuning: a short recipe over `compile` and `fit` that trains a classifier and keeps its best epoch.

It follows Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.3.

Shapes: n rows, B batch, C classes or labels.
"""

import keras
import numpy as np

from course_lib.data.csv_dataset import train_test_split
from course_lib.models.text_inputs import labels_of, raw_text
from course_lib.progress import in_notebook, in_terminal
from course_lib.text.batches import Examples
from course_lib.training.adaptation import layerwise_lr_decay
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay


def fine_tune(
    model,
    train,
    validation,
    learning_rate,
    epochs,
    weight_decay=0.01,
    patience=None,
    layer_decay=1.0,
    batch_size=32,
    seed=0,
    score=None,
    class_weight=None,
    loss=None,
    jit_compile="auto",
    verbose="auto",
):
    """Trains a classifier, and restores the weights of its best epoch: the one with the lowest validation loss.

    The optimizer is AdamW with gradients clipped to a norm of 1. The learning rate rises during the first tenth of the
    steps, then falls to zero at the last. At the end, the optimizer's state is discarded and the model is compiled as
    `default_compile` says, so a saved classifier is no larger than its weights, and `evaluate` reports the accuracy.

    Args:
        model: a `TextClassifier` or a `TokenClassifier`. It is compiled here.
        train: a pair of raw texts and labels, as the classifier's `examples` takes them; or `Examples`.
        validation: likewise; or the fraction of the raw texts of `train` that is held out, of each class alike.
        learning_rate: the peak; or a `keras.optimizers.schedules.LearningRateSchedule`, which is used as it is.
        epochs: highest number of epochs.
        weight_decay: of AdamW.
        patience: training stops once this number of epochs, at least one, have passed since the best. Without it, it
            never stops early.
        layer_decay: factor of the learning rate from each block to the one below, as `layerwise_lr_decay` takes it.
        batch_size: B, if the texts are raw.
        seed: seed for shuffling, if the texts are raw.
        score: a function without arguments, called after each epoch. The best epoch is then the one with the highest
            score.
        class_weight: as the classifier's `fit` takes it, for raw texts.
        loss: a `keras.losses.Loss`. Defaults to the cross-entropy of the classes, or of each label by itself.
        jit_compile: as `keras.Model.compile` takes it. With "auto", TensorFlow does not use XLA on a CPU. With True it
            does: it takes some seconds for each length of a batch, and then half the time per step.
        verbose: as `keras.Model.fit` takes it. With "auto", a bar is shown in terminals and notebooks.

    Returns:
        A list with the validation loss of each epoch, or its score.

    Raises:
        ValueError: if every weight is frozen, `examples` cannot read the texts or the labels, or all raw texts of
            `train` have one label.
    """
    if isinstance(validation, float):
        train, validation = train_test_split(raw_text(train[0]), labels_of(train[1]), validation)
    if not isinstance(train, Examples):
        train = model.training_batches(model.examples(*train, batch_size=batch_size, seed=seed), class_weight)
    if not isinstance(validation, Examples):
        validation = model.examples(*validation, batch_size=batch_size)

    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        steps = epochs * train.num_batches
        learning_rate = WarmupLinearDecay(learning_rate, steps // 10, steps)
    multipliers = None if layer_decay == 1 else layerwise_lr_decay(model, layer_decay)
    optimizer = AdamW(learning_rate, weight_decay=weight_decay, global_clipnorm=1.0, lr_multipliers=multipliers)
    if loss is None:
        loss = model.default_compile()["loss"] if model.multi_label else CrossEntropy()
    model.compile(optimizer, loss=loss, jit_compile=jit_compile)

    monitor, mode, callbacks = ("score", "max", [_Score(score)]) if score else ("val_loss", "min", [])
    patience = epochs if patience is None else patience
    callbacks.append(keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True))
    verbose = int(in_terminal() or in_notebook()) if verbose == "auto" else verbose
    history = model.fit(
        train, validation_data=validation, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=verbose
    )
    model.compile()
    return [float(value) for value in history.history[monitor]]


class _Score(keras.callbacks.Callback):
    """Adds a score to the logs of an epoch, for the callbacks that come after it."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.score()


def logits_of(model, examples):
    """Computes a classifier's logits.

    Args:
        model: a `TextClassifier` or a `TokenClassifier`.
        examples: `Examples`.

    Returns:
        Floats (n, ..., C), in the order of the rows that the examples were made of.
    """
    parts = [model.predict_on_batch(examples[index][0]) for index in range(examples.num_batches)]
    return examples.in_order(np.concatenate([np.asarray(part) for part in parts]))
