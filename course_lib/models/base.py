"""What all models share. A `Backbone` turns token ids into vectors; a `Task` owns one, has a head, and takes raw text.

Shapes: B batch, T length, D model width.
"""

import dataclasses
import pathlib
import random

import keras
import numpy as np

from course_lib.checkpoints.presets import resolve_preset
from course_lib.models.text_inputs import is_raw_text
from course_lib.validation import check_ids


class _Pretrained(keras.Model):
    """Loading, saving and building, for a backbone and for a task."""

    @classmethod
    def from_preset(cls, preset, dtype=None, **kwargs):
        """Loads a model with its weights and its tokenizer.

        Args:
            preset: a name in `data/weights/` or `data/registry.toml`, the path of a folder in Hugging Face's layout, or
                "hf://owner/model" for a repository of the Hugging Face hub.
            dtype: dtype or policy of the model, such as "mixed_bfloat16". Defaults to Keras's global policy.
            **kwargs: arguments of a task's constructor, in place of those that the folder implies.

        Returns:
            A model of this class.

        Raises:
            ValueError: if there is no such preset, its config asks for something that this class does not compute, or
                a tensor is missing, unused or of another shape.
            OSError: if the preset must be downloaded and no source is in reach.
        """
        folder = resolve_preset(preset)
        backbone_class = cls.backbone_class_of(folder)
        fields, tensors = backbone_class.checkpoint_format.read(folder)
        config = backbone_class.config_class(**fields)
        model = backbone_class(config, backbone_class.tokenizer_class.from_preset(folder), dtype=dtype)
        if cls is not backbone_class:
            model = cls(model, **cls.head_arguments(folder) | kwargs, dtype=dtype)
        model.build()
        backbone_class.checkpoint_format.load(tensors, fields, model)
        return model

    def save_to_preset(self, folder, dtype="float32"):
        """Writes config, weights and tokenizer in Hugging Face's layout, for `from_preset` and for `transformers`.

        Args:
            folder: path of the folder. It is made if need be.
            dtype: of the weights in the file; "float16" halves it.

        Raises:
            ValueError: if the path is that of a file, or the layout has no place for what this model computes.
        """
        folder = pathlib.Path(folder)
        if folder.is_file():
            raise ValueError(f"Expected the path of a folder; {folder} is a file.")
        self.build()
        backbone = getattr(self, "backbone", self)
        backbone.checkpoint_format.save(self, dataclasses.asdict(backbone.config), folder, dtype)
        if backbone.tokenizer is not None:
            backbone.tokenizer.save(folder)

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: ignored, since the config says everything.
        """
        if not self.built:
            self.build_layers()
            self.built = True

    def summary(self, *args, **kwargs):
        """Prints the layers, as `keras.Model.summary` does, of a model that was never called too.

        Args:
            *args: of `keras.Model.summary`.
            **kwargs: of `keras.Model.summary`.
        """
        self.build((None, None))
        super().summary(*args, **kwargs)

    def count_params(self):
        """Returns the number of weights, of a model that was never called too."""
        self.build((None, None))
        return super().count_params()

    def __call__(self, inputs, *args, **kwargs):
        """Checks the token ids while they are NumPy arrays: later only some devices would notice a wrong one."""
        named = inputs if isinstance(inputs, dict) else {"token_ids": inputs}
        for name, ids in named.items():
            if name.endswith("token_ids") and isinstance(ids, np.ndarray):
                check_ids(ids, getattr(self, "backbone", self).config.vocabulary_size)
        return super().__call__(inputs, *args, **kwargs)


class Backbone(_Pretrained):
    """A model that turns token ids into vectors.

    A subclass has the class attributes `config_class`, a dataclass; `tokenizer_class`; and `checkpoint_format`, which
    reads and writes its checkpoints. It makes its layers in the constructor and builds them in `build_layers`.

    Args:
        config: an instance of `config_class`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = tokenizer_class = checkpoint_format = None

    def __init__(self, config, tokenizer=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.tokenizer = tokenizer

    @classmethod
    def backbone_class_of(cls, folder):
        """Returns this class: a backbone is its own backbone.

        Args:
            folder: path of a preset.
        """
        return cls

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs, for `summary`.

        Args:
            input_shape: (B, T).
        """
        return {"sequence_output": (*input_shape, self.config.hidden_dim)}

    def compute_output_spec(self, *args, **kwargs):
        """Finds the outputs by tracing `call`, since options add some that `compute_output_shape` does not name.

        Args:
            *args: of `call`.
            **kwargs: of `call`.

        Returns:
            Keras tensors.
        """
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def get_config(self):
        """Returns the constructor's arguments, but for the tokenizer, which is an asset."""
        return super().get_config() | {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        """Makes the model that a config describes.

        Args:
            config: what `get_config` returned.

        Returns:
            A new model.
        """
        return cls(**config | {"config": cls.config_class(**config["config"])})

    def load_own_variables(self, store):
        """Finds the blocks in files of version 0.1, which had other names. Keras calls this when it loads the model.

        Args:
            store: what Keras reads the weights from, those of the layers too.
        """
        get = store.get

        def get_by_either_name(path):
            others = [path.replace("transformer_block", name) for name in ("encoder_block", "decoder_block")]
            return get(next((other for other in others if store.has_path(other)), path))

        store.get = get_by_either_name
        super().load_own_variables(store)

    def save_assets(self, folder):
        """Writes the tokenizer into a `.keras` file. Keras calls this when it saves the model.

        Args:
            folder: path of a folder in that file.
        """
        if self.tokenizer is not None:
            self.tokenizer.save(folder)

    def load_assets(self, folder):
        """Reads the tokenizer from a `.keras` file. Keras calls this when it loads the model.

        Args:
            folder: path of the folder that `save_assets` wrote to.
        """
        if any(pathlib.Path(folder).iterdir()):
            self.tokenizer = self.tokenizer_class.from_preset(folder)


class Task(_Pretrained):
    """A backbone with a head. It takes what the backbone takes, and raw text.

    A subclass has the class attribute `backbone_class`. It says how raw text becomes batches (`examples`), and with
    which loss and optimizer it trains unless `compile` says otherwise (`default_compile`).

    Args:
        backbone: a `Backbone`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    backbone_class = None
    needs_labels = False

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone

    @property
    def config(self):
        """The backbone's config."""
        return self.backbone.config

    @property
    def tokenizer(self):
        """The backbone's tokenizer, or None."""
        return self.backbone.tokenizer

    def check_tokenizer(self):
        """Checks that the model can read raw text.

        Raises:
            ValueError: if it has no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("Expected a model with a tokenizer, to read raw text; this one has none.")

    @classmethod
    def backbone_class_of(cls, folder):
        """Returns the class of the backbone that a preset holds.

        Args:
            folder: path of the preset.
        """
        return cls.backbone_class

    @classmethod
    def head_arguments(cls, folder):
        """Returns the constructor's arguments, beside the backbone, that a preset implies.

        Args:
            folder: path of the preset.
        """
        return {}

    def default_compile(self):
        """Returns the arguments with which `compile` is called if nobody has called it when training begins."""
        raise NotImplementedError(f"Expected {type(self).__name__} to be compiled before it is trained.")

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns raw text into batches.

        Args:
            x: raw text.
            y: a label per text, or None.
            sample_weight: a weight per text for the loss, or None.
            batch_size: B. Defaults to 32.
            seed: of the order, which differs from epoch to epoch. Without one, texts are in the order of their lengths.

        Returns:
            A `keras.utils.PyDataset`.
        """
        raise NotImplementedError(f"Expected arrays: {type(self).__name__} does not train on raw text.")

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        *,
        validation_data=None,
        shuffle=True,
        sample_weight=None,
        **kwargs,
    ):
        """Trains, as `keras.Model.fit` does, on raw text too.

        Args:
            x: raw text, as `examples` takes it, or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            batch_size: B. Defaults to 32. Batches of raw text hold texts of similar length, and are cut to the longest.
            validation_data: a pair of x and y, or a triple with weights; or what Keras takes.
            shuffle: whether the order differs from epoch to epoch.
            sample_weight: a weight per text for the loss, or what Keras takes.
            **kwargs: other arguments of `keras.Model.fit`.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: if every weight is frozen, or `examples` cannot read the texts.
        """
        self._get_ready()
        if not self.trainable_weights:
            raise ValueError("Expected a model with something to learn; every weight is frozen (trainable is False).")
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)  # within `fit`, TensorFlow would trace the step twice
        if isinstance(validation_data, list | tuple) and is_raw_text(validation_data[0]):
            validation_data = self._batches(*validation_data, batch_size=batch_size)
        if is_raw_text(x):
            seed = random.randrange(2**32) if shuffle else None  # which `keras.utils.set_random_seed` decides
            x, y = self._batches(x, y, sample_weight, batch_size, seed), None
            batch_size, shuffle, sample_weight = None, False, None
        return super().fit(
            x,
            y,
            batch_size,
            validation_data=validation_data,
            shuffle=shuffle,
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(self, x=None, y=None, batch_size=None, *, sample_weight=None, **kwargs):
        """Measures the loss and the metrics, as `keras.Model.evaluate` does, on raw text too.

        Args:
            x: raw text, as `examples` takes it, or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            batch_size: B. Defaults to 32.
            sample_weight: a weight per text for the loss, or what Keras takes.
            **kwargs: other arguments of `keras.Model.evaluate`.

        Returns:
            What `keras.Model.evaluate` returns.

        Raises:
            ValueError: if `examples` cannot read the texts.
        """
        self._get_ready()
        if is_raw_text(x):
            x, y, batch_size, sample_weight = self._batches(x, y, sample_weight, batch_size), None, None, None
        return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **kwargs)

    def _batches(self, x, y=None, *args, **kwargs):
        if self.needs_labels and y is None:
            raise ValueError("Expected a label for each text; got none.")
        return self.examples(x, y, *args, **kwargs)

    def _get_ready(self):
        self.build()
        if not self.compiled:
            self.compile(**self.default_compile())

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"backbone": keras.saving.serialize_keras_object(self.backbone)}

    @classmethod
    def from_config(cls, config):
        """Makes the model that a config describes.

        Args:
            config: what `get_config` returned.

        Returns:
            A new model.
        """
        return cls(**config | {"backbone": keras.saving.deserialize_keras_object(config["backbone"])})
