"""Tokenizers in Hugging Face's layout: read with all their settings, or refused by the name of what differs."""

import json
import pathlib

import pytest

from course_lib import BytePairTokenizer, WordPieceTokenizer
from course_lib.checkpoints.files import read_json
from course_lib.text.openai_gpt import OpenAIGPTTokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TOKENIZERS = {"bert": WordPieceTokenizer, "gpt2": BytePairTokenizer, "openai-gpt": OpenAIGPTTokenizer}

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda t: t["model"].update(type="BPE"), "'BPE'"),
        (lambda t: t["model"].update(continuing_subword_prefix="@@"), "'@@'"),
        (lambda t: t["model"].update(max_input_chars_per_word=200), "200"),
        (lambda t: t.update(normalizer=None), "'normalizer': None"),
        (lambda t: t["normalizer"].update(clean_text=False), "'clean_text': False"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "'Whitespace'"),
        (lambda t: t["added_tokens"].append({"id": 40_000, "content": "<new>"}), "'<new>'"),
        (lambda t: t["added_tokens"][4].update(id=3), "'[MASK]'"),
        (lambda t: t.update(post_processor=None), "'post_processor': ['A']"),
        (lambda t: t["post_processor"]["single"].pop(), "['[CLS]', 'A']"),
        (lambda t: t.update(post_processor={"type": "RobertaProcessing"}), "'RobertaProcessing'"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(folder, refused, change, fact):
    path = folder("bert")
    tokenizer = read_json(path / "tokenizer.json")
    change(tokenizer)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with refused(path, fact):
        WordPieceTokenizer.from_preset(path)


def test_settings_of_a_word_piece_tokenizer(folder, refused):
    path = folder("bert")
    vocabulary = WordPieceTokenizer.from_preset(path).vocabulary
    settings_path = path / "tokenizer_config.json"
    settings_path.write_text(json.dumps({"mask_token": "<mask>"}))
    with refused("mask_token", "'[MASK]'", "'<mask>'", settings_path):
        WordPieceTokenizer.from_preset(path)
    (path / "tokenizer.json").unlink()
    odd = (*vocabulary[:20], "", "a\u2028b", *vocabulary[20:])
    (path / "vocab.txt").write_bytes("\r\n".join(odd).encode() + b"\r\n")
    settings_path.write_text(json.dumps({"do_lower_case": False, "cls_token": {"content": "[CLS]"}}))
    tokenizer = WordPieceTokenizer.from_preset(path)
    assert tokenizer.vocabulary == odd, "an empty line has its id, and what else may end a line does not"
    assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_chinese) == (False, None, True)
    settings_path.write_text(json.dumps({"strip_accents": False, "tokenize_chinese_chars": False}))
    tokenizer = WordPieceTokenizer.from_preset(path)
    assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_chinese) == (True, False, False)
    settings_path.unlink()
    assert WordPieceTokenizer.from_preset(path).lowercase is True


def test_files_that_contradict_each_other_are_refused(folder, refused):
    path = folder("bert")
    (path / "vocab.txt").write_text("\n".join(WordPieceTokenizer.from_preset(path).vocabulary[:-1]) + "\n")
    with refused("same vocabulary", path):
        WordPieceTokenizer.from_preset(path)
    path = folder("gpt2")
    tokenizer = BytePairTokenizer.from_preset(path)
    BytePairTokenizer(tokenizer.vocabulary, tokenizer.merges[:-1]).save(path / "other")
    for name in ("vocab.json", "merges.txt"):
        (path / "other" / name).rename(path / name)
    with refused("same merges", path):
        BytePairTokenizer.from_preset(path)


FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@pytest.mark.parametrize("name", ["bert", "gpt2", "openai-gpt"])
@pytest.mark.parametrize(
    "layout", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map"]
)
def test_added_tokens_are_read_wherever_they_stand_and_survive_saving(name, layout, folder, tmp_path):
    path = folder(name)
    plain = TOKENIZERS[name].from_preset(path)
    first = plain.vocabulary_size
    if layout == "tokenizer.json":
        content = read_json(path / layout)
        content["added_tokens"] += [{"id": first, "content": "[ENT]", "special": True, **FLAGS}]
        content["added_tokens"] += [{"id": first + 1, "content": "covid19", "special": False, **FLAGS}]
        (path / layout).write_text(json.dumps(content))
    elif layout == "tokenizer_config.json":
        decoder = {first: {"content": "[ENT]", "special": True} | FLAGS, first + 1: {"content": "covid19"} | FLAGS}
        (path / layout).write_text(json.dumps({"added_tokens_decoder": decoder}))
    elif layout == "added_tokens.json":
        (path / layout).write_text(json.dumps({"covid19": first + 1, "[ENT]": first}))
        (path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["[ENT]"]}))
    else:
        (path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["[ENT]", "covid19"]}))
    read = TOKENIZERS[name].from_preset(path)
    read.save(tmp_path / "saved")
    for tokenizer in (read, TOKENIZERS[name].from_preset(tmp_path / "saved")):
        assert tokenizer.vocabulary_size == first + 2
        ids = tokenizer.encode("a[ENT] covid19")
        assert first in ids and first + 1 in ids, "each is one token"
        assert tokenizer.encode("a b") == plain.encode("a b"), "and nothing else changes"
        kept = tokenizer.decode(ids, skip_special_tokens=True)
        assert "[ENT]" not in kept and ("covid19" in kept) == (layout != "special_tokens_map")
        assert "[ENT]" in tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_saved_into_a_new_folder_and_read_again(name, tmp_path):
    tokenizer = TOKENIZERS[name].from_preset(str(GOLDEN / name))
    tokenizer.save(tmp_path / "a" / "folder")
    again = TOKENIZERS[name].from_preset(tmp_path / "a" / "folder")
    assert type(again) is TOKENIZERS[name] and again.vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_folder_without_a_tokenizer_is_refused(name, tmp_path, refused):
    with refused(tmp_path / "tokenizer.json"):
        TOKENIZERS[name].from_preset(tmp_path)


def test_tokenizers_know_the_presets_that_models_know(monkeypatch, refused):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, **_: str(GOLDEN / repository[6:]))
    for name, tokenizer_class in TOKENIZERS.items():
        assert tokenizer_class.from_preset(f"hf://owner/{name}").vocabulary[0]
        with refused("no-such-thing", "gpt2-vocabulary", "hf://"):
            tokenizer_class.from_preset("no-such-thing")
    assert WordPieceTokenizer.from_preset("bert-mini").vocabulary_size == 8192
    assert BytePairTokenizer.from_preset("gpt-mini").vocabulary_size == 4096
