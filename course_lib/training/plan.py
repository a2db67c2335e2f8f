"""Estimates what a pre-training run needs: memory, time, communication and energy, on one device or on many.

    python -m course_lib.training.plan bert-mini --devices 8 --device h100

It counts operations with `course_lib.models.cost`, and assumes that a device reaches the fraction `mfu` of its highest
rate (model FLOPs utilization). docs/scale.md says how far the estimates were off.

Shapes: B batch, T length, D model width, F width inside the feed-forward layers, N heads, V vocabulary.
"""

import argparse
import dataclasses
import os
import time

import keras

from course_lib.models import cost
from course_lib.models.bert import BertConfig
from course_lib.models.gpt2 import GPT2Config
from course_lib.training.recipes import RECIPES, Recipe


@dataclasses.dataclass(frozen=True)
class Device:
    """A device, from its maker's data sheet.

    Attributes:
        bfloat16: highest rate of dense matrix products in bfloat16, in operations per second.
        float32: the same for float32 arrays. JAX multiplies them in TF32 on GPUs, and in bfloat16 on TPUs, by default.
        memory: in bytes.
        link: bytes per second that it sends to its neighbours, in one direction.
        linked: number of devices that are linked in this way: the GPUs of a host, the TPUs of a pod.
        network: bytes per second that it sends to all others; for GPUs as in NVIDIA's DGX, in clouds often less.
        watts: highest power, or None if it is not known.
        is_fused: whether a kernel computes attention without keeping scores, in 16 bits and without dropout.
    """

    bfloat16: float
    float32: float
    memory: float
    link: float
    linked: int
    network: float
    watts: float | None
    is_fused: bool = True


DEVICES = {
    "a100": Device(312e12, 156e12, 80e9, 300e9, 8, 25e9, 400),
    "h100": Device(989e12, 495e12, 80e9, 450e9, 8, 50e9, 700),
    "h200": Device(989e12, 495e12, 141e9, 450e9, 8, 50e9, 700),
    "l4": Device(121e12, 60e12, 24e9, 32e9, 8, 1.6e9, 72),
    "tpu-v5e": Device(197e12, 197e12, 16e9, 100e9, 256, 3.1e9, None, is_fused=False),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs on each of its devices. Sizes are in bytes, times in seconds.

    Attributes:
        parameters: number of weights of the whole model.
        operations: floating-point operations of a step, of all devices together.
        memory: of a device, a dict from purpose to bytes.
        communication: what a device sends per step, a dict from purpose to bytes.
        compute: seconds of a step without communication.
        sending: seconds that the communication takes, if it does not overlap with the computation.
        steps: number of steps.
        devices: number of devices.
        watts: of a device, or None.
    """

    parameters: int
    operations: float
    memory: dict
    communication: dict
    compute: float
    sending: float
    steps: int
    devices: int
    watts: float | None

    @property
    def hours(self):
        """Hours of the run, a pair: all communication hidden behind the computation, and none."""
        return tuple(self.steps * seconds / 3600 for seconds in (self.compute, self.compute + self.sending))

    @property
    def kilowatt_hours(self):
        """Energy of all devices at their highest power, likewise a pair, or None. Hosts and cooling are not counted."""
        return self.watts and tuple(self.devices * self.watts * hours / 1000 for hours in self.hours)


def config_of(recipe):
    """Makes the config of a recipe's model, assuming that the trained vocabulary reaches its full size.

    Args:
        recipe: a `Recipe`.

    Returns:
        A `BertConfig` or a `GPT2Config`.
    """
    return recipe.config(BertConfig if recipe.objective == "masked" else GPT2Config)


def activation_bytes(recipe, rows, model_devices=1, is_fused=False):
    """Estimates what a step keeps from the forward pass for the backward pass.

    Per token and block these are about 8 arrays of width D (the residual stream, both norms, queries, keys, values, and
    the output of attention), 3 of width F (4 with the exact GELU of BERT), and 4 rows of scores, one for each key.
    Dropout adds 6 arrays of width D and one row of scores. With rematerialization all this is kept for one block at a
    time, and only the input of each other block. Of the head there are the logits, their exponentials and their
    gradient.

    Args:
        recipe: a `Recipe`.
        rows: B, rows on the device.
        model_devices: number of devices that share queries, keys, values, scores and what is of width F.
        is_fused: whether a kernel computes attention without keeping its scores.

    Returns:
        Bytes per device, a number.
    """
    is_bert, drops = recipe.objective == "masked", recipe.dropout > 0
    width, inner = recipe.hidden_dim, recipe.intermediate_dim
    scores = 0 if is_fused else recipe.num_heads * recipe.length * (4 + drops)
    block = (4 + 6 * drops) * width + (4 * width + (4 if is_bert else 3) * inner + scores) / model_devices
    kept = block + (recipe.num_layers - 1) * (width if recipe.rematerialize else block)
    scored = recipe.predictions if is_bert else recipe.length
    size = 2 if "16" in recipe.dtype else 4
    return rows * recipe.length * kept * size + 3 * rows * scored * recipe.vocabulary_size * 4 / _parts(
        recipe, model_devices
    )


def _parts(recipe, model_devices):
    """Returns how many parts the vocabulary is split into."""
    return 1 if recipe.vocabulary_size % model_devices else model_devices


def plan(recipe, device, devices=1, model_devices=1, mfu=0.3):
    """Estimates a run.

    Args:
        recipe: a `Recipe`.
        device: a `Device`.
        devices: number of devices.
        model_devices: number of devices that share a copy of the weights.
        mfu: share of the device's highest rate that is reached.

    Returns:
        A `Plan`.

    Raises:
        ValueError: if the numbers do not fit together.
    """
    if min(devices, model_devices) < 1 or not 0 < mfu <= 1:
        raise ValueError(f"Expected at least one device and an MFU from 0 to 1; got {devices}, {model_devices}, {mfu}.")
    copies = devices // model_devices
    if (
        devices % model_devices
        or recipe.num_heads % model_devices
        or recipe.batch_size % (copies * recipe.accumulation)
    ):
        raise ValueError(
            f"Expected model_devices to divide {devices} devices and {recipe.num_heads} heads, and the copies of the "
            f"model to divide each of {recipe.accumulation} parts of the batch of {recipe.batch_size} rows; got "
            f"{model_devices}, so {copies} copies."
        )
    config, rows = config_of(recipe), recipe.batch_size // copies
    is_bert, is_half = recipe.objective == "masked", "16" in recipe.dtype
    parts = cost.training_step(
        config, recipe.batch_size, recipe.length, recipe.predictions if is_bert else None, recipe.rematerialize
    )
    counts = cost.parameters(config)
    weights, table = sum(counts.values()), config.vocabulary_size * config.hidden_dim
    kernels = counts["attention"] + counts["feed_forward"]
    own = weights - kernels - table + kernels / model_devices + table / _parts(recipe, model_devices)
    moments = 2 if recipe.optimizer == "adamw" else 2 - kernels / weights  # Muon keeps one moment of a kernel
    memory = {
        "weights": 4 * own,
        "gradients": 4 * own * (1 + (recipe.accumulation > 1)),
        "moments": 4 * own * moments,
        "activations": activation_bytes(
            recipe, rows // recipe.accumulation, model_devices, device.is_fused and is_half and recipe.dropout == 0
        ),
    }
    size = 2 if is_half else 4
    communication = {
        "gradients": 2 * (copies - 1) / copies * 4 * own,  # each device sends and receives all but its own part
        # Shoeybi et al. (2019, section 3): two sums forward and two backward in each block, and two for the embeddings
        "activations": (4 * recipe.num_layers + 2) * 2 * (model_devices - 1) / model_devices
        * rows * recipe.length * recipe.hidden_dim * size,
    }  # fmt: skip
    operations = float(sum(parts.values()))
    rate = device.bfloat16 if is_half else device.float32
    links = {
        "gradients": device.network if devices > device.linked else device.link,
        "activations": device.network if model_devices > device.linked else device.link,
    }
    return Plan(
        weights,
        operations,
        memory,
        communication,
        operations / devices / (rate * mfu),
        sum(count / links[name] for name, count in communication.items()),
        recipe.steps,
        devices,
        device.watts,
    )


def this_machine(size=2048, rounds=5):
    """Measures the processor that Keras runs on.

    Args:
        size: rows and columns of the matrices that are multiplied.
        rounds: number of products. The fastest counts.

    Returns:
        A `Device` without links.
    """
    rates = {}
    for dtype in ("float32", "bfloat16"):
        x = keras.random.normal((size, size), dtype=dtype, seed=0)
        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            float(keras.ops.cast(keras.ops.matmul(x, x)[0, 0], "float32"))
            seconds.append(time.perf_counter() - start)
        rates[dtype] = 2 * size**3 / min(seconds[1:])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(**rates, memory=memory, link=1e9, network=1e9, linked=1, watts=None, is_fused=False)


def report(found, device):
    """Writes a plan as a table.

    Args:
        found: a `Plan`.
        device: its `Device`.

    Returns:
        Lines of text, a string.
    """
    total = sum(found.memory.values())
    rows = [("parameters", f"{found.parameters / 1e6:,.1f} million")]
    rows += [(f"memory per device: {name}", f"{count / 1e9:,.2f} GB") for name, count in found.memory.items()]
    rows += [("memory per device: together", f"{total / 1e9:,.2f} of {device.memory / 1e9:,.0f} GB")]
    rows += [("operations per step", f"{found.operations / 1e12:,.3f} × 10¹²")]
    rows += [(f"sent per step: {name}", f"{count / 1e9:,.2f} GB") for name, count in found.communication.items()]
    rows += [
        ("step, computation", f"{found.compute * 1e3:,.1f} ms"),
        ("step, communication", f"{found.sending * 1e3:,.1f} ms"),
    ]
    rows += [(f"all {found.steps:,} steps", _between(found.hours, "hours"))]
    rows += [("energy", _between(found.kilowatt_hours, "kWh"))] if found.kilowatt_hours else []
    lines = [f"{name:32}{value}" for name, value in rows]
    if total > device.memory:
        lines.append("This does not fit. Use more devices, more model_devices, a smaller batch, or mixed_bfloat16.")
    return "\n".join(lines)


def _between(pair, unit):
    low, high = (f"{number:,.3g}" for number in pair)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def main(arguments=None):
    """Prints the plan that the command line asks for.

    Args:
        arguments: strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.plan", description=__doc__)
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}, or the path of a TOML file")
    parser.add_argument("--device", choices=["here", *DEVICES], default="here", help="default: this machine, measured")
    parser.add_argument("--devices", type=int, default=1, help="number of devices")
    parser.add_argument("--model-devices", type=int, default=1, help="devices that share a copy of the weights")
    parser.add_argument(
        "--mfu",
        type=float,
        default=0.3,
        help="share of the highest rate that is reached; default: 0.3, as measured on an H100",
    )
    arguments = parser.parse_args(arguments)
    try:
        recipe = RECIPES.get(arguments.recipe) or Recipe.read(arguments.recipe)
        device = DEVICES.get(arguments.device) or this_machine()
        print(report(plan(recipe, device, arguments.devices, arguments.model_devices, arguments.mfu), device))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
