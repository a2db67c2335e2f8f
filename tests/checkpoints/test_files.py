"""Reading and writing files: whatever is broken is a clear error, and what is written is whole and can be read."""

import json
import pathlib
import shutil
import stat

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib import Bert
from course_lib.checkpoints.files import read_json, read_tensors, write_checkpoint
from course_lib.checkpoints.huggingface.bert import BERT

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TENSORS = {"a": np.ones((2, 3), "float32"), "b": np.zeros(4, "float16")}

pytestmark = pytest.mark.one_backend


def test_pickled_weights_are_refused(folder, refused):
    path = folder("bert")
    (path / "model.safetensors").unlink()
    with refused("model.safetensors"):
        read_tensors(path)
    for name in ("pytorch_model.bin", "tf_model.ckpt"):
        (path / name).write_bytes(b"\x80\x04N.")
    with refused("model.safetensors", "['pytorch_model.bin', 'tf_model.ckpt'] are pickles"):
        Bert.from_preset(path)


def test_a_truncated_file_is_refused(folder, refused):
    whole = (GOLDEN / "bert" / "model.safetensors").read_bytes()
    path = folder("bert")
    for length in (0, 4, 8, 1000, len(whole) // 2, len(whole) - 1):
        (path / "model.safetensors").write_bytes(whole[:length])
        with refused("model.safetensors", "broken or cut short"):
            Bert.from_preset(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_altered_header_is_refused_or_says_the_same(tmp_path, data):
    """A byte of the header flips: no other error than ours, and no tensor of ours with other numbers."""
    content = bytearray((GOLDEN / "bert" / "model.safetensors").read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "model.safetensors").write_bytes(content)
    shutil.copy(GOLDEN / "bert" / "config.json", tmp_path)
    model = SHELL
    before = model.get_weights()
    try:
        fields, tensors = BERT.read(tmp_path)
        BERT.load(tensors, fields, model)
    except ValueError as error:
        assert str(error).startswith("Expected")
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


SHELL = Bert.from_preset(GOLDEN / "bert")


def test_shards_that_are_missing_or_elsewhere_are_refused(folder, refused):
    path = folder("masked-lm-in-shards")
    (path / "model-00002-of-00003.safetensors").rename(path.parent / "elsewhere.safetensors")
    with refused("model-00002-of-00003.safetensors"):
        read_tensors(path)
    index = read_json(path / "model.safetensors.index.json")
    for shard in ("../elsewhere.safetensors", str(path.parent / "elsewhere.safetensors"), 3):
        index["weight_map"] = dict.fromkeys(index["weight_map"], shard)
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        with refused("model.safetensors.index.json", shard):
            read_tensors(path)
    (path / "model.safetensors.index.json").write_text("{}")
    with refused("weight_map", "model.safetensors.index.json"):
        read_tensors(path)


def test_broken_or_missing_text_files_are_refused(folder, refused):
    path = folder("bert")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        text = (path / name).read_text()
        for broken in (text[: len(text) // 2], "[]"):
            (path / name).write_text(broken)
            with refused(path / name):
                Bert.from_preset(path)
        (path / name).write_text(text)
    (path / "config.json").unlink()
    with refused(path / "config.json"):
        Bert.from_preset(path)


def test_json_of_another_type_is_refused(tmp_path, refused):
    (tmp_path / "modules.json").write_text("[1]")
    assert read_json(tmp_path / "modules.json", list) == [1]
    with refused(tmp_path / "modules.json", "dict", "list"):
        read_json(tmp_path / "modules.json")


def test_what_is_written_is_read_again_by_everybody(tmp_path):
    path = tmp_path / "a" / "folder"
    write_checkpoint(path, {"é": 1}, TENSORS)
    assert read_json(path / "config.json") == {"é": 1}
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys() and all(np.array_equal(found[name], TENSORS[name]) for name in TENSORS)
    assert {name: array.dtype for name, array in found.items()} == {name: a.dtype for name, a in TENSORS.items()}
    (tmp_path / "ordinary").touch()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (*path.iterdir(), tmp_path / "ordinary")}
    assert len(modes) == 1, "as the umask says"
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    with safetensors.safe_open(path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    path = folder("masked-lm-in-shards")
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def save_file(tensors, target, metadata):
        pathlib.Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", save_file)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, {}, TENSORS)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    monkeypatch.undo()
    write_checkpoint(path, {}, TENSORS)
    assert read_tensors(path).keys() == TENSORS.keys(), "the index of the shards is gone"
