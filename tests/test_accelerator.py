"""The accelerator check runs without TensorFlow, a network or PyTorch, and one part's failure is its own."""

import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "accelerator.py"
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "pooch", "torch", "transformers", "keras_hub"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Block())
"""
PARTS = "golden", "train-bert/ours", "decode/ours", "forward/hugging-face"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")


@pytest.mark.one_backend
def test_small_sizes_leave_a_record(environment, tmp_path):
    command = [sys.executable, SCRIPT, "--small", "--output", tmp_path, "--parts", ",".join(PARTS), "--commit", "abc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "accelerator-cpu.json").read_text())
    assert record["commit"] == "abc" and record["versions"]["jax"]
    assert record["device"]["platform"] == "cpu" and record["device"]["backend"] == "jax"
    assert record["device"]["bytes a second"]["measured"] > 0
    assert tuple(record["parts"]) == PARTS
    golden, bert, decode, rival = record["parts"].values()
    assert golden["passed"] == 2 and not golden["failed"] and max(golden["largest error"].values()) < 1e-5
    assert abs(bert["first loss"] - math.log(60) - math.log(2)) < 0.3 and bert["tokens a second"] > 0
    assert bert["MFU"] is None and bert["share of the measured operations"] > 0
    assert decode["batch 2"]["share of the measured bytes"] > 0
    assert "torch is not here" in rival["skipped"]
    assert all(part in done.stdout for part in PARTS)


@pytest.mark.one_backend
def test_a_part_that_fails_or_hangs_says_so(environment, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import accelerator

    failed = accelerator.Apart("no such part", small=True).result(60)
    assert failed["error"] == "KeyError: 'no such part'" and "Traceback" in capsys.readouterr().out
    assert "no result after 0.1 s" in accelerator.Apart("device", small=True).result(0.1)["error"]


@pytest.mark.one_backend
def test_shares_are_of_the_data_sheet_and_of_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import accelerator

    machine = {"operations a second": {"data sheet": 8.0, "measured": 5.0}}
    result = {"a": {"operations a second": 4.0}}
    accelerator.add_shares(result, machine)
    assert result["a"]["MFU"] == 0.5 and result["a"]["share of the measured operations"] == 0.8


@pytest.mark.one_backend
def test_importing_the_library_needs_neither_tensorflow_nor_pooch(environment):
    modules = "course_lib, course_lib.assets, course_lib.training.pretrain, course_lib.training.finetuning"
    subprocess.run([sys.executable, "-c", f"import {modules}"], env=os.environ | {"KERAS_BACKEND": "jax"}, check=True)
