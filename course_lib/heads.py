"""What tasks put on a backbone.

Shapes: B batch, T length, D model width, C classes or labels, W words a row.
"""

import keras
import numpy as np
from keras import ops

from course_lib.bert import Bert
from course_lib.checkpoints import huggingface
from course_lib.inputs import ChecksIds
from course_lib.preset import Preset

POOLINGS = ("mean", "max", "first", "pooled")


def pool(encoded, is_token, pooling):
    """One vector a text, of its tokens' vectors.

    Args:
        encoded: what a backbone returned: `sequence_output` (B, T, D) and, for "pooled", `pooled_output` (B, D).
        is_token: (B, T), nonzero where there is a token, or None if everywhere.
        pooling: their "mean", their "max" by coordinate, the "first" token's, or the backbone's "pooled" output.

    Returns:
        Floats (B, D); zeros where there is no token to take the mean or the maximum of.
    """
    if pooling == "pooled":
        return encoded["pooled_output"]
    x = encoded["sequence_output"]  # (B, T, D)
    if pooling == "first":
        return x[:, 0]
    is_token = ops.ones(ops.shape(x)[:2], "bool") if is_token is None else ops.cast(is_token, "bool")
    is_token = ops.expand_dims(is_token, -1)  # (B, T, 1)
    if pooling == "max":
        highest = ops.max(ops.where(is_token, x, -float("inf")), axis=1)
        return ops.where(ops.any(is_token, axis=1), highest, 0.0)
    is_token = ops.cast(is_token, x.dtype)
    return ops.sum(x * is_token, axis=1) / ops.maximum(ops.sum(is_token, axis=1), 1)


def _check_pooling(backbone, pooling):
    if pooling not in POOLINGS:
        raise ValueError(f"Expected a pooling of {POOLINGS}; got {pooling!r}.")
    if pooling == "pooled" and not backbone.config.pooler:
        raise ValueError("Expected a backbone with a pooler for pooling='pooled'; this one has none.")


@keras.saving.register_keras_serializable("course_lib")
class SentenceEncoder(ChecksIds, Preset, keras.Model):
    """One vector a text, of unit length, such that the product of two is the cosine of their angle.

    After Sentence-BERT (Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084).

    Args:
        backbone: a `Bert`.
        pooling: how a text's tokens become one vector: their "mean", their "max" by coordinate, the "first" token's,
            or the backbone's "pooled" output.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Raises:
        ValueError: if there is no such pooling, or the backbone has no pooled output and it is asked for.

    Example:
        >>> encoder = SentenceEncoder.from_preset("all-MiniLM-L6-v2")
        >>> vectors = encoder.encode(["A dull film.", "The movie bored me.", "It rains."])  # float32 (3, 384)
        >>> vectors @ vectors.T
    """

    checkpoint_format = huggingface.BERT
    backbone_class = Bert

    def __init__(self, backbone, pooling="mean", **kwargs):
        super().__init__(**kwargs)
        _check_pooling(backbone, pooling)
        self.backbone = backbone
        self.pooling = pooling

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: not needed, since the backbone's config says it all.
        """
        self.backbone.build()
        self.built = True

    def call(self, inputs, training=None):
        """Encodes.

        Args:
            inputs: the tokenizer's dict, or token ids (B, T) alone.
            training: whether to drop out.

        Returns:
            Floats (B, D), each row of unit length; without a token to take the mean or the maximum of, zeros.
        """
        encoded = self.backbone(inputs, training=training)
        vectors = pool(encoded, inputs.get("padding_mask") if isinstance(inputs, dict) else None, self.pooling)
        squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)  # (B, 1)
        return vectors * ops.rsqrt(ops.maximum(squares, 1e-6))  # at zero, `ops.normalize` has no gradient

    def encode(self, texts, batch_size=64, max_length=None):
        """Encodes texts, those of like length together, so that little is computed for padding.

        Args:
            texts: strings, as many as wanted.
            batch_size: how many are encoded at once.
            max_length: at most so many tokens a text; longer ones are cut. Nothing is cut by default.

        Returns:
            float32 (number of texts, D), in the order of the texts.

        Raises:
            ValueError: if a text is no string, or has more tokens than the backbone has positions.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        batch = self.backbone.tokenizer(texts, max_length=max_length)
        lengths = batch["padding_mask"].sum(axis=1)
        longest = self.backbone.config.max_sequence_length
        if lengths.max() > longest:
            raise ValueError(
                f"Expected texts of at most {longest} tokens; text {lengths.argmax()} has {lengths.max()}. "
                f"Pass max_length={longest} to cut longer texts."
            )
        order = np.argsort(lengths, kind="stable")
        step = 8 if keras.backend.backend() == "jax" else 1  # JAX compiles each width anew: it gets few of them
        vectors = np.empty((len(texts), self.backbone.config.hidden_dim), "float32")
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            width = -(-lengths[rows[-1]] // step) * step
            vectors[rows] = self.predict_on_batch({name: array[rows, :width] for name, array in batch.items()})
        return vectors

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"pooling": self.pooling}


class _Classifier(ChecksIds, Preset, keras.Model):
    """A backbone, dropout, and a dense layer with an output for each of some names.

    A pooler on which nothing depends is set to be not trainable, since it would have no gradient.
    """

    checkpoint_format = huggingface.BERT
    backbone_class = Bert

    def __init__(self, backbone, names, dropout, pooled=False, **kwargs):
        super().__init__(**kwargs)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"Expected at least two names, all different; got {list(names)}.")
        self.backbone = backbone
        if backbone.pooler:
            backbone.pooler.trainable = pooled
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.classifier = keras.layers.Dense(
            len(names),
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

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"dropout": self.dropout.rate}


@keras.saving.register_keras_serializable("course_lib")
class TextClassifier(_Classifier):
    """A class for each text: a dense layer on the pooled vectors of its tokens, section 3.5 of the BERT paper.

    Args:
        backbone: a `Bert`.
        classes: the names of the C classes.
        pooling: how a text's tokens become one vector, as `pool` knows it.
        dropout: share of that vector dropped in training.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Raises:
        ValueError: if there are fewer than two classes, or one twice, or no such pooling.

    Example:
        >>> classifier = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"])
        >>> classifier(classifier.backbone.tokenizer(["A dull film."])).shape
        (1, 2)
    """

    def __init__(self, backbone, classes, pooling="mean", dropout=0.1, **kwargs):
        _check_pooling(backbone, pooling)
        super().__init__(backbone, classes, dropout, pooling == "pooled", **kwargs)
        self.classes = tuple(classes)
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

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"classes": self.classes, "pooling": self.pooling}


@keras.saving.register_keras_serializable("course_lib")
class TokenClassifier(_Classifier):
    """A label for each token, or for each word by its first piece, as section 5.3 of the BERT paper has it.

    Args:
        backbone: a `Bert`.
        labels: the names of the C labels.
        dropout: share of each token's vector dropped in training.
        **kwargs: what every Keras model takes (`name`, `dtype`).

    Raises:
        ValueError: if there are fewer than two labels, or one twice.
    """

    def __init__(self, backbone, labels, dropout=0.1, **kwargs):
        super().__init__(backbone, labels, dropout, **kwargs)
        self.labels = tuple(labels)

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

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"labels": self.labels}
