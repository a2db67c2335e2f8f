"""GPT-2 and the first GPT in the Hugging Face layout. OpenAI's weights are published on its hub."""

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.format import Tensor
from course_lib.checkpoints.huggingface import heads
from course_lib.checkpoints.huggingface.base import (
    ACTIVATIONS,
    FIXED,
    HuggingFaceFormat,
    norm,
)

_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


class GPT2Format(HuggingFaceFormat):
    """GPT-2's tensors and config, as in the classes `GPT2…` of `transformers`."""

    model_type = "gpt2"
    family = "GPT2"
    prefix = "transformer."
    buffers = r"transformer\.h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask, saved by old versions
    config_table = ConfigTable(
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
            "bos_token_id": ("end_token_id", 50256),  # the same token begins and ends a text; eos_token_id decides
            "eos_token_id": ("end_token_id", 50256),
        },
        values={"activation": ACTIVATIONS},
        fixed={"tie_word_embeddings": True, **FIXED},
        aliases=_ALIASES,
    )
    token_embedding = "transformer.wte.weight"
    position_embedding = "transformer.wpe.weight"

    def tensors(self, fields):
        """Lists the tensors of the decoder and of a classifier. A language model's head reuses the token embeddings.

        Args:
            fields: fields of a `GPT2Config`.

        Yields:
            `Tensor`.
        """
        yield Tensor(self.token_embedding, "token_embedding.embeddings")
        yield Tensor(self.position_embedding, "position_embedding.embeddings")
        for index in range(fields["num_layers"]):
            name, path = f"transformer.h.{index}", f"decoder.blocks.{index}"
            yield from norm(f"{name}.ln_1", f"{path}.attention_norm")
            for place, part in enumerate(("query", "key", "value")):
                yield from _convolution(f"{name}.attn.c_attn", f"{path}.attention.{part}", (place, 3))
            yield from _convolution(f"{name}.attn.c_proj", f"{path}.attention.output_projection")
            yield from norm(f"{name}.ln_2", f"{path}.feed_forward_norm")
            yield from _convolution(f"{name}.mlp.c_fc", f"{path}.feed_forward.intermediate")
            yield from _convolution(f"{name}.mlp.c_proj", f"{path}.feed_forward.output_projection")
        yield from self.last_norm()
        yield Tensor("score.weight", "classifier.kernel", transposed=True, in_backbone=False)

    def last_norm(self):
        """Lists the tensors of the norm after the last block.

        Returns:
            An iterable of `Tensor`.
        """
        return norm("transformer.ln_f", "decoder.norm")

    def tied_weights(self, fields):
        """Lists the copy of the token embeddings that files may have in the language model's head.

        Args:
            fields: fields of a `GPT2Config`.

        Returns:
            A dict, as in `Format.tied_weights`.
        """
        return {"lm_head.weight": self.token_embedding}

    def read_fields(self, folder):
        """Reads the config of a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, a dict. The end token is -1 if the file gives it as null.

        Raises:
            ValueError: if there is no config, it belongs to a different kind of model, or an entry is not supported.
        """
        fields = super().read_fields(folder)
        return fields | ({"end_token_id": -1} if fields["end_token_id"] is None else {})

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: a `GPT2` or a task model on it.
            fields: fields of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if `transformers` cannot express the config or the head of the model.
        """
        none = {"bos_token_id": None, "eos_token_id": None} if fields["end_token_id"] < 0 else {}
        return super().config_of(model, fields) | none

    def architecture(self, model):
        """Finds the class in `transformers` that computes the same as a model.

        Args:
            model: a `GPT2` or a task model on it.

        Returns:
            The name of the class, a string.

        Raises:
            ValueError: if `transformers` has no such class.
        """
        is_lm = hasattr(model, "backbone") and not heads.is_classifier(model)
        return f"{self.family}LMHeadModel" if is_lm else super().architecture(model)

    def head_config(self, model):
        """Makes the entries of the config that describe the head.

        A classifier in `transformers` reads the last token that is not the padding token, so the config must name it.

        Args:
            model: a `GPT2` or a task model on it.

        Returns:
            A dict.
        """
        entries = super().head_config(model)
        if entries:
            end, tokenizer = model.backbone.config.end_token_id, model.backbone.tokenizer
            entries["pad_token_id"] = tokenizer.special_token_id if tokenizer else end if end >= 0 else None
        return entries


class OpenAIGPTFormat(GPT2Format):
    """The first GPT's tensors and config, as in the classes `OpenAIGPT…` of `transformers`."""

    model_type = "openai-gpt"
    family = "OpenAIGPT"
    buffers = r"transformer\.(h\.\d+\.attn\.bias|position_ids)"  # causal mask and 0, 1, 2, …, saved by old versions
    config_table = ConfigTable(
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
        # "gelu" in these configs is the approximation that GPT-2's configs call "gelu_new".
        values={"activation": {"gelu": "gelu_approximate", "relu": "relu", "silu": "silu", "swish": "silu"}},
        fixed={"tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None, **FIXED},
        aliases=_ALIASES,
    )
    token_embedding = "transformer.tokens_embed.weight"
    position_embedding = "transformer.positions_embed.weight"

    def last_norm(self):
        """Lists nothing: the norms come after the sublayers, so there is no further norm after the last block.

        Returns:
            An empty tuple.
        """
        return ()

    def family_defaults(self, fields):
        """Finds the fields that GPT-2 made configurable and that have fixed values in the first GPT.

        Args:
            fields: fields of our config.

        Returns:
            A dict.
        """
        return {
            "intermediate_dim": 4 * fields["hidden_dim"],
            "scale_attention": True,
            "scale_attention_by_layer": False,
            "end_token_id": -1,
        }


GPT2 = GPT2Format()
OPENAI_GPT = OpenAIGPTFormat()


def _convolution(name, path, part=(0, 1)):
    yield Tensor(f"{name}.weight", f"{path}.kernel", part=part)  # a "Conv1D" of width 1 has (in, out), as ours
    yield Tensor(f"{name}.bias", f"{path}.bias", part=part)
