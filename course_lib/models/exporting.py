"""Exports models whose inputs have several axes of unknown length.

Shapes: B batch, T length; S length of the sources of a translator.
"""

import numpy as np


def axes_of(name):
    """Names the axes of an input. Inputs that share an axis have the same length there.

    Args:
        name: name of the input.

    Returns:
        Two strings.
    """
    return "batch", "source" if name.startswith("encoder_") else "length"


def export_onnx_from_jax(model, filepath, names, verbose=None, opset_version=None):
    """Writes a model as an ONNX file, from JAX.

    Keras's own exporter gives each input its own length, so token ids and masks would no longer fit together.

    Args:
        model: a built model that takes a dict.
        filepath: path of the file.
        names: names of the inputs, each of which is integers (B, T).
        verbose: whether to print where the model went. Defaults to True.
        opset_version: version of the ONNX operators, an integer.
    """
    import jax
    import jax2onnx

    def predict(*arrays):
        return model(dict(zip(names, arrays, strict=True)), training=False)

    jax2onnx.to_onnx(
        predict,
        inputs=[jax.ShapeDtypeStruct(axes_of(name), np.int32) for name in names],
        input_names=list(names),
        return_mode="file",
        output_path=str(filepath),
        **({} if opset_version is None else {"opset": opset_version}),
    )
    if verbose is not False:
        print(f"Saved artifact at '{filepath}'.")
