"""GPT-2, and the first GPT, in the layout of the Hugging Face hub, as OpenAI's weights are published there."""

from course_lib.checkpoints import huggingface_heads
from course_lib.checkpoints.format import Format, Tensor
from course_lib.checkpoints.huggingface import ACTIVATIONS, FIXED, HARMLESS, norm

_HARMLESS = HARMLESS | {
    "do_sample",
    "is_decoder",
    "max_length",
    "n_ctx",
    "n_special",
    "pad_token_id",
    "predict_special_tokens",
    "reorder_and_upcast_attn",  # a matter of rounding in half precision; we take the softmax in float32 anyway
    "summary_activation",  # a summary is what a head for multiple choice takes
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
}


def _convolution(name, path, part=(0, 1)):
    yield Tensor(f"{name}.weight", f"{path}.kernel", part=part)  # (in, out), as ours: "Conv1D", of width one
    yield Tensor(f"{name}.bias", f"{path}.bias", part=part)


def _tensors(fields, tokens, positions):
    yield Tensor(f"transformer.{tokens}.weight", "token_embedding.embeddings")
    yield Tensor(f"transformer.{positions}.weight", "position_embedding.embeddings")
    for index in range(fields["num_layers"]):
        name, path = f"transformer.h.{index}", f"decoder.blocks.{index}"
        yield from norm(f"{name}.ln_1", f"{path}.attention_norm")
        for place, part in enumerate(("query", "key", "value")):
            yield from _convolution(f"{name}.attn.c_attn", f"{path}.attention.{part}", (place, 3))
        yield from _convolution(f"{name}.attn.c_proj", f"{path}.attention.output_projection")
        yield from norm(f"{name}.ln_2", f"{path}.feed_forward_norm")
        yield from _convolution(f"{name}.mlp.c_fc", f"{path}.feed_forward.intermediate")
        yield from _convolution(f"{name}.mlp.c_proj", f"{path}.feed_forward.output_projection")
    if fields["norm_first"]:
        yield from norm("transformer.ln_f", "decoder.norm")
    yield Tensor("score.weight", "classifier.kernel", transposed=True, in_backbone=False)


def _architecture(family, model):
    if hasattr(model, "classifier"):
        return huggingface_heads.architecture(family, model)
    return f"{family}LMHeadModel" if hasattr(model, "backbone") else f"{family}Model"


def _entries(model):
    entries = huggingface_heads.entries(model)
    if entries:  # what our tokenizers pad with; there, a text's last token is the last that differs from it
        backbone = model.backbone
        end = backbone.config.end_token_id
        entries["pad_token_id"] = getattr(backbone.tokenizer, "unknown_token_id", None) if end < 0 else end
    return entries


GPT2 = Format(
    model_type="gpt2",
    prefix="transformer.",
    fields={
        "vocab_size": ("vocabulary_size", 50257),
        "n_layer": ("num_layers", 12),
        "n_head": ("num_heads", 12),
        "n_embd": ("hidden_dim", 768),
        "n_inner": ("intermediate_dim", None),
        "n_positions": ("max_sequence_length", 1024),
        "embd_pdrop": ("embedding_dropout", 0.1),
        "resid_pdrop": ("dropout", 0.1),
        "attn_pdrop": ("attention_dropout", 0.1),
        "activation_function": ("activation", "gelu_new"),
        "layer_norm_epsilon": ("layer_norm_epsilon", 1e-5),
        "scale_attn_weights": ("scale_attention", True),
        "scale_attn_by_inverse_layer_idx": ("scale_attention_by_layer", False),
        "initializer_range": ("initializer_range", 0.02),
        "bos_token_id": ("end_token_id", 50256),  # one token does both; read from the second
        "eos_token_id": ("end_token_id", 50256),
    },
    values={"activation": ACTIVATIONS},
    fixed={"tie_word_embeddings": True, **FIXED},
    harmless=_HARMLESS,
    buffers=r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",  # the causal mask, in old versions
    tensors=lambda fields: tuple(_tensors(fields, "wte", "wpe")),
    copies=lambda fields: {"lm_head.weight": "transformer.wte.weight"},
    optional=lambda names: {},
    architecture=lambda model: _architecture("GPT2", model),
    entries=_entries,
    implied=lambda fields: {"norm_first": True},
)
OPENAI_GPT = Format(
    model_type="openai-gpt",
    prefix="transformer.",
    fields={
        "vocab_size": ("vocabulary_size", 40478),
        "n_layer": ("num_layers", 12),
        "n_head": ("num_heads", 12),
        "n_embd": ("hidden_dim", 768),
        "n_positions": ("max_sequence_length", 512),
        "embd_pdrop": ("embedding_dropout", 0.1),
        "resid_pdrop": ("dropout", 0.1),
        "attn_pdrop": ("attention_dropout", 0.1),
        "afn": ("activation", "gelu"),
        "layer_norm_epsilon": ("layer_norm_epsilon", 1e-5),
        "initializer_range": ("initializer_range", 0.02),
    },
    # What is called GELU here is the approximation, as in GPT-2, whose configs call it by another name.
    values={"activation": {"gelu": "gelu_approximate", "relu": "relu", "silu": "silu", "swish": "silu"}},
    fixed={"tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None, **FIXED},
    harmless=_HARMLESS,
    buffers=r"transformer\.(h\.\d+\.attn\.bias|position_ids)",  # the causal mask, and 0, 1, 2, …, in old versions
    tensors=lambda fields: tuple(_tensors(fields, "tokens_embed", "positions_embed")),
    copies=lambda fields: {"lm_head.weight": "transformer.tokens_embed.weight"},
    optional=lambda names: {},
    architecture=lambda model: _architecture("OpenAIGPT", model),
    entries=_entries,
    implied=lambda fields: {
        "norm_first": False,
        "intermediate_dim": 4 * fields["hidden_dim"],
        "scale_attention": True,
        "scale_attention_by_layer": False,
        "end_token_id": -1,
    },
)
