"""Tokenizers in the layout of the Hugging Face hub: `vocab.txt`, `vocab.json` and `merges.txt`, or `tokenizer.json`."""

import pathlib

from course_lib.checkpoints.files import read_json

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
_OPENAI_GPT_SETTINGS = {"unk_token": "<unk>", "bos_token": None, "eos_token": None}
_OPENAI_GPT = {
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


def read_openai_gpt(folder):
    """Reads the vocabulary and the merges of the first GPT's BPE on characters.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.openai_gpt.OpenAIGPTTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.json` with `merges.txt` nor `tokenizer.json`, its ids have gaps,
            or it describes a tokenizer that differs from GPT's in more than those arguments.
    """
    return _read_pairs(pathlib.Path(folder), _OPENAI_GPT_SETTINGS, "GPT's BPE on characters", _OPENAI_GPT)


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
