"""One vector a text: its tokens' vectors pooled, as they stand or brought to unit length.

Shapes: B batch, T length, D model width.
"""

import keras
import numpy as np
from keras import ops

from course_lib.bert import Bert
from course_lib.checkpoints import huggingface
from course_lib.inputs import ChecksIds
from course_lib.preset import Preset

POOLINGS = ("mean", "max", "first", "last", "pooled")


def pool(encoded, is_token, pooling):
    """One vector a text, of its tokens' vectors.

    Args:
        encoded: what a backbone returned: `sequence_output` (B, T, D) and, for "pooled", `pooled_output` (B, D).
        is_token: (B, T), nonzero where there is a token, or None if everywhere.
        pooling: their "mean", their "max" by coordinate, the "first" token's, the "last" token's, or the backbone's
            "pooled" output.

    Returns:
        Floats (B, D); zeros where there is no token to take the mean or the maximum of.
    """
    if pooling == "pooled":
        return encoded["pooled_output"]
    x = encoded["sequence_output"]  # (B, T, D)
    if pooling == "first":
        return x[:, 0]
    is_token = ops.ones(ops.shape(x)[:2], "bool") if is_token is None else ops.cast(is_token, "bool")
    if pooling == "last":
        places = ops.where(is_token, ops.arange(ops.shape(x)[1]), 0)  # (B, T)
        return ops.take_along_axis(x, ops.max(places, axis=1)[:, None, None], axis=1)[:, 0]
    is_token = ops.expand_dims(is_token, -1)  # (B, T, 1)
    if pooling == "max":
        highest = ops.max(ops.where(is_token, x, -float("inf")), axis=1)
        return ops.where(ops.any(is_token, axis=1), highest, 0.0)
    is_token = ops.cast(is_token, x.dtype)
    return ops.sum(x * is_token, axis=1) / ops.maximum(ops.sum(is_token, axis=1), 1)


def check_pooling(backbone, pooling):
    """Checks that a backbone's outputs can be pooled so.

    Args:
        backbone: a `Bert` or a `GPT2`.
        pooling: as `pool` knows it.

    Raises:
        ValueError: if there is no such pooling, or the backbone has no pooled output and it is asked for.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"Expected a pooling of {POOLINGS}; got {pooling!r}.")
    if pooling == "pooled" and not getattr(backbone.config, "pooler", False):
        raise ValueError("Expected a backbone with a pooler for pooling='pooled'; this one has none.")


def check_lengths(lengths, backbone):
    """Checks that a backbone has a position for each token.

    Args:
        lengths: integers (n,), how many tokens each text has.
        backbone: a `Bert` or a `GPT2`.

    Raises:
        ValueError: if a text has more tokens than the backbone has positions.
    """
    longest = backbone.config.max_sequence_length
    if lengths.max() > longest:
        raise ValueError(
            f"Expected texts of at most {longest} tokens; text {lengths.argmax()} has {lengths.max()}. "
            f"Pass max_length={longest} to cut longer texts."
        )


@keras.saving.register_keras_serializable("course_lib")
class SentenceEncoder(ChecksIds, Preset, keras.Model):
    """One vector a text, of unit length, such that the product of two is the cosine of their angle.

    After Sentence-BERT (Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084).

    Args:
        backbone: a `Bert`.
        pooling: how a text's tokens become one vector, as `pool` knows it.
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
        check_pooling(backbone, pooling)
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
        check_lengths(lengths, self.backbone)
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
