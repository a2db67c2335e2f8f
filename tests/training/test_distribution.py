"""Several devices and several hosts: the numbers are those of one device, and what does not fit is named."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from text_samples import UNEVEN_CORPUS

from course_lib.training import hosts
from course_lib.training.distribution import SPLIT, distribute, own_rows
from course_lib.training.recipes import Recipe
from course_lib.training.shards import write_with_recipe

pytestmark = pytest.mark.one_backend
TESTS = pathlib.Path(__file__).parents[1]
RECIPE = {
    "vocabulary_size": 60, "num_layers": 1, "num_heads": 8, "hidden_dim": 16, "intermediate_dim": 32,
    "max_sequence_length": 24, "length": 24, "batch_size": 16, "steps": 50, "warmup_steps": 5, "learning_rate": 1e-2,
    "steps_per_checkpoint": 10, "evaluation_steps": 1, "clip": 0.5,
}  # fmt: skip
CAUSAL = {"objective": "causal", "optimizer": "muon", "vocabulary_size": 280}
# Runs the recipe on several numbers of devices, and prints how far each is from one device.
PROGRAM = """
import json, pathlib
import keras, numpy as np
from course_lib.data import corpus
from course_lib.training import pretrain, resumable
from course_lib.training.distribution import distribute
from course_lib.training.recipes import Recipe
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
recipe, documents = Recipe(**@RECIPE@), corpus.read("corpus.txt")

def run(*devices, folder=None):
    found = distribute(*devices) if devices else None
    model = pretrain.pretrain(recipe, documents, pathlib.Path(folder or f"run{devices}"), distribution=found)
    return [np.asarray(weight) for weight in model.get_weights()]

def distance(these, those):
    return float(max(np.abs(a - b).max() for a, b in zip(these, those, strict=True)))

alone = run()
report = {str(devices): distance(run(*devices), alone) for devices in @DEVICES@}
report["learned"] = distance(alone, [np.asarray(weight) for weight in pretrain.build(recipe,
    pretrain.prepare(documents, recipe, pathlib.Path("run()"))[0]).get_weights()])
for before, after in @RESUMED@:  # stopped after three checkpoints
    save, saved = resumable.save, []
    def stop(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 3:
            raise KeyboardInterrupt
    resumable.save = stop
    try:
        run(*before, folder="resumed")
    except KeyboardInterrupt:
        resumable.save = save
    assert len(saved) == 3
    report["resumed"] = distance(run(*after, folder="resumed"), alone)
print(json.dumps(report))
"""


def report_of(tmp_path, backend, devices, resumed=(), **changes):
    program = PROGRAM.replace("@DEVICES@", repr(devices))
    program = program.replace("@RESUMED@", repr(list(resumed))).replace("@RECIPE@", repr(RECIPE | changes))
    (tmp_path / "corpus.txt").write_text(UNEVEN_CORPUS)
    return json.loads(printed(program, tmp_path, backend))


def environment(backend, devices):
    flags = {"KERAS_BACKEND": backend, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    # Each device may block a thread of XLA's pool, which otherwise has one per core.
    return os.environ | flags | {"PYTHONPATH": str(TESTS), "NPROC": str(2 * devices)}


def printed(program, folder, backend="jax", devices=8):
    """The last line that a program prints."""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment(backend, devices),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.splitlines()[-1]


@pytest.mark.slow
def test_on_jax_fifty_steps_are_the_same_on_any_number_of_devices(tmp_path):
    """With dropout, and with gradients that are clipped; also if a run is stopped on eight and resumed on two."""
    devices = [("data", 8), ("model", 8)]
    report = report_of(tmp_path, "jax", devices, [(("model", 8, 2), ("data", 2))], dropout=0.1)
    assert report.pop("learned") > 0.1
    assert len(report) == 3 and max(report.values()) < 1e-4, report


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, CAUSAL], ids=["masked", "causal"])
def test_on_tensorflow_fifty_steps_are_the_same_on_two_devices(tmp_path, changes):
    """Rows have different numbers of predictions, so averages over devices must be weighted by them."""
    report = report_of(tmp_path, "tensorflow", [("data", 2)], [(("data", 2), ())], jit_compile=False, **changes)
    assert report.pop("learned") > 0.1
    assert len(report) == 2 and max(report.values()) < 1e-4, report


LAYOUTS = """
import json, re
import jax, keras, numpy as np
import tiny_models
from course_lib.training.distribution import SPLIT, distribute

rng, report, used = np.random.default_rng(0), {}, set()

def outputs_of(model):
    variables = [[v.value for v in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    return keras.tree.flatten(jax.jit(model.stateless_call)(*variables, inputs)[0])

for name in ("bert_pretrainer", "gpt2_causal_lm", "llama_causal_lm", "openai_gpt_causal_lm", "text_classifier",
             "token_classifier", "sentence_encoder", "seq2seq_lm"):
    alone = getattr(tiny_models, name)(num_heads=2)
    alone.build()
    names = [n for n in getattr(alone, "backbone", alone).input_names if n.endswith("token_ids")]
    inputs = {n: rng.integers(1, alone.config.vocabulary_size - 2, (4, 6)).astype("int32") for n in names}
    with distribute("model", 4, 2).scope():
        split = getattr(tiny_models, name)(num_heads=2)
        split.build()
        split.set_weights(alone.get_weights())
        outputs = outputs_of(split)
    distance = max(float(np.abs(np.asarray(a) - np.asarray(b)).max())
                   for a, b in zip(outputs_of(alone), outputs, strict=True))
    parts = {v.path: v.value.addressable_shards[0].data.shape for v in split.weights}
    halves = {v.path for v in split.weights if 2 * np.prod(parts[v.path]) == np.prod(v.shape)}
    wholes = {v.path for v in split.weights if parts[v.path] == tuple(v.shape)}
    assert halves | wholes == parts.keys()
    used |= {rule for rule in SPLIT for path in halves if re.fullmatch(rule, path)}
    report[name] = distance, sum(path in halves for path in parts), len(parts)
print(json.dumps({"models": report, "rules": sorted(used)}))
"""


def test_every_model_is_split_and_computes_the_same(tmp_path):
    report = json.loads(printed(LAYOUTS, tmp_path, devices=4))
    assert report["rules"] == sorted(SPLIT)
    assert len(report["models"]) == 8
    for name, (distance, split, weights) in report["models"].items():
        assert distance < 1e-5 and weights / 4 < split < weights, (name, distance, split, weights)


ERRORS = """
import json
import numpy as np
import tiny_models
from course_lib.training.distribution import distribute, own_rows

def within(distribution, function, *arguments):
    with distribution.scope():
        return function(*arguments)

messages = []
for call in (
    lambda: distribute("data", 9),
    lambda: distribute("pipeline"),
    lambda: distribute("data", 4, 2),
    lambda: distribute("model", 8, 3),
    lambda: within(distribute("model", 6), lambda: tiny_models.gpt2().build()),
    lambda: within(distribute("data", 8), own_rows, {"token_ids": np.ones((12, 4))}),
):
    try:
        messages.append(repr(call()))
    except ValueError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""


def test_what_does_not_fit_is_named(tmp_path):
    facts = [
        ["from 1 to 8 devices", "got 9", "device_count=9"],
        ['"data" or "model"', "pipeline"],
        ["model_devices", "got 2"],
        ["divide the 8 devices", "got 3"],
        ["divide the 8", "query/kernel", "got 6", "number of heads"],
        ["8 devices", "got 12 rows"],
    ]
    for message, named in zip(json.loads(printed(ERRORS, tmp_path)), facts, strict=True):
        assert message.startswith("Expected") and all(fact in message for fact in named), message


UNEVEN = """
import json
import keras, numpy as np
import tiny_models
from course_lib.training.distribution import distribute

texts, found = ["a b", "c", "d d d", "a", "b c d", "d", "a a"], []
for devices in (1, 4):
    keras.utils.set_random_seed(0)
    with distribute("data", devices).scope():
        model = tiny_models.text_classifier()
        model.dropout.rate = 0
        model.fit(texts, ["good", "bad", "neither", "good", "bad", "bad", "good"], batch_size=5, verbose=0)
        scores = [[p.probabilities[name] for name in model.classes] for p in model.predict(texts, verbose=0)]
    found.append([np.array(scores), *map(np.asarray, model.get_weights())])
print(json.dumps(max(float(np.abs(a - b).max()) for a, b in zip(*found, strict=True))))
"""


def test_devices_may_share_batches_that_their_number_does_not_divide(tmp_path):
    """Batches of five rows and of two, for one device and for four; then seven texts to predict."""
    assert json.loads(printed(UNEVEN, tmp_path, devices=4)) < 1e-5


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="these are errors of another backend")
def test_what_needs_jax_says_so():
    for call in (lambda: distribute("model"), lambda: hosts.connect(2, 0, "127.0.0.1:4444")):
        with pytest.raises(ValueError, match="Expected Keras on JAX.*KERAS_BACKEND=jax"):
            call()
    batch = {"token_ids": np.ones((3, 4))}
    assert own_rows(batch) is batch


def test_hosts_have_the_same_number_of_devices():
    devices = [types.SimpleNamespace(process_index=host) for host in (0, 0, 1, 1)]
    hosts._check_even(devices)
    with pytest.raises(ValueError, match="same number of devices on every host; got {0: 2, 1: 1}"):
        hosts._check_even(devices[:3])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def started(folder, timeout, hosts=(0, 1), corpus="corpus.txt", **variables):
    """Processes of two hosts, which share a folder, with one device each. What is left of them is killed at the end."""
    module, run = ["-m", "course_lib.training.pretrain", "recipe.toml"], ["--folder", "run"]
    run += ["--hosts", "2", "--coordinator", f"127.0.0.1:{free_port()}", "--timeout", str(timeout)]
    options = {"cwd": folder, "env": environment("jax", 1) | variables, "text": True, "start_new_session": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    own = [["--corpus", corpus.format(host=host), "--host", str(host)] for host in hosts]
    processes = [subprocess.Popen([sys.executable, *module, *run, *arguments], **options) for arguments in own]
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def write_run(folder, **changes):
    (folder / "corpus.txt").write_text(UNEVEN_CORPUS)
    fields = (RECIPE | changes).items()
    (folder / "recipe.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields))


@pytest.mark.slow
def test_a_host_that_never_comes_is_named(tmp_path):
    write_run(tmp_path)
    for host, facts in ((0, ["Expected 2 hosts", "[1]"]), (1, ["Expected host 0 at 127.0.0.1"])):
        with started(tmp_path, 1, [host]) as (alone,):
            output, _ = alone.communicate(timeout=120)
        assert alone.returncode == 2 and all(fact in output for fact in facts), output


@pytest.mark.slow
def test_two_hosts_resume_after_one_was_killed_and_end_as_one_host_does(tmp_path):
    write_run(tmp_path)
    saved, deadline = tmp_path / "run" / "checkpoint.safetensors", time.monotonic() + 200
    with started(tmp_path, 30) as (first, second):
        while not saved.exists() and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.01)
        os.killpg(second.pid, signal.SIGKILL)
        output, _ = first.communicate(timeout=200)
    assert first.returncode not in (0, None) and "Host 1 has stopped" in output, output
    assert not (tmp_path / "run" / "preset").exists()

    with started(tmp_path, 60) as processes:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    assert "The model is in" not in output, "the second host leaves that to the first"
    report = report_of(tmp_path, "jax", [])
    assert report["learned"] > 0.1
    ours, alone = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("run", "run()"))
    assert ours.keys() == alone.keys()
    for name, array in alone.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_two_hosts_with_half_of_the_shards_each_end_as_one_host_does(tmp_path):
    pytest.importorskip("grain")
    write_run(tmp_path, next_sentence=False, steps=10, jit_compile=False)
    write_with_recipe(Recipe.read(tmp_path / "recipe.toml"), tmp_path / "corpus.txt", tmp_path / "shards", 4, 4)
    for host, others in ((0, "23"), (1, "01")):
        folder = shutil.copytree(tmp_path / "shards", tmp_path / f"shards{host}")
        for path in folder.glob(f"*-0000[{others}]-of-*.bin"):
            path.unlink()
        assert len(list(folder.glob("*.bin"))) == 4
    with started(tmp_path, 60, corpus="shards{host}", COURSE_LIB_WATCHED="1") as processes:  # nobody is killed here
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    command = "-m course_lib.training.pretrain recipe.toml --corpus shards --folder alone".split()
    subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment("jax", 1), check=True, timeout=300)
    ours, alone = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("run", "alone"))
    assert ours.keys() == alone.keys()
    for name, array in alone.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-4, err_msg=name)
