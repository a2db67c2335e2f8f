"""Base class of all checkpoint formats: reads a folder, loads weights into a model, and writes a folder.

A format is a list of rows. Each row says which variable of our model a tensor of the file belongs to. Formats are
strict: if a tensor is missing, left over or of the wrong shape, that is an error and nothing is loaded. A tensor may
only be left over if it belongs to a head that the model does not have.
"""

import dataclasses
import pathlib

import numpy as np

from course_lib.checkpoints.files import complete_files, write_checkpoint

# model_type in a config → our class that loads such a folder, named in error messages
MODEL_CLASSES = {
    "bert": "Bert",
    "gpt2": "GPT2",
    "llama": "Llama",
    "openai-gpt": "OpenAIGPT",
    "roberta": "Bert",
    "course-seq2seq": "Seq2Seq",
}
# model_type of an encoder that looks like a BERT → its class in transformers, and what it computes differently
OTHER_MODELS = {
    "distilbert": ("DistilBertModel", "DistilBERT has no segments, no pooler and another head"),
    "mpnet": ("MPNetModel", "MPNet adds relative positions to the attention scores"),
    "deberta": ("DebertaModel", "DeBERTa attends to contents and positions separately"),
    "deberta-v2": ("DebertaV2Model", "DeBERTa attends to contents and positions separately"),
    "albert": ("AlbertModel", "ALBERT shares one block among all layers"),
    "electra": ("ElectraModel", "ELECTRA projects its embeddings to another width"),
    "xlm-roberta": ("XLMRobertaModel", "XLM-R has a Unigram tokenizer"),
}
# a file that only one foreign format has → our class that loads such a folder
FOREIGN_FILES = {"bert_config.json": "Bert", "hparams.json": "GPT2", "params_shapes.json": "OpenAIGPT"}
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One row of a format: a tensor of the file and the variable of our model that it belongs to.

    Args:
        name: name of the tensor in the file of a model that has all heads.
        path: path of attributes to the variable, such as "encoder.blocks.0.attention.query.kernel".
        transposed: whether the matrix is (out, in) in the file, as in PyTorch's linear layers.
        in_backbone: whether the path starts at the backbone. If not, it starts at the task model.
        part: (i, n) if the tensor is cut into n equal parts along its last axis and the variable is part i. The rows
            for the n parts must follow each other.
    """

    name: str
    path: str
    transposed: bool = False
    in_backbone: bool = True
    part: tuple[int, int] = (0, 1)

    def find(self, model):
        """Finds the variable of this row.

        Args:
            model: a backbone, or a task model with one.

        Returns:
            The variable, or None if the model does not have it.
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
            variable: the variable of this row.

        Returns:
            A tuple.
        """
        *rest, last = reversed(variable.shape) if self.transposed else variable.shape
        return (*rest, last * self.part[1])

    def from_file(self, array):
        """Turns a tensor of the file into the value of the variable.

        Args:
            array: the tensor, of shape `file_shape`.

        Returns:
            An array in the variable's shape.
        """
        array = np.split(array, self.part[1], axis=-1)[self.part[0]] if self.part[1] > 1 else array
        return array.T if self.transposed else array

    def to_file(self, array):
        """Turns the value of the variable into its part of the file's tensor.

        Args:
            array: the value of the variable.

        Returns:
            An array of shape `file_shape`, except that its last axis has the length of one part.
        """
        return array.T if self.transposed else array


class Format:
    """Describes how one family of models is stored in files.

    A subclass sets `model_type` and overrides `read_fields`, `read_tensors` and `rows`. If it can also write the
    format, it overrides `config_of`, too, and, if the files have other names than Hugging Face's, `write` and
    `save_tokenizer`.

    Attributes:
        model_type: name of the model in its configs.
        layout: name by which `save_to_preset` chooses the format, or None if it is only read.
        options: names of arguments of `read_fields` that settle what the files leave open.
        dtypes: names of the dtypes that the files can have.
    """

    model_type = None
    layout = "huggingface"
    options = ()
    dtypes = FLOATS

    def read_fields(self, folder, **options):
        """Reads the config of a folder.

        Args:
            folder: path of the folder, a `pathlib.Path`.
            **options: those that the class names in `options`.

        Returns:
            The fields of our config, a dict.

        Raises:
            ValueError: if there is no config, it belongs to a different kind of model, or an entry is not supported.
        """
        raise NotImplementedError

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder.

        Args:
            folder: path of the folder, a `pathlib.Path`.
            fields: fields of our config.

        Returns:
            A dict from the names that `rows` uses to arrays.

        Raises:
            ValueError: if a file is missing, broken or pickled.
        """
        raise NotImplementedError

    def rows(self, fields, model):
        """Lists the tensors of this format.

        Args:
            fields: fields of our config.
            model: the model to load or to save. There may be rows for heads that it does not have.

        Returns:
            A sequence of `Tensor`.
        """
        raise NotImplementedError

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: the model to save.
            fields: fields of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if the format cannot express the value of a field.
        """
        raise NotImplementedError

    def fields_from_tensors(self, names):
        """Finds the fields of our config that are only visible in the tensors.

        Args:
            names: names of the tensors in a folder.

        Returns:
            A dict of fields.
        """
        return {}

    def tied_weights(self, fields):
        """Lists the tensors that may be in a file although our models do not store them.

        Args:
            fields: fields of our config.

        Returns:
            A dict from the name of each to the name of the tensor that it must equal, or to None if the tensor is not
            used.
        """
        return {}

    def is_of_another_task(self, name, model):
        """Tells whether a tensor may be left over because it belongs to a head that the model does not have.

        Args:
            name: name of a tensor without a row.
            model: the model to load.

        Returns:
            A boolean.
        """
        return False

    def saved_name(self, name, model):
        """Finds the name under which a tensor is saved.

        Args:
            name: name of a row.
            model: the model to save.

        Returns:
            A string, or None if the tensor is not saved.
        """
        return name

    def write(self, folder, config, tensors):
        """Writes the config and the tensors, each file in one step, when it is complete.

        Args:
            folder: path of the folder. It is created if it does not exist.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays.
        """
        write_checkpoint(folder, config, tensors)

    def save_tokenizer(self, tokenizer, folder):
        """Writes the files of a tokenizer.

        Args:
            tokenizer: the tokenizer.
            folder: path of the folder.
        """
        tokenizer.save(folder)

    def read(self, folder, **options):
        """Reads a folder.

        Args:
            folder: path of the folder.
            **options: those that the class names in `options`.

        Returns:
            The fields of our config, a dict; and the tensors, a dict from the names in `rows` to arrays.

        Raises:
            ValueError: if a file is missing, broken or pickled, the folder holds a different kind of model, or an entry
                of the config is not supported.
        """
        folder = pathlib.Path(folder)
        fields = self.read_fields(folder, **options)
        tensors = self.read_tensors(folder, fields)
        return fields | self.fields_from_tensors(tensors), tensors

    def load(self, tensors, fields, model):
        """Loads weights into a model. If anything is wrong, no weight changes.

        Args:
            tensors: from `read`.
            fields: from `read`.
            model: a built model.

        Raises:
            ValueError: if a tensor is missing, left over, of the wrong shape or not of a float type; if it differs from
                the tensor that it is tied to; or if a weight of the model has no row. The message names each.
        """
        rows, tied, wrong, values, found = self.rows(fields, model), self.tied_weights(fields), [], [], set()
        for row in rows:
            variable, array = row.find(model), tensors.get(row.name)
            if variable is None:
                continue
            found.add(id(variable))
            if array is None:
                wrong.append(f"{row.name} is missing")
            elif str(array.dtype) not in FLOATS:
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
        """Writes config and weights. If the format cannot express the model, nothing is written.

        Args:
            model: a built model.
            fields: fields of our config.
            folder: path of the folder. It is created if it does not exist.
            dtype: dtype of the tensors in the file, the name of a float type.

        Raises:
            ValueError: if the model is quantised, or the format cannot express its config or the dtype.
        """
        if str(dtype) not in self.dtypes:
            raise ValueError(f"Expected the dtype of the file to be one of {', '.join(self.dtypes)}; got {dtype!r}.")
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
        self.write(pathlib.Path(folder), config, tensors)


class OriginalFormat(Format):
    """The layout in which a model was first released, before Hugging Face's: it has no `config.json`.

    A subclass overrides `write_files` in place of `write`.

    Attributes:
        config_file: name of a file by which such a folder is known.
    """

    config_file = None

    def is_in(self, folder):
        """Tells whether a folder is in this layout.

        Args:
            folder: path of the folder.

        Returns:
            A boolean.
        """
        return (folder / self.config_file).is_file() and not (folder / "config.json").is_file()

    def write(self, folder, config, tensors):
        """Writes the files. They appear when all of them are complete.

        Args:
            folder: path of the folder. It is created if it does not exist.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays.

        Raises:
            ValueError: if the folder has a `config.json`, which would be read in place of the new files.
        """
        if (folder / "config.json").is_file():
            raise ValueError(f"Expected a folder without a model in Hugging Face's layout; {folder} has a config.json.")
        with complete_files(folder) as partial:
            self.write_files(partial, config, tensors)

    def write_files(self, folder, config, tensors):
        """Writes the files.

        Args:
            folder: path of a temporary folder.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays.
        """
        raise NotImplementedError


def check_fields(fields, fixed, kind):
    """Checks that fields of a config have the only values that a format can express.

    Args:
        fields: fields of our config.
        fixed: dict from names of fields to their values.
        kind: name of the models that the format is for.

    Raises:
        ValueError: if a field has another value. The message names each.
    """
    wrong = [
        f"{name} must be {value!r}, not {fields[name]!r}" for name, value in fixed.items() if fields[name] != value
    ]
    if wrong:
        raise ValueError(f"Expected a config like that of every {kind}; {'; '.join(wrong)}.")


def check_layout(folder, expected):
    """Checks that a folder is not in the layout of another library.

    Args:
        folder: path of the folder.
        expected: name of the config file that the layout has, such as "config.json".

    Raises:
        ValueError: if the folder has no such file, but one that only another layout has. The message names our class
            that loads it.
    """
    found = [name for name in FOREIGN_FILES if (folder / name).is_file()]
    if found and not (folder / expected).is_file():
        raise ValueError(
            f"Expected a file {folder / expected}; got {found[0]}. Load this folder with {FOREIGN_FILES[found[0]]} or "
            f"one of its tasks."
        )


def check_model_type(found, expected, path):
    """Checks that a config belongs to the expected kind of model.

    Args:
        found: the `model_type` in the config.
        expected: the `model_type` of the format.
        path: path of the config.

    Raises:
        ValueError: if they differ. The message names our class that loads such a folder, or a class of `transformers`
            that serves where ours do not.
    """
    if found != expected:
        hint = ""
        if found in [*MODEL_CLASSES]:
            hint = f" Load it with {MODEL_CLASSES[found]} or one of its tasks."
        elif found in [*OTHER_MODELS]:
            library, difference = OTHER_MODELS[found]
            hint = f" {difference}, so none of our classes computes it; transformers has {library} for it."
        raise ValueError(f"Expected model_type {expected!r} in {path}; got {found!r}.{hint}")


def _listed(wrong, most=20):
    wrong = sorted({*wrong})
    return "; ".join(wrong[:most]) + (f"; and {len(wrong) - most} more" if len(wrong) > most else "")
