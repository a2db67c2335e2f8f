"""Reads GGUF, the single-file format of llama.cpp, in which weights are often quantized to a few bits.

The package `gguf` reads the file and turns quantized weights into float32 again. Its specification is at
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import functools
import re

import numpy as np

from course_lib.checkpoints.huggingface.llama import LlamaFormat

_FIELDS = {  # key → our field
    "block_count": "num_layers",
    "context_length": "max_sequence_length",
    "embedding_length": "hidden_dim",
    "feed_forward_length": "intermediate_dim",
    "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rotary_base",
    "attention.layer_norm_rms_epsilon": "rms_norm_epsilon",
    "vocab_size": "vocabulary_size",
}
_DERIVED = {"rope.dimension_count", "attention.value_length", "rope.scaling.type", "rope.scaling.factor"}
_ENDS_OF_TURNS = "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"
_NAMES = {  # tensor → its name in Hugging Face's layout
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SPECIAL, _ADDED = 3, 4  # kinds of tokens: control tokens, and tokens that were added by a user


class GGUFFormat(LlamaFormat):
    """Llamas in GGUF files: the tensors of Hugging Face's layout under other names. They are read, and not written."""

    layout = None

    def is_in(self, folder):
        """Tells whether a folder has a GGUF file and no `config.json`.

        Args:
            folder: path of the folder.

        Returns:
            A boolean.
        """
        return not (folder / "config.json").is_file() and any(folder.glob("*.gguf"))

    def read_fields(self, folder):
        """Reads the config of a model.

        Args:
            folder: path of the folder.

        Returns:
            The fields of a `LlamaConfig`, a dict.

        Raises:
            ValueError: if the file is broken, or holds a model that our classes do not compute.
            ImportError: if the package `gguf` is not installed.
        """
        path, metadata, reader = _open(folder)
        if (found := metadata.get("general.architecture")) != "llama":
            raise ValueError(f"Expected a model of architecture 'llama' in {path}; got {found!r}.")
        entries = {key.removeprefix("llama."): value for key, value in metadata.items() if key.startswith("llama.")}
        wrong = [f"there is no rule for llama.{key}" for key in sorted(entries.keys() - _FIELDS.keys() - _DERIVED)]
        fields = {field: entries[key] for key, field in _FIELDS.items() if key in entries}
        fields = {"rotary_base": 10_000.0, "head_dim": None, "num_key_value_heads": None} | fields
        fields["vocabulary_size"] = len(metadata.get("tokenizer.ggml.tokens", ())) or fields.get("vocabulary_size")
        missing = [key for key, field in _FIELDS.items() if field not in fields]
        if missing or wrong:
            wrong += [f"llama.{key} is missing" for key in missing]
            raise ValueError(f"Expected a Llama that this class computes in {path}; {'; '.join(wrong)}.")
        head_dim = fields["head_dim"] or fields["hidden_dim"] // fields["num_heads"]
        for key in ("rope.dimension_count", "attention.value_length"):
            if entries.get(key, head_dim) != head_dim:
                wrong.append(f"llama.{key} must be the width of a head, {head_dim}, not {entries[key]}")
        scaling = entries.get("rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            wrong.append(f"llama.rope.scaling.type must be 'none' or 'linear', not {scaling!r}")
        names = {tensor.name for tensor in reader.tensors}
        if "rope_freqs.weight" in names:
            wrong.append("rope_freqs.weight holds frequencies of a scaling that the file does not name")
        if wrong:
            raise ValueError(f"Expected a Llama that this class computes in {path}; {'; '.join(wrong)}.")
        return fields | {
            "rms_norm_epsilon": float(np.float32(fields["rms_norm_epsilon"]).astype(str)),  # 1e-5, not 9.99…e-6
            "rotary_scaling": {"rope_type": "linear", "factor": entries["rope.scaling.factor"]}
            if scaling == "linear"
            else None,
            "tie_embeddings": "output.weight" not in names,
            "end_token_id": (end := metadata.get("tokenizer.ggml.eos_token_id", -1)),
            "stop_token_ids": [metadata[key] for key in _ENDS_OF_TURNS if metadata.get(key, end) != end],
        }

    def read_tensors(self, folder, fields):
        """Reads the tensors, under their names in Hugging Face's layout.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of float32 arrays.

        Raises:
            ValueError: if a tensor is quantized in a way that the package `gguf` cannot read, or queries or keys do
                not divide into heads.
        """
        from gguf import quants

        path, _, reader = _open(folder)
        heads = {"attn_q": fields["num_heads"], "attn_k": fields["num_key_value_heads"] or fields["num_heads"]}
        tensors = {}
        for tensor in reader.tensors:
            try:
                array = quants.dequantize(tensor.data, tensor.tensor_type)
            except NotImplementedError as error:
                raise ValueError(
                    f"Expected weights that the package gguf can dequantize in {path}; {tensor.name} is of type "
                    f"{tensor.tensor_type.name}."
                ) from error
            found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", tensor.name)  # such as blk.0.attn_q.weight
            if not found:
                tensors[tensor.name] = array
                continue
            block, name, kind = found.groups()
            if name in heads and kind == "weight":
                if array.ndim != 2 or array.shape[0] % (2 * heads[name]):
                    raise ValueError(
                        f"Expected rows for {heads[name]} heads of even width in {path}; {tensor.name} has the shape "
                        f"{array.shape}."
                    )
                array = _halves(array, heads[name])
            prefix = f"model.layers.{block}." if block else ""
            tensors[f"{prefix}{_NAMES.get(name, name)}.{kind}"] = array
        return tensors


LLAMA = GGUFFormat()


def read_tokenizer(folder):
    """Reads the tokenizer in a GGUF file.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.chat_tokenizer.ChatTokenizer`, a dict.

    Raises:
        ValueError: if the file is broken, or its tokenizer is no byte-level BPE or adds tokens to each text.
        ImportError: if the package `gguf` is not installed.
    """
    path, metadata, _ = _open(folder)
    metadata = {
        key.removeprefix("tokenizer."): value for key, value in metadata.items() if key.startswith("tokenizer.")
    }
    wrong = [
        f"tokenizer.{key} must be {value!r}, not {metadata.get(key, default)!r}"
        for key, value, default in (
            ("ggml.model", "gpt2", None),
            ("ggml.add_bos_token", False, False),
            ("ggml.add_eos_token", False, False),
            ("ggml.add_space_prefix", False, False),
        )
        if metadata.get(key, default) != value
    ]
    if wrong:
        raise ValueError(f"Expected a tokenizer that this course reproduces in {path}; {'; '.join(wrong)}.")
    vocabulary, kinds = metadata["ggml.tokens"], metadata.get("ggml.token_type", ())
    added = [
        {"content": token, "special": kind == _SPECIAL}
        for token, kind in zip(vocabulary, kinds, strict=False)
        if kind in (_SPECIAL, _ADDED)
    ]

    def token(name):
        return vocabulary[metadata[f"ggml.{name}_token_id"]] if f"ggml.{name}_token_id" in metadata else None

    return {
        "vocabulary": vocabulary,
        "merges": [merge.split(" ") for merge in metadata["ggml.merges"]],
        "added_tokens": added,
        "end_token": token("eos"),
        "start_token": token("bos"),
        "pre_tokenizer": metadata.get("ggml.pre", "default"),
        "chat_template": metadata.get("chat_template"),
    }


def _open(folder):
    """Opens the GGUF file of a folder. Returns its path, its metadata, and a reader."""
    paths = sorted(folder.glob("*.gguf"))
    if len(paths) != 1:
        raise ValueError(f"Expected one GGUF file in {folder}; got {[path.name for path in paths]}.")
    state = paths[0].stat()
    return paths[0], *_read(paths[0], state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1)  # the vocabulary takes seconds to read, and loading a model needs the file three times
def _read(path, size, changed):
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError("Reading GGUF files needs a package: pip install gguf") from error
    try:
        reader = GGUFReader(path)
        return {key: field.contents() for key, field in reader.fields.items()}, reader
    except (ValueError, IndexError, KeyError, OverflowError) as error:  # which of them depends on where it is cut
        raise ValueError(
            f"Expected a whole GGUF file {path}; it is broken or cut short, or has a type of weights that the package "
            f"gguf does not know: {error}."
        ) from error


def _halves(array, num_heads):
    """Puts the rows of queries or keys back into Hugging Face's order.

    llama.cpp turns neighbours as pairs, and Hugging Face the numbers i and i + H/2 (see
    `course_lib.layers.RotaryEmbedding`), so such files have these rows in another order.
    """
    rows, width = array.shape
    return array.reshape(num_heads, rows // num_heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
