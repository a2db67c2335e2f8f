"""Sentence encoders in the layout of Sentence Transformers: the files beside the encoder that say how it pools.

`modules.json` lists the steps from a text to its vector: an encoder, a pooling, and often a normalisation. Each step
has a folder with a config of its own, and `sentence_bert_config.json` holds the length to which texts are cut.
"""

import pathlib

from course_lib.checkpoints.files import read_json, write_json

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max", "pooling_mode_cls_token": "first",
             "pooling_mode_lasttoken": "last"}  # fmt: skip


def arguments(folder):
    """Reads how a folder's encoder pools, whether it normalises, and where it cuts.

    Args:
        folder: path of the folder. Without a `modules.json` it implies nothing.

    Returns:
        The arguments `pooling`, `normalize` and `max_length` of a `SentenceEncoder`, those that the folder implies.

    Raises:
        ValueError: if the folder asks for a step or for a pooling that we do not compute.
    """
    folder = pathlib.Path(folder)
    if not (folder / "modules.json").is_file():
        return {}
    steps = {step["type"].rpartition(".")[2]: step.get("path", "") for step in read_json(folder / "modules.json", list)}
    if wrong := sorted(steps.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise ValueError(f"Expected Transformer, Pooling and Normalize in {folder / 'modules.json'}; got {wrong}.")
    found = {"normalize": "Normalize" in steps}
    if "Pooling" in steps:
        path = folder / steps["Pooling"] / "config.json"
        config = read_json(path)
        modes = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
        if "pooling_mode" in config:
            modes = [{"cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}.get(
                config["pooling_mode"], f"pooling_mode_{config['pooling_mode']}_tokens")]  # fmt: skip
        if len(modes) != 1 or modes[0] not in _POOLINGS:
            raise ValueError(f"Expected one pooling of {sorted(_POOLINGS)} in {path}; got {modes}.")
        if config.get("include_prompt", True) is not True:
            raise ValueError(f"Expected include_prompt to be true in {path}; got {config['include_prompt']}.")
        found["pooling"] = _POOLINGS[modes[0]]
    path = folder / "sentence_bert_config.json"
    settings = read_json(path) if path.is_file() else {}
    if settings.get("do_lower_case"):
        raise ValueError(f"Expected do_lower_case to be false in {path}, since the tokenizer decides; got true.")
    if settings.get("max_seq_length") is not None:
        found["max_length"] = settings["max_seq_length"]
    return found


def files(pooling, normalize, max_length, hidden_dim):
    """Makes the files that describe a `SentenceEncoder`.

    Args:
        pooling: "mean", "max", "first" or "last".
        normalize: whether vectors have unit length.
        max_length: highest number of tokens of a text, or None.
        hidden_dim: D.

    Returns:
        A dict from paths to what JSON can hold.

    Raises:
        ValueError: if Sentence Transformers has no such pooling.
    """
    if pooling not in _POOLINGS.values():
        raise ValueError(f"Expected a pooling of {sorted(_POOLINGS.values())}, those of that layout; got {pooling!r}.")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][: 3 if normalize else 2]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    modes = {name: name == next(n for n, ours in _POOLINGS.items() if ours == pooling) for name in _POOLINGS}
    return {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": hidden_dim, **modes},
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
    }


def write(folder, contents):
    """Writes JSON files into a folder.

    Args:
        folder: path of the folder.
        contents: a dict from paths to what JSON can hold.
    """
    for name, content in contents.items():
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
