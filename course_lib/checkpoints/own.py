"""The course's own layout, for models that no foreign format knows: `config.json` and `model.safetensors`."""

import dataclasses
import json
import pathlib

import numpy as np

from course_lib.checkpoints.files import read_json, read_tensors


class OwnFormat:
    """Config entries are the fields of our config, and tensors have the paths of our variables. Reading is strict.

    Args:
        model_type: what `config.json` calls the model.
        config_class: the dataclass of its config.
    """

    def __init__(self, model_type, config_class):
        self.model_type, self.config_class = model_type, config_class

    def read(self, folder):
        """Reads a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of the config, and a dict of arrays.

        Raises:
            ValueError: if a file is missing or broken, it is of another type of model, or an entry is no field.
        """
        folder = pathlib.Path(folder)
        fields = read_json(folder / "config.json")
        found = fields.pop("model_type", None)
        if found != self.model_type:
            raise ValueError(f"Expected model_type {self.model_type!r} in {folder / 'config.json'}; got {found!r}.")
        known = {field.name for field in dataclasses.fields(self.config_class)}
        if wrong := sorted(fields.keys() ^ known):
            raise ValueError(f"Expected each field once and nothing else in {folder / 'config.json'}; see {wrong}.")
        return fields, read_tensors(folder)

    def load(self, tensors, fields, model):
        """Gives a model its weights; if anything is amiss, none.

        Args:
            tensors: from `read`.
            fields: of the config.
            model: a built model.

        Raises:
            ValueError: if a tensor is missing, unused or of another shape. It names each.
        """
        variables = _by_name(model)
        wrong = [f"{name} is missing" for name in variables.keys() - tensors.keys()]
        wrong += [f"{name} is unused" for name in tensors.keys() - variables.keys()]
        for name in variables.keys() & tensors.keys():
            if tensors[name].shape != tuple(variables[name].shape):
                wrong.append(f"{name} has shape {tensors[name].shape}, not {tuple(variables[name].shape)}")
        if wrong:
            raise ValueError(f"Expected a checkpoint for {type(model).__name__}; {'; '.join(sorted(wrong)[:20])}.")
        for name, variable in variables.items():
            variable.assign(tensors[name])

    def save(self, model, fields, folder, dtype="float32"):
        """Writes `config.json` and `model.safetensors`.

        Args:
            model: a built model.
            fields: of the config.
            folder: path of an existing folder.
            dtype: of the floats in the file.

        Raises:
            ValueError: if the model is quantized.
        """
        from safetensors.numpy import save_file

        arrays = {name: np.asarray(variable) for name, variable in _by_name(model).items()}
        if wrong := sorted(name for name, array in arrays.items() if array.dtype.kind in "biu"):
            raise ValueError(f"Expected floats; {wrong[:5]} have others. Save before you quantize.")
        folder = pathlib.Path(folder)
        save_file({name: array.astype(dtype) for name, array in arrays.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"model_type": self.model_type} | fields, indent=2) + "\n", encoding="utf-8"
        )


def _by_name(model):
    """The weights of a model by their paths, without the name of the model itself; random states are no weights."""
    weights = [*model.trainable_weights, *model.non_trainable_weights]
    return {weight.path.partition("/")[2]: weight for weight in weights}
