"""The layout of the Hugging Face hub: `config.json`, `model.safetensors` (or shards of it), `vocab.txt`."""

import pathlib

from course_lib.checkpoints import huggingface_heads
from course_lib.checkpoints.files import read_json
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
_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_WORD_PIECE = {
    "model": "WordPiece",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
    "normalizer": "BertNormalizer",
    "clean_text": True,
    "pre_tokenizer": "BertPreTokenizer",
}
_BYTE_PAIR_SETTINGS = {
    "add_prefix_space": False,
    "add_bos_token": False,
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
}
_BYTE_PAIR = {
    "model": "BPE",
    "normalizer": None,
    "pre_tokenizer": "ByteLevel",
    "add_prefix_space": False,
    "use_regex": True,
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": False,
    "ignore_merges": False,
    "added_tokens": ["<|endoftext|>"],
}
_CHARACTER_PAIR_SETTINGS = {"unk_token": "<unk>", "bos_token": None, "eos_token": None}
_CHARACTER_PAIR = {
    "model": "BPE",
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": "BertPreTokenizer",
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": "</w>",
    "byte_fallback": False,
    "ignore_merges": False,
    "unk_token": "<unk>",
    "fuse_unk": False,
    "added_tokens": ["<unk>"],
}


def read_word_piece(folder):
    """Reads the vocabulary and the settings of a WordPiece tokenizer.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.WordPieceTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.txt` nor `tokenizer.json`, or describes a tokenizer that differs
            in more than those arguments.
    """
    folder = pathlib.Path(folder)
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    for name, expected in _SPECIAL_TOKENS.items():
        token = settings.get(name, expected)
        if (token["content"] if isinstance(token, dict) else token) != expected:
            raise ValueError(f"Expected {name} to be {expected!r} in {path}; got {token!r}.")
    arguments = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "split_chinese": settings.get("tokenize_chinese_chars", True),
    }
    if (folder / "vocab.txt").is_file():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8")  # an empty line has its id, too
        return arguments | {"vocabulary": lines.removesuffix("\n").split("\n")}
    return _word_piece_of_json(folder / "tokenizer.json")


def _word_piece_of_json(path):
    tokenizer = read_json(path)
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {}
    found = {
        "model": model.get("type"),
        "continuing_subword_prefix": model.get("continuing_subword_prefix"),
        "max_input_chars_per_word": model.get("max_input_chars_per_word"),
        "normalizer": normalizer.get("type"),
        "clean_text": normalizer.get("clean_text"),
        "pre_tokenizer": (tokenizer.get("pre_tokenizer") or {}).get("type"),
    }
    if found != _WORD_PIECE:
        raise ValueError(f"Expected BERT's WordPiece in {path}, {_WORD_PIECE}; got {found}.")
    added = {token["content"] for token in tokenizer.get("added_tokens", ())} - set(_SPECIAL_TOKENS.values())
    if added:
        raise ValueError(f"Expected no added tokens but BERT's own in {path}; got {sorted(added)}.")
    return {
        "vocabulary": sorted(model["vocab"], key=model["vocab"].get),
        "lowercase": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "split_chinese": normalizer["handle_chinese_chars"],
    }


def read_byte_pair(folder):
    """Reads the vocabulary and the merges of a byte-level BPE tokenizer.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.BytePairTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.json` with `merges.txt` nor `tokenizer.json`, its ids have gaps,
            or it describes a tokenizer that differs from GPT-2's in more than those arguments.
    """
    return _read_pairs(pathlib.Path(folder), _BYTE_PAIR_SETTINGS, "GPT-2's byte-level BPE", _BYTE_PAIR)


def read_character_pair(folder):
    """Reads the vocabulary and the merges of the BPE on characters that the first GPT has.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.character_pair.CharacterPairTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.json` with `merges.txt` nor `tokenizer.json`, its ids have gaps,
            or it describes a tokenizer that differs from GPT's in more than those arguments.
    """
    return _read_pairs(pathlib.Path(folder), _CHARACTER_PAIR_SETTINGS, "GPT's BPE on characters", _CHARACTER_PAIR)


def _read_pairs(folder, expected_settings, kind, expected):
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    for name, value in expected_settings.items():
        setting = settings.get(name, value)
        if (setting["content"] if isinstance(setting, dict) else setting) != value:
            raise ValueError(f"Expected {name} to be {value!r} in {path}; got {setting!r}.")
    if (folder / "vocab.json").is_file():
        path = folder / "vocab.json"
        ids = read_json(path)
        merges = _read_merges(folder / "merges.txt")
    else:
        path = folder / "tokenizer.json"
        ids, merges = _pairs_of_json(path, kind, expected)
    vocabulary = sorted(ids, key=ids.get)
    if [ids[piece] for piece in vocabulary] != list(range(len(ids))):
        raise ValueError(f"Expected the ids from 0 to {len(ids) - 1}, each once, in {path}; got others.")
    return {"vocabulary": vocabulary, "merges": merges}


def _read_merges(path):
    if not path.is_file():
        raise ValueError(f"Expected a file {path}; there is none.")
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].startswith("#version"):  # "#" alone may begin a merge
        lines = lines[1:]
    merges = [line.split(" ") for line in lines if line]
    if wrong := [merge for merge in merges if len(merge) != 2]:
        raise ValueError(f"Expected two pieces a line in {path}; got {' '.join(wrong[0])!r}.")
    return merges


def _pairs_of_json(path, kind, expected):
    tokenizer = read_json(path)
    model, splitter = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    found = {
        "model": model.get("type"),
        "normalizer": tokenizer.get("normalizer"),
        "pre_tokenizer": splitter.get("type"),
        "add_prefix_space": splitter.get("add_prefix_space"),
        "use_regex": splitter.get("use_regex", True),
        "dropout": model.get("dropout"),
        "continuing_subword_prefix": model.get("continuing_subword_prefix") or None,
        "end_of_word_suffix": model.get("end_of_word_suffix") or None,
        "byte_fallback": model.get("byte_fallback", False),
        "ignore_merges": model.get("ignore_merges", False),
        "unk_token": model.get("unk_token"),
        "fuse_unk": model.get("fuse_unk", False),
        "added_tokens": [token["content"] for token in tokenizer.get("added_tokens", ())],
    }
    found = {name: found[name] for name in expected}
    if found != expected:
        raise ValueError(f"Expected {kind} in {path}, {expected}; got {found}.")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return model["vocab"], merges


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
