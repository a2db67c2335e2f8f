"""Reads and writes tokenizers in the Hugging Face layout.

A folder may store the same information in several files. All of them are read and must agree. The vocabulary is in
`vocab.txt`, in `vocab.json` with `merges.txt`, or in `tokenizer.json`. Settings are in `tokenizer_config.json` and
`tokenizer.json`. Tokens that were added later are in these two files, in `added_tokens.json` and in
`special_tokens_map.json`.
"""

import dataclasses
import json
import pathlib

from course_lib.checkpoints.files import read_json

PAIR_FILES = "vocab.json", "merges.txt"  # in Hugging Face's layout
_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_FLAGS = ("special", "normalized", "single_word", "lstrip", "rstrip")  # of an added token
_WORD_PIECE = {
    "model": "WordPiece",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
    "normalizer": "BertNormalizer",
    "clean_text": True,
    "pre_tokenizer": "BertPreTokenizer",
    "post_processor": ["[CLS]", "A", "[SEP]"],
}
_BYTE_PAIR_SETTINGS = {
    "add_prefix_space": False,
    "add_bos_token": False,
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
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
    "post_processor": ["A"],
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_PRE_TOKENIZERS = {  # as tokenizer.json describes it → a key of `course_lib.text.chat_tokenizer.PATTERNS`
    json.dumps(_BYTE_LEVEL, sort_keys=True): "gpt-2",
    json.dumps({"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]}, sort_keys=True): "smollm",
}
ROBERTA_TOKENS = {
    **dict.fromkeys(("bos_token", "cls_token"), "<s>"),
    **dict.fromkeys(("eos_token", "sep_token"), "</s>"),
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_ROBERTA = {name: value for name, value in _BYTE_PAIR.items() if name != "add_prefix_space"} | {
    "post_processor": ["<s>", "A", "</s>"]
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
    "post_processor": ["A"],
}


def read_word_piece(folder):
    """Reads the vocabulary and the settings of a WordPiece tokenizer.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.WordPieceTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.txt` nor `tokenizer.json`, describes a tokenizer that our class
            cannot reproduce, or two of its files contradict each other.
    """
    folder = pathlib.Path(folder)
    settings = _settings(folder, _SPECIAL_TOKENS)
    arguments = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "split_chinese": settings.get("tokenize_chinese_chars", True),
    }
    vocabulary, described = None, {}
    if (folder / "vocab.txt").is_file():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8")  # an empty line also has an id
        vocabulary = lines.removesuffix("\n").split("\n")
    if (folder / "tokenizer.json").is_file() or vocabulary is None:
        described = read_json(folder / "tokenizer.json")
        model, normalizer = described["model"], described.get("normalizer") or {}
        found = {
            "model": model.get("type", "WordPiece"),
            "continuing_subword_prefix": model.get("continuing_subword_prefix"),
            "max_input_chars_per_word": model.get("max_input_chars_per_word"),
            "normalizer": normalizer.get("type"),
            "clean_text": normalizer.get("clean_text"),
            "pre_tokenizer": (described.get("pre_tokenizer") or {}).get("type"),
            "post_processor": _template(described),
        }
        if found != _WORD_PIECE:
            raise ValueError(f"Expected BERT's WordPiece in {folder / 'tokenizer.json'}, {_WORD_PIECE}; got {found}.")
        vocabulary = _one_vocabulary(folder, vocabulary, sorted(model["vocab"], key=model["vocab"].get))
        arguments |= {
            "lowercase": settings.get("do_lower_case", normalizer["lowercase"]),
            "strip_accents": settings.get("strip_accents", normalizer["strip_accents"]),
            "split_chinese": settings.get("tokenize_chinese_chars", normalizer["handle_chinese_chars"]),
        }
    return arguments | {
        "vocabulary": vocabulary,
        "added_tokens": _added_tokens(folder, vocabulary, settings, described, _SPECIAL_TOKENS.values()),
    }


def read_byte_pair(folder, names=PAIR_FILES):
    """Reads the vocabulary and the merges of a byte-level BPE tokenizer.

    Args:
        folder: path of the folder.
        names: names of the files with the vocabulary and with the merges.

    Returns:
        The arguments of `course_lib.text.BytePairTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither these two files nor `tokenizer.json`, its ids have gaps, it describes a
            tokenizer that our class cannot reproduce, or two of its files contradict each other.
    """
    return _read_pairs(pathlib.Path(folder), _BYTE_PAIR_SETTINGS, "GPT-2's byte-level BPE", _BYTE_PAIR, names)


def read_openai_gpt(folder, names=PAIR_FILES):
    """Reads the vocabulary and the merges of the first GPT's BPE on characters.

    Args:
        folder: path of the folder.
        names: names of the files with the vocabulary and with the merges.

    Returns:
        The arguments of `course_lib.text.openai_gpt.OpenAIGPTTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither these two files nor `tokenizer.json`, its ids have gaps, it describes a
            tokenizer that our class cannot reproduce, or two of its files contradict each other.
    """
    return _read_pairs(pathlib.Path(folder), _OPENAI_GPT_SETTINGS, "GPT's BPE on characters", _OPENAI_GPT, names)


def read_roberta(folder):
    """Reads the vocabulary, the merges and the settings of a RoBERTa tokenizer.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.RobertaTokenizer`, a dict.

    Raises:
        ValueError: if the folder holds neither `vocab.json` with `merges.txt` nor `tokenizer.json`, its ids have gaps,
            it describes a tokenizer that our class cannot reproduce, or two of its files contradict each other.
    """
    folder = pathlib.Path(folder)
    arguments = _read_pairs(folder, ROBERTA_TOKENS, "RoBERTa's byte-level BPE", _ROBERTA, PAIR_FILES)
    settings, path = _settings(folder, {}), folder / "tokenizer.json"
    described = (read_json(path).get("pre_tokenizer") or {}) if path.is_file() else {}
    prefix = settings.get("add_prefix_space", described.get("add_prefix_space", False))
    return arguments | {"add_prefix_space": prefix}


def read_chat(folder):
    """Reads a byte-level BPE tokenizer with special tokens of its own.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.chat_tokenizer.ChatTokenizer`, a dict.

    Raises:
        ValueError: if the folder lacks `tokenizer.json`, its ids have gaps, it describes a tokenizer that our class
            cannot reproduce, or two of its files contradict each other.
    """
    folder = pathlib.Path(folder)
    path = folder / "tokenizer.json"
    described, settings = read_json(path), _settings(folder, {})
    pre_tokenizer = _PRE_TOKENIZERS.get(json.dumps(_without_offsets(described.get("pre_tokenizer")), sort_keys=True))
    if pre_tokenizer is None:
        raise ValueError(
            f"Expected the pre_tokenizer in {path} to be GPT-2's or SmolLM2's; got {described.get('pre_tokenizer')}."
        )
    # The pre-tokenizer, which _pairs_of_json would compare with GPT-2's, has been read.
    ids, merges = _pairs_of_json(described | {"pre_tokenizer": _BYTE_LEVEL}, path, "byte-level BPE", _BYTE_PAIR)
    vocabulary = _in_order(ids, path)
    if (folder / "vocab.json").is_file():
        _one_vocabulary(folder, _in_order(read_json(folder / "vocab.json"), folder / "vocab.json"), vocabulary)
    added = _added_tokens(folder, vocabulary, settings, described, ())
    template = folder / "chat_template.jinja"

    def token(name):
        found = settings.get(name)
        return found["content"] if isinstance(found, dict) else found

    return {
        "vocabulary": vocabulary,
        "merges": merges,
        "added_tokens": added,
        "end_token": token("eos_token"),
        "start_token": token("bos_token"),
        "pre_tokenizer": pre_tokenizer,
        "chat_template": template.read_text(encoding="utf-8") if template.is_file() else settings.get("chat_template"),
    }


def describe_chat(tokenizer):
    """Makes the content of `tokenizer.json`.

    Args:
        tokenizer: a `course_lib.text.chat_tokenizer.ChatTokenizer`.

    Returns:
        A dict.
    """
    splitters = {name: json.loads(written) for written, name in _PRE_TOKENIZERS.items()}
    by_id = sorted(tokenizer.added_tokens, key=lambda token: tokenizer.vocabulary.index(token.content))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokenizer.vocabulary.index(token.content)} | dataclasses.asdict(token) for token in by_id
        ],
        "normalizer": None,
        "pre_tokenizer": _with_offsets(splitters[tokenizer.pre_tokenizer]),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: index for index, piece in enumerate(tokenizer.vocabulary)},
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }


def _without_offsets(splitter):
    """Leaves out of a pre-tokenizer what only concerns the places of words in a text."""
    if isinstance(splitter, dict):
        return {key: _without_offsets(value) for key, value in splitter.items() if key != "trim_offsets"}
    return [_without_offsets(part) for part in splitter] if isinstance(splitter, list) else splitter


def _with_offsets(splitter):
    """Adds to a pre-tokenizer what the `tokenizers` library asks for although ids do not depend on it."""
    if "pretokenizers" in splitter:
        return splitter | {"pretokenizers": [_with_offsets(part) for part in splitter["pretokenizers"]]}
    return splitter | ({"trim_offsets": True} if splitter["type"] == "ByteLevel" else {})


def _read_pairs(folder, expected_settings, kind, expected, names):
    settings = _settings(folder, expected_settings)
    vocabulary, merges, described = None, None, {}
    vocabulary_path, merges_path = (folder / name for name in names)
    if vocabulary_path.is_file():
        merges = _read_merges(merges_path)
        vocabulary = _in_order(read_json(vocabulary_path), vocabulary_path)
    if (folder / "tokenizer.json").is_file() or vocabulary is None:
        described = read_json(folder / "tokenizer.json")
        ids, its_merges = _pairs_of_json(described, folder / "tokenizer.json", kind, expected)
        vocabulary = _one_vocabulary(folder, vocabulary, _in_order(ids, folder / "tokenizer.json"))
        if merges not in (None, its_merges):
            raise ValueError(f"Expected the same merges in merges.txt and tokenizer.json of {folder}; they differ.")
        merges = its_merges
    added = _added_tokens(folder, vocabulary, settings, described, [expected_settings["unk_token"]])
    return {"vocabulary": vocabulary, "merges": merges, "added_tokens": added}


def _in_order(ids, path):
    vocabulary = sorted(ids, key=ids.get)
    if [ids[piece] for piece in vocabulary] != list(range(len(ids))):
        raise ValueError(f"Expected the ids from 0 to {len(ids) - 1}, each once, in {path}; got others.")
    return vocabulary


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


def _pairs_of_json(tokenizer, path, kind, expected):
    model, splitter = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    found = {
        "model": model.get("type", "BPE"),
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
        "post_processor": _template(tokenizer),
    }
    found = {name: found[name] for name in expected}
    if found != expected:
        raise ValueError(f"Expected {kind} in {path}, {expected}; got {found}.")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return model["vocab"], merges


def _settings(folder, expected):
    """Reads `tokenizer_config.json` and `special_tokens_map.json`, and checks their special tokens."""
    settings = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        found = read_json(folder / name) if (folder / name).is_file() else {}
        for entry, value in expected.items():
            setting = found.get(entry, value)
            if (setting["content"] if isinstance(setting, dict) else setting) != value:
                raise ValueError(f"Expected {entry} to be {value!r} in {folder / name}; got {setting!r}.")
        settings = found | settings
    return settings


def _one_vocabulary(folder, vocabulary, described):
    if vocabulary not in (None, described):
        raise ValueError(f"Expected the same vocabulary in all files of {folder}; that of tokenizer.json differs.")
    return described


def _template(tokenizer):
    """Lists the special tokens that `tokenizer.json` puts around a text "A", in order, with the text."""
    processor = tokenizer.get("post_processor")
    kind = processor and processor.get("type")
    if kind in (None, "ByteLevel"):
        return ["A"]
    if kind in ("BertProcessing", "RobertaProcessing") and "cls" in processor:
        return [processor["cls"][0], "A", processor["sep"][0]]
    return [each["id"] for part in processor["single"] for each in part.values()] if "single" in processor else kind


def _added_tokens(folder, vocabulary, settings, described, own):
    """Collects the fields of all added tokens, except of own tokens whose fields have the usual values."""
    found = {}  # content → (id or None, flags); later files override earlier ones
    special = [
        token if isinstance(token, dict) else {"content": token}
        for name in ("additional_special_tokens", "extra_special_tokens")
        for token in _listed(settings.get(name))
    ]
    for token in special:
        found[token["content"]] = None, {"special": True} | token
    if (folder / "added_tokens.json").is_file():
        for content, index in read_json(folder / "added_tokens.json").items():
            is_special = content in found or content in own
            found[content] = index, {"special": is_special, "normalized": not is_special}
    tokens = [token | {"id": int(index)} for index, token in settings.get("added_tokens_decoder", {}).items()]
    for token in [*tokens, *described.get("added_tokens", ())]:
        found[token["content"]] = token["id"], token

    places = {piece: index for index, piece in enumerate(vocabulary)}
    inside = [content for content in found if content in places]
    outside = sorted((content for content in found if content not in places), key=lambda each: _last(found[each][0]))
    expected = places | {content: len(vocabulary) + index for index, content in enumerate(outside)}
    for content, (index, _) in found.items():
        if index not in (None, expected[content]):
            raise ValueError(
                f"Expected {content!r} in {folder} to have the id {expected[content]}, where the vocabulary has it or "
                f"where added tokens follow without a gap; got {index}."
            )
    tokens = [{"content": content} | {flag: bool(found[content][1].get(flag)) for flag in _FLAGS}
              for content in [*inside, *outside]]  # fmt: skip
    usual = [{"content": content} | dict.fromkeys(_FLAGS, False) | {"special": True} for content in own]
    return [token for token in tokens if token not in usual]


def _listed(tokens):
    return list(tokens.values()) if isinstance(tokens, dict) else tokens or []


def _last(index):
    return float("inf") if index is None else index


def write(folder, files, settings, tokens, ids, new):
    """Writes a tokenizer, and removes the files of an older one that could contradict it.

    Args:
        folder: path of the folder. It is created if it does not exist.
        files: dict from the names of the vocabulary's files to their contents.
        settings: dict, the content of `tokenizer_config.json`.
        tokens: all tokens at which texts are split, `course_lib.text.AddedToken`.
        ids: dict from their contents to their ids.
        new: contents of the tokens that are not in the vocabulary.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    if any(token != type(token)(token.content, special=True) for token in tokens) or new:
        by_id = sorted(tokens, key=lambda token: ids[token.content])
        settings = settings | {
            "added_tokens_decoder": {str(ids[token.content]): dataclasses.asdict(token) for token in by_id}
        }
    if new:
        files = files | {"added_tokens.json": json.dumps({content: ids[content] for content in new}) + "\n"}
    files = files | {"tokenizer_config.json": json.dumps(settings, indent=2) + "\n"}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
