"""What classifiers of texts and of tokens share: reading raw text and labels, class weights, predictions, a report.

Shapes: n texts, B batch, D model width, C classes or labels.
"""

import numbers

import keras
import numpy as np

from course_lib.checkpoints.huggingface import heads
from course_lib.metrics.classification import classification_report
from course_lib.models.bert import Bert
from course_lib.models.gpt2 import GPT2
from course_lib.models.openai_gpt import OpenAIGPT
from course_lib.models.roberta import Roberta
from course_lib.models.task import Task
from course_lib.models.text_inputs import check_lengths, check_max_length, labels_of, raw_text
from course_lib.text.batches import Examples, check_labels

_FAMILIES = {"Bert": Bert, "Roberta": Roberta, "GPT2": GPT2, "OpenAIGPT": OpenAIGPT}


class Classifier(Task):
    """A backbone, dropout, and a dense layer with one output per name.

    A subclass says how texts become inputs (`_inputs`), labels become targets and weights (`_targets`), and logits
    become predictions (`_predictions`). If the pooler is unused, it is frozen, since it would have no gradient.

    Args:
        backbone: a `Backbone`.
        names: the C names, strings; or their number, for the names "0", "1", ….
        dropout: fraction of the vectors before the head dropped in training.
        max_length: highest number of tokens of a raw text, or None.
        pooled: whether the backbone's pooler is used.
        use_bias: whether the head has a bias.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there are too few names, one occurs twice or is not a string, or `max_length` exceeds the number
            of positions.
    """

    needs_labels = True
    names_argument = None
    multi_label = False

    def __init__(self, backbone, names, dropout, max_length, pooled=False, use_bias=True, **kwargs):
        super().__init__(backbone, **kwargs)
        if isinstance(names, numbers.Integral):
            names = [str(index) for index in range(names)]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"Expected names that are strings, or their number; got {list(names)}.")
        least = 1 if self.multi_label else 2
        if len(names) < least or len(set(names)) < len(names):
            raise ValueError(
                f"Expected at least {('one name', 'two names')[least - 1]}, all different; got {list(names)}."
            )
        check_max_length(max_length, backbone.config.max_sequence_length)
        self.names = tuple(names)
        self.max_length = max_length
        if isinstance(backbone, Bert) and backbone.pooler and not pooled:
            backbone.pooler.trainable = False
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.classifier = keras.layers.Dense(
            len(names),
            use_bias=use_bias,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=backbone.config.initializer_range),
            dtype=self.dtype_policy,
            name="classifier",
        )

    def build_layers(self):
        """Creates every weight."""
        self.backbone.build((None, None))
        self.dropout.build((None, self.config.hidden_dim))
        self.classifier.build((None, self.config.hidden_dim))

    @classmethod
    def backbone_class_of(cls, folder):
        """Returns the class of the backbone that a classifier's preset holds.

        Args:
            folder: path of the preset.

        Raises:
            ValueError: if the preset is not a classifier of this kind.
        """
        return _FAMILIES[heads.family(folder, cls.names_argument)]

    @classmethod
    def head_arguments(cls, folder):
        """Returns the constructor's arguments, beside the backbone, that a classifier's preset implies.

        Args:
            folder: path of the preset.

        Raises:
            ValueError: if the preset is not a classifier of this kind.
        """
        return heads.arguments(folder, cls.names_argument)

    def default_compile(self):
        """Returns cross-entropy that ignores labels of weight 0, accuracy, and AdamW."""
        return {
            "optimizer": keras.optimizers.AdamW(5e-5, weight_decay=0.01),
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
            "weighted_metrics": ["accuracy"],
        }

    def _get_ready_to_train(self):
        super()._get_ready_to_train()
        loss = keras.losses.get(self.loss) if isinstance(self.loss, str) else self.loss
        takes_logits = loss not in (keras.losses.sparse_categorical_crossentropy, keras.losses.binary_crossentropy)
        if isinstance(loss, keras.losses.SparseCategoricalCrossentropy | keras.losses.BinaryCrossentropy):
            takes_logits = loss.get_config().get("from_logits", True)
        if not takes_logits:
            hint = type(self.default_compile()["loss"]).__name__
            raise ValueError(
                f"Expected a loss of logits, such as course_lib.training.losses.CrossEntropy() or this model's own, "
                f"{hint}; got another. Leave the loss out of compile to get that."
            )

    def training_batches(self, batches, class_weight=None):
        """Prepares batches for training.

        Args:
            batches: `Examples`.
            class_weight: as in `fit`. If a text may have several labels, it is the factor of a label where a text has
                it, and "balanced" makes the texts that have a label count as much in sum as those without it.

        Returns:
            `Examples`.

        Raises:
            ValueError: if all texts have one label, where each has exactly one, or a class weight has no class.
        """
        if not self.multi_label:
            check_labels(batches, self.names)
        if class_weight is not None:
            batches.weights = batches.weights * self._weights_of(batches, class_weight)
        return batches

    def class_weights(self, y, class_weight):
        """Reads the class weights of arrays.

        Args:
            y: labels, integers of any shape.
            class_weight: as in `fit`.

        Returns:
            A dict from integers to factors, or None.

        Raises:
            ValueError: if a class weight has no class, or the labels cannot be counted.
        """
        if class_weight is None:
            return None
        if self.multi_label or (class_weight == "balanced" and y is None):
            raise ValueError("Expected raw texts and their labels with this class_weight; got arrays or a data set.")
        return dict(enumerate(self._factors(class_weight, y).tolist()))

    def _weights_of(self, batches, class_weight):
        """Computes the weight of each label of the batches."""
        return self._factors(class_weight, batches.labels[batches.weights > 0])[batches.labels]

    def _factors(self, class_weight, labels):
        """Computes the factor of each class: as given, or n / (C · the number of its examples). Floats (C,)."""
        if class_weight == "balanced":
            counts = np.bincount(np.ravel(labels), minlength=len(self.names))
            factors = np.sum(counts) / (len(self.names) * np.maximum(counts, 1))
        elif isinstance(class_weight, dict):
            factors = np.ones(len(self.names))
            factors[self._indices(class_weight)] = list(class_weight.values())
        else:
            raise ValueError(f"Expected class_weight to be a dict or 'balanced'; got {class_weight!r}.")
        return factors.astype("float32")

    def predict(self, x, batch_size=None, **kwargs):
        """Labels raw texts. Given arrays, it returns logits, as `keras.Model.predict` does.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.
            batch_size: B. Defaults to 32.
            **kwargs: other arguments of `keras.Model.predict`.

        Returns:
            For raw text a list: a `Prediction` or a `MultiLabelPrediction` per text; for a `TokenClassifier` a list per
            sentence, with one `Prediction` per word that `max_length` did not cut off. Otherwise the logits, an array.

        Raises:
            ValueError: if `examples` cannot read the texts, or the logits of raw texts are not finite.
        """
        raw = self._read(x, batch_size=batch_size)
        if raw is None:
            return keras.Model.predict(self, x, batch_size, **kwargs)
        logits, examples = self._logits(raw[0], batch_size=raw[3], **kwargs)
        return self._predictions(logits, examples.weights)

    def predict_on_batch(self, x):
        """Labels one batch of raw texts. Given arrays, it returns logits, as `keras.Model.predict_on_batch` does.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.

        Returns:
            What `predict` returns.
        """
        raw = self._read(x)
        return super().predict_on_batch(x) if raw is None else self.predict(raw[0], len(raw[0]), verbose=0)

    def _logits(self, texts, y=None, batch_size=None, verbose="auto", **kwargs):
        """Computes the logits of texts, float64, in their order. Returns the examples that were made of them, too."""
        examples = self.examples(texts, y, batch_size=batch_size)
        verbose = 0 if len(texts) == 1 else verbose
        found = keras.Model.predict(self, examples, verbose=verbose, **kwargs)
        logits = examples.in_order(found).astype("float64")
        unsound = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
        if len(unsound):
            raise ValueError(
                f"Expected the model to give numbers; it gave NaN or infinity for the texts at {unsound[:5].tolist()}. "
                f"Check its weights, or load it with another dtype."
            )
        return logits, examples

    def report(self, x, y=None, batch_size=None, verbose="auto"):
        """Reports how well the classifier does on labelled texts.

        Args:
            x: raw text, as `fit` takes it.
            y: the right labels, as `examples` takes them.
            batch_size: B. Defaults to 32.
            verbose: as `keras.Model.predict` takes it.

        Returns:
            A `course_lib.metrics.classification.ClassificationReport`: accuracy, F1 by class and confusion matrix. With
            one label per word, it counts words, without those that `max_length` cut off.

        Raises:
            ValueError: if `examples` cannot read the texts or the labels.
            ImportError: if scikit-learn is not installed.
        """
        raw = self._read(x, y, batch_size=batch_size)
        if raw is None or raw[1] is None:
            raise ValueError("Expected raw texts and a label for each; got none.")
        texts, y, _, batch_size = raw
        logits, examples = self._logits(texts, y, batch_size, verbose)
        counts = slice(None) if self.multi_label else examples.weights > 0
        return classification_report(examples.labels[counts], self._chosen(logits)[counts], self.names)

    def _chosen(self, logits):
        """Finds the classes that logits (..., C) decide for: integers (...)."""
        return logits.argmax(axis=-1)

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns raw text and the names of its labels into batches.

        Args:
            x: n texts; for a `TokenClassifier`, n sequences of words.
            y: n names of labels, or their indices among the names; for a `TokenClassifier`, n sequences of them, with
                one per word; with `multi_label`, n collections of names, or 0 and 1 of shape (n, C). Without labels,
                each is the first, or none.
            sample_weight: floats (n,) for the loss. Defaults to 1.
            batch_size: B. Defaults to 32.
            seed: seed for shuffling; each epoch is shuffled differently. Without one, texts are sorted by length.

        Returns:
            `Examples`.

        Raises:
            ValueError: if the backbone has no tokenizer; if there is no text, or one is not a string, is empty, or has
                more tokens than the backbone has positions; or if the number of labels or weights is wrong, or a label
                is not among the names.
        """
        self.check_tokenizer()
        x = raw_text(x)
        x, y = [x] if isinstance(x, str) else x, labels_of(y)
        if not x:
            raise ValueError("Expected at least one text; got none.")
        inputs = self._inputs(x)
        check_lengths(inputs["padding_mask"].sum(axis=1), self.config.max_sequence_length)
        if y is not None and len(y) != len(x):
            raise ValueError(f"Expected a label for each of {len(x)} texts; got {len(y)}.")
        labels, weights = self._targets(x, y, inputs)
        if sample_weight is not None:
            of_texts = np.asarray(sample_weight, "float32")
            if of_texts.shape != (len(x),):
                raise ValueError(f"Expected a weight for each of {len(x)} texts; got the shape {of_texts.shape}.")
            weights = weights * of_texts.reshape((-1,) + (1,) * (weights.ndim - 1))
        return Examples(inputs, labels, weights, batch_size or 32, seed)

    def _indices(self, labels):
        """Finds the indices of labels among the names."""
        indices = {name: index for index, name in enumerate(self.names)} | {i: i for i in range(len(self.names))}
        unknown = [each for each in labels if not isinstance(each, str | int | np.integer) or each not in indices]
        if unknown:
            raise ValueError(f"Expected labels of {list(self.names)}; got {unknown[:5]}.")
        return [indices[each] for each in labels]

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            self.names_argument: self.names,
            "dropout": self.dropout.rate,
            "max_length": self.max_length,
        }
