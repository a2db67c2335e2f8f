"""Checkpoints from which a training run resumes: weights, optimizer, random states and log, in one file."""

import json
import os
import pathlib

import safetensors
import safetensors.numpy

from course_lib.training.distribution import gather
from course_lib.training.hosts import is_first_host


def variables(model):
    """Lists every variable that training changes. Their keys are numbers, since Keras's names differ between processes.

    Args:
        model: a compiled Keras model whose optimizer is built.

    Returns:
        A dict from number to Keras variable: weights, random states, and the optimizer's step and moments.
    """
    state = [*model.variables, *model.optimizer.variables]
    return {f"{index:04d}": variable for index, variable in enumerate(state)}


def save(path, model, recipe, log):
    """Writes a checkpoint. It replaces the previous one only when it is complete.

    It holds whole arrays, however they are split among devices. Of several hosts, all have to call this, and the first
    one writes.

    Args:
        path: path of the file.
        model: a compiled Keras model whose optimizer is built.
        recipe: a string that distinguishes this run from others.
        log: anything that JSON can hold.

    Raises:
        OSError: if the file cannot be written, for example because the disk is full. The previous checkpoint is then
            unchanged.
    """
    path = pathlib.Path(path)
    partial = path.with_suffix(".partial")
    state = variables(model)
    arrays = dict(zip(state, gather(state.values()), strict=True))
    if not is_first_host():
        return
    data = safetensors.numpy.save(arrays, {"recipe": recipe, "log": json.dumps(log)})
    try:
        with open(partial, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        message = f"Expected to write {len(data) / 1e6:.0f} MB to {path}: {error.strerror}."
        message += " The last checkpoint is unchanged; make room and start again." if path.exists() else ""
        raise OSError(error.errno, message) from error


def restore(path, model, recipe):
    """Restores the state of a model and its optimizer that `save` wrote.

    Args:
        path: path of the file.
        model: a model like the one that was saved, compiled, with its optimizer built.
        recipe: the string that `save` was given.

    Returns:
        The log that `save` was given.

    Raises:
        ValueError: if the file is cut short, or belongs to another recipe or another model.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  it is not a dict
    except safetensors.SafetensorError as error:
        raise ValueError(f"Expected a whole checkpoint; {path} is cut short or not a checkpoint: {error}.") from error
    if metadata.get("recipe") != recipe:
        raise ValueError(
            f"Expected a checkpoint of this recipe and corpus; {path} belongs to another. "
            f"Give the run another folder, or remove that file to start again."
        )
    state = variables(model)
    if {name: array.shape for name, array in arrays.items()} != {name: tuple(v.shape) for name, v in state.items()}:
        raise ValueError(f"Expected the {len(state)} variables of this model; {path} holds those of another.")
    for name, variable in state.items():
        variable.assign(arrays[name])
    return json.loads(metadata["log"])
