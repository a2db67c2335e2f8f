"""What fine-tuning puts on a backbone: a classifier of texts, and one of their tokens or words.

Both take arrays, as every Keras model does. Where `fit`, `evaluate` and `predict` get strings instead, they tokenize
them and go by the names of the labels.

Shapes: n rows, B batch, T length, D model width, C classes or labels, W words a row.
"""

import dataclasses
import random

import keras
import numpy as np
from keras import ops

from course_lib.bert import Bert
from course_lib.checkpoints import huggingface_heads
from course_lib.gpt2 import GPT2
from course_lib.inputs import ChecksIds
from course_lib.preset import Preset, locate
from course_lib.sentence_encoder import SentenceEncoder as SentenceEncoder  # the recorded chapter 00 finds it here
from course_lib.sentence_encoder import check_lengths, check_pooling, pool
from course_lib.text.words import pack_words
from course_lib.training.finetuning import Examples


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


class _Classifier(ChecksIds, Preset, keras.Model):
    """A backbone, dropout, and a dense layer with an output for each of some names.

    A pooler on which nothing depends is set to be not trainable, since it would have no gradient.
    """

    def __init__(self, backbone, names, dropout, max_length, pooled=False, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"Expected at least two names, all different; got {list(names)}.")
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"Expected names that are strings; got {list(names)}.")
        longest = backbone.config.max_sequence_length
        if max_length is not None and not 0 < max_length <= longest:
            raise ValueError(f"Expected a max_length from 1 to {longest}, the number of positions; got {max_length}.")
        self.backbone = backbone
        self.names = tuple(names)
        self.max_length = max_length
        if getattr(backbone, "pooler", None):
            backbone.pooler.trainable = pooled
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.classifier = keras.layers.Dense(
            len(names),
            use_bias=use_bias,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=backbone.config.initializer_range),
            dtype=self.dtype_policy,
            name="classifier",
        )

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the backbone's config says it all.
        """
        if self.built:
            return
        self.backbone.build()
        self.classifier.build((None, self.backbone.config.hidden_dim))
        self.built = True

    def fit(self, x=None, y=None, batch_size=None, *, validation_data=None, shuffle=True, sample_weight=None, **kwargs):
        """Trains, as Keras's `fit` does, on raw texts too.

        Args:
            x: raw texts, as `examples` takes them, or what Keras takes.
            y: a label for each, as `examples` takes them, or what Keras takes.
            batch_size: B; 32 if None. Batches of raw texts hold texts of like length, and are cut to the longest.
            validation_data: a pair of x and y, or a triple with weights, likewise; or what Keras takes.
            shuffle: whether the order is another in each epoch.
            sample_weight: floats (n,) for the loss.
            **kwargs: the other arguments of Keras's `fit`.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: if every weight is frozen, the loss that was compiled takes probabilities, all raw texts have
                one label, or `examples` cannot read them.
        """
        self.build()
        if not self.trainable_weights:
            raise ValueError("Expected a model with something to learn; every weight is frozen (trainable is False).")
        _check_loss(getattr(self, "loss", None))
        if isinstance(validation_data, list | tuple) and _is_raw(validation_data[0]):
            validation_data = self._labelled(*validation_data, batch_size=batch_size)
        if _is_raw(x):
            seed = random.randrange(2**32) if shuffle else None  # which `keras.utils.set_random_seed` decides
            x, y = self._labelled(x, y, sample_weight, batch_size, seed), None
            found = np.unique(x.labels[x.weights > 0])
            if len(found) < 2:
                raise ValueError(
                    f"Expected texts of at least two labels to learn from; got only {[self.names[i] for i in found]}."
                )
            batch_size, shuffle, sample_weight = None, False, None  # all of which `Examples` sees to
        more = {"validation_data": validation_data, "shuffle": shuffle, "sample_weight": sample_weight}
        return super().fit(x, y, batch_size, **more, **kwargs)

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
            ValueError: if `examples` cannot read the texts.
        """
        if not _is_raw(x):
            return super().predict(x, batch_size, **kwargs)
        examples = self.examples(x, batch_size=batch_size)
        logits = examples.in_order(super().predict(examples, **kwargs)).astype("float64")
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
                tokens than the backbone has positions; or the labels are not as many, or not among the names.
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
            weights = weights * np.reshape(np.asarray(sample_weight, "float32"), (-1,) + (1,) * (weights.ndim - 1))
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

    @property
    def checkpoint_format(self):
        """That of the backbone, whose tables have the classifier's tensors too."""
        return self.backbone.checkpoint_format

    @classmethod
    def from_preset(cls, preset, dtype=None, **kwargs):
        """Loads a classifier with its weights, names and tokenizer.

        Args:
            preset: a name, a folder, or "hf://owner/model", as `Bert.from_preset` takes them.
            dtype: dtype or policy of the model; Keras's global policy if None.
            **kwargs: arguments of the constructor, in place of what the folder says: other names, for example.

        Returns:
            A classifier.

        Raises:
            ValueError: if the preset is no classifier of this kind, or for any reason that `Bert.from_preset` has.
            OSError: if the preset must be downloaded and no source is in reach.
        """
        folder = locate(preset)
        head = huggingface_heads.read(folder, cls.names_argument)
        backbone_class = GPT2 if head.get("pooling") == "last" else Bert
        model = cls(backbone_class.from_preset(folder, dtype), **head | kwargs, dtype=dtype)
        model.build()
        fields, tensors = model.checkpoint_format.read(folder)
        model.checkpoint_format.load(tensors, fields, model)
        return model

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"dropout": self.dropout.rate, "max_length": self.max_length}


@keras.saving.register_keras_serializable("course_lib")
class TextClassifier(_Classifier):
    """A class for each text: a dense layer on the pooled vectors of its tokens, section 3.5 of the BERT paper.

    On a GPT-2, pooling is "last" and the layer has no bias, as in Hugging Face's `GPT2ForSequenceClassification`.

    Args:
        backbone: a `Bert` or a `GPT2`.
        classes: the names of the C classes, strings.
        pooling: how a text's tokens become one vector, as `pool` knows it; if None, "mean" for a `Bert` and "last" for
            a `GPT2`. Hugging Face knows "pooled" for the one and "last" for the other.
        dropout: share of that vector dropped in training.
        max_length: raw texts are cut to so many tokens; nothing is cut if None.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Raises:
        ValueError: if there are fewer than two classes, one twice, or one that is no string; if there is no such
            pooling, or it makes no sense on this backbone; or if `max_length` is more than there are positions.

    Example:
        >>> classifier = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"])
        >>> classifier.compile(AdamW(1e-4), CrossEntropy(), weighted_metrics=["accuracy"])
        >>> classifier.fit(["A dull film.", "Splendid."], ["negative", "positive"], epochs=3)
        >>> classifier.predict(["A splendid film."])[0].label
        'positive'
    """

    names_argument = "classes"

    def __init__(self, backbone, classes, pooling=None, dropout=0.1, max_length=None, **kwargs):
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
        tokenizer = self.backbone.tokenizer
        inputs = tokenizer(texts, max_length=self.max_length)
        special = tokenizer([""])["padding_mask"].sum()  # what is there even if there is no text
        empty = np.flatnonzero(inputs["padding_mask"].sum(axis=1) <= special)
        if len(empty):
            raise ValueError(f"Expected texts of at least one token; those at {empty[:5].tolist()} have none.")
        return inputs

    def _targets(self, texts, classes, inputs):
        ids = np.zeros(len(texts), "int32") if classes is None else np.array(self._places(classes), "int32")
        return ids, np.ones(len(texts), "float32")

    def _predictions(self, probabilities, weights):
        return [_prediction(self.names, row) for row in probabilities]

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"classes": self.classes, "pooling": self.pooling}


@keras.saving.register_keras_serializable("course_lib")
class TokenClassifier(_Classifier):
    """A label for each token, or for each word by its first piece, as section 5.3 of the BERT paper has it.

    Args:
        backbone: a `Bert`.
        labels: the names of the C labels, strings.
        dropout: share of each token's vector dropped in training.
        max_length: raw sentences are cut to so many tokens, as `course_lib.text.words.pack_words` does; nothing is cut
            if None.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Raises:
        ValueError: if there are fewer than two labels, one twice, or one that is no string; if the backbone is another;
            or if `max_length` is more than there are positions.

    Example:
        >>> classifier = TokenClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["O", "B-place", "I-place"])
        >>> classifier.compile(AdamW(1e-4), CrossEntropy(), weighted_metrics=["accuracy"])
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
                `course_lib.text.words.pack_words` returns them, only these are scored.
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
        inputs = pack_words(self.backbone.tokenizer, sentences, self.max_length)
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
            [_prediction(self.names, word) for word in row[:count]]
            for row, count in zip(probabilities, counts, strict=True)
        ]

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"labels": self.labels}


def _is_raw(x):
    """Whether it is strings, or sequences of them, rather than what Keras takes."""
    return isinstance(x, str | list | tuple) or getattr(getattr(x, "dtype", None), "kind", None) in ("O", "U", "T")


def _check_loss(loss):
    takes_logits = True
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        takes_logits = loss.get_config().get("from_logits", True)
    if not takes_logits or loss == "sparse_categorical_crossentropy":
        raise ValueError("Expected a loss of logits, such as course_lib.objectives.CrossEntropy(); this one is not.")


def _prediction(names, probabilities):
    best = int(np.argmax(probabilities))
    values = dict(zip(names, map(float, probabilities), strict=True))
    return Prediction(names[best], values[names[best]], values)
