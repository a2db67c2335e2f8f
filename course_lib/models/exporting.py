"""Export of models whose inputs have several axes of unknown length.

Shapes: B batch, T length, S length of the sources of a translator.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

_PROGRAM = """
import sys
import course_lib, keras
path, filepath, format = sys.argv[1:]
keras.saving.load_model(path, compile=False).export(filepath, format, verbose=False)
"""


def specs_of(names):
    """Describes the inputs of an exported model: int32 arrays of any batch size and any length.

    Args:
        names: of the inputs.

    Returns:
        A dict of `keras.InputSpec`.
    """
    return {name: keras.InputSpec(shape=(None, None), dtype="int32", name=name) for name in names}


def shapes_for_jax(names):
    """Names the axes of the inputs for JAX, so that inputs of one length are known to have one length.

    Without it, Keras would give each input an axis of its own, and token ids and masks would no longer fit together.

    Args:
        names: of the inputs.

    Returns:
        A dict of strings, as `jax2tf.convert` takes them.
    """
    return {name: "(batch, source)" if name.startswith("encoder_") else "(batch, length)" for name in names}


def export_by_tensorflow(model, filepath, format):
    """Exports a model from a process that runs TensorFlow, where the backend of this one cannot.

    Args:
        model: a built model, of a class that Keras can load.
        filepath: path of the file.
        format: "onnx" or "litert".

    Raises:
        RuntimeError: if that process fails. It quotes the last line of its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM, path, filepath, format],
            env=os.environ | {"KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
        )
    if run.returncode:
        error = [line for line in run.stderr.splitlines() if line.strip()][-1:]
        raise RuntimeError(f"Expected TensorFlow to export the model to {format}; it failed: {' '.join(error)}")


@functools.cache
def teach_tf2onnx():
    """Teaches tf2onnx the operation Erfc, which TensorFlow uses for the exact GELU: erfc(x) = 1 - erf(x).

    Raises:
        ImportError: if tf2onnx is not installed.
    """
    try:
        from tf2onnx import utils
        from tf2onnx.handler import tf_op
    except ImportError as error:
        raise ImportError("Export to ONNX needs tf2onnx: pip install 'course_lib[onnx]', or tf2onnx") from error

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, context, node, **kwargs):
            name, inputs, outputs = node.name, node.input, node.output
            types = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
            context.remove_node(name)
            erf = context.make_node("Erf", inputs, **types)
            one = np.array(1, utils.map_onnx_to_numpy_type(types["dtypes"][0]))
            one = context.make_const(utils.make_name("one"), one)
            context.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, **types)
