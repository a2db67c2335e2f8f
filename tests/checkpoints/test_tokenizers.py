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
        (lambda t: t["added_tokens"].append({"id": 40, "content": "<new>"}), "'<new>'"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(folder, refused, change, fact):
    path = folder("bert")
    tokenizer = read_json(path / "tokenizer.json")
    change(tokenizer)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with refused(path / "tokenizer.json", fact):
        WordPieceTokenizer.from_preset(path)


def test_settings_of_a_word_piece_tokenizer(folder, refused):
    path = folder("bert")
    vocabulary = WordPieceTokenizer.from_preset(path).vocabulary
    settings_path = path / "tokenizer_config.json"
    settings_path.write_text(json.dumps({"mask_token": "<mask>"}))
    with refused("mask_token", "'[MASK]'", "'<mask>'", settings_path):
        WordPieceTokenizer.from_preset(path)
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
