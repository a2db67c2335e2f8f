"""What fine-tuning puts on a backbone: a classifier of texts, and one of their tokens or words.

Both take arrays, as every Keras model does, and raw texts, as `course_lib.raw_texts` says.

Shapes: n rows, B batch, T length, D model width, C classes or labels, W words a row.
"""

import keras
import numpy as np
from keras import ops

from course_lib.bert import Bert
from course_lib.checkpoints import huggingface_heads
from course_lib.gpt2 import GPT2
from course_lib.inputs import ChecksIds
from course_lib.preset import Preset, locate
from course_lib.raw_texts import Prediction, ReadsRawTexts
from course_lib.sentence_encoder import SentenceEncoder as SentenceEncoder  # the recorded chapter 00 finds it here
from course_lib.sentence_encoder import check_pooling, pool
from course_lib.text.words import pack_words


class _Classifier(ReadsRawTexts, ChecksIds, Preset, keras.Model):
    """A backbone, dropout, and a dense layer with an output for each of some names.

    A pooler on which nothing depends is set to be not trainable, since it would have no gradient. No weight of the
    backbone is set to be trainable.
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
        if getattr(backbone, "pooler", None) and not pooled:
            backbone.pooler.trainable = False
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
        ValueError: if there are fewer than two classes, one twice, or one that is no string; if the backbone is
            another; if there is no such pooling, or it makes no sense on this backbone; or if `max_length` is more than
            there are positions.

    Example:
        >>> classifier = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"])
        >>> classifier.compile(AdamW(1e-4), CrossEntropy(), weighted_metrics=["accuracy"])
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
        return [Prediction.of(self.names, row) for row in probabilities]

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
            [Prediction.of(self.names, word) for word in row[:count]]
            for row, count in zip(probabilities, counts, strict=True)
        ]

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"labels": self.labels}
