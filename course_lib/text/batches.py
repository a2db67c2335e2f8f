"""Makes batches of texts of similar length, cut to their longest row, so little computation is wasted on padding.

Shapes: n rows, B batch, T length.
"""

import keras
import numpy as np

STEP = 8  # widths are multiples of it, so a compiled step sees only a few different shapes
PER_TOKEN = ("token_ids", "segment_ids", "padding_mask")  # inputs (n, T)


def round_up(length, step=STEP):
    """Rounds a length up to a multiple of a step.

    Args:
        length: an integer.
        step: an integer.

    Returns:
        An integer.
    """
    return -(-int(length) // step) * step


def by_length(lengths, batch_size):
    """Groups rows of similar length.

    Args:
        lengths: integers (n,).
        batch_size: B.

    Yields:
        The indices of the rows of a group, integers (B,), or fewer in the last group. The shortest rows come first.
    """
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def widened(array, width):
    """Cuts rows to a width, or pads them with zeros.

    Args:
        array: (B, T).
        width: an integer.

    Returns:
        (B, width).
    """
    return np.pad(array[:, :width], ((0, 0), (0, max(width - array.shape[1], 0))))


class Examples(keras.utils.PyDataset):
    """Serves labelled rows to `fit`, in batches of rows of similar length.

    If the number of devices of a `keras.distribution` does not divide a batch, rows of weight 0 are added to it.

    Args:
        inputs: dict of arrays with n rows, among them `padding_mask` (n, T). The arrays named in `PER_TOKEN` are cut to
            each batch's longest row, rounded up to a multiple of `STEP`.
        labels: integers (n, ...), or a dict of them.
        weights: floats (n, ...) for the loss, or a dict of them. Defaults to 1 everywhere.
        batch_size: B.
        seed: seed for shuffling; each epoch is shuffled differently. Without one, rows are sorted by length, except
            that the widest batch may come second.
        per_token: whether labels and weights are (n, T). They are then cut like the inputs.
        transform: function from a batch (inputs, labels, weights) and its number, counted over all epochs, to a changed
            batch.

    Raises:
        ValueError: if there are no rows, or inputs, labels and weights differ in their number of rows.
    """

    def __init__(self, inputs, labels, weights=None, batch_size=32, seed=None, per_token=False, transform=None):
        super().__init__()
        labels = _as_arrays(labels)
        if weights is None:
            weights = keras.tree.map_structure(lambda array: np.ones(array.shape, "float32"), labels)
        weights = _as_arrays(weights)
        sizes = {len(array) for array in keras.tree.flatten((inputs, labels, weights))}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError(f"Expected inputs, labels and weights of one number of rows; got {sorted(sizes)}.")
        self.inputs, self.labels, self.weights, self.batch_size = inputs, labels, weights, batch_size
        self.per_token, self.transform = per_token, transform
        self.lengths = inputs["padding_mask"].sum(axis=1)
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.epoch, self.only_width = -1, None
        self.on_epoch_end()

    @property
    def num_batches(self):
        """Number of batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def on_epoch_end(self):
        """Draws the order of the next epoch. A seed mixes rows of similar length and shuffles the batches."""
        self.epoch += 1
        rows = len(self.lengths)
        ties = np.arange(rows) if self.rng is None else self.rng.permutation(rows)
        noise = 0 if self.rng is None else self.rng.uniform(0, STEP, rows)
        order = np.lexsort((ties, self.lengths + noise))
        batches = [order[start : start + self.batch_size] for start in range(0, rows, self.batch_size)]
        if self.rng is not None:
            middle = [batches[index] for index in 1 + self.rng.permutation(max(len(batches) - 2, 0))]
            batches = batches[:1] + batches[1:][-1:] + middle
        # The shortest and the longest batch come first: TensorFlow learns from two batches which axes vary.
        widths = [self._width(rows) for rows in batches]
        if self.epoch == 0 and len(set(widths)) == 1:
            self.only_width = widths[0]  # kept in later epochs, whose batches might be shorter
        if len(set(widths)) > len(set(widths[:2])) == 1:
            batches.insert(1, batches.pop(int(np.argmax(widths))))
        self.batches = batches

    def _width(self, rows):
        return self.only_width or min(round_up(self.lengths[rows].max()), self.inputs["padding_mask"].shape[1])

    def _filled(self, rows):
        """Repeats the first row until the devices of a `keras.distribution` can share the batch evenly."""
        current = keras.distribution.distribution()
        missing = 0 if current is None else -len(rows) % current.num_model_replicas
        return np.concatenate([rows, np.repeat(rows[:1], missing)])

    def __getitem__(self, index):
        rows, count = self._filled(self.batches[index]), len(self.batches[index])
        width = self._width(rows)
        cut = slice(width) if self.per_token else slice(None)
        inputs = {
            name: array[rows, :width] if name in PER_TOKEN else array[rows] for name, array in self.inputs.items()
        }
        labels, weights = keras.tree.map_structure(
            lambda array: array[rows][:, cut] if self.per_token else array[rows], (self.labels, self.weights)
        )
        for array in keras.tree.flatten(weights):
            array[count:] = 0  # of the repeated row
        batch = inputs, labels, weights
        return self.transform(batch, self.epoch * self.num_batches + index) if self.transform else batch

    def whole(self):
        """Returns all rows in one batch, if `batch_size` is at least their number."""
        return self[0]

    def in_order(self, found):
        """Puts a model's outputs back into the order of the original rows.

        Args:
            found: array with the rows of this epoch's batches, one batch after the other.

        Returns:
            An array with n rows.
        """
        is_own = [np.arange(len(self._filled(rows))) < len(rows) for rows in self.batches]
        ordered = np.empty((len(self.lengths), *found.shape[1:]), found.dtype)
        ordered[np.concatenate(self.batches)] = found[np.concatenate(is_own)]
        return ordered


def _as_arrays(values):
    if isinstance(values, dict):
        return {name: np.asarray(value) for name, value in values.items()}
    return np.asarray(values)


class Pairs(keras.utils.PyDataset):
    """Serves sources and targets to `fit`. All arrays of a batch are cut or padded to the same width.

    Args:
        inputs: dict of arrays (n, S) or (n, T), among them `encoder_padding_mask` (n, S).
        labels: integers (n, T).
        weights: floats (n, T) for the loss, 0 at padding.
        batch_size: B.
        seed: seed for shuffling; each epoch is shuffled differently.
    """

    def __init__(self, inputs, labels, weights, batch_size=32, seed=0):
        super().__init__()
        self.arrays = inputs, labels, weights
        longer = np.maximum(inputs["encoder_padding_mask"].sum(axis=1), (weights > 0).sum(axis=1))
        self.widths = np.array([round_up(length, STEP // 2) for length in longer])
        self.batch_size, self.rng = batch_size, np.random.default_rng(seed)
        self.on_epoch_end()

    @property
    def num_batches(self):
        """Number of batches in an epoch."""
        return len(self.batches)

    def on_epoch_end(self):
        """Draws the order of the next epoch: groups rows of equal width, then shuffles rows and batches."""
        batches = []
        for width in np.unique(self.widths):
            rows = self.rng.permutation(np.flatnonzero(self.widths == width))
            batches += [
                (width, rows[start : start + self.batch_size]) for start in range(0, len(rows), self.batch_size)
            ]
        batches = [batches[index] for index in self.rng.permutation(len(batches))]
        # TensorFlow learns from the first two batches which axes vary, so they differ in width.
        other = [index for index, (width, _) in enumerate(batches) if width != batches[0][0]]
        if other:
            batches.insert(1, batches.pop(other[0]))
        self.batches = batches

    def __getitem__(self, index):
        width, rows = self.batches[index]
        return keras.tree.map_structure(lambda array: widened(array[rows], width), self.arrays)

    def whole(self):
        """Returns all rows in one batch."""
        return keras.tree.map_structure(lambda array: widened(array, self.widths.max()), self.arrays)


def check_labels(examples, names):
    """Checks that examples have at least two different labels.

    Args:
        examples: `Examples` whose weights have the shape of their labels.
        names: the C labels, by their ids.

    Raises:
        ValueError: if all labels with weight are the same, or none has weight.
    """
    found = np.unique(examples.labels[examples.weights > 0])
    if len(found) < 2:
        raise ValueError(f"Expected texts of at least two labels to learn from; got only {[names[i] for i in found]}.")
