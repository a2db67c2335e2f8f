"""A foreign checkpoint format as tables: of config entries and of tensors, each with its place in our models.

Strict both ways: a config entry is honoured, known to change nothing, or refused; a tensor is used, known to belong to
a head that the model does not have, or refused.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping

import numpy as np

from course_lib.checkpoints.files import read_json, read_tensors


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A row of a table: where a foreign tensor has its place in our model.

    Args:
        name: the foreign name.
        path: attributes from our backbone or task to the variable, such as "encoder.blocks.0.attention.query.kernel".
        transposed: whether the foreign matrix is (out, in), as PyTorch's linear layers store it.
        in_backbone: whether the path starts at the backbone, not at the task that stands on it.
        part: (i, n) where the variable is the i-th of n equal parts of the foreign tensor, cut along its last axis;
            the rows of the n parts follow each other.
    """

    name: str
    path: str
    transposed: bool = False
    in_backbone: bool = True
    part: tuple[int, int] = (0, 1)

    def find(self, model):
        """The variable of this row.

        Args:
            model: a backbone, or a task with one.

        Returns:
            The variable, or None if the model does not have it.
        """
        found = getattr(model, "backbone", model) if self.in_backbone else model
        for step in self.path.split("."):
            found = found[int(step)] if step.isdigit() else getattr(found, step, None)
            if found is None:
                return None
        return found

    def foreign_shape(self, variable):
        """The shape of the foreign tensor.

        Args:
            variable: of this row.

        Returns:
            A tuple.
        """
        *rest, last = reversed(variable.shape) if self.transposed else variable.shape
        return (*rest, last * self.part[1])

    def ours(self, array):
        """The variable's value.

        Args:
            array: the foreign tensor.

        Returns:
            An array in our layout.
        """
        array = np.split(array, self.part[1], axis=-1)[self.part[0]]
        return array.T if self.transposed else array


@dataclasses.dataclass(frozen=True)
class Format:
    """How one family of models is published.

    Args:
        model_type: what its configs call it.
        prefix: what the names of the backbone's tensors begin with in a checkpoint that has heads.
        fields: foreign config entry → (our field, the value where the entry is absent).
        values: our field → {foreign value: our value}, where values have other names here.
        fixed: foreign config entry → the only value that we compute.
        harmless: foreign config entries that do not change what a model computes.
        buffers: regular expression of the names of tensors that are no weights, such as masks, and are not read.
        tensors: from our config's fields to the rows of the table.
        copies: from our config's fields to {a tensor's name: the name of the tensor that it must equal, or None if
            nothing is computed with it}.
        optional: from the names of a checkpoint's tensors to those of our fields that only they tell.
        architecture: from a model to the name of the foreign class with the same weights.
        implied: from our config's fields to {a field: the value that it has in every model of the family}.
        entries: from a model to more entries of its config, those of its head.
        left_out: from a model to the tensors, by what their names begin with, that the foreign class has no use for.
    """

    model_type: str
    prefix: str
    fields: Mapping[str, tuple]
    values: Mapping[str, Mapping]
    fixed: Mapping[str, object]
    harmless: frozenset
    buffers: str
    tensors: Callable
    copies: Callable
    optional: Callable
    architecture: Callable
    implied: Callable = lambda fields: {}
    entries: Callable = lambda model: {}
    left_out: Callable = lambda model: ()

    def read(self, folder):
        """Reads a folder and translates its config.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, and the tensors: a dict of arrays by the names of a checkpoint that has heads.

        Raises:
            ValueError: if a file is missing, broken or pickled, or a config entry cannot be honoured.
        """
        folder = pathlib.Path(folder)
        fields = self._our_fields(read_json(folder / "config.json"), folder / "config.json")
        tensors = {}
        for name, array in read_tensors(folder).items():
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            tensors[name] = array
        known = {row.name for row in self.tensors(fields)} | self.copies(fields).keys()
        if not any(name.startswith(self.prefix) for name in tensors):
            tensors = {name if name in known else self.prefix + name: array for name, array in tensors.items()}
        tensors = {name: array for name, array in tensors.items() if not re.fullmatch(self.buffers, name)}
        return fields | self.optional(tensors), tensors

    def _our_fields(self, config, path):
        known = self.fields.keys() | self.fixed.keys() | self.harmless | {"model_type"}
        if config.get("model_type", self.model_type) != self.model_type:
            raise ValueError(f"Expected model_type {self.model_type!r} in {path}; got {config['model_type']!r}.")
        if unknown := sorted(config.keys() - known):
            raise ValueError(f"Expected only entries whose meaning is known in {path}; got {unknown}.")
        for name, value in self.fixed.items():
            if config.get(name, value) != value:
                raise ValueError(
                    f"Expected {name}={value!r} in {path}, all that this class computes; got {config[name]!r}."
                )
        fields = {}
        for name, (field, default) in self.fields.items():
            value = config.get(name, default)
            if field in self.values:
                if value not in self.values[field]:
                    raise ValueError(
                        f"Expected {name} in {path} to be one of {sorted(self.values[field])}; got {value!r}."
                    )
                value = self.values[field][value]
            fields[field] = value
        return fields | self.implied(fields)

    def load(self, tensors, fields, model):
        """Gives a model its weights; if anything is amiss, none.

        Args:
            tensors: from `read`.
            fields: of our config.
            model: a built model.

        Raises:
            ValueError: if a tensor is missing, unused, of another shape, or an unequal copy. It names each.
        """
        copies, rows, wrong, found = self.copies(fields), self.tensors(fields), [], []
        for row in rows:
            variable, array = row.find(model), tensors.get(row.name)
            if variable is None:
                continue
            if array is None:
                wrong.append(f"{row.name} is missing")
                continue
            if array.dtype.kind in "biu":
                wrong.append(f"{row.name} holds {array.dtype}, not floats")
            if array.shape != row.foreign_shape(variable):
                wrong.append(f"{row.name} has shape {array.shape}, not {row.foreign_shape(variable)}")
            else:
                found.append((variable, row.ours(array)))
        for copy, original in copies.items():
            if copy in tensors and original in tensors and not np.array_equal(tensors[copy], tensors[original]):
                wrong.append(f"{copy} differs from {original}, to which it is tied")
        wrong += [f"{name} is unused" for name in tensors.keys() - {row.name for row in rows} - copies.keys()]
        if wrong:
            raise ValueError(f"Expected a checkpoint for {type(model).__name__}; {'; '.join(sorted({*wrong})[:20])}.")
        for variable, array in found:
            variable.assign(array)

    def save(self, model, fields, folder, dtype="float32"):
        """Writes `config.json` and `model.safetensors`.

        Args:
            model: a built model.
            fields: of our config.
            folder: path of an existing folder.
            dtype: of the floats in the file.

        Raises:
            ValueError: if the model is quantized, or its config has no counterpart there.
        """
        from safetensors.numpy import save_file

        folder = pathlib.Path(folder)
        config = {"architectures": [self.architecture(model)], "model_type": self.model_type} | dict(self.fixed)
        for name, (field, _) in self.fields.items():
            value = fields[field]
            theirs = [foreign for foreign, ours in self.values.get(field, {}).items() if ours == value]
            if field in self.values and not theirs:
                known = sorted(set(self.values[field].values()))
                raise ValueError(f"Expected {field} to be one of {known}, which have a name there; got {value!r}.")
            config[name] = theirs[0] if theirs else value
        config |= self.entries(model)
        tensors = {}
        for row in self.tensors(fields):
            if (variable := row.find(model)) is not None and not row.name.startswith(self.left_out(model)):
                array = np.asarray(variable)
                if array.dtype.kind in "biu":
                    raise ValueError(f"Expected floats in {row.path}; got {array.dtype}. Save before you quantize.")
                name = row.name if hasattr(model, "backbone") else row.name.removeprefix(self.prefix)
                tensors.setdefault(name, []).append(array.T if row.transposed else array)
        tensors = {name: np.ascontiguousarray(np.concatenate(parts, -1), dtype) for name, parts in tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)  # of shards that were there before
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class Formats:
    """Several formats of one class of models. To read, `model_type` says which it is; to write, the implied fields.

    Args:
        *formats: each a `Format`.
    """

    def __init__(self, *formats):
        self.formats = formats

    def read(self, folder):
        """Reads a folder, as `Format.read` does.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, and the tensors.

        Raises:
            ValueError: if the folder holds another type of model, or for any reason that `Format.read` has.
        """
        path = pathlib.Path(folder) / "config.json"
        by_type = {each.model_type: each for each in self.formats}
        model_type = read_json(path).get("model_type", self.formats[0].model_type)
        if model_type not in by_type:
            raise ValueError(f"Expected model_type {' or '.join(map(repr, by_type))} in {path}; got {model_type!r}.")
        return by_type[model_type].read(folder)

    def load(self, tensors, fields, model):
        """Gives a model its weights, as `Format.load` does.

        Args:
            tensors: from `read`.
            fields: of our config.
            model: a built model.

        Raises:
            ValueError: for any reason that `Format.load` has.
        """
        self._of(fields).load(tensors, fields, model)

    def save(self, model, fields, folder, dtype="float32"):
        """Writes a folder, as `Format.save` does.

        Args:
            model: a built model.
            fields: of our config.
            folder: path of an existing folder.
            dtype: of the floats in the file.

        Raises:
            ValueError: if no format has such a config, or for any reason that `Format.save` has.
        """
        self._of(fields).save(model, fields, folder, dtype)

    def _of(self, fields):
        implied = {each.model_type: each.implied(fields) for each in self.formats}
        for each in self.formats:
            if implied[each.model_type].items() <= fields.items():
                return each
        got = {name: fields[name] for name in {name: None for values in implied.values() for name in values}}
        raise ValueError(f"Expected a config with what one of these formats implies: {implied}; got {got}.")
