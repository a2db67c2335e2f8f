"""Our own format, `config.json` and `model.safetensors`, for models that no other library's format can express."""

import dataclasses
import typing

from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.format import Format, Tensor, check_model_type


class NativeFormat(Format):
    """The entries of `config.json` are the fields of our config, and tensors have the names of our variables' paths.

    Args:
        model_type: name of the model in `config.json`.
        config_class: dataclass of the model's config.
    """

    layout = "native"

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
            ValueError: if there is no config, it belongs to a different kind of model, it lacks a field, or it has an
                unknown entry.
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
            fields: fields of the config.

        Returns:
            A dict from the paths of our variables to arrays.

        Raises:
            ValueError: if a file is missing, broken or pickled.
        """
        return read_tensors(folder)

    def rows(self, fields, model):
        """Makes a row for every weight of a model.

        Args:
            fields: fields of the config.
            model: a built backbone, or a task model with one.

        Returns:
            A list of rows.

        Raises:
            ValueError: if two weights have the same path, or the model has low-rank adapters.
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
            raise ValueError("Expected layers with different names; two weights have the same path.")
        return rows

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: the model to save.
            fields: fields of the config.

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
    """Returns a weight's path below its owner, without the layers that the owner was built in."""
    steps = weight.path.split("/")
    return "/".join(steps[steps.index(owner.name) + 1 :])
