"""Presets: folders, our own weights, the registry and the hub, and what is said to somebody who misses them."""

import pathlib
import shutil

import pytest

from course_lib import Bert, assets
from course_lib.checkpoints.presets import resolve_preset

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"

pytestmark = pytest.mark.one_backend


def test_where_presets_are(tmp_path, monkeypatch):
    assert resolve_preset(GOLDEN / "bert") == resolve_preset(str(GOLDEN / "bert")) == GOLDEN / "bert"
    assert resolve_preset("all-MiniLM-L6-v2") == assets.fetch("all-MiniLM-L6-v2")
    assert resolve_preset("bert-mini") == assets.data_folder() / "weights" / "bert-mini"
    monkeypatch.chdir(GOLDEN)
    assert resolve_preset("bert") == pathlib.Path("bert")
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_preset("all-MiniLM-L6-v2") == pathlib.Path("all-MiniLM-L6-v2"), "a folder comes before the registry"


def test_our_own_weights_go_by_the_name_of_their_folder(tmp_path, monkeypatch, refused):
    ours = shutil.copytree(GOLDEN / "bert", tmp_path / "weights" / "tiny")
    (tmp_path / "weights" / "empty").mkdir()
    shutil.copy(assets.data_folder() / "registry.toml", tmp_path)
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path)
    assert resolve_preset("tiny") == resolve_preset(pathlib.Path("tiny")) == ours
    with refused(" tiny;", "'empty'"):
        resolve_preset("empty")


def test_an_unknown_name_is_met_with_the_presets_each_once():
    with pytest.raises(ValueError) as caught:
        resolve_preset("tinny")
    message = str(caught.value)
    for name in (
        "bert-mini",
        "gpt-mini",
        "language-gpt",
        "seq2seq-mini",
        "number-translator",
        "all-MiniLM-L6-v2",
        "gpt2-vocabulary",
    ):
        assert message.count(name) == 1, name
    for name in ("wnut-2016", "movie-reviews", "jupyterlab-french"):
        assert name not in message, "a data set is no preset"
        with pytest.raises(ValueError, match=f"'{name}'"):
            resolve_preset(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bert-base-uncased", "hf://google-bert/bert-base-uncased"),
        ("gpt2-medium", "hf://openai-community/gpt2-medium"),
        ("openai-gpt", "hf://openai-community/openai-gpt"),
        ("roberta-base", "hf://FacebookAI/roberta-base"),
        ("sentence-transformers/all-MiniLM-L12-v2", "hf://sentence-transformers/all-MiniLM-L12-v2"),
    ],
)
def test_a_name_of_the_hub_is_met_with_its_address(name, meant, refused):
    with refused(f"'{name}'", f"'{meant}'"):
        Bert.from_preset(name)


@pytest.mark.parametrize("path", ["./bert", "../bert", "/no/such/folder", "a/b/c", "~/bert"])
def test_a_path_is_not_taken_for_a_name_of_the_hub(path):
    with pytest.raises(ValueError) as caught:
        resolve_preset(path)
    assert "Did you mean" not in str(caught.value) and f"got {path!r}" in str(caught.value)


def test_a_file_is_no_preset(monkeypatch):
    monkeypatch.chdir(GOLDEN / "bert")
    for path in ("config.json", GOLDEN / "bert" / "config.json"):
        with pytest.raises(ValueError, match=r"config\.json'\.$"):  # and no suggestion
            resolve_preset(path)


def test_the_hub_without_a_network_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="nobody/nothing"):
        Bert.from_preset("hf://nobody/nothing")


def test_a_name_that_the_hub_cannot_have_is_refused(refused):
    with refused("hf://a/b/c"):
        resolve_preset("hf://a/b/c")


def test_the_hub_is_asked_for_what_is_needed_and_no_pickles(monkeypatch):
    import fnmatch

    def snapshot_download(repository, revision, allow_patterns, ignore_patterns):
        assert (repository, revision) == ("owner/model", None)
        there = ["config.json", "model-00001-of-00002.safetensors", "vocab.txt", "pytorch_model.bin", "evil.py"]
        taken = [name for name in there if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)]
        assert taken == there[:3]
        return str(GOLDEN / "bert")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Bert.from_preset("hf://owner/model").config.vocabulary_size == 40
