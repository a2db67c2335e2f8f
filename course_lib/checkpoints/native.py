"""Our own format, for models that no foreign format has a place for: `config.json` and `model.safetensors`."""

import dataclasses
import typing

from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.format import Format, Tensor, check_model_type


class NativeFormat(Format):
    """Entries of the config are the fields of ours, and tensors are named by the paths of our variables.

    Args:
        model_type: what `config.json` calls the model.
        config_class: the dataclass of its config.
    """

    def __init__(self, model_type, config_class):
        self.model_type = model_type
        self.config_class = config_class

    def read_fields(self, folder):
        """Reads the config of a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of the config, a dict.

        Raises:
            ValueError: if there is no config, or it is of another model, or it lacks a field or has another entry.
        """
        path = folder / "config.json"
        fields = read_json(path)
        check_model_type(fields.pop("model_type", None), self.model_type, path)
        known = {field.name for field in dataclasses.fields(self.config_class)}
        if wrong := sorted(fields.keys() ^ known):
            raise ValueError(f"Expected each field once and nothing else in {path}; see {wrong}.")
        return fields

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder.

        Args:
            folder: path of the folder.
            fields: of the config.

        Returns:
            A dict of arrays by the paths of our variables.

        Raises:
            ValueError: if a file is missing, broken or pickled.
        """
        return read_tensors(folder)

    def rows(self, fields, model):
        """Makes a row for every weight of a model.

        Args:
            fields: of the config.
            model: a built backbone, or a task with one.

        Returns:
            A list of rows.

        Raises:
            ValueError: if two weights have one path, or the model has low-rank adapters.
        """
        backbone = getattr(model, "backbone", model)
        inside = {id(weight) for weight in backbone.weights}
        head = [weight for weight in model.weights if id(weight) not in inside]
        rows = [_Weight(_name(weight, backbone), variable=weight) for weight in backbone.weights]
        rows += [_Weight(_name(weight, model), variable=weight) for weight in head]
        names = [row.name for row in rows]
        if adapters := [name for name in names if "lora_kernel" in name]:
            raise ValueError(f"Expected a model without low-rank adapters, as merge_lora makes it; got {adapters[:5]}.")
        if len({*names}) < len(names):
            raise ValueError("Expected layers of different names; two weights have one path.")
        return rows

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: the model to save.
            fields: of the config.

        Returns:
            A dict.
        """
        return {"model_type": self.model_type} | fields


@dataclasses.dataclass(frozen=True)
class _Weight(Tensor):
    path: str = ""
    variable: typing.Any = None

    def find(self, model):
        return self.variable


def _name(weight, owner):
    """The path of a weight below the layer that owns it, which may itself have been built inside another."""
    steps = weight.path.split("/")
    return "/".join(steps[steps.index(owner.name) + 1 :])
