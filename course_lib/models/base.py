"""What all models share. A `Backbone` turns token ids into vectors; a `Task` owns one, has a head, and takes raw text.

Shapes: B batch, T length, D model width.
"""

import contextlib
import dataclasses
import math
import pathlib
import random

import keras
import numpy as np

from course_lib.checkpoints.presets import resolve_preset
from course_lib.layers.quantization import KeepsQuantization
from course_lib.models.exporting import axes_of, export_onnx_from_jax
from course_lib.models.text_inputs import is_data_set_of_text, labels_of, raw_text, read_data_set
from course_lib.validation import check_ids


class _Pretrained(KeepsQuantization, keras.Model):
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

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """Writes the model for use without Keras, as `keras.Model.export` does.

        The exported model takes int32 ids, unless `input_signature` says otherwise: a dict of `input_names`, each of any
        batch size and any length.

        Args:
            filepath: path of the file, or of the folder for "tf_saved_model".
            format: "tf_saved_model", "onnx" or "litert". See README for what each needs.
            verbose: whether to print where the model went.
            input_signature: as `keras.Model.export` takes it.
            **kwargs: arguments of that format's exporter.

        Raises:
            ValueError: if the backend cannot export to this format.
        """
        self.build()
        if input_signature is None:
            names = getattr(self, "backbone", self).input_names
            specs = {name: keras.InputSpec(shape=(None, None), dtype="int32", name=name) for name in names}
            if keras.backend.backend() == "jax" and format == "onnx":
                return export_onnx_from_jax(self, filepath, names, verbose, **kwargs)
            if keras.backend.backend() == "jax" and format == "tf_saved_model":
                # Keras would give each input a length of its own, and then the inputs no longer fit together.
                shapes = [{name: f"({', '.join(axes_of(name))})" for name in names}]
                kwargs = {"jax2tf_kwargs": {"polymorphic_shapes": shapes}} | kwargs
            input_signature = [specs]
        super().export(filepath, format, verbose=verbose, input_signature=input_signature, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        """Checks the token ids while they are NumPy arrays: in a compiled graph, some devices ignore invalid ids."""
        named = inputs if isinstance(inputs, dict) else {"token_ids": inputs}
        for name, ids in named.items():
            if name.endswith("token_ids") and isinstance(ids, np.ndarray):
                check_ids(ids, getattr(self, "backbone", self).config.vocabulary_size)
        return super().__call__(inputs, *args, **kwargs)


class Backbone(_Pretrained):
    """A model that turns token ids into vectors.

    A subclass has the class attributes `config_class`, a dataclass; `tokenizer_class`; `checkpoint_format`, which reads
    and writes its checkpoints; and `input_names`, what `call` takes. It makes its layers in the constructor and builds
    them in `build_layers`.

    Args:
        config: an instance of `config_class`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = tokenizer_class = checkpoint_format = None
    input_names = ("token_ids", "padding_mask")

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
    predict_hint = ""

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
        """Returns the arguments of `compile` for a model that is trained without having been compiled."""
        raise NotImplementedError(f"Expected an optimizer and a loss for {type(self).__name__}; it has no defaults.")

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

    def compile(self, optimizer=None, loss=None, *, metrics=None, weighted_metrics=None, **kwargs):
        """Sets how to train, as `keras.Model.compile` does. What is left out is as `default_compile` says.

        Args:
            optimizer: a Keras optimizer, or its name.
            loss: a Keras loss. Without one, the default metrics are taken, too, unless others are given.
            metrics: as `keras.Model.compile` takes them.
            weighted_metrics: as `keras.Model.compile` takes them.
            **kwargs: other arguments of `keras.Model.compile`.
        """
        defaults = {} if optimizer is not None and loss is not None else self.default_compile()
        if loss is None and metrics is None and weighted_metrics is None:
            weighted_metrics = defaults.get("weighted_metrics")
        super().compile(
            defaults["optimizer"] if optimizer is None else optimizer,
            defaults["loss"] if loss is None else loss,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )

    def compile_from_config(self, config):
        """Compiles a loaded model as it was when it was saved. Keras calls this when it loads the model.

        Args:
            config: what `get_compile_config` returned.
        """
        super().compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        *,
        validation_data=None,
        validation_split=0.0,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        **kwargs,
    ):
        """Trains, as `keras.Model.fit` does, on raw text too.

        Args:
            x: raw text, in any container of `course_lib.models.text_inputs.raw_text`, or a `tf.data.Dataset` of strings,
                as `examples` takes it; or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            batch_size: B. Defaults to 32. Batches of raw text hold texts of similar length, and are cut to the longest.
            validation_data: a pair of x and y, a triple with weights, or a data set; or what Keras takes.
            validation_split: fraction of the examples, the last ones, that are held out.
            shuffle: whether each epoch has an order of its own.
            class_weight: for a classifier: a dict from labels to factors of the loss, or "balanced", which makes all
                labels count the same in sum. Defaults to 1 for each.
            sample_weight: a weight per text for the loss, or what Keras takes.
            **kwargs: other arguments of `keras.Model.fit`.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: if every weight is frozen, or `examples` cannot read the texts.
        """
        self._get_ready_to_train()
        raw = self._read(x, y, sample_weight, batch_size)
        if isinstance(validation_data, list | tuple):
            held_out = self._read(*validation_data)
        else:
            held_out = self._read(validation_data)
        if raw and validation_split and validation_data is None:
            raw, held_out = _split(*raw, validation_split)
            validation_split = 0.0
        if held_out:
            validation_data = self._batches(*held_out[:3], batch_size or held_out[3])
        if raw:
            seed = random.randrange(2**32) if shuffle else None  # which `keras.utils.set_random_seed` decides
            x, y = self.training_batches(self._batches(*raw, seed=seed), class_weight), None
            batch_size, shuffle, sample_weight, class_weight = None, False, None, None
        return super().fit(
            x,
            y,
            batch_size,
            validation_data=validation_data,
            validation_split=validation_split,
            shuffle=shuffle,
            class_weight=self.class_weights(y, class_weight),
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(self, x=None, y=None, batch_size=None, *, sample_weight=None, **kwargs):
        """Measures the loss and the metrics, as `keras.Model.evaluate` does, on raw text too.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.
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
        if raw := self._read(x, y, sample_weight, batch_size):
            x, y, batch_size, sample_weight = self._batches(*raw), None, None, None
        return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **kwargs)

    def predict(self, x, batch_size=None, **kwargs):
        """Computes outputs, as `keras.Model.predict` does. A task that answers to raw text overrides this.

        Args:
            x: what Keras takes.
            batch_size: B. Defaults to 32.
            **kwargs: other arguments of `keras.Model.predict`.

        Returns:
            What `keras.Model.predict` returns.

        Raises:
            ValueError: if x is raw text.
        """
        if self._read(x):
            raise ValueError(
                f"Expected arrays, as the tokenizer returns them: {type(self).__name__}.predict returns outputs for each "
                f"token, and texts differ in length.{self.predict_hint}"
            )
        return super().predict(x, batch_size, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, **kwargs):
        """Takes one step, as `keras.Model.train_on_batch` does, on raw text too.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            sample_weight: a weight per text for the loss, or what Keras takes.
            class_weight: as in `fit`.
            **kwargs: other arguments of `keras.Model.train_on_batch`.

        Returns:
            What `keras.Model.train_on_batch` returns.
        """
        self._get_ready_to_train()
        if raw := self._read(x, y, sample_weight):
            batches = self._batches(*raw[:3], batch_size=len(raw[0]))
            (x, y, sample_weight), class_weight = self.training_batches(batches, class_weight)[0], None
        class_weight = self.class_weights(y, class_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        """Measures one batch, as `keras.Model.test_on_batch` does, of raw text too.

        Args:
            x: raw text, as `fit` takes it, or what Keras takes.
            y: its labels, as `examples` takes them, or what Keras takes.
            sample_weight: a weight per text for the loss, or what Keras takes.
            **kwargs: other arguments of `keras.Model.test_on_batch`.

        Returns:
            What `keras.Model.test_on_batch` returns.
        """
        self._get_ready()
        if raw := self._read(x, y, sample_weight):
            x, y, sample_weight = self._batches(*raw[:3], batch_size=len(raw[0]))[0]
        return super().test_on_batch(x, y, sample_weight, **kwargs)

    def training_batches(self, batches, class_weight=None):
        """Prepares batches of raw text for training.

        Args:
            batches: from `examples`.
            class_weight: as in `fit`.

        Returns:
            A `keras.utils.PyDataset`.

        Raises:
            ValueError: if there is a class weight, and this is not a classifier.
        """
        if class_weight is not None:
            raise ValueError(f"Expected no class_weight: {type(self).__name__} has no classes; got {class_weight}.")
        return batches

    def class_weights(self, y, class_weight):
        """Reads the class weights of arrays.

        Args:
            y: labels, an array.
            class_weight: as in `fit`.

        Returns:
            What `keras.Model.fit` takes.
        """
        return class_weight

    def _read(self, x, y=None, sample_weight=None, batch_size=None):
        """Reads raw text with its labels, its weights and the size of a batch. None if x is for Keras to read."""
        if is_data_set_of_text(x):
            if y is not None or sample_weight is not None:
                raise ValueError("Expected a data set that holds the labels and the weights; got some beside it.")
            *columns, size = read_data_set(x)
            return *columns, batch_size or size
        texts = raw_text(x)
        if texts is None:
            return None
        return [texts] if isinstance(texts, str) else texts, labels_of(y), sample_weight, batch_size

    def _batches(self, x, y=None, *args, **kwargs):
        if self.needs_labels and y is None:
            raise ValueError("Expected a label for each text; got none.")
        return self.examples(x, y, *args, **kwargs)

    def _get_ready(self):
        self.build()
        if not self.compiled:
            self.compile()

    def _get_ready_to_train(self):
        self._get_ready()
        if not self.trainable_weights:
            raise ValueError("Expected a model with something to learn; every weight is frozen (trainable is False).")
        if not self.optimizer.built:
            with self._strategy_scope():
                self.optimizer.build(self.trainable_variables)  # within `fit`, TensorFlow would trace the step twice

    def _strategy_scope(self):
        strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's models have one
        return strategy.scope() if strategy else contextlib.nullcontext()

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


def _split(x, y, sample_weight, batch_size, fraction):
    """Holds out the last examples, as `keras.Model.fit` does."""
    start = math.floor(len(x) * (1 - fraction))
    if not 0 < start < len(x):
        raise ValueError(
            f"Expected a validation_split that leaves some of {len(x)} texts on both sides; got {fraction}."
        )
    columns = x, y, sample_weight
    return [
        (*(None if column is None else column[part] for column in columns), batch_size)
        for part in (slice(start), slice(start, None))
    ]
