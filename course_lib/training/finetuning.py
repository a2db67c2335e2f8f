"""Fine-tuning: labelled rows as batches that are cut to their longest row, and a fit that keeps the best epoch.

After Devlin et al., 2019, https://arxiv.org/abs/1810.04805, appendix A.3. Shapes: n rows, T length, B batch.
"""

import keras
import numpy as np

from course_lib.objectives import CrossEntropy
from course_lib.training.adaptation import rates_by_depth
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay

_STEP = 8  # widths of batches are multiples of it, so that few different ones are compiled
_BY_TOKEN = ("token_ids", "segment_ids", "padding_mask")  # inputs (n, T)


class Examples(keras.utils.PyDataset):
    """Labelled rows for `fit`, those of like length together, so that little is computed for padding.

    Args:
        inputs: a dict of arrays with n rows, `padding_mask` (n, T) among them; what tokenizers return is cut.
        labels: integers (n, …).
        weights: floats (n, …) for the loss; 1 if None.
        batch_size: B.
        seed: of the order, which is another in each epoch; if None, the order is that of the lengths.

    Raises:
        ValueError: if there is no row, or the inputs, labels and weights differ in their number.
    """

    def __init__(self, inputs, labels, weights=None, batch_size=32, seed=None):
        super().__init__()
        labels = np.asarray(labels)
        weights = np.ones(labels.shape, "float32") if weights is None else np.asarray(weights)
        sizes = {len(array) for array in (*inputs.values(), labels, weights)}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError(f"Expected inputs, labels and weights of one number of rows; got {sorted(sizes)}.")
        self.inputs, self.labels, self.weights, self.batch_size = inputs, labels, weights, batch_size
        self.lengths = inputs["padding_mask"].sum(axis=1)
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    @property
    def num_batches(self):
        """How many batches there are."""
        return -(-len(self.labels) // self.batch_size)

    def on_epoch_end(self):
        """Puts the rows in another order: by length, equal lengths by chance, and the batches by chance."""
        ties = np.arange(len(self.labels)) if self.rng is None else self.rng.permutation(len(self.labels))
        noise = 0 if self.rng is None else self.rng.uniform(0, _STEP, len(self.labels))
        order = np.lexsort((ties, self.lengths + noise))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        if self.rng is not None:
            middle = [batches[index] for index in 1 + self.rng.permutation(max(len(batches) - 2, 0))]
            batches = batches[:1] + batches[1:][-1:] + middle
        # The shortest and the longest come first: from two batches TensorFlow learns which axes vary.
        widths = [self._width(rows) for rows in batches]
        if len(set(widths)) > len(set(widths[:2])) == 1:
            batches.insert(1, batches.pop(int(np.argmax(widths))))
        self.batches = batches

    def _width(self, rows):
        return min(-(-self.lengths[rows].max() // _STEP) * _STEP, self.inputs["padding_mask"].shape[1])

    def __getitem__(self, index):
        rows = self.batches[index]
        width = self._width(rows)
        inputs = {
            name: array[rows, :width] if name in _BY_TOKEN else array[rows] for name, array in self.inputs.items()
        }
        return inputs, self.labels[rows], self.weights[rows]

    def in_order(self, found):
        """What a model found, in the order of the rows that these were made of.

        Args:
            found: an array with n rows, in the order of the batches of this epoch.

        Returns:
            An array of the same shape.
        """
        ordered = np.empty_like(found)
        ordered[np.concatenate(self.batches)] = found
        return ordered


def check_labels(examples, names):
    """Checks that examples have at least two labels.

    Args:
        examples: `Examples`, whose weights have the shape of their labels.
        names: of the C labels.

    Raises:
        ValueError: if all that has weight has one label, or nothing has weight.
    """
    found = np.unique(examples.labels[examples.weights > 0])
    if len(found) < 2:
        raise ValueError(f"Expected texts of at least two labels to learn from; got only {[names[i] for i in found]}.")


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
):
    """Trains a classifier, and keeps the weights of the epoch with the lowest validation loss, or the highest score.

    The learning rate rises for a tenth of the steps and falls to zero at the last.

    Args:
        model: a `TextClassifier` or `TokenClassifier`; it is compiled here.
        train: `Examples`; or raw texts and their labels, a pair.
        validation: likewise.
        learning_rate: the peak.
        epochs: how many.
        weight_decay: of AdamW.
        patience: training ends early once no epoch has been the best for so many epochs, at least one; never if None.
        layer_decay: what the learning rate is multiplied by from each block to the one below, as `rates_by_depth` does.
        batch_size: B, where the texts are raw.
        seed: of the order of raw texts.
        score: a function without arguments that says after each epoch how good the model is; if None, the validation
            loss does.

    Returns:
        A list with the validation loss of each epoch, or its score.

    Raises:
        ValueError: if every weight is frozen, or raw texts or labels cannot be used, as the classifier's `examples`
            says, or all raw texts to learn from have one label.
    """
    if not isinstance(train, Examples):
        train = model.examples(*train, batch_size=batch_size, seed=seed)
        check_labels(train, model.names)
    if not isinstance(validation, Examples):
        validation = model.examples(*validation, batch_size=batch_size)
    steps = epochs * train.num_batches
    schedule = WarmupLinearDecay(learning_rate, steps // 10, steps)
    rates = None if layer_decay == 1 else rates_by_depth(model, layer_decay)
    optimizer = AdamW(schedule, weight_decay=weight_decay, global_clipnorm=1.0, rates=rates)
    model.compile(optimizer, loss=CrossEntropy(), jit_compile=False)
    monitor, mode, callbacks = ("score", "max", [_Score(score)]) if score else ("val_loss", "min", [])
    patience = epochs if patience is None else patience
    callbacks.append(keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True))
    history = model.fit(train, validation_data=validation, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return [float(value) for value in history.history[monitor]]


class _Score(keras.callbacks.Callback):
    """Adds a score to what is known of an epoch, for the callbacks behind it."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.score()


def logits_of(model, examples):
    """A classifier's logits.

    Args:
        model: a `TextClassifier` or `TokenClassifier`.
        examples: `Examples` without a seed.

    Returns:
        Floats (n, …, C), in the order of the rows that the examples were made of.
    """
    parts = [model.predict_on_batch(examples[index][0]) for index in range(examples.num_batches)]
    return examples.in_order(np.concatenate([np.asarray(part) for part in parts]))
