"""BERT in the layout of the Hugging Face hub, and what the tables of that layout share."""

from course_lib.checkpoints import huggingface_heads
from course_lib.checkpoints.format import Format, Tensor

HARMLESS = frozenset(  # do not change what a model computes
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "attn_implementation",
        "bos_token_id",
        "classifier_dropout",
        "decoder_start_token_id",
        "directionality",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "keys_to_ignore_at_inference",
        "label2id",
        "language",
        "model_max_length",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "prefix",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_cache",
        "use_return_dict",
    }
)
FIXED = {  # what no model here computes otherwise
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
    "cross_attention_hidden_size": None,
    "quantization_config": None,
}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "mish": "mish",
    "linear": "linear",
}


def linear(name, path, **place):
    """The rows of a dense layer.

    Args:
        name: the foreign layer's.
        path: of ours.
        **place: more of each `Tensor`.

    Yields:
        Tensors.
    """
    yield Tensor(f"{name}.weight", f"{path}.kernel", transposed=True, **place)
    yield Tensor(f"{name}.bias", f"{path}.bias", **place)


def norm(name, path, **place):
    """The rows of a layer norm.

    Args:
        name: the foreign layer's.
        path: of ours.
        **place: more of each `Tensor`.

    Yields:
        Tensors.
    """
    yield Tensor(f"{name}.weight", f"{path}.gamma", **place)
    yield Tensor(f"{name}.bias", f"{path}.beta", **place)


def _bert_tensors(fields):
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


def _bert_copies(fields):
    if not fields["tie_embeddings"]:
        return {"cls.predictions.bias": None}  # transformers then adds the bias of the decoder alone
    return {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }


def _bert_architecture(model):
    if not hasattr(model, "backbone"):
        return "BertModel"
    if hasattr(model, "classifier"):
        return huggingface_heads.architecture("Bert", model)
    return "BertForPreTraining" if model.backbone.config.pooler else "BertForMaskedLM"


BERT = Format(
    model_type="bert",
    prefix="bert.",
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
        "pooler_type": "first_token_transform",
        **FIXED,
    },
    harmless=HARMLESS,
    buffers=r"bert\.embeddings\.position_ids",  # 0, 1, 2, …, in old versions
    tensors=lambda fields: tuple(_bert_tensors(fields)),
    copies=_bert_copies,
    optional=lambda names: {"pooler": any(name.startswith("bert.pooler.") for name in names)},
    architecture=_bert_architecture,
    entries=huggingface_heads.entries,
    left_out=lambda model: () if getattr(model, "names_argument", "classes") == "classes" else ("bert.pooler.",),
)
