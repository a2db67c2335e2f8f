"""A task: a backbone with a head, which takes raw text.

Shapes: B batch, T length.
"""

import math
import random

import keras

from course_lib.models.base import Pretrained
from course_lib.models.text_inputs import is_data_set_of_text, labels_of, raw_text, read_data_set


class Task(Pretrained):
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
        return cls.backbone_class.backbone_class_of(folder)

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
            seed: seed for shuffling; each epoch is shuffled differently. Without one, texts are sorted by length.

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

    def get_compile_config(self):
        """Returns how the model was compiled, and whether its optimizer has a state. Keras calls this when it saves."""
        config = super().get_compile_config()
        return config | {"optimizer_built": self.optimizer.built} if config else config

    def compile_from_config(self, config):
        """Compiles a loaded model as it was when it was saved. Keras calls this when it loads the model.

        Args:
            config: what `get_compile_config` returned.
        """
        config = dict(config)
        is_built = config.pop("optimizer_built", True)
        super().compile(**keras.saving.deserialize_keras_object(config))
        if is_built:
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
            x: raw text, as `examples` takes it, in any container of `course_lib.models.text_inputs.raw_text`, or a
                `tf.data.Dataset` of strings; or what Keras takes.
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
                f"Expected arrays, as the tokenizer returns them, since {type(self).__name__}.predict returns outputs "
                f"per token, and texts differ in length.{self.predict_hint}"
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
            batch, class_weight = self.training_batches(batches, class_weight).whole(), None
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
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
            batch = self._batches(*raw[:3], batch_size=len(raw[0])).whole()
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
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
            with self.strategy_scope():
                self.optimizer.build(self.trainable_variables)  # within `fit`, TensorFlow would trace the step twice

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
