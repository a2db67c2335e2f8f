"""Base class of the formats in the Hugging Face layout: `config.json` and `model.safetensors`."""

import re

from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.format import Format, Tensor, check_fields, check_layout, check_model_type
from course_lib.checkpoints.huggingface import heads

FIXED = {  # the only values that our models support
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
    "cross_attention_hidden_size": None,
    "quantization_config": None,
    "auto_map": None,  # names custom code in the folder, which may compute something else
}
ACTIVATIONS = {  # name in transformers → our name
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "mish": "mish",
    "linear": "linear",
}


class HuggingFaceFormat(Format):
    """The format of one family of models in `transformers`.

    A subclass sets the attributes below and overrides `tensors`. If the family needs it, it also overrides
    `architecture`, `entries_of`, `family_defaults`, `fields_from_tensors`, `head_config`, `new_name`, `skip_on_save` or
    `tied_weights`.

    Attributes:
        model_type: name of the family in its configs.
        family: prefix of its class names in `transformers`, such as "Bert".
        prefix: prefix of the backbone's tensor names in the file of a model with a head.
        buffers: regular expression for the names of tensors that are not weights, such as masks. They are not read.
        config_table: a `ConfigTable`.
    """

    family = prefix = buffers = config_table = None

    def tensors(self, fields):
        """Lists the tensors of the family, including those of all heads.

        Args:
            fields: fields of our config.

        Returns:
            An iterable of `Tensor`.
        """
        raise NotImplementedError

    def architecture(self, model):
        """Finds the class in `transformers` that computes the same as a model.

        Args:
            model: a backbone or a task model.

        Returns:
            The name of the class, a string.

        Raises:
            ValueError: if `transformers` has no such class.
        """
        return heads.architecture(self.family, model) if heads.is_classifier(model) else f"{self.family}Model"

    def entries_of(self, config, path):
        """Rewrites the entries of a config in the form that the table reads.

        Args:
            config: content of `config.json`.
            path: path of the file, for error messages.

        Returns:
            A dict.
        """
        return config

    def family_defaults(self, fields):
        """Finds the fields of our config that have the same value in every model of the family.

        Args:
            fields: fields of our config.

        Returns:
            A dict.
        """
        return {}

    def head_config(self, model):
        """Makes the entries of the config that describe the head.

        Args:
            model: a backbone or a task model.

        Returns:
            A dict.
        """
        return heads.head_config(model) if heads.is_classifier(model) else {}

    def new_name(self, name):
        """Translates a tensor's name in old files into its present name.

        Args:
            name: name of a tensor.

        Returns:
            A string.
        """
        return name

    def skip_on_save(self, model):
        """Names the tensors that the model's class in `transformers` does not have.

        Args:
            model: a backbone or a task model.

        Returns:
            A tuple of prefixes of their names.
        """
        return ()

    def read_fields(self, folder):
        """Reads the config of a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, a dict, without those that are only visible in the tensors.

        Raises:
            ValueError: if there is no config, it belongs to a different kind of model, or an entry is not supported.
        """
        path = folder / "config.json"
        check_layout(folder, path.name)
        config = read_json(path)
        check_model_type(config.get("model_type", self.model_type), self.model_type, path)
        fields = self.config_table.read(self.entries_of(config, path), path)
        return fields | self.family_defaults(fields)

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder, and renames them as in the file of a model with a head.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of arrays, without buffers.

        Raises:
            ValueError: if a file is missing, broken or pickled, or a tensor occurs under its old and its new name.
        """
        found = read_tensors(folder)
        tensors = {self.new_name(name): array for name, array in found.items()}
        if len(tensors) < len(found):
            twice = sorted(name for name in found if self.new_name(name) in found.keys() - {name})
            raise ValueError(f"Expected each tensor once in {folder}; these have a new and an old name: {twice[:5]}.")
        if not any(name.startswith(self.prefix) for name in tensors):
            known = {row.name for row in self.tensors(fields)} | self.tied_weights(fields).keys()
            tensors = {name if name in known else self.prefix + name: array for name, array in tensors.items()}
        return {name: array for name, array in tensors.items() if not re.fullmatch(self.buffers, name)}

    def is_of_another_task(self, name, model):
        """Tells whether a tensor belongs to a head, and the model only has the weights of a backbone.

        Args:
            name: name of a tensor without a row.
            model: a backbone or a task model.

        Returns:
            A boolean.
        """
        is_headless = len(model.weights) == len(getattr(model, "backbone", model).weights)
        return is_headless and not name.startswith(self.prefix)

    def rows(self, fields, model):
        """Lists the tensors of the family.

        Args:
            fields: fields of our config.
            model: the model to load or to save.

        Returns:
            A tuple of `Tensor`.
        """
        return tuple(self.tensors(fields))

    def saved_name(self, name, model):
        """Finds the name under which a tensor is saved: without the prefix if the model has no head.

        Args:
            name: name of a row.
            model: the model to save.

        Returns:
            A string, or None if the tensor is not saved.
        """
        if name.startswith(self.skip_on_save(model)):
            return None
        return name.removeprefix(self.prefix) if self.architecture(model) == f"{self.family}Model" else name

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: the model to save.
            fields: fields of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if `transformers` cannot express the config or the head of the model.
        """
        check_fields(fields, self.family_defaults(fields), self.family)
        config = {"architectures": [self.architecture(model)], "model_type": self.model_type}
        return config | self.config_table.write(fields) | self.head_config(model)


def linear(name, path, **kwargs):
    """Makes the rows of a linear layer of PyTorch.

    Args:
        name: name of the layer in `transformers`.
        path: path of our dense layer.
        **kwargs: arguments of `Tensor`.

    Yields:
        Two `Tensor`.
    """
    yield Tensor(f"{name}.weight", f"{path}.kernel", transposed=True, **kwargs)
    yield Tensor(f"{name}.bias", f"{path}.bias", **kwargs)


def norm(name, path, **kwargs):
    """Makes the rows of a layer norm.

    Args:
        name: name of the layer in `transformers`.
        path: path of our layer.
        **kwargs: arguments of `Tensor`.

    Yields:
        Two `Tensor`.
    """
    yield Tensor(f"{name}.weight", f"{path}.gamma", **kwargs)
    yield Tensor(f"{name}.bias", f"{path}.beta", **kwargs)
