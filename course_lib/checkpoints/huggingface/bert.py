"""BERT in the Hugging Face layout: the encoder, both pre-training heads, and classifiers."""

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.format import Tensor
from course_lib.checkpoints.huggingface import heads
from course_lib.checkpoints.huggingface.base import (
    ACTIVATIONS,
    FIXED,
    HuggingFaceFormat,
    linear,
    norm,
)


class BertFormat(HuggingFaceFormat):
    """BERT's tensors and config, as in the classes `BertModel` and `BertFor…` of `transformers`."""

    model_type = "bert"
    family = "Bert"
    prefix = "bert."
    buffers = r"bert\.embeddings\.position_ids"  # 0, 1, 2, …, saved by old versions
    config_table = ConfigTable(
        fields={
            "vocab_size": ("vocabulary_size", 30522),
            "num_hidden_layers": ("num_layers", 12),
            "num_attention_heads": ("num_heads", 12),
            "hidden_size": ("hidden_dim", 768),
            "intermediate_size": ("intermediate_dim", 3072),
            "max_position_embeddings": ("max_sequence_length", 512),
            "type_vocab_size": ("num_segments", 2),
            "hidden_dropout_prob": ("dropout", 0.1),
            "attention_probs_dropout_prob": ("attention_dropout", 0.1),
            "hidden_act": ("activation", "gelu"),
            "layer_norm_eps": ("layer_norm_epsilon", 1e-12),
            "initializer_range": ("initializer_range", 0.02),
            "pad_token_id": ("pad_token_id", 0),
            "tie_word_embeddings": ("tie_embeddings", True),
        },
        values={"activation": ACTIVATIONS},
        fixed={
            "position_embedding_type": "absolute",
            "is_decoder": False,
            **FIXED,
        },
    )

    def tensors(self, fields):
        """Lists the tensors of the encoder, of both pre-training heads, and of a classifier.

        Args:
            fields: fields of a `BertConfig`.

        Yields:
            `Tensor`.
        """
        yield Tensor("bert.embeddings.word_embeddings.weight", "token_embedding.embeddings")
        yield Tensor("bert.embeddings.position_embeddings.weight", "position_embedding.embeddings")
        yield Tensor("bert.embeddings.token_type_embeddings.weight", "segment_embedding.embeddings")
        yield from norm("bert.embeddings.LayerNorm", "embedding_norm")
        for index in range(fields["num_layers"]):
            name, path = f"bert.encoder.layer.{index}", f"encoder.blocks.{index}"
            for part in ("query", "key", "value"):
                yield from linear(f"{name}.attention.self.{part}", f"{path}.attention.{part}")
            yield from linear(f"{name}.attention.output.dense", f"{path}.attention.output_projection")
            yield from norm(f"{name}.attention.output.LayerNorm", f"{path}.attention_norm")
            yield from linear(f"{name}.intermediate.dense", f"{path}.feed_forward.intermediate")
            yield from linear(f"{name}.output.dense", f"{path}.feed_forward.output_projection")
            yield from norm(f"{name}.output.LayerNorm", f"{path}.feed_forward_norm")
        yield from linear("bert.pooler.dense", "pooler")
        head = {"in_backbone": False}
        yield from linear("cls.predictions.transform.dense", "masked_lm.dense", **head)
        yield from norm("cls.predictions.transform.LayerNorm", "masked_lm.norm", **head)
        if fields["tie_embeddings"]:
            yield Tensor("cls.predictions.bias", "masked_lm.bias", **head)
        else:
            yield Tensor("cls.predictions.decoder.weight", "masked_lm.projection.kernel", transposed=True, **head)
            yield Tensor("cls.predictions.decoder.bias", "masked_lm.bias", **head)
        yield from linear("cls.seq_relationship", "next_sentence", **head)
        yield from linear("classifier", "classifier", **head)

    def tied_weights(self, fields):
        """Lists the copies of the token embeddings and of the bias that files may have in the MLM head.

        Args:
            fields: fields of a `BertConfig`.

        Returns:
            A dict, as in `Format.tied_weights`.
        """
        if not fields["tie_embeddings"]:
            return {"cls.predictions.bias": None}  # transformers then only adds the decoder's bias
        return {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }

    def fields_from_tensors(self, names):
        """Tells whether the model has a pooler.

        Args:
            names: names of the tensors in a folder.

        Returns:
            A dict with `pooler`, a boolean.
        """
        return {"pooler": any(name.startswith("bert.pooler.") for name in names)}

    def new_name(self, name):
        """Translates the names that layer norms have in the oldest files.

        Args:
            name: name of a tensor.

        Returns:
            A string.
        """
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    def architecture(self, model):
        """Finds the class in `transformers` that computes the same as a model.

        Args:
            model: a `Bert` or a task model on it.

        Returns:
            The name of the class, a string.

        Raises:
            ValueError: if `transformers` has no such class.
        """
        if hasattr(model, "masked_lm"):
            return "BertForPreTraining" if model.backbone.config.pooler else "BertForMaskedLM"
        return super().architecture(model)

    def skip_on_save(self, model):
        """Names the pooler if the model is a token classifier, whose class in `transformers` has none.

        Args:
            model: a `Bert` or a task model on it.

        Returns:
            A tuple of prefixes of tensor names.
        """
        return ("bert.pooler.",) if heads.is_classifier(model) and model.names_argument == "labels" else ()


BERT = BertFormat()
