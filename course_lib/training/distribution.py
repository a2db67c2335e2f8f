"""Trains on several devices. `course_lib.training.hosts` connects those of several hosts.

On JAX, `keras.distribution` does it: every array has a layout that says along which axes it is split, and XLA adds the
communication. On TensorFlow, `tf.distribute.MirroredStrategy` does it, on one host.

Example:
    >>> with distribute("data").scope():
    ...     classifier = TextClassifier.from_preset("all-MiniLM-L6-v2", classes=["bad", "good"])
    ...     classifier.fit(texts, labels, batch_size=256)  # 32 rows on each of 8 devices
"""

import contextlib
import os
import re

import keras
import numpy as np

# Tensor parallelism (Shoeybi et al., 2019, https://arxiv.org/abs/1909.08053, section 3): the first kernel of a pair is
# split by columns and the second by rows, so a forward pass communicates only the sum of the second product. Attention
# is split by heads, and the table of embeddings by tokens. Every device holds a full copy of all other variables.
SPLIT = {  # regular expression of a variable's whole path → the devices along each of its axes
    r".*attention/(query|key|value)/kernel": (None, "model"),
    r".*attention/(query|key|value)/bias": ("model",),
    r".*attention/output/kernel": ("model", None),
    r".*feed_forward/(intermediate|gate)/kernel": (None, "model"),
    r".*feed_forward/(intermediate|gate)/bias": ("model",),
    r".*feed_forward/output/kernel": ("model", None),
    r".*/token_embedding/embeddings": ("model", None),
    r".*/masked_lm/bias": ("model",),
    r".*/head/kernel": (None, "model"),
}
_BY_TOKEN = r".*/(token_embedding|masked_lm|head)/.*"


class TensorParallel(keras.distribution.ModelParallel):
    """Splits the weights of any model of this library as `SPLIT` says, and batches among groups of such devices.

    Args:
        mesh: a `keras.distribution.DeviceMesh` with the axes "batch" and "model".
    """

    def __init__(self, mesh):
        layouts = keras.distribution.LayoutMap(mesh)
        for path, axes in SPLIT.items():
            layouts[path] = axes
        super().__init__(layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False)

    def get_variable_layout(self, variable):
        """Finds how a variable is split. A vocabulary stays whole if the number of devices does not divide its size.

        Args:
            variable: a Keras variable.

        Returns:
            A `keras.distribution.TensorLayout`.

        Raises:
            ValueError: if the devices do not divide an axis that has to be split.
        """
        layout, parts = super().get_variable_layout(variable), self.device_mesh.shape[1]
        uneven = [size for size, axis in zip(variable.shape, layout.axes, strict=True) if axis and size % parts]
        if uneven and re.fullmatch(_BY_TOKEN, variable.path):
            return keras.distribution.TensorLayout([None] * len(variable.shape), self.device_mesh)
        if uneven:
            raise ValueError(
                f"Expected model_devices to divide the {uneven[0]} columns or rows of {variable.path}; got {parts}. "
                f"Choose a divisor of the model's number of heads."
            )
        return layout


def distribute(kind, devices=None, model_devices=None):
    """Makes a distribution. Build and train a model within its `scope()` to use all its devices.

    Args:
        kind: "data", for a copy of the model on each device, which gets a part of every batch (data parallelism); or
            "model", on JAX, to split the weights among devices too (tensor parallelism).
        devices: number of devices. Defaults to all, those of other hosts included.
        model_devices: for "model", number of devices that share a copy of the weights. Defaults to all.

    Returns:
        On JAX a `keras.distribution.Distribution`, on TensorFlow a `tf.distribute.MirroredStrategy`.

    Raises:
        ValueError: if the kind is unknown or needs JAX, there are fewer devices, or the numbers do not fit together.
    """
    if kind not in ("data", "model"):
        raise ValueError(f'Expected "data" or "model"; got {kind!r}.')
    if model_devices is not None and kind == "data":
        raise ValueError(
            f'Expected model_devices with "model" only, since "data" splits no weights; got {model_devices}.'
        )
    is_jax = keras.backend.backend() == "jax"
    if kind == "model" and not is_jax:
        raise ValueError(
            f'Expected Keras on JAX for "model"; it runs on {keras.backend.backend()}. Set KERAS_BACKEND=jax.'
        )
    found = _jax_devices() if is_jax else _tensorflow_devices()
    if devices is not None and not 1 <= devices <= len(found):
        hint = f" To try it on a CPU, set XLA_FLAGS=--xla_force_host_platform_device_count={devices}." if is_jax else ""
        raise ValueError(f"Expected from 1 to {len(found)} devices, since there are {found}; got {devices}.{hint}")
    found = found[:devices]
    if not is_jax:
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(found)
    if kind == "data":
        return keras.distribution.DataParallel(devices=found, auto_shard_dataset=False)
    model_devices = len(found) if model_devices is None else model_devices
    if model_devices < 1 or len(found) % model_devices:
        raise ValueError(f"Expected model_devices to divide the {len(found)} devices; got {model_devices}.")
    shape = len(found) // model_devices, model_devices
    return TensorParallel(keras.distribution.DeviceMesh(shape, ("batch", "model"), found))


def _jax_devices():
    virtual = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if virtual:  # each of them may block a thread of XLA's pool, which has one per core, and then all wait for ever
        os.environ.setdefault("NPROC", str(2 * int(virtual[1])))
    return keras.distribution.list_devices()


def _tensorflow_devices():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def own_slice(batch_size):
    """Finds the rows of a batch that this host has to provide.

    Args:
        batch_size: B.

    Returns:
        A slice; without several hosts, of all rows.

    Raises:
        ValueError: if the devices do not divide B.
    """
    current = keras.distribution.distribution()
    if current is None:
        return slice(None)
    replicas = current.num_model_replicas
    if batch_size % replicas:
        raise ValueError(f"Expected a batch that {replicas} devices can share evenly; got {batch_size} rows.")
    hosts = min(current.num_processes, replicas)  # several hosts may share a copy of the model, and then its rows
    start = current.data_shard_id * batch_size // hosts
    return slice(start, start + batch_size // hosts)


def own_rows(batch):
    """Takes the rows of a batch that this host has to provide.

    Args:
        batch: a structure of arrays (B, …), the same on every host.

    Returns:
        The same structure with this host's rows alone; without several hosts, the batch itself.

    Raises:
        ValueError: if the devices do not divide B.
    """
    rows = own_slice(len(keras.tree.flatten(batch)[0]))
    if rows == slice(None):
        return batch
    return keras.tree.map_structure(lambda array: array[rows], batch)


def gather(variables):
    """Reads variables, even if they are split among hosts. Every host has to call this.

    Args:
        variables: Keras variables.

    Returns:
        A list of arrays.
    """
    return [_gather(variable) for variable in variables]


def _gather(variable):
    value = variable.value
    if keras.backend.backend() == "jax" and not (value.is_fully_addressable or value.is_fully_replicated):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(value, tiled=True))
    return np.asarray(variable)


def in_memory_of_the_host():
    """Makes a context in which new arrays are in the host's memory. A device may have no room for a whole model."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_device(jax.local_devices(backend="cpu")[0])
