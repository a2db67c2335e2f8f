"""Saves and loads layers and models in which some layers are quantized."""

import contextlib
import gc

import keras


@contextlib.contextmanager
def cheap_garbage_collection():
    """Makes a context in which collecting garbage ignores what exists already.

    Keras collects garbage after each layer that it quantizes. With the 210 dense layers of SmolLM2 that takes twenty
    times as long as the rounding.
    """
    if gc.get_freeze_count():  # somebody else has frozen objects, and unfreezing them is not ours to do
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class KeepsQuantization:
    """Makes a layer or a model remember, when Keras saves it, which of the layers inside it are quantized.

    Keras asks only the outermost layer for its config. It would rebuild the layers inside in full precision, and then
    have no place for the quantized weights. List this class before `keras.layers.Layer` or `keras.Model`.
    """

    def get_build_config(self):
        """Returns what `build_from_config` needs. Keras calls this when it saves."""
        quantized = {
            path: (layer.quantization_mode, keras.saving.serialize_keras_object(layer.quantization_config))
            for path, layer in self._layers_by_path()
            if layer.quantization_mode is not None
        }
        return (super().get_build_config() or {}) | ({"quantized": quantized} if quantized else {})

    def build_from_config(self, config):
        """Creates the weights, including those of quantized layers. Keras calls this when it loads.

        Args:
            config: from `get_build_config`.
        """
        config = dict(config)
        quantized = config.pop("quantized", {})
        super().build_from_config(config)
        with cheap_garbage_collection():
            for path, layer in self._layers_by_path():
                if path in quantized and layer.quantization_mode is None:
                    mode, settings = quantized[path]
                    layer.quantize(mode, config=keras.saving.deserialize_keras_object(settings))

    def _layers_by_path(self):
        """Yields the path of each layer inside, relative to this one, and the layer."""
        for layer in self._flatten_layers(include_self=False):
            if layer.path:
                yield layer.path.removeprefix(f"{self.path or self.name}/"), layer
