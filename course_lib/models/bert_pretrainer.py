"""BERT with the heads of its two objectives (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1).

Shapes: B batch, T length, P predictions per row, D model width, V vocabulary.
"""

import keras
import numpy as np
from keras import ops

from course_lib.layers.activations import activation_function
from course_lib.layers.quantization import KeepsQuantization
from course_lib.metrics.perplexity import Perplexity
from course_lib.models.bert import Bert
from course_lib.models.task import Task
from course_lib.models.text_inputs import as_texts, check_lengths, labels_of, raw_text
from course_lib.text.batches import Examples
from course_lib.text.masking import Masking


@keras.saving.register_keras_serializable("course_lib")
class MaskedLanguageModelHead(KeepsQuantization, keras.layers.Layer):
    """Scores every token of the vocabulary at each position: a dense layer, a norm, and the transposed embeddings.

    Args:
        vocabulary_size: V.
        token_embedding: the backbone's `keras.layers.ReversibleEmbedding`. Without it, the head has its own projection.
        activation: activation after the dense layer, as in `course_lib.layers.activation_function`.
        layer_norm_epsilon: added to the variance in the norm.
        initializer_range: standard deviation of the initial weights.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        vocabulary_size,
        token_embedding=None,
        activation="gelu",
        layer_norm_epsilon=1e-12,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.token_embedding = token_embedding
        self.activation = activation_function(activation)
        self.initializer_range = initializer_range
        self.norm = keras.layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, P, D).
        """
        dense = {"dtype": self.dtype_policy}
        dense["kernel_initializer"] = initializer = keras.initializers.TruncatedNormal(stddev=self.initializer_range)
        self.dense = keras.layers.Dense(input_shape[-1], name="dense", **dense)
        self.dense.build(input_shape)
        self.norm.build(input_shape)
        if self.token_embedding is None:
            dense["kernel_initializer"] = initializer.clone()
            self.projection = keras.layers.Dense(self.vocabulary_size, use_bias=False, name="projection", **dense)
            self.projection.build(input_shape)
        self.bias = self.add_weight(shape=(self.vocabulary_size,), initializer="zeros", name="bias")

    def call(self, x):
        """Scores the vocabulary at each position.

        Args:
            x: floats (B, P, D).

        Returns:
            Logits (B, P, V).
        """
        x = self.norm(self.activation(self.dense(x)))
        x = self.projection(x) if self.token_embedding is None else self.token_embedding(x, reverse=True)
        return x + ops.cast(self.bias, x.dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the logits.

        Args:
            input_shape: (B, P, D).
        """
        return (*input_shape[:-1], self.vocabulary_size)

    def get_config(self):
        """Returns the constructor's arguments."""
        embedding = self.token_embedding
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "token_embedding": None if embedding is None else keras.saving.serialize_keras_object(embedding),
            "activation": keras.activations.serialize(self.activation),
            "layer_norm_epsilon": self.norm.epsilon,
            "initializer_range": self.initializer_range,
        }

    @classmethod
    def from_config(cls, config):
        """Makes the layer that a config describes.

        Args:
            config: what `get_config` returned.

        Returns:
            A new layer.
        """
        embedding = config["token_embedding"]
        if embedding is not None:
            config = config | {"token_embedding": keras.saving.deserialize_keras_object(embedding)}
        return cls(**config)


@keras.saving.register_keras_serializable("course_lib")
class BertPretrainer(Task):
    """BERT with heads for its two objectives, section 3.1 of the paper: masked tokens, and next-sentence prediction.

    Args:
        backbone: a `Bert`. Without a pooler there is no next-sentence head, nor on a `Roberta`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    backbone_class = Bert
    predict_hint = " `fill_mask` answers to texts."

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        config = backbone.config
        self.masked_lm = MaskedLanguageModelHead(
            config.vocabulary_size,
            backbone.token_embedding if config.tie_embeddings else None,
            config.activation,
            config.layer_norm_epsilon,
            config.initializer_range,
            dtype=self.dtype_policy,
            name="masked_lm",
        )
        self.next_sentence = None
        if config.pooler and backbone.has_next_sentence:
            self.next_sentence = keras.layers.Dense(
                2,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
                dtype=self.dtype_policy,
                name="next_sentence",
            )

    def build_layers(self):
        """Creates every weight."""
        width = self.config.hidden_dim
        self.backbone.build((None, None))
        self.masked_lm.build((None, None, width))
        if self.next_sentence:
            self.next_sentence.build((None, width))

    def call(self, inputs, tap=None, training=None):
        """Scores masked tokens, and whether the second segment follows the first.

        Args:
            inputs: the tokenizer's dict, as for `Bert`. If it has `mask_positions`, integers (B, P), tokens are scored
                at these positions only; otherwise at all T.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            A dict of floats: `mlm_logits` (B, P, V), or (B, T, V), and, with a pooler, `nsp_logits` (B, 2). As in
            Google's checkpoints, column 0 means "the second segment follows the first", and column 1 "it does not".
        """
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        positions = inputs.pop("mask_positions", None)
        encoded = self.backbone(inputs, tap=tap, training=training)
        x = encoded["sequence_output"]  # (B, T, D)
        if positions is not None:
            x = ops.take_along_axis(x, ops.expand_dims(positions, -1), axis=1)  # (B, P, D)
        outputs = {"mlm_logits": self.masked_lm(x)}
        if self.next_sentence:
            outputs["nsp_logits"] = self.next_sentence(encoded["pooled_output"])
        return outputs

    def default_compile(self):
        """Returns the losses of both objectives, which are summed (appendix A.2 of the paper), metrics, and AdamW."""
        loss = {"mlm_logits": keras.losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight")}
        metrics = {"mlm_logits": [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()]}
        if self.next_sentence:
            loss["nsp_logits"] = keras.losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight")
            metrics["nsp_logits"] = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        return {"optimizer": keras.optimizers.AdamW(1e-4), "loss": loss, "weighted_metrics": metrics}

    def fill_mask(self, text, top_k=5):
        """Finds the most probable tokens for each "[MASK]" in a text, or "<mask>" on a `Roberta`.

        Args:
            text: a string, or a list of strings.
            top_k: how many tokens to return per mask.

        Returns:
            For a string with one mask, a list of `top_k` pairs of a token and its probability, the most probable first.
            For several masks a list of such lists, and for a list of strings a list of what each of them gives.

        Raises:
            ValueError: if there is no tokenizer, or a text has no mask or more tokens than the model has positions.

        Example:
            >>> BertPretrainer.from_preset("bert-mini").fill_mask("this film is [MASK] .", top_k=2)
        """
        self.check_tokenizer()
        texts = as_texts(text)
        inputs = self.tokenizer(texts)
        check_lengths(inputs["padding_mask"].sum(axis=1), self.config.max_sequence_length)
        is_mask = inputs["token_ids"] == self.tokenizer.mask_token_id  # (B, T)
        if not is_mask.any(axis=1).all():
            mask, text = self.tokenizer.vocabulary[self.tokenizer.mask_token_id], texts[np.argmin(is_mask.any(axis=1))]
            raise ValueError(f"Expected a {mask} in each text; got {text!r}.")
        logits = np.asarray(self(inputs)["mlm_logits"], "float64")[..., : self.tokenizer.vocabulary_size]
        answers = []
        for row, places in zip(logits, is_mask, strict=True):
            found = []
            for scores in row[places]:
                probabilities = np.exp(scores - np.logaddexp.reduce(scores))
                best = np.argsort(-probabilities, kind="stable")[:top_k]
                found.append([(self.tokenizer.vocabulary[index], float(probabilities[index])) for index in best])
            answers.append(found[0] if len(found) == 1 else found)
        return answers[0] if isinstance(text, str) else answers

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns texts, or pairs of texts, into batches. Each batch is masked anew in every epoch.

        Args:
            x: n strings, or n pairs of strings.
            y: n integers, 0 if the second text of a pair follows the first, 1 if it does not. Without them, the model
                learns from masked tokens only.
            sample_weight: must be None, since every masked token counts the same.
            batch_size: B. Defaults to 32.
            seed: seed for shuffling and masking; both differ in each epoch. Without one, texts are sorted by length,
                and masks are drawn with the seed 0.

        Returns:
            `Examples`, batches of inputs, labels and weights, as `default_compile` needs them. Texts are cut to the
            model's length.

        Raises:
            ValueError: if there is no tokenizer, sample weights are given, or labels are given to a model without a
                pooler or are not one per pair of texts. A batch that has nothing to mask raises it when it is drawn.
        """
        self.check_tokenizer()
        if sample_weight is not None:
            raise ValueError("Expected no sample_weight: every masked token counts the same; got weights.")
        rows, y = raw_text(x), labels_of(y)
        rows = [rows] if isinstance(rows, str) else rows or []
        are_pairs = bool(rows) and not isinstance(rows[0], str)
        if y is not None and not (are_pairs and self.next_sentence and len(y) == len(rows)):
            raise ValueError("Expected labels only with a pooler and pairs of texts, one label per pair; got others.")
        texts = zip(*rows, strict=True) if are_pairs else [rows]
        inputs = self.tokenizer(*map(as_texts, texts), max_length=self.config.max_sequence_length)
        rate = 0.15
        most = max(1, round(rate * inputs["token_ids"].shape[1]))
        masking = Masking.of(self.tokenizer, rate=rate, positions=most)

        def masked(batch, step):
            inputs, follows, weights = batch
            inputs, tokens, masked_weights = masking(inputs, seed or 0, step)
            if not self.next_sentence:
                return inputs, {"mlm_logits": tokens}, {"mlm_logits": masked_weights}
            labels = {"mlm_logits": tokens, "nsp_logits": follows}
            return inputs, labels, {"mlm_logits": masked_weights, "nsp_logits": weights}

        follows = np.zeros(len(rows), "int32") if y is None else np.asarray(y, "int32")
        weights = np.full(len(rows), y is not None, "float32")
        return Examples(inputs, follows, weights, batch_size or 32, seed, transform=masked)
