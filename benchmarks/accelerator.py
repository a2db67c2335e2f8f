"""The course's models on an accelerator: right, by the golden tests, and fast, beside PyTorch and KerasHub.

    python benchmarks/accelerator.py

`make accelerator` runs it in `.venv`. By itself it needs JAX, Keras and what git tracks, and neither TensorFlow nor a
network: all weights are random. The rivals are measured where they are installed, PyTorch where it finds a GPU. Each
part runs in a process of its own, so that the memory of the device is free again, and writes its figures into
`data/runs/accelerator-DEVICE.json` as it ends. Read the shares with these conventions:

- Model FLOPs utilization (MFU) is a share of the data sheet's dense bfloat16 rate. It counts the matrix products of the
  model, forward and twice that backward: for each token and weight matrix (D, D') 2·D·D' operations; for each token in
  a row of T, in each layer, 4·D·T for the scores and the weighted values, causal or not; and the heads at the positions
  that are scored.
- The bandwidth of decoding counts one reading of the weights and of the filled part of the cache for each step.

No model drops out, and rows are full. Hugging Face's and ours are given no padding mask; KerasHub's must have one.
"""

import argparse
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
LEARNING_RATE, WEIGHT_DECAY, CLIP = 1e-4, 0.01, 1.0
MASK_ID = 3
# A vocabulary of 50,257 does not fill the tensor cores' tiles. XLA's Triton kernels then take 2.5 times as long as
# cuBLAS, for which XLA pads the matrix (GPT-2's step on an H100: 83 ms and 70 ms).
GPU_FLAGS = "--xla_gpu_enable_triton_gemm=false"
PACKAGES = "jax", "jaxlib", "keras", "keras-hub", "numpy", "torch", "transformers"
PEAKS = {  # by a part of the device's name: bfloat16 operations and bytes a second, from the data sheets
    "h200": (989e12, 4.8e12),
    "h100": (989e12, 3.35e12),
    "a100": (312e12, 2.0e12),
    "tpu v4": (275e12, 1.2e12),
    "tpu v5 lite": (197e12, 0.82e12),
}
GOLDEN = "test_bert", "test_gpt", "test_openai_gpt", "test_heads"
GOLDEN_TESTS = "computes_what or heads_compute or computed_as_there"
LIMIT = 120  # seconds for one part


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run; the defaults are BERT-base and GPT-2 124 M."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    bert_vocabulary: int = 30522
    gpt2_vocabulary: int = 50257
    bert_batch: tuple = (64, 512)
    predictions: int = 76  # a row of BERT's
    gpt2_batch: tuple = (32, 1024)
    forward_batches: tuple = ((128, 128), (64, 512))
    decode_batches: tuple = (1, 32)
    prompt: int = 32
    new: int = 128
    steps: int = 20  # per epoch
    rounds: int = 2
    matrix: int = 8192
    copy: int = 2**30  # bytes


SMALL = Sizes(2, 2, 16, 60, 60, (2, 16), 3, (2, 16), ((2, 8),), (1, 2), 4, 4, 2, 1, 64, 2**16)


class Unavailable(Exception):
    """A part cannot run on this machine, and need not."""


# The data, the same for all.


def bert_data(sizes):
    """Full rows with masked tokens, for `steps` batches: inputs and targets."""
    rng = np.random.default_rng(0)
    rows, length = sizes.bert_batch[0] * sizes.steps, sizes.bert_batch[1]
    tokens = rng.integers(5, sizes.bert_vocabulary, (rows, length), dtype="int32")
    positions = np.sort(
        rng.permuted(np.tile(np.arange(length, dtype="int32"), (rows, 1)), axis=1)[:, : sizes.predictions]
    )
    targets = {
        "mlm_logits": np.take_along_axis(tokens, positions, axis=1),
        "nsp_logits": rng.integers(0, 2, rows, dtype="int32"),
    }
    np.put_along_axis(tokens, positions, MASK_ID, axis=1)
    segments = np.tile((np.arange(length) >= length // 2).astype("int32"), (rows, 1))
    return {"token_ids": tokens, "segment_ids": segments, "mask_positions": positions}, targets


def gpt2_data(sizes):
    """Full rows of random tokens, for `steps` batches: token ids, and those that follow."""
    shape = sizes.gpt2_batch[0] * sizes.steps, sizes.gpt2_batch[1] + 1
    tokens = np.random.default_rng(0).integers(0, sizes.gpt2_vocabulary, shape, dtype="int32")
    return tokens[:, :-1], tokens[:, 1:]


def forward_data(sizes, shape):
    """One batch of random tokens (B, T)."""
    return np.random.default_rng(0).integers(5, sizes.bert_vocabulary, shape, dtype="int32")


def decode_data(sizes, batch):
    """Prompts of random tokens (B, prompt)."""
    return np.random.default_rng(0).integers(0, sizes.gpt2_vocabulary, (batch, sizes.prompt), dtype="int32")


# What is counted.


def bert_config(sizes):
    """BERT-base, without dropout."""
    from course_lib import BertConfig

    shape = sizes.bert_vocabulary, sizes.layers, sizes.heads, sizes.width, 4 * sizes.width
    return BertConfig(*shape, dropout=0.0, attention_dropout=0.0)


def gpt2_config(sizes):
    """GPT-2 124 M, without dropout."""
    from course_lib import GPT2Config

    none = {"embedding_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
    return GPT2Config(sizes.gpt2_vocabulary, sizes.layers, sizes.heads, sizes.width, **none)


def trained(sizes, task, epoch, first_loss, next_sentence=True):
    """The figures of a training run, timed by epochs, each a call that returns when it is done."""
    from measure import interleaved, products

    rows, length = getattr(sizes, f"{task}_batch")
    if task == "bert":
        chance = math.log(sizes.bert_vocabulary) + next_sentence * math.log(2)
        head = 2 * rows * sizes.predictions * sizes.width * (sizes.width + sizes.bert_vocabulary)
        config = bert_config(sizes)
    else:
        chance, config = math.log(sizes.gpt2_vocabulary), gpt2_config(sizes)
        head = 2 * rows * length * sizes.width * sizes.gpt2_vocabulary
    if not abs(first_loss - chance) < 0.3:
        raise ValueError(f"Expected a first loss at chance, {chance:.2f}; got {first_loss:.2f}.")
    seconds = interleaved({"epoch": epoch}, sizes.rounds)["epoch"] / sizes.steps
    operations = 3 * (products(config, np.full(rows, length)) + head)
    return {"batch": [rows, length], "first loss": first_loss, **rates(seconds, rows * length, operations)}


def rates(seconds, tokens, operations):
    return {
        "milliseconds": 1e3 * seconds,
        "tokens a second": tokens / seconds,
        "operations a second": operations / seconds,
    }


def forwarded(sizes, shape, call):
    """The figures of a forward pass, a call that returns when it is done."""
    from measure import interleaved, products

    seconds = interleaved({"call": call}, 5 * sizes.rounds, warm_up=2)["call"]
    return rates(seconds, math.prod(shape), products(bert_config(sizes), np.full(*shape)))


def decoded(sizes, batch, generate):
    """The figures of greedy decoding; `generate` returns the new token ids (B, new)."""
    from measure import interleaved

    start = time.perf_counter()
    shape = np.shape(generate())
    first = time.perf_counter() - start
    if shape != (batch, sizes.new):
        raise ValueError(f"Expected {(batch, sizes.new)} new tokens; got {shape}.")
    seconds = interleaved({"call": generate}, sizes.rounds)["call"]
    width, inner = sizes.width, 4 * sizes.width
    weights = sizes.gpt2_vocabulary * width + sizes.layers * (4 * width**2 + 2 * width * inner)
    cache = 2 * sizes.layers * batch * (sizes.prompt + sizes.new / 2) * width  # on average
    return {
        "milliseconds a step": 1e3 * seconds / sizes.new,
        "tokens a second": batch * sizes.new / seconds,
        "bytes a second": 2 * (weights + cache) * sizes.new / seconds,  # in bfloat16
        "seconds to compile": first - seconds,
    }


# Keras on JAX: ours and KerasHub's.


def keras_trained(sizes, task, model, inputs, targets, loss, next_sentence=True):
    """Trains a Keras model by `fit`, which keeps the weights on the device between steps."""
    import keras

    from course_lib.training.optimizers import AdamW

    optimizer = AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP)
    model.compile(optimizer, loss=loss, weighted_metrics=None, jit_compile=True)
    rows = getattr(sizes, f"{task}_batch")[0]

    def fit(inputs, targets):  # KerasHub's own needs TensorFlow to cut batches
        return keras.Model.fit(model, inputs, targets, batch_size=rows, shuffle=False, verbose=0).history["loss"][0]

    start = time.perf_counter()
    first = fit(*keras.tree.map_structure(lambda array: array[:rows], (inputs, targets)))
    compiling = time.perf_counter() - start
    figures = trained(sizes, task, lambda: fit(inputs, targets), float(first), next_sentence)
    return figures | {"seconds to compile": compiling} | jax_memory()


def keras_forward(sizes, model, inputs):
    """The forward passes of a Keras model, compiled, with the outputs left on the device."""
    import jax

    step = jax.jit(lambda *arguments: model.stateless_call(*arguments, training=False)[0])
    state = [[v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    figures = {}
    for shape in sizes.forward_batches:
        batch = jax.device_put(inputs(forward_data(sizes, shape)))
        figures[f"{shape[0]} x {shape[1]}"] = forwarded(
            sizes, shape, lambda batch=batch: jax.block_until_ready(step(*state, batch))
        )
    return figures


def jax_memory():
    import jax

    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {} if peak is None else {"gigabytes at most": 1e-9 * peak}


def train_bert_ours(sizes):
    from course_lib import Bert, BertPretrainer
    from course_lib.training.losses import CrossEntropy

    model = BertPretrainer(Bert(bert_config(sizes), dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    loss = {name: CrossEntropy() for name in ("mlm_logits", "nsp_logits")}
    return keras_trained(sizes, "bert", model, *bert_data(sizes), loss)


def train_gpt2_ours(sizes):
    from course_lib import GPT2, GPT2CausalLM
    from course_lib.training.losses import CrossEntropy

    model = GPT2CausalLM(GPT2(gpt2_config(sizes), dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    tokens, following = gpt2_data(sizes)
    data = {"token_ids": tokens}, following
    return keras_trained(sizes, "gpt2", model, *data, CrossEntropy())


def forward_ours(sizes):
    from course_lib import Bert

    model = Bert(bert_config(sizes), dtype="bfloat16")
    model.build()
    return keras_forward(sizes, model, lambda tokens: {"token_ids": tokens})


def decode_ours(sizes):
    from course_lib import GPT2, GPT2CausalLM

    model = GPT2CausalLM(GPT2(gpt2_config(sizes), dtype="bfloat16"), dtype="bfloat16")
    return {
        f"batch {batch}": decoded(
            sizes,
            batch,
            functools.partial(model.generate, decode_data(sizes, batch).tolist(), sizes.new, ignore_end=True),
        )
        for batch in sizes.decode_batches
    }


def keras_hub():
    sys.modules.setdefault(
        "kagglehub", None
    )  # which downloads; without it KerasHub works, with half of it, it does not
    try:
        import keras_hub
    except ImportError as error:
        raise Unavailable(f"KerasHub: {error}") from error
    return keras_hub.models


def with_padding_mask(inputs):
    """KerasHub's models must be told that no token is padding."""
    return inputs | {"padding_mask": np.ones_like(inputs["token_ids"])}


def hub_bert(sizes, dtype):
    shape = sizes.bert_vocabulary, sizes.layers, sizes.heads, sizes.width, 4 * sizes.width
    return keras_hub().BertBackbone(*shape, dropout=0.0, dtype=dtype)


def hub_gpt2(sizes, dtype):
    shape = sizes.gpt2_vocabulary, sizes.layers, sizes.heads, sizes.width, 4 * sizes.width
    return keras_hub().GPT2CausalLM(keras_hub().GPT2Backbone(*shape, dropout=0.0, dtype=dtype), preprocessor=None)


def train_bert_hub(sizes):
    from course_lib.training.losses import CrossEntropy

    model = keras_hub().BertMaskedLM(hub_bert(sizes, "mixed_bfloat16"), preprocessor=None)  # no next-sentence head
    inputs, targets = bert_data(sizes)
    data = with_padding_mask(inputs), targets["mlm_logits"]
    return keras_trained(sizes, "bert", model, *data, CrossEntropy(), next_sentence=False)


def train_gpt2_hub(sizes):
    from course_lib.training.losses import CrossEntropy

    tokens, following = gpt2_data(sizes)
    data = with_padding_mask({"token_ids": tokens}), following
    return keras_trained(sizes, "gpt2", hub_gpt2(sizes, "mixed_bfloat16"), *data, CrossEntropy())


def forward_hub(sizes):
    inputs = lambda tokens: with_padding_mask({"token_ids": tokens, "segment_ids": np.zeros_like(tokens)})  # noqa: E731
    return keras_forward(sizes, hub_bert(sizes, "bfloat16"), inputs)


def decode_hub(sizes):
    model = hub_gpt2(sizes, "bfloat16")
    model.compile(sampler="greedy")
    figures = {}
    for batch in sizes.decode_batches:
        prompts, room = decode_data(sizes, batch), ((0, 0), (0, sizes.new))
        inputs = {"token_ids": np.pad(prompts, room), "padding_mask": np.pad(np.ones_like(prompts), room)}
        figures[f"batch {batch}"] = decoded(
            sizes,
            batch,
            lambda inputs=inputs: model.generate(dict(inputs), stop_token_ids=None)["token_ids"][:, sizes.prompt :],
        )
    return figures


# PyTorch: Hugging Face's.


def torch_device(sizes):
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"PyTorch: {error}") from error
    if not torch.cuda.is_available() and sizes != SMALL:
        raise Unavailable("PyTorch finds no GPU.")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_trained(sizes, task, model, loss_of, data, is_compiled):
    """Trains a PyTorch model in bfloat16; `loss_of` takes a batch of the arrays in `data`."""
    import torch

    device = next(model.parameters()).device.type
    autocast = torch.autocast(device, torch.bfloat16)
    loss_of = torch.compile(loss_of) if is_compiled else loss_of
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, **fused)
    rows = getattr(sizes, f"{task}_batch")[0]
    batches = list(zip(*(torch.tensor(array).long().to(device).split(rows) for array in data), strict=True))

    def step(batch):
        with autocast:
            loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def epoch():
        for batch in batches:
            step(batch)
        synchronize()

    start = time.perf_counter()
    first = float(step(batches[0]))
    compiling = time.perf_counter() - start
    figures = trained(sizes, task, epoch, first) | {"seconds to compile": compiling}
    return figures | ({"gigabytes at most": 1e-9 * torch.cuda.max_memory_allocated()} if device == "cuda" else {})


def torch_bert(sizes, model_class):
    import transformers

    config = transformers.BertConfig(
        vocab_size=sizes.bert_vocabulary,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return getattr(transformers, model_class)(config)


def torch_gpt2(sizes):
    import transformers

    config = transformers.GPT2Config(
        vocab_size=sizes.gpt2_vocabulary,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_embd=sizes.width,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="sdpa",
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def train_bert_torch(sizes, is_compiled=False):
    """With the head at the masked positions only, as ours."""
    device = torch_device(sizes)
    import torch

    cross_entropy = torch.nn.functional.cross_entropy
    model = torch_bert(sizes, "BertForPreTraining").to(device).train()
    inputs, targets = bert_data(sizes)

    def loss_of(tokens, segments, positions, right, follows):
        encoded = model.bert(input_ids=tokens, token_type_ids=segments)
        x = encoded.last_hidden_state  # (B, T, D)
        x = torch.gather(x, 1, positions[..., None].expand(-1, -1, x.shape[-1]))  # (B, P, D)
        mlm, nsp = model.cls(x, encoded.pooler_output)
        return cross_entropy(mlm.flatten(0, 1), right.flatten()) + cross_entropy(nsp, follows)

    return torch_trained(sizes, "bert", model, loss_of, [*inputs.values(), *targets.values()], is_compiled)


def train_gpt2_torch(sizes, is_compiled=False):
    device = torch_device(sizes)
    import torch

    model = torch_gpt2(sizes).to(device).train()

    def loss_of(tokens, following):
        logits = model(input_ids=tokens, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())

    return torch_trained(sizes, "gpt2", model, loss_of, gpt2_data(sizes), is_compiled)


def forward_torch(sizes, is_compiled=False):
    device = torch_device(sizes)
    import torch

    model = torch_bert(sizes, "BertModel").to(device, torch.bfloat16).eval()
    function = torch.compile(model) if is_compiled else model
    figures = {}
    for shape in sizes.forward_batches:
        tokens = torch.tensor(forward_data(sizes, shape)).long().to(device)

        def call(tokens=tokens):
            with torch.inference_mode():
                function(input_ids=tokens)
            synchronize()

        figures[f"{shape[0]} x {shape[1]}"] = forwarded(sizes, shape, call)
    return figures


def decode_torch(sizes, is_compiled=False):
    """With the cache that it takes by default; or with a static cache, with which it compiles the step."""
    device = torch_device(sizes)
    import torch

    model = torch_gpt2(sizes).to(device, torch.bfloat16).eval()
    options = {"do_sample": False, "pad_token_id": 0, "min_new_tokens": sizes.new, "max_new_tokens": sizes.new}
    options |= {"cache_implementation": "static"} if is_compiled else {}
    figures = {}
    for batch in sizes.decode_batches:
        prompts = torch.tensor(decode_data(sizes, batch)).long().to(device)

        def generate(prompts=prompts):
            with torch.inference_mode():
                ids = model.generate(prompts, attention_mask=torch.ones_like(prompts), **options)
            return ids[:, sizes.prompt :].cpu().numpy()

        figures[f"batch {batch}"] = decoded(sizes, batch, generate)
    return figures


# The device itself, and the golden tests on it.


def device(sizes):
    """Its name, and its own rates: of a large product of matrices in bfloat16, and of a large copy."""
    import jax
    import keras
    from jax import numpy as jnp
    from measure import interleaved

    name = jax.local_devices()[0].device_kind
    a = jax.random.normal(jax.random.key(0), (sizes.matrix, sizes.matrix), "bfloat16")
    x = jnp.zeros(sizes.copy // 2, "bfloat16")
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    calls = 10
    seconds = interleaved(
        {
            "product": lambda: jax.block_until_ready([multiply(a, a) for _ in range(calls)]),
            "copy": lambda: jax.block_until_ready([copy(x) for _ in range(calls)]),
        },
        5,
    )
    peak = next((peaks for part, peaks in PEAKS.items() if part in name.lower()), (None, None))
    return {
        "name": name,
        "platform": jax.default_backend(),
        "backend": keras.backend.backend(),
        "operations a second": {"data sheet": peak[0], "measured": 2 * sizes.matrix**3 * calls / seconds["product"]},
        "bytes a second": {"data sheet": peak[1], "measured": 2 * sizes.copy * calls / seconds["copy"]},
        "attention is fused": attention_is_fused(),
    }


def attention_is_fused():
    """Under which masks `keras.ops.dot_product_attention` takes cuDNN's kernel, as it is called in the course."""
    import jax
    from jax import numpy as jnp
    from keras import ops

    x = jnp.zeros((2, 128, 2, 64), "bfloat16")
    masks = {
        "no mask": {},
        "padding mask": {"mask": jnp.ones((2, 1, 128, 128), bool)},
        "causal mask": {"mask": jnp.ones((1, 1, 128, 128), bool)},
        "is_causal": {"is_causal": True},
    }
    return {
        name: "cudnn" in jax.jit(lambda x, m=mask: ops.dot_product_attention(x, x, x, **m)).lower(x).compile().as_text()
        for name, mask in masks.items()
    }


def golden(sizes):
    """The tests that compare with what Hugging Face computed, in full float32; the largest error of each."""
    sys.path.insert(0, str(ROOT / "tests"))
    import layer_checks
    import pytest

    import course_lib

    course_lib.reproducible(0)
    errors, outcomes, same = {}, {}, layer_checks.same

    def recorded(outputs, expected, tolerance=1e-5):
        test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
        for output, other in layer_checks.pairs(outputs, expected):
            error = np.abs(layer_checks.to_numpy(output) - layer_checks.to_numpy(other)).max()
            errors[test] = max(errors.get(test, 0.0), float(error))
        same(outputs, expected, tolerance)

    class Outcomes:
        def pytest_runtest_logreport(self, report):
            if report.when == "call" or report.failed:
                outcomes[report.nodeid.split("::")[-1]] = report.outcome

    layer_checks.same = recorded  # before the tests import it
    files = [str(ROOT / "tests" / "checkpoints" / f"{name}.py") for name in GOLDEN]
    chosen = "computed_as_there" if sizes == SMALL else GOLDEN_TESTS
    pytest.main(["-q", "-p", "no:cacheprovider", "-W", "default", "-k", chosen, *files], plugins=[Outcomes()])
    return {
        "passed": sum(outcome == "passed" for outcome in outcomes.values()),
        "failed": [test for test, outcome in outcomes.items() if outcome != "passed"],
        "largest error": errors,
    }


# The parts, in the order in which they run, and the processes that they run in.

PARTS = {
    "golden": golden,
    "train-bert/ours": train_bert_ours,
    "train-gpt2/ours": train_gpt2_ours,
    "train-bert/hugging-face-compiled": functools.partial(train_bert_torch, is_compiled=True),
    "train-gpt2/hugging-face-compiled": functools.partial(train_gpt2_torch, is_compiled=True),
    "train-gpt2/hugging-face": train_gpt2_torch,
    "decode/ours": decode_ours,
    "decode/hugging-face": decode_torch,
    "train-gpt2/keras-hub": train_gpt2_hub,
    "forward/ours": forward_ours,
    "forward/hugging-face-compiled": functools.partial(forward_torch, is_compiled=True),
    "train-bert/hugging-face": train_bert_torch,
    "train-bert/keras-hub": train_bert_hub,
    "decode/keras-hub": decode_hub,
    "forward/keras-hub": forward_hub,
    "forward/hugging-face": forward_torch,
    "decode/hugging-face-compiled": functools.partial(decode_torch, is_compiled=True),
}


def run_here(name, sizes, path):
    """Runs a part in this process when a line comes from standard input, and writes what comes of it."""
    try:
        import keras

        import course_lib  # noqa: F401

        if "hugging-face" in name:
            with contextlib.suppress(ImportError):
                import transformers  # noqa: F401
        sys.stdin.readline()
        keras.utils.set_random_seed(0)
        result = (PARTS | {"device": device})[name](sizes)
    except Unavailable as reason:
        result = {"skipped": str(reason)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"[:500]}
    path.write_text(json.dumps(result))


class Apart:
    """A part in a process of its own. One that crashes or hangs costs only itself.

    The process starts at once and imports what it needs while the part before it has the device.
    """

    def __init__(self, name, small):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        environment.setdefault("KERAS_BACKEND", "jax")
        if "hugging-face" in name:
            environment["JAX_PLATFORMS"] = "cpu"  # PyTorch has the device for itself
        if name in ("golden", "device"):
            environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        elif shutil.which("nvidia-smi"):
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {GPU_FLAGS}"
        self.folder = pathlib.Path(tempfile.mkdtemp())
        command = [sys.executable, __file__, "--run", name, "--result", str(self.folder / "result.json")]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *["--small"] * small], env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def result(self, seconds):
        """Lets the part run. Returns its figures, or what went wrong within so many seconds."""
        start = time.monotonic()
        try:
            self.process.communicate(b"\n", timeout=seconds)
            problem = f"no result, and exit status {self.process.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"no result after {seconds:.1f} s"
        path = self.folder / "result.json"
        result = json.loads(path.read_text()) if path.is_file() else {"error": problem}
        if "error" in result or result.get("failed"):  # printed only, since it names places of this machine
            print(*(self.folder / "log").read_text(errors="replace").splitlines()[-40:], sep="\n", flush=True)
        self.stop()
        return result | {"wall seconds": round(time.monotonic() - start, 1)}

    def stop(self):
        """Ends the process, and removes what it wrote."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def versions():
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit():
    """The course's, where git knows it."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def add_shares(result, machine):
    """Adds what share of the device's rates a part reached, to each of its figures."""
    for rate, share in {"operations a second": "MFU", "bytes a second": "bandwidth"}.items():
        for figures in [result, *(value for value in result.values() if isinstance(value, dict))]:
            if rate in figures and rate in machine:
                peak, measured = machine[rate]["data sheet"], machine[rate]["measured"]
                figures[share] = figures[rate] / peak if peak else None
                figures[f"share of the measured {rate.split()[0]}"] = figures[rate] / measured


def save(record, path):
    """Writes the record in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)


def table(record):
    """The record in lines."""
    machine = record["device"]
    lines = [f"{machine.get('name', 'unknown device')}: {json.dumps(machine)}", ""]
    lines.append(f"{'part':42}{'size':>12}{'tokens/s':>13}{'ms':>10}{'MFU':>8}{'memory':>8}{'of measured':>12}")
    for name, result in record["parts"].items():
        if "passed" in result:
            worst = max(result["largest error"].values(), default=float("nan"))
            lines.append(f"{name:42} {result['passed']} passed, failed: {result['failed']}, largest error {worst:.1e}")
            continue
        if message := result.get("error") or result.get("skipped"):
            lines.append(f"{name:42} {message}")
            continue
        rows = {" x ".join(map(str, result["batch"])): result} if "batch" in result else result
        for size, figures in rows.items():
            if not isinstance(figures, dict):
                continue
            share = lambda key, figures=figures: f"{figures[key]:.1%}" if figures.get(key) else ""  # noqa: E731
            measured = share("share of the measured operations") or share("share of the measured bytes")
            time_ = figures.get("milliseconds", figures.get("milliseconds a step"))
            lines.append(
                f"{name:42}{size:>12}{figures['tokens a second']:>13,.0f}{time_:>10.2f}"
                f"{share('MFU'):>8}{share('bandwidth'):>8}{measured:>12}"
            )
    return "\n".join(lines)


def main():
    """Runs the parts, writes the record and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", help=f"some of {', '.join(PARTS)}; by how they end, * for anything, as in ours,golden"
    )
    parser.add_argument("--budget", type=float, default=360, help="seconds for all parts together")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "data" / "runs", help="folder of the record")
    parser.add_argument("--commit", default=commit(), help="the course's, where git does not know it")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to test this script")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        return run_here(arguments.run, SMALL if arguments.small else Sizes(), arguments.result)

    start = time.monotonic()
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": arguments.commit,
        "versions": versions(),
        "sizes": dataclasses.asdict(SMALL if arguments.small else Sizes()),
        "device": Apart("device", arguments.small).result(LIMIT),
        "parts": {},
    }
    slug = re.sub("[^a-z0-9]+", "-", record["device"].get("name", "unknown").lower()).strip("-")
    path = arguments.output / f"accelerator-{slug}.json"
    wanted = [f"*{part.strip()}" for part in arguments.parts.split(",")]
    names = [name for name in PARTS if any(fnmatch.fnmatch(name, part) for part in wanted)]
    apart = Apart(names[0], arguments.small) if names else None
    for name, following in itertools.zip_longest(names, names[1:]):
        part, apart = apart, Apart(following, arguments.small) if following else None
        left = arguments.budget - (time.monotonic() - start)
        result = part.result(min(left, LIMIT)) if left > 10 else part.stop() or {"skipped": "The time was up."}
        add_shares(result, record["device"])
        record["parts"][name] = result
        save(record, path)
        print(f"{name}: {json.dumps(result)[:300]}", flush=True)
    print(f"\n{table(record)}\n\nWritten to {path}")


if __name__ == "__main__":
    main()
