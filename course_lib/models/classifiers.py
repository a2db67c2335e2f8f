"""Classifiers on a backbone: of texts, and of their tokens or words.

Both take arrays, as every Keras model does, and raw text with the names of its labels.

Shapes: n texts, B batch, T length, D model width, C classes or labels, W words per row.
"""

import collections.abc
import numbers

import keras
import numpy as np
from keras import ops

from course_lib.checkpoints.huggingface import heads
from course_lib.metrics.classification import classification_report
from course_lib.metrics.spans import bio_to_spans, viterbi_decode
from course_lib.models.base import Task
from course_lib.models.bert import Bert
from course_lib.models.gpt2 import GPT2
from course_lib.models.openai_gpt import OpenAIGPT
from course_lib.models.pooling import check_pooling, pool
from course_lib.models.predictions import Entity, MultiLabelCrossEntropy, MultiLabelPrediction, Prediction
from course_lib.models.text_inputs import check_lengths, labels_of, raw_text
from course_lib.text.batches import Examples, check_labels
from course_lib.text.word_alignment import pack_words

_FAMILIES = {"Bert": Bert, "GPT2": GPT2, "OpenAIGPT": OpenAIGPT}


class _Classifier(Task):
    """A backbone, dropout, and a dense layer with one output per name.

    A subclass says how texts become inputs (`_inputs`), labels become targets and weights (`_targets`), and logits
    become predictions (`_predictions`). If the pooler is unused, it is frozen, since it would have no gradient.
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
        longest = backbone.config.max_sequence_length
        if max_length is not None and not 0 < max_length <= longest:
            raise ValueError(f"Expected a max_length from 1 to {longest}, the number of positions; got {max_length}.")
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
            ValueError: if the preset is no classifier of this kind.
        """
        return _FAMILIES[heads.family(folder, cls.names_argument)]

    @classmethod
    def head_arguments(cls, folder):
        """Returns the constructor's arguments, beside the backbone, that a classifier's preset implies.

        Args:
            folder: path of the preset.

        Raises:
            ValueError: if the preset is no classifier of this kind.
        """
        return heads.arguments(folder, cls.names_argument)

    def default_compile(self):
        """Returns cross-entropy over the labels that count, accuracy, and AdamW."""
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
            class_weight: as in `fit`.

        Returns:
            `Examples`.

        Raises:
            ValueError: if all texts have one label, or a class weight has no class.
        """
        check_labels(batches, self.names)
        if class_weight is not None:
            batches.weights = batches.weights * self._factors(batches.labels, batches.weights > 0, class_weight)
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
        y = None if y is None else np.asarray(y)
        factors = self._factors(np.arange(len(self.names)), None, class_weight, counted=y)
        return dict(enumerate(factors.tolist()))

    def _factors(self, labels, counts, class_weight, counted=None):
        """The factor of each label: those given, or n / (C · the number of examples of the class)."""
        if class_weight == "balanced":
            counted = labels[counts] if counted is None else counted
            frequencies = np.bincount(np.ravel(counted), minlength=len(self.names))
            factors = np.sum(frequencies) / (len(self.names) * np.maximum(frequencies, 1))
        elif isinstance(class_weight, dict):
            factors = np.ones(len(self.names))
            factors[self._indices(class_weight)] = list(class_weight.values())
        else:
            raise ValueError(f"Expected class_weight to be a dict or 'balanced'; got {class_weight!r}.")
        return factors.astype("float32")[labels]

    def predict(self, x, batch_size=None, **kwargs):
        """Labels raw texts. Given arrays, it returns logits, as `keras.Model.predict` does.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.
            batch_size: B. Defaults to 32.
            **kwargs: other arguments of `keras.Model.predict`.

        Returns:
            For raw text a list: for each text a `Prediction`, or a `MultiLabelPrediction`; for each sentence of words a
            list with one `Prediction` per word, without those that `max_length` cut off. Otherwise the logits, an array.

        Raises:
            ValueError: if `examples` cannot read the texts, or the logits of raw texts are not finite.
        """
        raw = self._read(x, batch_size=batch_size)
        if raw is None:
            return keras.Model.predict(self, x, batch_size, **kwargs)
        logits, examples = self._logits(raw[0], raw[3], **kwargs)
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

    def _logits(self, texts, batch_size=None, verbose="auto", **kwargs):
        """The logits of texts, float64, in their order; and the examples that were made of them."""
        examples = self.examples(texts, batch_size=batch_size)
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
        logits, _ = self._logits(texts, batch_size, verbose)
        right = self.examples(texts, y)
        counts = right.weights > 0
        return classification_report(right.labels[counts], self._chosen(logits)[counts], self.names)

    def _chosen(self, logits):
        return logits.argmax(axis=-1)

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns raw text and the names of its labels into batches.

        Args:
            x: n texts; for a `TokenClassifier`, n sequences of words.
            y: n names of labels, or their places among the names; for a `TokenClassifier`, n sequences of them, with
                one per word. Without them, each label is the first.
            sample_weight: floats (n,) for the loss. Defaults to 1.
            batch_size: B. Defaults to 32.
            seed: of the order, which differs from epoch to epoch. Without one, texts are in the order of their lengths.

        Returns:
            `Examples`.

        Raises:
            ValueError: if the backbone has no tokenizer; there is no text, or one is no string, is empty, or has more
                tokens than the backbone has positions; or the labels or weights are not as many, or a label is not
                among the names.
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


@keras.saving.register_keras_serializable("course_lib")
class TextClassifier(_Classifier):
    """Gives each text a class, by a dense layer on the pooled vectors of its tokens (BERT's paper, section 4.1).

    On a GPT-2, pooling is "last" and the layer has no bias, as in Hugging Face's `GPT2ForSequenceClassification`.

    Args:
        backbone: a `Bert` or a `GPT2`.
        classes: the names of the C classes, strings; or their number, for the names "0", "1", ….
        pooling: how a text's tokens become one vector, as `pool` takes it. Defaults to "mean" for a `Bert` and "last"
            for a `GPT2`. Hugging Face has "pooled" for the first and "last" for the second.
        dropout: fraction of that vector dropped in training.
        max_length: highest number of tokens of a raw text. Longer texts are cut. By default nothing is cut.
        multi_label: whether a text may have several of the classes, or none. Each class then has a sigmoid of its own,
            and predictions are `MultiLabelPrediction`.
        threshold: with `multi_label`, the probability from which on a class counts as predicted; a number, or a list
            with one per class.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there are fewer than two classes (one, with `multi_label`), a class occurs twice, or one is not a
            string; if the backbone is of another kind; if there is no such pooling, or it makes no sense on this
            backbone; if `max_length` exceeds the number of positions; or if a threshold is not between 0 and 1.

    Example:
        >>> classifier = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"])
        >>> classifier.fit(["A dull film.", "Splendid."], ["negative", "positive"], epochs=3)
        >>> classifier.predict(["A splendid film."])[0].label
        'positive'
    """

    names_argument = "classes"

    def __init__(
        self,
        backbone,
        classes,
        pooling=None,
        dropout=0.1,
        max_length=None,
        multi_label=False,
        threshold=0.5,
        **kwargs,
    ):
        self.multi_label = multi_label
        if not isinstance(backbone, Bert | GPT2):
            raise ValueError(f"Expected a backbone, a Bert or a GPT2; got a {type(backbone).__name__}.")
        causal = isinstance(backbone, GPT2)
        pooling = pooling or ("last" if causal else "mean")
        check_pooling(backbone, pooling)
        if causal and pooling == "first":
            raise ValueError("Expected a pooling other than 'first' on a GPT2, whose first token sees only itself.")
        super().__init__(backbone, classes, dropout, max_length, pooling == "pooled", pooling != "last", **kwargs)
        self.classes = self.names
        self.pooling = pooling
        thresholds = np.asarray(threshold, "float64")
        if thresholds.shape not in ((), (len(self.names),)) or not ((thresholds > 0) & (thresholds < 1)).all():
            raise ValueError(f"Expected a threshold between 0 and 1, or one per class; got {threshold!r}.")
        self.threshold = thresholds.tolist()

    def default_compile(self):
        """Returns cross-entropy, over the classes or of each class by itself, accuracy, and AdamW."""
        if not self.multi_label:
            return super().default_compile()
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of the logit
        return super().default_compile() | {"loss": MultiLabelCrossEntropy(), "weighted_metrics": [accuracy]}

    def call(self, inputs, training=None):
        """Scores classes.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone.
            training: whether to drop out.

        Returns:
            Logits (B, C).
        """
        encoded = self.backbone(inputs, training=training)
        vectors = pool(encoded, inputs.get("padding_mask") if isinstance(inputs, dict) else None, self.pooling)
        return self.classifier(self.dropout(vectors, training=training))

    def _inputs(self, texts):
        inputs = self.tokenizer(texts, max_length=self.max_length)
        special = self.tokenizer([""])["padding_mask"].sum()  # what is there even if there is no text
        empty = np.flatnonzero(inputs["padding_mask"].sum(axis=1) <= special)
        if len(empty):
            raise ValueError(f"Expected texts of at least one token; those at {empty[:5].tolist()} have none.")
        return inputs

    def _targets(self, texts, classes, inputs):
        if not self.multi_label:
            ids = np.zeros(len(texts), "int32") if classes is None else np.array(self._indices(classes), "int32")
            return ids, np.ones(len(texts), "float32")
        has = np.zeros((len(texts), len(self.names)), "float32")
        for row, found in zip(has, classes or (), strict=False):
            if isinstance(found, str) or not isinstance(found, collections.abc.Collection):
                raise ValueError(
                    f"Expected a collection of labels for each text, since multi_label=True; got {found!r}."
                )
            if len(found) == len(row) and all(not isinstance(each, str) and each in (0, 1) for each in found):
                row[:] = list(found)
            else:
                row[self._indices(found)] = 1
        return has, np.ones_like(has)

    def training_batches(self, batches, class_weight=None):
        """Prepares batches for training, as every classifier does.

        With `multi_label`, a class weight is the factor of a class where a text has it, and "balanced" makes the texts
        with a class count as much in sum as those without.

        Args:
            batches: `Examples`.
            class_weight: as in `fit`.

        Returns:
            `Examples`.

        Raises:
            ValueError: if a class weight has no class or, without `multi_label`, all texts have one label.
        """
        if not self.multi_label:
            return super().training_batches(batches, class_weight)
        if class_weight == "balanced":
            have = batches.labels.sum(axis=0)
            factors = (len(batches.labels) - have) / np.maximum(have, 1)
        else:
            factors = self._factors(np.arange(len(self.names)), None, class_weight or {})
        batches.weights = batches.weights * np.where(batches.labels > 0, factors, 1).astype("float32")
        return batches

    def _chosen(self, logits):
        return (
            logits >= np.log(self.threshold) - np.log1p(-np.array(self.threshold))
            if self.multi_label
            else super()._chosen(logits)
        )

    def _predictions(self, logits, weights):
        if not self.multi_label:
            return [Prediction.of(self.names, row) for row in _softmax(logits)]
        probabilities = 0.5 * (1 + np.tanh(logits / 2))  # the sigmoid
        return [
            MultiLabelPrediction(
                tuple(name for name, is_chosen in zip(self.names, chosen, strict=True) if is_chosen),
                dict(zip(self.names, map(float, row), strict=True)),
            )
            for row, chosen in zip(probabilities, self._chosen(logits), strict=True)
        ]

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "pooling": self.pooling,
            "multi_label": self.multi_label,
            "threshold": self.threshold,
        }


@keras.saving.register_keras_serializable("course_lib")
class TokenClassifier(_Classifier):
    """Gives each token a label, or each word by its first piece (BERT's paper, section 5.3).

    Args:
        backbone: a `Bert`.
        labels: the names of the C labels, strings; or their number, for the names "0", "1", ….
        dropout: fraction of each token's vector dropped in training.
        max_length: highest number of tokens of a raw sentence. Longer ones are cut, as `pack_words` says. By default
            nothing is cut.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there are fewer than two labels, a label occurs twice, or one is not a string; if the backbone is
            not a `Bert`; or if `max_length` exceeds the number of positions.

    Example:
        >>> classifier = TokenClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["O", "B-place", "I-place"])
        >>> classifier.fit([["To", "New", "York"], ["No"]], [["O", "B-place", "I-place"], ["O"]], epochs=3)
        >>> [prediction.label for prediction in classifier.predict([["Where", "?"]])[0]]
        ['O', 'O']
    """

    names_argument = "labels"

    def __init__(self, backbone, labels, dropout=0.1, max_length=None, **kwargs):
        if not isinstance(backbone, Bert):
            raise ValueError(f"Expected a Bert, which sees both sides of a word; got a {type(backbone).__name__}.")
        super().__init__(backbone, labels, dropout, max_length, **kwargs)
        self.labels = self.names

    def call(self, inputs, training=None):
        """Scores labels.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone; with `word_positions`, integers (B, W), as
                `course_lib.text.word_alignment.pack_words` returns them, only these are scored.
            training: whether to drop out.

        Returns:
            Logits (B, W, C), or (B, T, C).
        """
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        positions = inputs.pop("word_positions", None)
        x = self.backbone(inputs, training=training)["sequence_output"]  # (B, T, D)
        if positions is not None:
            x = ops.take_along_axis(x, ops.expand_dims(positions, -1), axis=1)  # (B, W, D)
        return self.classifier(self.dropout(x, training=training))

    def _inputs(self, sentences):
        inputs = pack_words(self.tokenizer, sentences, self.max_length)
        empty = [index for index, words in enumerate(sentences) if not len(words)]
        if empty:
            raise ValueError(f"Expected sentences of at least one word; those at {empty[:5]} have none.")
        return inputs

    def _targets(self, sentences, labels, inputs):
        weights = (inputs["word_positions"] > 0).astype("float32")  # 0 where there is no word, or it was cut off
        ids = np.zeros(weights.shape, "int32")
        for row, (words, names) in enumerate(zip(sentences, () if labels is None else labels, strict=False)):
            if len(names) != len(words):
                raise ValueError(
                    f"Expected a label for each word; sentence {row} has {len(words)} words and {len(names)} labels."
                )
            ids[row, : len(names)] = self._indices(names)
        return ids, weights

    def _predictions(self, logits, weights):
        counts = weights.astype(bool).sum(axis=1)
        return [
            [Prediction.of(self.names, word) for word in row[:count]]
            for row, count in zip(_softmax(logits), counts, strict=True)
        ]

    def predict_entities(self, x, batch_size=None, verbose="auto"):
        """Finds the entities in sentences, with labels in the BIO scheme.

        The labels of a sentence are the most probable ones among those that are valid together, which Viterbi's
        algorithm finds.

        Args:
            x: n sentences, sequences of words, as `fit` takes them.
            batch_size: B. Defaults to 32.
            verbose: as `keras.Model.predict` takes it.

        Returns:
            For each sentence a list of `Entity`, from left to right.

        Raises:
            ValueError: if `examples` cannot read the sentences, or the labels are not "O", "B-type" and "I-type".
        """
        sentences, _, _, batch_size = self._read(x, batch_size=batch_size) or (x, None, None, None)
        logits, examples = self._logits(sentences, batch_size, verbose)
        counts = examples.weights.astype(bool).sum(axis=1)
        return [
            [
                Entity(kind, start, end, " ".join(words[start:end]))
                for kind, start, end in bio_to_spans(viterbi_decode(row[:count], self.names))
            ]
            for row, count, words in zip(logits, counts, sentences, strict=True)
        ]


def _softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
