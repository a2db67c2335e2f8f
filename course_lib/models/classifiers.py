"""Classifiers on a backbone: of texts, and of their tokens or words.

Both take arrays, as every Keras model does, and raw text with the names of its labels.

Shapes: n texts, B batch, T length, D model width, C classes or labels, W words per row.
"""

import collections.abc

import keras
import numpy as np
from keras import ops

from course_lib.metrics.spans import bio_to_spans, viterbi_decode
from course_lib.models.bert import Bert
from course_lib.models.classifier_base import Classifier
from course_lib.models.gpt2 import GPT2
from course_lib.models.pooling import check_pooling, pool
from course_lib.models.predictions import Entity, MultiLabelCrossEntropy, MultiLabelPrediction, Prediction, softmax
from course_lib.text.word_alignment import pack_words


@keras.saving.register_keras_serializable("course_lib")
class TextClassifier(Classifier):
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

    def call(self, inputs, tap=None, training=None):
        """Scores classes.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            Logits (B, C).
        """
        encoded = self.backbone(inputs, tap=tap, training=training)
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

    def _weights_of(self, batches, class_weight):
        if not self.multi_label:
            return super()._weights_of(batches, class_weight)
        has = batches.labels  # (n, C)
        if class_weight == "balanced":
            factors = (len(has) - has.sum(axis=0)) / np.maximum(has.sum(axis=0), 1)
        else:
            factors = self._factors(class_weight, None)
        return np.where(has > 0, factors, 1).astype("float32")

    def _chosen(self, logits):
        if not self.multi_label:
            return super()._chosen(logits)
        return logits >= np.log(self.threshold) - np.log1p(-np.array(self.threshold))  # booleans (n, C)

    def _predictions(self, logits, weights):
        if not self.multi_label:
            return [Prediction.of(self.names, row) for row in softmax(logits)]
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
class TokenClassifier(Classifier):
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

    def call(self, inputs, tap=None, training=None):
        """Scores labels.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone; with `word_positions`, integers (B, W), as
                `course_lib.text.word_alignment.pack_words` returns them, only these are scored.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            Logits (B, W, C), or (B, T, C).
        """
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        positions = inputs.pop("word_positions", None)
        x = self.backbone(inputs, tap=tap, training=training)["sequence_output"]  # (B, T, D)
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
            for row, count in zip(softmax(logits), counts, strict=True)
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
        logits, examples = self._logits(sentences, None, batch_size, verbose)
        counts = examples.weights.astype(bool).sum(axis=1)
        return [
            [
                Entity(kind, start, end, " ".join(words[start:end]))
                for kind, start, end in bio_to_spans(viterbi_decode(row[:count], self.names))
            ]
            for row, count, words in zip(logits, counts, sentences, strict=True)
        ]
