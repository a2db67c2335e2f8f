"""Reading what checkpoints consist of: JSON, and tensors in safetensors files. Pickles are refused."""

import json
import pathlib


def read_json(path):
    """Reads a JSON file.

    Args:
        path: of the file.

    Returns:
        What it holds.

    Raises:
        ValueError: if there is no such file, or it is no JSON.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"Expected a file {path}; there is none.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path}; got a broken file: {error}.") from error


def read_tensors(folder):
    """Reads the tensors of a folder, from one safetensors file or from its shards.

    Args:
        folder: path of the folder.

    Returns:
        A dict of arrays by name.

    Raises:
        ValueError: if there is no safetensors file, or it is broken, or a shard is missing.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    shards = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    tensors = {}
    for shard in shards:
        path = folder / shard
        if path.parent != folder:
            raise ValueError(f"Expected shards beside {index}; got {shard!r}.")
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
