"""What all models share: loading, saving, building and exporting. A `Backbone` turns token ids into vectors.

Shapes: B batch, T length.
"""

import contextlib
import dataclasses
import pathlib
import warnings

import keras
import numpy as np

from course_lib.checkpoints.presets import resolve_preset
from course_lib.layers.quantization import KeepsQuantization, cheap_garbage_collection
from course_lib.models.exporting import export_by_tensorflow, shapes_for_jax, specs_of, teach_tf2onnx
from course_lib.validation import check_ids


class Pretrained(KeepsQuantization, keras.Model):
    """Loading, saving, building and exporting, for a backbone and for a task."""

    @classmethod
    def from_preset(cls, preset, dtype=None, **kwargs):
        """Loads a model with its weights and its tokenizer.

        Args:
            preset: a name in `data/weights/` or `data/registry.toml`, the path of a folder, or "hf://owner/model" for a
                repository of the Hugging Face hub. What lies in the folder says in which layout it is: Hugging Face's,
                or another that the class reads.
            dtype: dtype or policy of the model, such as "mixed_bfloat16". Defaults to Keras's global policy.
            **kwargs: arguments of a task's constructor, in place of those that the folder implies; and what the layout
                leaves open, such as `gelu` and `lowercase` for Google's files (`course_lib.checkpoints.google_bert`).

        Returns:
            A model of this class.

        Raises:
            ValueError: if there is no such preset, its config asks for something that this class does not compute, a
                tensor is missing, unused or of another shape, or an argument is unknown.
            OSError: if the preset must be downloaded and no source is in reach.
        """
        folder = resolve_preset(preset)
        backbone_class = cls.backbone_class_of(folder)
        checkpoint_format = backbone_class.format_of(folder)
        of_format, of_tokenizer = (
            {name: kwargs.pop(name) for name in names if name in kwargs}
            for names in (checkpoint_format.options, backbone_class.tokenizer_options)
        )
        is_task = not issubclass(cls, Backbone)
        if kwargs and not is_task:
            raise ValueError(
                f"Expected of further arguments only {[*checkpoint_format.options, *backbone_class.tokenizer_options]} "
                f"for {cls.__name__} and the layout of {folder}; got {sorted(kwargs)}."
            )
        fields, tensors = checkpoint_format.read(folder, **of_format)
        config = backbone_class.config_class(**fields)
        tokenizer = backbone_class.tokenizer_class.from_preset(folder, **of_tokenizer)
        model = backbone_class(config, tokenizer, dtype=dtype)
        if is_task:
            model = cls(model, **cls.head_arguments(folder) | kwargs, dtype=dtype)
        model.build()
        checkpoint_format.load(tensors, fields, model)
        return model

    def save_to_preset(self, folder, dtype="float32", layout=None):
        """Writes config, weights and tokenizer, for `from_preset` and for the library whose layout it is.

        Args:
            folder: path of the folder. It is made if need be.
            dtype: of the weights in the file; "float16" halves it.
            layout: "huggingface", the default, for `transformers`; "google" for a BERT, for Google's code; or "openai"
                for a GPT-2 or the first GPT, for OpenAI's.

        Raises:
            ValueError: if the path is that of a file, or the layout has no place for what this model computes.
        """
        folder = pathlib.Path(folder)
        if folder.is_file():
            raise ValueError(f"Expected the path of a folder; {folder} is a file.")
        self.build()
        backbone = getattr(self, "backbone", self)
        checkpoint_format = backbone.format_for(layout)
        checkpoint_format.save(self, dataclasses.asdict(backbone.config), folder, dtype)
        if backbone.tokenizer is not None:
            checkpoint_format.save_tokenizer(backbone.tokenizer, folder)

    def quantize(self, mode=None, config=None, **kwargs):
        """Rounds the weights of dense layers and embeddings, as `keras.Model.quantize` does, but faster.

        Args:
            mode: such as "int8" or "int4".
            config: a `keras.quantizers` config, in place of `mode`.
            **kwargs: other arguments of `keras.Model.quantize`.
        """
        with cheap_garbage_collection(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method")  # norms and the like
            super().quantize(mode, config=config, **kwargs)

    def build(self, input_shape=None):
        """Creates every weight.

        Args:
            input_shape: ignored, since the config says everything.
        """
        if not self.built:
            with self.strategy_scope():
                self.build_layers()
            self.built = True

    def strategy_scope(self):
        """Returns the scope of the `tf.distribute.Strategy` in which the model was made, a context manager."""
        strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's models have one
        return strategy.scope() if strategy else contextlib.nullcontext()

    def summary(self, *args, **kwargs):
        """Prints the layers, as `keras.Model.summary` does, even if the model was never called.

        Args:
            *args: of `keras.Model.summary`.
            **kwargs: of `keras.Model.summary`.
        """
        self.build((None, None))
        super().summary(*args, **kwargs)

    def count_params(self):
        """Returns the number of weights, even if the model was never called."""
        self.build((None, None))
        return super().count_params()

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """Writes the model for use without Keras, as `keras.Model.export` does.

        Unless `input_signature` says otherwise, the exported model takes a dict of int32 arrays (B, T), the backbone's
        `input_names`, of any batch size and length.

        Args:
            filepath: path of the file, or of the folder for "tf_saved_model".
            format: "tf_saved_model"; "onnx", which needs tf2onnx; or "litert". From JAX, the last two are exported by a
                process that runs TensorFlow, with the default `input_signature`.
            verbose: whether to print where the model went.
            input_signature: as `keras.Model.export` takes it.
            **kwargs: arguments of that format's exporter.

        Raises:
            ValueError: if options are given that would not reach that process.
            ImportError: if a package is missing.
            RuntimeError: if TensorFlow cannot export what JAX computes.
        """
        self.build()
        backend, names = keras.backend.backend(), getattr(self, "backbone", self).input_names
        if backend == "tensorflow" and format == "onnx":
            teach_tf2onnx()
        if backend != "tensorflow" and format in ("onnx", "litert"):
            if input_signature is not None or kwargs:
                raise ValueError(
                    f"Expected no input_signature and no options for {format} on {backend}, where TensorFlow exports "
                    f"the model in a process of its own; got some. Export under KERAS_BACKEND=tensorflow to give them."
                )
            return export_by_tensorflow(self, filepath, format)
        if input_signature is None:
            input_signature = [specs_of(names)]
            if backend == "jax":
                kwargs = {"jax2tf_kwargs": {"polymorphic_shapes": [shapes_for_jax(names)]}} | kwargs
        super().export(filepath, format, verbose=verbose, input_signature=input_signature, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        """Checks the token ids while they are NumPy arrays: in a compiled graph, some devices ignore invalid ids."""
        named = inputs if isinstance(inputs, dict) else {"token_ids": inputs}
        for name, ids in named.items():
            if name.endswith("token_ids") and isinstance(ids, np.ndarray):
                check_ids(ids, getattr(self, "backbone", self).config.vocabulary_size)
        return super().__call__(inputs, *args, **kwargs)


class Backbone(Pretrained):
    """A model that turns token ids into vectors.

    A subclass has the class attributes `config_class`, a dataclass; `tokenizer_class`; `tokenizer_options`, what may be
    said to the tokenizer when it is loaded; `checkpoint_format`, which reads and writes its checkpoints;
    `other_formats`, whose `is_in` tells whether a folder has one; and `input_names`, what `call` takes. It makes its
    layers in the constructor and builds them in `build_layers`.

    Args:
        config: an instance of `config_class`.
        tokenizer: the tokenizer whose ids the model reads, or None.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    config_class = tokenizer_class = checkpoint_format = None
    other_formats = tokenizer_options = ()
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

    @classmethod
    def format_of(cls, folder):
        """Returns the format of a preset.

        Args:
            folder: path of the preset.
        """
        return next((other for other in cls.other_formats if other.is_in(folder)), cls.checkpoint_format)

    @classmethod
    def format_for(cls, layout):
        """Returns the format that writes a layout.

        Args:
            layout: name of the layout, or None for the first that the class has.

        Raises:
            ValueError: if the class does not write that layout.
        """
        formats = cls.checkpoint_format, *cls.other_formats
        written = {each.layout: each for each in formats if each.layout is not None}
        if layout not in (None, *written):
            raise ValueError(f"Expected a layout of {[*written]} for {cls.__name__}; got {layout!r}.")
        return cls.checkpoint_format if layout is None else written[layout]

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs, for `summary`.

        Args:
            input_shape: (B, T), or a dict of such shapes by the names of the inputs.
        """
        if isinstance(input_shape, dict):
            input_shape = input_shape[self.input_names[-1]]
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
