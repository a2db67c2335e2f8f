"""Classifiers on a backbone: of texts, and of their tokens or words.

Both take arrays, as every Keras model does, and raw text with the names of its labels.

Shapes: n texts, B batch, T length, D model width, C classes or labels, W words per row.
"""

import dataclasses
import random

import keras
import numpy as np
from keras import ops

from course_lib.checkpoints.huggingface import heads
from course_lib.models.base import Task
from course_lib.models.bert import Bert
from course_lib.models.gpt2 import GPT2
from course_lib.models.openai_gpt import OpenAIGPT
from course_lib.models.pooling import check_pooling, pool
from course_lib.models.text_inputs import check_lengths, is_raw_text
from course_lib.text.batches import Examples, check_labels
from course_lib.text.word_alignment import pack_words

_FAMILIES = {"Bert": Bert, "GPT2": GPT2, "OpenAIGPT": OpenAIGPT}


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
        """Makes the prediction that probabilities amount to.

        Args:
            names: C strings.
            probabilities: floats (C,).

        Returns:
            A `Prediction`.
        """
        values = dict(zip(names, map(float, probabilities), strict=True))
        label = names[int(np.argmax(probabilities))]
        return cls(label, values[label], values)


class _Classifier(Task):
    """A backbone, dropout, and a dense layer with one output per name.

    A subclass says how texts become inputs (`_read`), labels become targets and weights (`_targets`), and probabilities
    become predictions (`_predictions`). A pooler on which nothing depends is frozen, since it would have no gradient.
    """

    needs_labels = True
    names_argument = None

    def __init__(self, backbone, names, dropout, max_length, pooled=False, use_bias=True, **kwargs):
        super().__init__(backbone, **kwargs)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"Expected at least two names, all different; got {list(names)}.")
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"Expected names that are strings; got {list(names)}.")
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

    def fit(self, x=None, y=None, batch_size=None, *, class_weight=None, sample_weight=None, shuffle=True, **kwargs):
        """Trains, as `keras.Model.fit` does, on raw text too.

        Args:
            x: raw text, as `examples` takes it, or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            batch_size: B. Defaults to 32. Batches of raw text hold texts of similar length, and are cut to the longest.
            class_weight: a dict from names of labels, or their places among the names, to factors of the loss. Defaults
                to 1 for each.
            sample_weight: a weight per text for the loss, or what Keras takes.
            shuffle: whether the order differs from epoch to epoch.
            **kwargs: other arguments of `keras.Model.fit`. `validation_data` may be a pair of raw texts and labels.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: if every weight is frozen, the loss that was compiled takes probabilities, all raw texts have
                one label, a class weight has no class, or `examples` cannot read the texts.
        """
        if self.compiled:
            _check_loss(self.loss)
        if is_raw_text(x):
            seed = random.randrange(2**32) if shuffle else None  # which `keras.utils.set_random_seed` decides
            x, y = self._batches(x, y, sample_weight, batch_size, seed), None
            if class_weight:
                factors = np.ones(len(self.names), "float32")
                factors[self._places(class_weight)] = list(class_weight.values())
                x.weights = x.weights * factors[x.labels]
            check_labels(x, self.names)
            batch_size, class_weight, sample_weight, shuffle = None, None, None, False
        return super().fit(
            x, y, batch_size, class_weight=class_weight, sample_weight=sample_weight, shuffle=shuffle, **kwargs
        )

    def predict(self, x, batch_size=None, **kwargs):
        """Labels raw texts. Given arrays, it returns logits, as `keras.Model.predict` does.

        Args:
            x: raw text, as `examples` takes it, or what Keras takes.
            batch_size: B. Defaults to 32.
            **kwargs: other arguments of `keras.Model.predict`.

        Returns:
            For raw text a list: for each text a `Prediction`, or for each sentence of words a list with one per word;
            words that `max_length` cut off have none. Otherwise the logits, an array.

        Raises:
            ValueError: if `examples` cannot read the texts, or the logits of raw texts are not finite.
        """
        if not is_raw_text(x):
            return super().predict(x, batch_size, **kwargs)
        examples = self.examples(x, batch_size=batch_size)
        logits = examples.in_order(super().predict(examples, **kwargs)).astype("float64")
        unsound = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
        if len(unsound):
            raise ValueError(
                f"Expected the model to give numbers; it gave NaN or infinity for the texts at {unsound[:5].tolist()}. "
                f"Check its weights, or load it with another dtype."
            )
        probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        return self._predictions(probabilities, examples.weights)

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
        x = [x] if isinstance(x, str) else list(x)
        if not x:
            raise ValueError("Expected at least one text; got none.")
        inputs = self._read(x)
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

    def _places(self, labels):
        """Finds the places of labels among the names."""
        places = {name: index for index, name in enumerate(self.names)} | {i: i for i in range(len(self.names))}
        unknown = [each for each in labels if not isinstance(each, str | int | np.integer) or each not in places]
        if unknown:
            raise ValueError(f"Expected labels of {list(self.names)}; got {unknown[:5]}.")
        return [places[each] for each in labels]

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
        classes: the names of the C classes, strings.
        pooling: how a text's tokens become one vector, as `pool` takes it. Defaults to "mean" for a `Bert` and "last"
            for a `GPT2`. Hugging Face has "pooled" for the first and "last" for the second.
        dropout: fraction of that vector dropped in training.
        max_length: highest number of tokens of a raw text. Longer texts are cut. By default nothing is cut.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there are fewer than two classes, a class occurs twice, or one is no string; if the backbone is
            of another kind; if there is no such pooling, or it makes no sense on this backbone; or if `max_length`
            exceeds the number of positions.

    Example:
        >>> classifier = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"])
        >>> classifier.fit(["A dull film.", "Splendid."], ["negative", "positive"], epochs=3)
        >>> classifier.predict(["A splendid film."])[0].label
        'positive'
    """

    names_argument = "classes"

    def __init__(self, backbone, classes, pooling=None, dropout=0.1, max_length=None, **kwargs):
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

    def _read(self, texts):
        inputs = self.tokenizer(texts, max_length=self.max_length)
        special = self.tokenizer([""])["padding_mask"].sum()  # what is there even if there is no text
        empty = np.flatnonzero(inputs["padding_mask"].sum(axis=1) <= special)
        if len(empty):
            raise ValueError(f"Expected texts of at least one token; those at {empty[:5].tolist()} have none.")
        return inputs

    def _targets(self, texts, classes, inputs):
        ids = np.zeros(len(texts), "int32") if classes is None else np.array(self._places(classes), "int32")
        return ids, np.ones(len(texts), "float32")

    def _predictions(self, probabilities, weights):
        return [Prediction.of(self.names, row) for row in probabilities]

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"pooling": self.pooling}


@keras.saving.register_keras_serializable("course_lib")
class TokenClassifier(_Classifier):
    """Gives each token a label, or each word by its first piece (BERT's paper, section 5.3).

    Args:
        backbone: a `Bert`.
        labels: the names of the C labels, strings.
        dropout: fraction of each token's vector dropped in training.
        max_length: highest number of tokens of a raw sentence. Longer ones are cut, as `pack_words` says. By default
            nothing is cut.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: if there are fewer than two labels, a label occurs twice, or one is no string; if the backbone is no
            `Bert`; or if `max_length` exceeds the number of positions.

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

    def _read(self, sentences):
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
            ids[row, : len(names)] = self._places(names)
        return ids, weights

    def _predictions(self, probabilities, weights):
        counts = weights.astype(bool).sum(axis=1)
        return [
            [Prediction.of(self.names, word) for word in row[:count]]
            for row, count in zip(probabilities, counts, strict=True)
        ]


def _check_loss(loss):
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    takes_logits = loss is not keras.losses.sparse_categorical_crossentropy
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        takes_logits = loss.get_config().get("from_logits", True)
    if not takes_logits:
        raise ValueError("Expected a loss of logits, such as course_lib.training.losses.CrossEntropy(); got another.")
