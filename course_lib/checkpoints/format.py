"""What every checkpoint format shares: it reads a folder, gives a model its weights, and writes a folder.

A format is a list of rows. Each row says which variable of our model a tensor of the file belongs to. Formats are
strict: a tensor that is missing, left over or of another shape is an error, and then nothing is loaded.
"""

import dataclasses
import pathlib

import numpy as np

from course_lib.checkpoints.files import write_checkpoint

# Which of our classes loads a folder, by the model_type in its config. Messages name them.
MODEL_CLASSES = {"bert": "Bert", "gpt2": "GPT2", "openai-gpt": "OpenAIGPT", "course-seq2seq": "Seq2Seq"}
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One row of a format: a tensor of the file, and the variable of our model that holds it.

    Args:
        name: name of the tensor in the file of a model with all its heads.
        path: attributes that lead to the variable, such as "encoder.blocks.0.attention.query.kernel".
        transposed: whether the file holds the matrix as (out, in), as PyTorch's linear layers do.
        in_backbone: whether the path starts at the backbone. Otherwise it starts at the task.
        part: (i, n) if the variable is part i of n equal parts of the tensor, cut along its last axis. The rows of the
            n parts follow each other.
    """

    name: str
    path: str
    transposed: bool = False
    in_backbone: bool = True
    part: tuple[int, int] = (0, 1)

    def find(self, model):
        """Finds the variable of this row.

        Args:
            model: a backbone, or a task with one.

        Returns:
            The variable, or None if the model has none at this path.
        """
        found = getattr(model, "backbone", model) if self.in_backbone else model
        for step in self.path.split("."):
            found = found[int(step)] if step.isdigit() else getattr(found, step, None)
            if found is None:
                return None
        return found

    def file_shape(self, variable):
        """Computes the shape that the tensor of the file must have.

        Args:
            variable: of this row.

        Returns:
            A tuple.
        """
        *rest, last = reversed(variable.shape) if self.transposed else variable.shape
        return (*rest, last * self.part[1])

    def from_file(self, array):
        """Computes the value of the variable.

        Args:
            array: the tensor of the file, in `file_shape`.

        Returns:
            An array in the variable's shape.
        """
        array = np.split(array, self.part[1], axis=-1)[self.part[0]] if self.part[1] > 1 else array
        return array.T if self.transposed else array

    def to_file(self, array):
        """Computes the variable's part of the tensor of the file.

        Args:
            array: the value of the variable.

        Returns:
            An array in `file_shape`, but that its last axis has the length of one part.
        """
        return array.T if self.transposed else array


class Format:
    """How one family of models lies in files.

    A subclass names its `model_type` and overrides `read_fields`, `read_tensors` and `rows`. A format that is written,
    and not only read, also overrides `config_of`.
    """

    model_type = None

    def read_fields(self, folder):
        """Reads the config of a folder.

        Args:
            folder: path of the folder, a `pathlib.Path`.

        Returns:
            The fields of our config, a dict.

        Raises:
            ValueError: if there is no config, or it is of another model, or an entry cannot be honoured.
        """
        raise NotImplementedError

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder.

        Args:
            folder: path of the folder, a `pathlib.Path`.
            fields: of our config.

        Returns:
            A dict of arrays by the names that `rows` gives them.

        Raises:
            ValueError: if a file is missing, broken or pickled.
        """
        raise NotImplementedError

    def rows(self, fields, model):
        """Lists the tensors of this format.

        Args:
            fields: of our config.
            model: the model to load or to save. A row may be of a head that it does not have.

        Returns:
            A sequence of `Tensor`.
        """
        raise NotImplementedError

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: the model to save.
            fields: of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if a field has no counterpart in this format.
        """
        raise NotImplementedError

    def fields_from_tensors(self, names):
        """Finds the fields of our config that only the tensors tell.

        Args:
            names: of the tensors of a folder.

        Returns:
            A dict.
        """
        return {}

    def tied_weights(self, fields):
        """Lists the tensors that may be in a file although we keep no second copy of them.

        Args:
            fields: of our config.

        Returns:
            A dict from such a name to the name of the tensor that it must equal, or to None if nothing is computed
            with it.
        """
        return {}

    def is_of_another_task(self, name, model):
        """Tells whether a tensor may be left over, since it belongs to a head that the model does not have.

        Args:
            name: of a tensor that is in no row.
            model: the model to load.

        Returns:
            A boolean.
        """
        return False

    def saved_name(self, name, model):
        """Finds the name under which a tensor is saved.

        Args:
            name: of a row.
            model: the model to save.

        Returns:
            A string, or None if the tensor is not to be saved.
        """
        return name

    def read(self, folder):
        """Reads a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, a dict; and the tensors, a dict of arrays by the names of `rows`.

        Raises:
            ValueError: if a file is missing, broken or pickled, the folder holds another model, or an entry of the
                config cannot be honoured.
        """
        folder = pathlib.Path(folder)
        fields = self.read_fields(folder)
        tensors = self.read_tensors(folder, fields)
        return fields | self.fields_from_tensors(tensors), tensors

    def load(self, tensors, fields, model):
        """Gives a model its weights. If anything is wrong, no weight changes.

        Args:
            tensors: from `read`.
            fields: from `read`.
            model: a built model.

        Raises:
            ValueError: if a tensor is missing, left over, of another shape, or not of floats; if it differs from the
                tensor that it is tied to; or if a weight of the model is in no row. It names each.
        """
        rows, tied, wrong, values, found = self.rows(fields, model), self.tied_weights(fields), [], [], set()
        for row in rows:
            variable, array = row.find(model), tensors.get(row.name)
            if variable is None:
                continue
            found.add(id(variable))
            if array is None:
                wrong.append(f"{row.name} is missing")
            elif array.dtype.kind in "biu":
                wrong.append(f"{row.name} holds {array.dtype}, not floats")
            elif array.shape != row.file_shape(variable):
                wrong.append(f"{row.name} has shape {array.shape}, not {row.file_shape(variable)}")
            else:
                values.append((variable, row.from_file(array)))
        for copy, original in tied.items():
            if copy in tensors and original in tensors and not np.array_equal(tensors[copy], tensors[original]):
                wrong.append(f"{copy} differs from {original}, to which it is tied")
        unknown = tensors.keys() - {row.name for row in rows} - tied.keys()
        wrong += [f"{name} is unused" for name in unknown if not self.is_of_another_task(name, model)]
        wrong += [f"no row of the format is for {each.path}" for each in model.weights if id(each) not in found]
        if wrong:
            raise ValueError(f"Expected a checkpoint for {type(model).__name__}; {_listed(wrong)}.")
        for variable, value in values:
            variable.assign(value)

    def save(self, model, fields, folder, dtype="float32"):
        """Writes `config.json` and `model.safetensors`. If the model has no counterpart here, nothing is written.

        Args:
            model: a built model.
            fields: of our config.
            folder: path of the folder. It is made if need be.
            dtype: of the tensors in the file, a float type by its name.

        Raises:
            ValueError: if the model is quantised, a field of its config has no counterpart in this format, or the dtype
                is no float.
        """
        if str(dtype) not in FLOATS:
            raise ValueError(f"Expected the dtype of the file to be one of {', '.join(FLOATS)}; got {dtype!r}.")
        config, parts, wrong = self.config_of(model, fields), {}, []
        for row in self.rows(fields, model):
            variable, name = row.find(model), self.saved_name(row.name, model)
            if variable is None or name is None:
                continue
            array = np.asarray(variable)
            if array.dtype.kind in "biu":
                wrong.append(f"{row.path} holds {array.dtype}")
            parts.setdefault(name, []).append(row.to_file(array))
        if wrong:
            raise ValueError(f"Expected floats; {_listed(wrong)}. Save before you quantize.")
        tensors = {name: np.ascontiguousarray(np.concatenate(arrays, -1), dtype) for name, arrays in parts.items()}
        write_checkpoint(folder, config, tensors)


def check_model_type(found, expected, path):
    """Checks that a config is of the model that is to be loaded.

    Args:
        found: the `model_type` that the config names.
        expected: the `model_type` of the format.
        path: of the config.

    Raises:
        ValueError: if they differ. It names the class that loads such a folder, where there is one.
    """
    if found != expected:
        hint = f" Load it with {MODEL_CLASSES[found]} or one of its tasks." if found in [*MODEL_CLASSES] else ""
        raise ValueError(f"Expected model_type {expected!r} in {path}; got {found!r}.{hint}")


def _listed(wrong, most=20):
    wrong = sorted({*wrong})
    return "; ".join(wrong[:most]) + (f"; and {len(wrong) - most} more" if len(wrong) > most else "")
