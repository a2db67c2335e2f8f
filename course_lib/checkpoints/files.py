"""Reads and writes the files of checkpoints: JSON, and tensors in safetensors files or in checkpoints of TensorFlow 1.

Pickles are refused.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile


def read_json(path, kind=dict):
    """Reads a JSON file.

    Args:
        path: path of the file.
        kind: type that the file must contain, `dict` or `list`.

    Returns:
        The content of the file.

    Raises:
        ValueError: if the file does not exist, is broken, or contains a different type.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"Expected a file {path}; there is none.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path}; got a broken file: {error}.") from error
    if not isinstance(content, kind):
        raise ValueError(f"Expected a {kind.__name__} in {path}; got a {type(content).__name__}.")
    return content


def read_tensors(folder):
    """Reads the tensors of a folder, from `model.safetensors` or from the shards that its index lists.

    Args:
        folder: path of the folder.

    Returns:
        A dict from names to arrays, in the shapes and dtypes of the files.

    Raises:
        ValueError: if there is no safetensors file, a shard is missing, or a file is broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = pathlib.Path(folder)
    tensors = {}
    for shard in _shards(folder):
        path = folder / shard
        if not path.is_file():
            pickled = sorted(file.name for suffix in ("bin", "pt", "ckpt") for file in folder.glob(f"*.{suffix}"))
            hint = f" {pickled} are pickles, which can run any code when loaded, and are not read." if pickled else ""
            raise ValueError(f"Expected the weights in {path}; there is no such file.{hint}")
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"Expected a whole safetensors file {path}; it is broken or cut short: {error}."
            ) from error
    return tensors


def write_checkpoint(folder, config, tensors):
    """Writes `config.json` and `model.safetensors`, and replaces existing ones.

    Each file appears in one step, when it is complete. The index of an older, sharded checkpoint is removed.

    Args:
        folder: path of the folder. It is created if it does not exist.
        config: dict that can be written as JSON.
        tensors: dict from names to contiguous arrays.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    with complete_files(folder) as partial:
        config_path, weights_path = partial / "config.json", partial / "model.safetensors"
        write_json(config_path, config)
        save_file(tensors, weights_path, metadata={"format": "pt"})  # required by transformers
        shutil.copymode(config_path, weights_path)  # safetensors makes its files readable by the owner only
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)


@contextlib.contextmanager
def complete_files(folder):
    """Makes a temporary folder for new files. They replace those in `folder` when all of them are complete.

    Args:
        folder: path of the folder. It is created if it does not exist.

    Yields:
        Path of the temporary folder. If the block raises an error, `folder` keeps its files as they were.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        yield pathlib.Path(partial)
        for path in sorted(pathlib.Path(partial).iterdir()):
            os.replace(path, folder / path.name)


def write_json(path, content):
    """Writes a JSON file.

    Args:
        path: path of the file.
        content: what JSON can hold.
    """
    pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_tensorflow(folder, skip="(?!)"):
    """Reads the tensors of a TensorFlow 1 checkpoint, with TensorFlow's own reader.

    Args:
        folder: path of the folder. It has one file `*.index`, and the data files beside it.
        skip: regular expression for the names of tensors that are not read, such as an optimizer's state.

    Returns:
        A dict from names to arrays, in the shapes and dtypes of the checkpoint.

    Raises:
        ValueError: if there is no checkpoint or more than one, a data file is missing, or a file is broken.
    """
    found = sorted(pathlib.Path(folder).glob("*.index"))
    if len(found) != 1:
        names = [path.name for path in found]
        raise ValueError(f"Expected one TensorFlow checkpoint in {folder}, with one file *.index; got {names}.")
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(found[0].with_suffix("")))
        names = sorted(reader.get_variable_to_shape_map())
        kept = [name for name in names if not re.fullmatch(skip, name)]
        reader.get_tensor(names[-1])  # the last tensor of the file: without it, the file was cut short
        return {name: reader.get_tensor(name) for name in kept}
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError) as error:  # which depends on where it is cut
        raise ValueError(
            f"Expected a whole TensorFlow checkpoint {found[0]}, with the data files beside it; one is missing, broken "
            f"or cut short: {error}."
        ) from error


def write_tensorflow(prefix, tensors):
    """Writes a TensorFlow 1 checkpoint: an index, and one data file.

    Args:
        prefix: path without the endings `.index` and `.data-00000-of-00001`.
        tensors: dict from names to arrays.
    """
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )


def _shards(folder):
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    shards = read_json(index).get("weight_map", {}).values()
    if not shards or not all(isinstance(shard, str) and (folder / shard).parent == folder for shard in shards):
        raise ValueError(f"Expected a weight_map to shards beside {index}; got {sorted({*map(str, shards)})}.")
    return sorted(set(shards))
