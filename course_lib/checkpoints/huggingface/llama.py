"""Llama in the Hugging Face layout, as in the classes `Llama…` of `transformers`."""

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.files import read_json
from course_lib.checkpoints.format import Tensor
from course_lib.checkpoints.huggingface.base import ACTIVATIONS, FIXED, HuggingFaceFormat


class LlamaFormat(HuggingFaceFormat):
    """Llama's tensors and config, as in the classes `Llama…` of `transformers`.

    Of `generation_config.json`, only the end tokens are read, since our `generate` takes the rest as arguments.
    """

    model_type = "llama"
    family = "Llama"
    prefix = "model."
    buffers = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"  # frequencies, saved by old versions
    config_table = ConfigTable(
        fields={
            "vocab_size": ("vocabulary_size", 32000),
            "num_hidden_layers": ("num_layers", 32),
            "num_attention_heads": ("num_heads", 32),
            "hidden_size": ("hidden_dim", 4096),
            "intermediate_size": ("intermediate_dim", 11008),
            "num_key_value_heads": ("num_key_value_heads", None),
            "head_dim": ("head_dim", None),
            "max_position_embeddings": ("max_sequence_length", 2048),
            "rope_theta": ("rotary_base", 10_000.0),
            "rope_scaling": ("rotary_scaling", None),
            "hidden_act": ("activation", "silu"),
            "rms_norm_eps": ("rms_norm_epsilon", 1e-6),
            "tie_word_embeddings": ("tie_embeddings", False),
            "attention_dropout": ("attention_dropout", 0.0),
            "initializer_range": ("initializer_range", 0.02),
            "eos_token_id": ("end_token_id", 2),
        },
        values={"activation": ACTIVATIONS},
        fixed={"attention_bias": False, "mlp_bias": False, "partial_rotary_factor": 1.0, **FIXED},
    )

    def entries_of(self, config, path):
        """Rewrites newer entries of a config as the older ones of the table.

        Args:
            config: content of `config.json`.
            path: path of the file, for error messages.

        Returns:
            A dict.
        """
        config = dict(config)
        rotary = config.pop("rope_parameters", None)
        if rotary:
            rotary = dict(rotary)
            config["rope_theta"] = rotary.pop("rope_theta", config.get("rope_theta", 10_000.0))
            config["rope_scaling"] = rotary
        scaling = config.get("rope_scaling")
        if scaling and scaling.get("rope_type", scaling.get("type")) == "default":
            config["rope_scaling"] = None
        return config

    def read_fields(self, folder):
        """Reads the config of a folder, and the end tokens of its `generation_config.json`, if there is one.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, a dict. If several tokens end a text, the first is `end_token_id`.

        Raises:
            ValueError: if there is no config, it belongs to a different kind of model, or an entry is not supported.
        """
        fields, path = super().read_fields(folder), folder / "generation_config.json"
        ends = [fields["end_token_id"], read_json(path).get("eos_token_id") if path.is_file() else None]
        ends = [end for given in ends for end in (given if isinstance(given, list) else [given]) if end is not None]
        first, *others = dict.fromkeys(ends) or [-1]
        return fields | {"end_token_id": first, "stop_token_ids": others}

    def tensors(self, fields):
        """Lists the tensors of the decoder and of the language model's head.

        Args:
            fields: fields of a `LlamaConfig`.

        Yields:
            `Tensor`.
        """
        yield Tensor("model.embed_tokens.weight", "token_embedding.embeddings")
        for index in range(fields["num_layers"]):
            name, path = f"model.layers.{index}", f"decoder.blocks.{index}"
            yield Tensor(f"{name}.input_layernorm.weight", f"{path}.attention_norm.scale")
            for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output_projection")):
                yield Tensor(f"{name}.self_attn.{theirs}_proj.weight", f"{path}.attention.{ours}.kernel", True)
            yield Tensor(f"{name}.post_attention_layernorm.weight", f"{path}.feed_forward_norm.scale")
            for theirs, ours in (("gate", "gate"), ("up", "intermediate"), ("down", "output_projection")):
                yield Tensor(f"{name}.mlp.{theirs}_proj.weight", f"{path}.feed_forward.{ours}.kernel", True)
        yield Tensor("model.norm.weight", "decoder.norm.scale")
        if not fields["tie_embeddings"]:
            yield Tensor("lm_head.weight", "head.kernel", transposed=True, in_backbone=False)

    def tied_weights(self, fields):
        """Lists the copy of the token embeddings that files may have in the language model's head.

        Args:
            fields: fields of a `LlamaConfig`.

        Returns:
            A dict, as in `Format.tied_weights`.
        """
        return {"lm_head.weight": "model.embed_tokens.weight"} if fields["tie_embeddings"] else {}

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: a `Llama` or a task model on it.
            fields: fields of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if `transformers` cannot express the config or the head of the model.
        """
        ends = [end for end in (fields["end_token_id"], *fields["stop_token_ids"]) if end >= 0]
        end = ends if len(ends) > 1 else ends[0] if ends else None
        return super().config_of(model, fields) | {"bos_token_id": None, "eos_token_id": end}

    def architecture(self, model):
        """Finds the class in `transformers` that computes the same as a model.

        Args:
            model: a `Llama` or a task model on it.

        Returns:
            The name of the class, a string.
        """
        return "LlamaForCausalLM" if hasattr(model, "score") else super().architecture(model)


LLAMA = LlamaFormat()
