"""What lets a classifier learn from raw texts, and label them: strings and names in place of arrays.

Shapes: n rows.
"""

import dataclasses
import random

import keras
import numpy as np

from course_lib.sentence_encoder import check_lengths
from course_lib.training.finetuning import Examples, check_labels


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
        """The prediction that these probabilities make.

        Args:
            names: C strings.
            probabilities: floats (C,).

        Returns:
            A `Prediction`.
        """
        values = dict(zip(names, map(float, probabilities), strict=True))
        label = names[int(np.argmax(probabilities))]
        return cls(label, values[label], values)


class ReadsRawTexts:
    """A mixin for a Keras model with `backbone` and `names`, the C names of its labels.

    Where `fit`, `evaluate` and `predict` get strings, they tokenize them and go by the names; what else they get goes
    to Keras. A subclass says how texts become inputs (`_read`), labels become targets and weights (`_targets`), and
    probabilities become predictions (`_predictions`).
    """

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        *,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        **kwargs,
    ):
        """Trains, as Keras's `fit` does, on raw texts too.

        Args:
            x: raw texts, as `examples` takes them, or what Keras takes.
            y: a label for each, as `examples` takes them, or what Keras takes.
            batch_size: B; 32 if None. Batches of raw texts hold texts of like length, and are cut to the longest.
            validation_data: a pair of x and y, or a triple with weights, likewise; or what Keras takes.
            shuffle: whether the order is another in each epoch.
            class_weight: a dict from places of labels among the names to factors for the loss; 1 where there is none.
            sample_weight: floats (n,) for the loss.
            **kwargs: the other arguments of Keras's `fit`.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: if every weight is frozen, the loss that was compiled takes probabilities, all raw texts have
                one label, there is no class of a class weight, or `examples` cannot read the texts.
        """
        self.build()
        if not self.trainable_weights:
            raise ValueError("Expected a model with something to learn; every weight is frozen (trainable is False).")
        _check_loss(getattr(self, "loss", None))
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)  # within `fit`, TensorFlow would trace the step twice
        if isinstance(validation_data, list | tuple) and _is_raw(validation_data[0]):
            validation_data = self._labelled(*validation_data, batch_size=batch_size)
        if _is_raw(x):
            seed = random.randrange(2**32) if shuffle else None  # which `keras.utils.set_random_seed` decides
            x, y = self._labelled(x, y, sample_weight, batch_size, seed), None
            if class_weight:
                factors = np.ones(len(self.names), "float32")
                factors[self._places(class_weight)] = list(class_weight.values())
                x.weights = x.weights * factors[x.labels]
            check_labels(x, self.names)
            batch_size, shuffle, class_weight, sample_weight = None, False, None, None  # which `Examples` sees to
        more = {"validation_data": validation_data, "shuffle": shuffle}
        return super().fit(x, y, batch_size, class_weight=class_weight, sample_weight=sample_weight, **more, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, *, sample_weight=None, **kwargs):
        """Measures the loss and what else was compiled, as Keras's `evaluate` does, on raw texts too.

        Args:
            x: raw texts, as `examples` takes them, or what Keras takes.
            y: a label for each, as `examples` takes them, or what Keras takes.
            batch_size: B; 32 if None.
            sample_weight: floats (n,) for the loss.
            **kwargs: the other arguments of Keras's `evaluate`.

        Returns:
            What Keras's `evaluate` returns.

        Raises:
            ValueError: if `examples` cannot read the texts.
        """
        if _is_raw(x):
            x, y, batch_size, sample_weight = self._labelled(x, y, sample_weight, batch_size), None, None, None
        return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **kwargs)

    def predict(self, x, batch_size=None, **kwargs):
        """Says which labels raw texts have, and how probably; of arrays, Keras's `predict`, the logits.

        Args:
            x: raw texts, as `examples` takes them, or what Keras takes.
            batch_size: B; 32 if None.
            **kwargs: the other arguments of Keras's `predict`.

        Returns:
            Of raw texts, a list: of a text a `Prediction`, of a sentence of words a list with one for each; words that
            `max_length` cut off have none. Otherwise the logits, as an array.

        Raises:
            ValueError: if `examples` cannot read the texts, or the logits of raw texts are no finite numbers.
        """
        if not _is_raw(x):
            return super().predict(x, batch_size, **kwargs)
        examples = self.examples(x, batch_size=batch_size)
        logits = examples.in_order(super().predict(examples, **kwargs)).astype("float64")
        unsound = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
        if len(unsound):
            raise ValueError(
                f"Expected the model to give numbers; it gave NaN or infinity for the texts at {unsound[:5].tolist()}. "
                f"See to its weights, or load it with another dtype."
            )
        probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        return self._predictions(probabilities, examples.weights)

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Raw texts and the names of their labels, as arrays in batches.

        Args:
            x: n texts; for a `TokenClassifier`, n sequences of words.
            y: n names of labels, or their places among the names; for a `TokenClassifier`, n sequences of them, one for
                each word. If None, each is the first.
            sample_weight: floats (n,) for the loss; 1 if None.
            batch_size: B; 32 if None.
            seed: of the order, as in `Examples`.

        Returns:
            `Examples`.

        Raises:
            ValueError: if the backbone has no tokenizer; there is no text, or one is no string, is empty, or has more
                tokens than the backbone has positions; or the labels are not as many, or not among the names; or the
                weights are not as many.
        """
        if self.backbone.tokenizer is None:
            raise ValueError("Expected a backbone with a tokenizer, to read raw texts; this one has none.")
        x = [x] if isinstance(x, str) else list(x)
        if not x:
            raise ValueError("Expected at least one text; got none.")
        inputs = self._read(x)
        check_lengths(inputs["padding_mask"].sum(axis=1), self.backbone)
        if y is not None and len(y) != len(x):
            raise ValueError(f"Expected a label for each of {len(x)} texts; got {len(y)}.")
        labels, weights = self._targets(x, y, inputs)
        if sample_weight is not None:
            of_texts = np.asarray(sample_weight, "float32")
            if of_texts.shape != (len(x),):
                raise ValueError(f"Expected a weight for each of {len(x)} texts; got the shape {of_texts.shape}.")
            weights = weights * of_texts.reshape((-1,) + (1,) * (weights.ndim - 1))
        return Examples(inputs, labels, weights, batch_size or 32, seed)

    def _labelled(self, x, y=None, *arguments, **kwargs):
        if y is None:
            raise ValueError("Expected a label for each text; got none.")
        return self.examples(x, y, *arguments, **kwargs)

    def _places(self, labels):
        """The places of labels among the names."""
        places = {name: index for index, name in enumerate(self.names)} | {i: i for i in range(len(self.names))}
        unknown = [each for each in labels if not isinstance(each, str | int | np.integer) or each not in places]
        if unknown:
            raise ValueError(f"Expected labels of {list(self.names)}; got {unknown[:5]}.")
        return [places[each] for each in labels]


def _is_raw(x):
    """Whether it is strings, or sequences of them, rather than what Keras takes."""
    return isinstance(x, str | list | tuple) or getattr(getattr(x, "dtype", None), "kind", None) in ("O", "U", "T")


def _check_loss(loss):
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    takes_logits = loss is not keras.losses.sparse_categorical_crossentropy
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        takes_logits = loss.get_config().get("from_logits", True)
    if not takes_logits:
        raise ValueError("Expected a loss of logits, such as course_lib.objectives.CrossEntropy(); this one is not.")
