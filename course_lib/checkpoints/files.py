"""Reads and writes the files of checkpoints: JSON, and tensors in safetensors files. Pickles are refused."""

import json
import os
import pathlib
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
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        config_path, weights_path = (pathlib.Path(partial) / name for name in ("config.json", "model.safetensors"))
        config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, weights_path, metadata={"format": "pt"})  # required by transformers
        shutil.copymode(config_path, weights_path)  # safetensors makes its files readable by the owner only
        os.replace(weights_path, folder / weights_path.name)
        os.replace(config_path, folder / config_path.name)
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)


def _shards(folder):
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    shards = read_json(index).get("weight_map", {}).values()
    if not shards or not all(isinstance(shard, str) and (folder / shard).parent == folder for shard in shards):
        raise ValueError(f"Expected a weight_map to shards beside {index}; got {sorted({*map(str, shards)})}.")
    return sorted(set(shards))
