"""What the tests of checkpoints share. The folders of `golden` were made by `golden/make.py`, with `transformers`."""

import contextlib
import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

from course_lib.checkpoints.files import read_json, read_tensors

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
INPUTS = ("token_ids", "segment_ids", "padding_mask")


@pytest.fixture
def expected_of():
    """Returns the inputs and the outputs that belong to a golden folder."""

    def read(name):
        with np.load(GOLDEN / name / "expected.npz") as arrays:
            arrays = dict(arrays)
        return {key: arrays.pop(key) for key in INPUTS if key in arrays}, arrays

    return read


@pytest.fixture
def folder(tmp_path):
    """Copies a golden folder, and changes its tensors and entries of its config (`...` takes one away)."""

    def copy(name, change=None, **config):
        path = shutil.copytree(GOLDEN / name, tmp_path / "checkpoint", dirs_exist_ok=True)
        old = read_json(GOLDEN / name / "config.json")
        (path / "config.json").write_text(json.dumps({k: v for k, v in (old | config).items() if v is not ...}))
        if change is not None:
            tensors = read_tensors(path)
            changed = change(tensors)
            safetensors.numpy.save_file(changed if isinstance(changed, dict) else tensors, path / "model.safetensors")
        return path

    return copy


@pytest.fixture
def refused():
    """Expects a ValueError whose message says what was expected, and holds each of some facts."""

    @contextlib.contextmanager
    def expect(*facts):
        with pytest.raises(ValueError) as caught:
            yield
        message = str(caught.value)
        assert message.startswith("Expected") and not [fact for fact in facts if str(fact) not in message], message

    return expect


@pytest.fixture
def at_tokens():
    """Takes the vectors of real tokens: a position of padding need not be what it is elsewhere.

    The arrays are (..., B, T, D), or, with `heads`, attention weights (..., B, N, T, S), whose T is then taken.
    """

    def take(array, padding_mask, heads=False):
        array = np.stack([np.asarray(part) for part in array]) if isinstance(array, tuple | list) else np.asarray(array)
        array = np.swapaxes(array, -3, -2) if heads else array
        return array[..., padding_mask.astype(bool), *[slice(None)] * (1 + heads)]

    return take
