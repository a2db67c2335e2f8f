"""What the benchmarks share: taking turns, counting operations, the machine's own rate, and the file of results."""

import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import time

import keras
import numpy as np


def interleaved(candidates, rounds, warm_up=1):
    """Median seconds of each candidate, a dict of functions; they take turns, so that all meet the same noise."""
    seconds = {name: [] for name in candidates}
    for turn in range(-warm_up, rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def products(config, lengths):
    """Floating-point operations in an encoder's matrix products, for rows of the given lengths."""
    width, inner = config.hidden_dim, config.intermediate_dim
    linear = 2 * (4 * width**2 + 2 * width * inner)  # a token: query, key, value and output; two feed-forward layers
    attention = 4 * width * np.asarray(lengths, float)  # a token: scores and weighted values
    return float(config.num_layers * np.sum(lengths * (linear + attention)))


def matrix_rate(dtype, tokens, config):
    """Operations a second in the machine's own product of matrices of a feed-forward layer's shapes, same backend."""
    shape = tokens, config.hidden_dim, config.intermediate_dim
    a, b = keras.random.normal(shape[:2], dtype=dtype, seed=1), keras.random.normal(shape[1:], dtype=dtype, seed=2)
    multiply = compiled(lambda: keras.ops.cast(keras.ops.matmul(a, b)[0, 0], "float32"))
    return 2 * math.prod(shape) / interleaved({"product": lambda: float(multiply())}, 20)["product"]


def compiled(function):
    """The function as a graph of the backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


def has_bfloat16():
    """Whether the processor multiplies bfloat16 itself; None where that cannot be read."""
    flags = pathlib.Path("/proc/cpuinfo")
    return any(f in flags.read_text() for f in ("avx512_bf16", "amx_bf16")) if flags.is_file() else None


def header():
    """What a file of results begins with."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor()}",
        "backend": keras.backend.backend(),
    }


def processor():
    """The processor's name, as far as the system tells it."""
    flags = pathlib.Path("/proc/cpuinfo")
    names = [line.partition(": ")[2] for line in flags.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(results, script):
    """Writes the results beside the script that took them."""
    pathlib.Path(script).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
