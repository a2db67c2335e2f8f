"""Saves and loads low-rank adapters alone, in the layout of the PEFT library (https://huggingface.co/docs/peft).

`adapter_config.json` holds the rank and the scale. `adapter_model.safetensors` holds the adapters, and the head of a
classifier: a few megabytes instead of the hundreds of the whole model.

Shapes: R rank.
"""

import collections
import dataclasses
import json
import os
import pathlib
import re

import numpy as np

from course_lib.checkpoints.files import read_json
from course_lib.checkpoints.huggingface import heads
from course_lib.checkpoints.huggingface.base import HuggingFaceFormat
from course_lib.training.adaptation import freeze_weights, has_adapters

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"}
_IGNORED = {  # entries that change nothing once the tensors are read, or that PEFT reads only in training
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "modules_to_save", "peft_version",
    "qalora_group_size", "revision", "target_modules", "task_type",
}  # fmt: skip


def save_lora(model, folder):
    """Saves the adapters of a model and, for a classifier, the head. `load_lora` and PEFT can read them.

    In `transformers`, GPT-2 has one fused matrix for query, key and value. The adapters of these three are saved as one
    adapter of that matrix. Its rank is the sum of their ranks. Its B is zero where an output of one projection meets a
    rank of another, so it computes the same.

    PEFT puts the head on the classifier of `transformers`, which has only one pooling per family of models (see
    `course_lib.checkpoints.huggingface.heads`). A `TextClassifier` with a different pooling computes something else in
    PEFT.

    Args:
        model: a backbone, a classifier, or a task whose head has no weights of its own.
        folder: path of the folder. It is created if it does not exist.

    Raises:
        ValueError: if the model has no adapters, `transformers` has no counterpart of it, or any weights besides the
            adapters and the classifier's head are trainable. Nothing is written in that case.
    """
    backbone, rows = _rows(model)
    modules = {}
    for row, layer in _dense_rows(rows, model):
        modules.setdefault(row.name.removesuffix(".weight"), []).append((row, layer))
    modules = {name: parts for name, parts in modules.items() if any(layer.lora_enabled for _, layer in parts)}
    head = [row for row in rows if not row.in_backbone and row.find(model) is not None]
    _check_saveable(model, backbone, modules, head)

    tensors, ranks, alphas = {}, {}, {}
    for name, parts in modules.items():
        a, b, scale = _fused(parts)
        name = _name_there(name, model, backbone)
        ranks[name], alphas[name] = len(a), float(scale * len(a))
        tensors |= {f"{_PREFIX}{name}{_A}": a, f"{_PREFIX}{name}{_B}": b}
    tensors |= {_PREFIX + row.name: row.to_file(np.asarray(row.find(model))) for row in head}
    every = [row.name.removesuffix(".weight") for row, _ in _dense_rows(rows, model)]
    is_fused = any(not row.transposed for parts in modules.values() for row, _ in parts)
    config = _config(ranks, alphas, [_name_there(name, model, backbone) for name in every]) | {
        "fan_in_fan_out": is_fused,  # whether matrices in transformers are (in, out)
        "modules_to_save": sorted({row.name.split(".")[0] for row in head}) or None,
        "task_type": _task_type(model),
    }
    _write(pathlib.Path(folder), config, tensors)


def load_lora(model, folder):
    """Loads the adapters in a folder into a model and, for a classifier, the head.

    All other weights of the backbone are frozen, as by `enable_lora`. Compile the model afterwards. PEFT's dropout in
    front of an adapter is ignored.

    An adapter of GPT-2's fused matrix is split into one adapter each for query, key and value. Each keeps only the
    ranks whose part of B is not zero, so the adapters that `save_lora` wrote come back as they were, except that those
    that never learned are dropped.

    Args:
        model: the backbone or task that the adapters were trained on, with the same weights, and without adapters.
        folder: path of a folder that `save_lora` or PEFT wrote.

    Raises:
        ValueError: if a file is missing or broken, its config has an entry that is not supported, a tensor is missing,
            unused or of the wrong shape, or the model already has adapters. The model is unchanged in that case.
    """
    folder = pathlib.Path(folder)
    backbone, rows = _rows(model)
    if has_adapters(backbone):
        raise ValueError("Expected a model without low-rank adapters; this one has them. merge_lora merges them.")
    config = read_json(folder / CONFIG_FILE)
    _check_config(config, folder / CONFIG_FILE)
    tensors = _read(folder / WEIGHTS_FILE, backbone.checkpoint_format.prefix)

    wrong, known = [], {row.name for row in rows if not row.in_backbone}
    adapters = list(_matched_adapters(rows, model, tensors, config, known, wrong))
    values = list(_matched_head(rows, model, tensors, wrong))
    wrong += [f"{name} is unused" for name in sorted(tensors.keys() - known)]
    if wrong or not known & tensors.keys():
        raise ValueError(f"Expected adapters for this {type(model).__name__} in {folder}; {'; '.join(wrong[:10])}.")

    freeze_weights(backbone)
    for layer, a, b, scale in adapters:
        layer.enable_lora(a.shape[1], lora_alpha=scale * a.shape[1])
        values += [(layer.lora_kernel_a, a), (layer.lora_kernel_b, b)]
    for variable, value in values:
        variable.assign(value)


def _matched_adapters(rows, model, tensors, config, known, wrong):
    """Yields each adapted layer with its A, B and scale. Adds names to `known`, and what does not fit to `wrong`."""
    for row, layer in _dense_rows(rows, model):
        name = row.name.removesuffix(".weight")
        a, b = tensors.get(name + _A), tensors.get(name + _B)
        if a is None or b is None:
            continue
        known |= {name + _A, name + _B}
        rank, (width_in, width_out) = _setting(config, "r", "rank_pattern", name), layer.kernel.shape
        if (a.shape, b.shape) != ((rank, width_in), (width_out * row.part[1], rank)):
            wrong.append(f"{name} has shapes {a.shape} and {b.shape}, which are not those of rank {rank}")
            continue
        b = np.split(b, row.part[1])[row.part[0]]
        is_used = np.any(b, axis=0) if row.part[1] > 1 else np.ones(rank, bool)
        if is_used.any():
            yield layer, a[is_used].T, b[:, is_used].T, _scale(config, name, rank)


def _matched_head(rows, model, tensors, wrong):
    """Yields each variable of our head with its value. Adds what does not fit to `wrong`."""
    for row in rows:
        variable, array = row.find(model), tensors.get(row.name)
        if row.in_backbone or variable is None:
            continue
        if array is None:
            wrong.append(f"{row.name} is missing")
        elif array.shape != row.file_shape(variable):
            wrong.append(f"{row.name} has shape {array.shape}, not {row.file_shape(variable)}")
        else:
            yield variable, row.from_file(array)


def _rows(model):
    """Returns the backbone, built, and the rows of its checkpoint format."""
    backbone = getattr(model, "backbone", model)
    model.build()
    if not isinstance(backbone.checkpoint_format, HuggingFaceFormat):
        kind = type(backbone).__name__
        raise ValueError(f"Expected a backbone that transformers has too, such as a Bert or a GPT2; got a {kind}.")
    return backbone, backbone.checkpoint_format.rows(dataclasses.asdict(backbone.config), model)


def _dense_rows(rows, model):
    """Yields each row of the backbone that is a dense kernel, with its layer."""
    for row in rows:
        if row.in_backbone and row.path.endswith(".kernel"):
            layer = dataclasses.replace(row, path=row.path.removesuffix(".kernel")).find(model)
            if layer is not None:
                yield row, layer


def _name_there(name, model, backbone):
    """Finds the name of a module in the class of `transformers`. Without a head, the name has no prefix."""
    if heads.is_classifier(model):  # with any pooling
        return name
    return backbone.checkpoint_format.saved_name(name, model)


def _check_saveable(model, backbone, modules, head):
    if not modules:
        raise ValueError("Expected a model with low-rank adapters, as enable_lora adds them; this one has none.")
    of_backbone = {id(weight) for weight in backbone.weights}
    outside = {id(weight) for weight in model.weights} - of_backbone
    if outside != ({id(row.find(model)) for row in head} if heads.is_classifier(model) else set()):
        raise ValueError(f"Expected a backbone, a language model or a classifier; got a {type(model).__name__}.")
    adapters = {id(w) for parts in modules.values() for _, layer in parts if layer.lora_enabled
                for w in (layer.lora_kernel_a, layer.lora_kernel_b)}  # fmt: skip
    others = [weight.path for weight in backbone.trainable_weights if id(weight) not in adapters]
    if others:
        raise ValueError(f"Expected adapters and a head to be all that learns; these learn too: {others[:5]}.")


def _fused(parts):
    """Joins the adapters of all parts of a fused matrix into one adapter: A (R, in), B (out, R), and its scale."""
    adapted = [(row.part[0], layer) for row, layer in parts if layer.lora_enabled]
    scale = adapted[0][1].lora_alpha / adapted[0][1].lora_rank
    width = parts[0][1].kernel.shape[1]
    a = np.concatenate([np.asarray(layer.lora_kernel_a).T for _, layer in adapted])
    b, start = np.zeros((width * len(parts), len(a)), "float32"), 0
    for place, layer in adapted:
        ours = np.asarray(layer.lora_kernel_b).T * (layer.lora_alpha / layer.lora_rank / scale)
        b[place * width : (place + 1) * width, start : start + layer.lora_rank] = ours
        start += layer.lora_rank
    return np.ascontiguousarray(a), b, scale


def _config(ranks, alphas, every):
    """Makes the entries that describe the adapters. Modules with a different rank or alpha are named in patterns."""
    rank, alpha = (collections.Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    endings = sorted({re.split(r"\.\d+\.", name)[-1] for name in ranks})
    is_exact = {name for name in every if name.endswith(tuple(f".{ending}" for ending in endings))} == ranks.keys()
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: each for name, each in ranks.items() if each != rank},
        "alpha_pattern": {name: each for name, each in alphas.items() if each != alpha},
        "target_modules": endings if is_exact else sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def _task_type(model):
    if heads.is_classifier(model):
        return "SEQ_CLS" if model.names_argument == "classes" else "TOKEN_CLS"
    return "CAUSAL_LM" if hasattr(model, "generate") else "FEATURE_EXTRACTION"


def _write(folder, config, tensors):
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(array, "float32") for name, array in tensors.items()}
    for name, content in {
        WEIGHTS_FILE: save(tensors, {"format": "pt"}),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }.items():
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def _read(path, prefix):
    """Reads tensors, and gives them the names that they have in a model with a head."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ValueError(f"Expected the adapters in {path}; there is no such file.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"Expected a whole safetensors file {path}; it is broken or cut short: {error}.") from error
    names = {name: name.removeprefix(_PREFIX) for name in tensors}
    if not any(name.startswith(prefix) for name in names.values()):
        names = {name: prefix + short if short.endswith((_A, _B)) else short for name, short in names.items()}
    return {names[name]: array for name, array in tensors.items()}


def _check_config(config, path):
    if config.get("peft_type") != "LORA":
        raise ValueError(f"Expected the peft_type LORA in {path}; got {config.get('peft_type')!r}.")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):  # other values change the kernel
        raise ValueError(f"Expected init_lora_weights to be true in {path}; got {config['init_lora_weights']!r}.")
    others = {name: value for name, value in config.items() if name not in _READ | _IGNORED}
    wrong = {name: value for name, value in others.items() if value not in (None, False, "none", {}, [])}
    if wrong:
        raise ValueError(f"Expected plain low-rank adapters in {path}; got {wrong}.")


def _setting(config, name, pattern_name, module):
    """Finds a rank or an alpha. The first pattern that matches the end of the module's name decides, as in PEFT."""
    for pattern, value in (config.get(pattern_name) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return config.get(name, 8)


def _scale(config, module, rank):
    alpha = _setting(config, "lora_alpha", "alpha_pattern", module)
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
