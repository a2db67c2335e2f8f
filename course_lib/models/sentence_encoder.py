"""One vector per text, of unit length (Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084).

Shapes: n texts, B batch, T length, D model width.
"""

import keras
import numpy as np
from keras import ops

from course_lib.checkpoints.huggingface import sentence_transformers
from course_lib.models.bert import Bert
from course_lib.models.pooling import check_pooling, pool
from course_lib.models.task import Task
from course_lib.models.text_inputs import as_texts, check_lengths, check_max_length, raw_text
from course_lib.progress import progress_bar
from course_lib.text.batches import STEP, by_length, round_up


def unit_length(vectors):
    """Divides vectors by their lengths.

    Args:
        vectors: floats (..., D).

    Returns:
        Floats (..., D). A vector of zeros stays one, and has a gradient, unlike in `keras.ops.normalize`.
    """
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)  # (..., 1)
    return vectors * ops.rsqrt(ops.maximum(squares, 1e-6))


@keras.saving.register_keras_serializable("course_lib")
class InBatchNegatives(keras.losses.Loss):
    """Asks each first text of a batch to pick its second text among all of them (Henderson et al., 2017).

    https://arxiv.org/abs/1705.00652, section 4.4: cross-entropy of the right pair, over the scaled cosines of the first
    vector with every second vector of the batch. With a `tf.distribute` strategy, each device has its own pairs alone.

    Args:
        scale: factor of the cosines.
        name: of the loss.
        **kwargs: arguments of `keras.losses.Loss`.
    """

    def __init__(self, scale=20.0, name="in_batch_negatives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        """Computes the loss of each pair.

        Args:
            y_true: not read.
            y_pred: floats (2 B, D), the vectors of a first and a second text in turn.

        Returns:
            Floats (B,).
        """
        vectors = unit_length(y_pred)
        first, second = vectors[::2], vectors[1::2]  # (B, D)
        scores = self.scale * ops.matmul(first, ops.transpose(second))  # (B, B)
        return ops.sparse_categorical_crossentropy(ops.arange(ops.shape(scores)[0]), scores, from_logits=True)

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale}


class _PairsOfTexts(keras.utils.PyDataset):
    """Batches of 2 B rows: a first text and the one that belongs to it in turn, so devices can share a batch."""

    def __init__(self, first, second, batch_size, seed):
        super().__init__()
        self.inputs = first, second
        self.batch_size, self.rng = batch_size, None if seed is None else np.random.default_rng(seed)
        self.lengths = np.maximum(*(part["padding_mask"].sum(axis=1) for part in self.inputs))
        self.cuts = True
        self.on_epoch_end()
        self.cuts = len({self._width(rows) for rows in self.batches[:2]}) > 1  # as far as TensorFlow knows, widths vary

    @property
    def num_batches(self):
        return max(1, len(self.lengths) // self.batch_size)  # the rest of an epoch has too few negatives

    def on_epoch_end(self):
        rows = np.arange(len(self.lengths)) if self.rng is None else self.rng.permutation(len(self.lengths))
        starts = range(0, self.num_batches * self.batch_size, self.batch_size)
        self.batches = [rows[start : start + self.batch_size] for start in starts]
        # From the first two batches TensorFlow learns which axes vary.
        other = [i for i, rows in enumerate(self.batches) if self._width(rows) != self._width(self.batches[0])]
        if other:
            self.batches.insert(1, self.batches.pop(other[0]))

    def _width(self, rows):
        longest, width = self.lengths[rows].max(), self.inputs[0]["padding_mask"].shape[1]
        return min(round_up(longest), width) if self.cuts else width

    def whole(self):
        return self[0]

    def __getitem__(self, index):
        rows = self.batches[index]
        width = self._width(rows)
        pairs = {name: np.stack([part[name][rows, :width] for part in self.inputs], 1) for name in self.inputs[0]}
        batch = {name: array.reshape(-1, width) for name, array in pairs.items()}
        return batch, np.zeros(2 * len(rows), "float32")


@keras.saving.register_keras_serializable("course_lib")
class SentenceEncoder(Task):
    """Turns a text into one vector of unit length, so that the product of two vectors is the cosine of their angle.

    Args:
        backbone: a `Bert`.
        pooling: how a text's tokens become one vector, as `course_lib.models.pooling.pool` takes it.
        normalize: whether vectors have unit length.
        max_length: highest number of tokens of a raw text. Longer texts are cut. By default nothing is cut.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there is no such pooling, the backbone has no pooled output and it is asked for, or `max_length`
            exceeds the number of positions.

    Example:
        >>> encoder = SentenceEncoder.from_preset("all-MiniLM-L6-v2")
        >>> vectors = encoder.encode(["A dull film.", "The movie bored me.", "It rains."])  # float32 (3, 384)
        >>> vectors @ vectors.T
        >>> encoder.fit([("How do I pay?", "Payment methods"), ("Where is it?", "Directions")], epochs=1)
    """

    backbone_class = Bert

    def __init__(self, backbone, pooling="mean", normalize=True, max_length=None, **kwargs):
        super().__init__(backbone, **kwargs)
        check_pooling(backbone, pooling)
        check_max_length(max_length, backbone.config.max_sequence_length)
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length

    @classmethod
    def head_arguments(cls, folder):
        """Returns the constructor's arguments, beside the backbone, that a preset implies.

        Args:
            folder: path of a folder in the layout of Sentence Transformers, or of a `Bert` alone.

        Raises:
            ValueError: if the folder asks for a pooling or for a layer that this class does not have.
        """
        return sentence_transformers.arguments(folder)

    def save_to_preset(self, folder, dtype="float32", layout=None):
        """Writes config, weights and tokenizer for `from_preset` and for Sentence Transformers.

        Args:
            folder: path of the folder. It is made if need be.
            dtype: of the weights in the file; "float16" halves it.
            layout: "huggingface", the default. To write the encoder alone in another layout, save `backbone`.

        Raises:
            ValueError: if the path is that of a file, there is no such pooling there, or another layout is asked for.
        """
        if layout not in (None, "huggingface"):
            raise ValueError(
                f"Expected layout 'huggingface', the only one that says how vectors are pooled; got {layout!r}. Save "
                f"the backbone of this encoder in that layout."
            )
        files = sentence_transformers.files(self.pooling, self.normalize, self.max_length, self.config.hidden_dim)
        super().save_to_preset(folder, dtype)
        sentence_transformers.write(folder, files)

    def build_layers(self):
        """Creates every weight."""
        self.backbone.build((None, None))

    def call(self, inputs, training=None):
        """Encodes.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone.
            training: whether to apply dropout.

        Returns:
            Floats (B, D), with `normalize` each of unit length; zeros without a token to take the mean or maximum of.
        """
        encoded = self.backbone(inputs, training=training)
        vectors = pool(encoded, inputs.get("padding_mask") if isinstance(inputs, dict) else None, self.pooling)
        return unit_length(vectors) if self.normalize else vectors

    def default_compile(self):
        """Returns the loss of in-batch negatives, and AdamW."""
        return {"optimizer": keras.optimizers.AdamW(2e-5, weight_decay=0.01), "loss": InBatchNegatives()}

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns pairs of texts that belong together into batches. In each, the other pairs are the negatives.

        Args:
            x: n pairs of strings, such as a question and its answer.
            y: must be None.
            sample_weight: must be None.
            batch_size: B, the number of pairs. Defaults to 32. More pairs make a harder task.
            seed: seed for shuffling; each epoch is shuffled differently. Without one, the order is that of x.

        Returns:
            A `keras.utils.PyDataset` of inputs with 2 B rows, a first and a second text in turn.

        Raises:
            ValueError: if x holds anything but pairs of strings, fewer than two of them, or a text with more
                tokens than the backbone has positions.
        """
        if y is not None or sample_weight is not None:
            raise ValueError("Expected pairs of texts alone, since the other pairs are the negatives; got labels too.")
        pairs = list(x if (raw := raw_text(x)) is None else raw)
        if len(pairs) < 2 or any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
            raise ValueError("Expected at least two pairs of texts, such as [('a question', 'its answer'), ...].")
        texts = as_texts([text for part in zip(*pairs, strict=True) for text in part])
        self.check_tokenizer()
        batch = self.tokenizer(texts, max_length=self.max_length)
        check_lengths(batch["padding_mask"].sum(axis=1), self.config.max_sequence_length)
        halves = ({name: array[half] for name, array in batch.items()}
                  for half in (slice(len(pairs)), slice(len(pairs), None)))  # fmt: skip
        return _PairsOfTexts(*halves, batch_size or 32, seed)

    def encode(self, texts, batch_size=64, max_length=None, verbose="auto"):
        """Encodes texts, those of similar length together, so that little is computed for padding.

        Args:
            texts: n strings, in any container that `fit` takes, or one string.
            batch_size: how many are encoded at once.
            max_length: in place of the encoder's.
            verbose: whether to show a progress bar if there is more than one batch. By default it is shown in terminals
                and notebooks.

        Returns:
            float32 (n, D), in the order of the texts.

        Raises:
            ValueError: if a text is not a string, or has more tokens than the backbone has positions.
        """
        self.check_tokenizer()
        raw = self._read(texts)
        batch = self.tokenizer(as_texts(texts if raw is None else raw[0]), max_length=max_length or self.max_length)
        lengths = batch["padding_mask"].sum(axis=1)
        check_lengths(lengths, self.config.max_sequence_length)
        step = STEP if keras.backend.backend() == "jax" else 1  # JAX compiles each width anew: it gets few of them
        vectors = np.empty((len(lengths), self.config.hidden_dim), "float32")
        with progress_bar(len(lengths), verbose if len(lengths) > batch_size else False, unit="text") as bar:
            for rows in by_length(lengths, batch_size):
                width = round_up(lengths[rows].max(), step)
                vectors[rows] = self.predict_on_batch({name: array[rows, :width] for name, array in batch.items()})
                bar.update(len(rows))
        return vectors

    def predict(self, x, batch_size=None, **kwargs):
        """Encodes raw texts, as `encode` does. Given arrays, it does what `keras.Model.predict` does.

        Args:
            x: raw text, as `encode` takes it, or what Keras takes.
            batch_size: B.
            **kwargs: other arguments of `keras.Model.predict`; for raw text `verbose` alone.

        Returns:
            float32 (n, D).
        """
        if self._read(x) is None:
            return super().predict(x, batch_size, **kwargs)
        return self.encode(x, batch_size or 64, **kwargs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "pooling": self.pooling,
            "normalize": self.normalize,
            "max_length": self.max_length,
        }
