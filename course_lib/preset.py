"""Loading and saving models together with their tokenizers. The models say which checkpoint format they have."""

import dataclasses
import pathlib

import keras


class Preset:
    """`from_preset`, `save_to_preset` and Keras's own configs, for a backbone or for a task that stands on one.

    A backbone has the class attributes `checkpoint_format`, `config_class` and `tokenizer_class`, and is made by
    `cls(config, tokenizer)`. A task has `checkpoint_format` and `backbone_class`, and is made by `cls(backbone)`.
    """

    @classmethod
    def from_preset(cls, preset, dtype=None, **kwargs):
        """Loads a model with its weights and tokenizer.

        Args:
            preset: a name of `data/weights/` or `data/registry.toml`, the path of a folder in Hugging Face's layout, or
                "hf://owner/model" for a repository of the Hugging Face hub.
            dtype: dtype or policy of the model, such as "mixed_bfloat16"; Keras's global policy if None.
            **kwargs: what a task takes beside its backbone.

        Returns:
            A model of this class.

        Raises:
            ValueError: if there is no such preset, its config asks for something that this class does not compute, or
                a tensor is missing, unused or of another shape.
            OSError: if the preset must be downloaded and no source is in reach.
        """
        folder = locate(preset)
        fields, tensors = cls.checkpoint_format.read(folder)
        backbone_class = getattr(cls, "backbone_class", cls)
        config = backbone_class.config_class(**fields)
        tokenizer = backbone_class.tokenizer_class_of(config).from_preset(folder)
        model = backbone_class(config, tokenizer, dtype=dtype)
        if cls is not backbone_class:
            model = cls(model, dtype=dtype, **kwargs)
        model.build()
        cls.checkpoint_format.load(tensors, fields, model)
        return model

    def save_to_preset(self, folder, dtype="float32"):
        """Writes config, weights and tokenizer in Hugging Face's layout, for `from_preset` and for `transformers`.

        Args:
            folder: path of the folder, which is made if need be.
            dtype: of the weights in the file; "float16" halves it.

        Raises:
            ValueError: if the path is that of a file.
        """
        folder = pathlib.Path(folder)
        if folder.is_file():
            raise ValueError(f"Expected the path of a folder; {folder} is a file.")
        folder.mkdir(parents=True, exist_ok=True)
        backbone = getattr(self, "backbone", self)
        self.build()
        self.checkpoint_format.save(self, dataclasses.asdict(backbone.config), folder, dtype)
        if backbone.tokenizer is not None:
            backbone.tokenizer.save(folder)

    def get_config(self):
        """The arguments of the constructor; the tokenizer is an asset of its own."""
        if hasattr(self, "backbone"):
            return super().get_config() | {"backbone": keras.saving.serialize_keras_object(self.backbone)}
        return super().get_config() | {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        """The model of a config.

        Args:
            config: what `get_config` returned.

        Returns:
            A new model.
        """
        if "backbone" in config:
            return cls(**config | {"backbone": keras.saving.deserialize_keras_object(config["backbone"])})
        return cls(**config | {"config": cls.config_class(**config["config"])})

    def save_assets(self, folder):
        """Called by Keras when it saves the model: the tokenizer goes into the `.keras` file.

        Args:
            folder: path of a folder in that file.
        """
        if getattr(self, "tokenizer", None) is not None:
            self.tokenizer.save(folder)

    def load_assets(self, folder):
        """Called by Keras when it loads the model.

        Args:
            folder: path of the folder that `save_assets` wrote to.
        """
        if hasattr(self, "tokenizer_class") and any(pathlib.Path(folder).iterdir()):
            self.tokenizer = self.tokenizer_class_of(self.config).from_preset(folder)

    @classmethod
    def tokenizer_class_of(cls, config):
        """The class of the tokenizers of this backbone.

        Args:
            config: of the backbone, on which the class may depend.

        Returns:
            `tokenizer_class`.
        """
        return cls.tokenizer_class


def locate(preset):
    """The folder of a preset, downloaded if need be.

    Args:
        preset: a name of `data/weights/` or `data/registry.toml`, the path of a folder, or "hf://owner/model".

    Returns:
        Path of the folder.

    Raises:
        ValueError: if there is no such preset.
        OSError: if it must be downloaded and no source is in reach.
    """
    from course_lib.data import assets  # here, so that `python -m course_lib.data.assets` is not imported twice

    if str(preset).startswith("hf://"):
        return _download(str(preset).removeprefix("hf://"))
    if pathlib.Path(preset).is_dir():
        return pathlib.Path(preset)
    ours = {path.name: path for path in (assets.data_folder() / "weights").glob("*")}
    if str(preset) in ours:
        return ours[str(preset)]
    if str(preset) in assets.names():
        return assets.fetch(str(preset))
    known = sorted([*ours, *assets.names()])
    raise ValueError(f"Expected the path of a folder, hf://owner/model, or one of {known}; got {str(preset)!r}.")


def _download(repository):
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return pathlib.Path(
            snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "vocab.txt", "merges.txt"])
        )
    except LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"Expected a network, or {repository} in the Hugging Face cache; found neither. With a network elsewhere, "
            f"download it there and give from_preset the path of the folder."
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(f"Expected a repository of the Hugging Face hub; got hf://{repository}: {error}.") from error
