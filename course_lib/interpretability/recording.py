"""Looking inside a model: its stacks, the activations of a text, and gradients, on every backend.

Shapes: B batch, T length, D model width.
"""

import keras
import numpy as np
from keras import ops

from course_lib.generation.loop import Compiled
from course_lib.models.text_inputs import as_texts, check_lengths


def backbone_of(model):
    """Returns the backbone of a task, or the backbone itself.

    Args:
        model: a `Backbone` or a `Task`.
    """
    return getattr(model, "backbone", model)


def stack_of(model, stack=None):
    """Finds a stack of Transformer blocks in a model.

    Args:
        model: a `Backbone` or a `Task`.
        stack: "encoder" or "decoder". Defaults to the only one, and to the encoder of a `Seq2Seq`.

    Returns:
        The `TransformerStack`, and what the names of its activations begin with: "" or, in a `Seq2Seq`, "encoder/" or
        "decoder/".

    Raises:
        ValueError: if the model has no such stack.
    """
    backbone = backbone_of(model)
    found = {name: getattr(backbone, name) for name in ("encoder", "decoder") if hasattr(backbone, name)}
    name = next(iter(found)) if stack is None else stack
    if name not in found:
        raise ValueError(f"Expected a stack of {sorted(found)}; got {name!r}.")
    return found[name], f"{name}/" if len(found) > 1 else ""


def check_layer(model, layer, head=None, stack=None):
    """Checks that a model has a layer, and a head in it.

    Args:
        model: a `Backbone` or a `Task`.
        layer: an integer.
        head: an integer, or None.
        stack: as `stack_of` takes it.

    Raises:
        ValueError: if there is no such layer or head.
    """
    layers, heads = len(stack_of(model, stack)[0].blocks), backbone_of(model).config.num_heads
    if not 0 <= layer < layers:
        raise ValueError(f"Expected a layer from 0 to {layers - 1}; got {layer}.")
    if head is not None and not 0 <= head < heads:
        raise ValueError(f"Expected a head from 0 to {heads - 1}; got {head}.")


def record(model, inputs, wanted):
    """Runs a model and keeps activations.

    Args:
        model: a `Backbone` or a `Task`.
        inputs: what the model takes.
        wanted: a name, a collection of names, or a function that tells whether an activation of that name is kept; the
            names are those of `course_lib.layers.taps`.

    Returns:
        A dict from names to arrays, in the order in which they were computed.

    Raises:
        ValueError: if nothing of that name is computed.
    """
    if isinstance(wanted, str):
        wanted = [wanted]
    is_wanted = wanted if callable(wanted) else lambda name: name in wanted
    found, names = {}, []

    def tap(name, x):
        names.append(name)
        if is_wanted(name):
            found[name] = ops.convert_to_numpy(x)
        return x

    model(inputs, tap=tap)
    if not found or (not callable(wanted) and set(wanted) - set(found)):
        raise ValueError(f"Expected names of activations, such as {names[:6]}; got {wanted}.")
    return found


def hidden_states(model, texts, batch_size=32):
    """Computes the vectors of each token of texts after every layer, for probes.

    Args:
        model: a `Backbone` or a `Task` of one stack, with a tokenizer.
        texts: n strings.
        batch_size: B.

    Returns:
        A list of n arrays (L + 1, T, D): the embeddings, then the output of each of L blocks. T is the number of tokens
        of that text, special tokens included.

    Raises:
        ValueError: if there is no tokenizer, or a text has more tokens than the model has positions.
    """
    texts, found = as_texts(texts), []
    for start in range(0, len(texts), batch_size):
        inputs = tokenized(model, texts[start : start + batch_size])
        states = backbone_of(model)(inputs, return_hidden_states=True)["hidden_states"]
        states = np.stack([ops.convert_to_numpy(each) for each in states], axis=1)  # (B, L + 1, T, D)
        found += [row[:, : mask.sum()] for row, mask in zip(states, inputs["padding_mask"], strict=True)]
    return found


def tokenized(model, texts):
    """Turns texts into what a backbone takes, and checks that they fit.

    Args:
        model: a `Backbone` or a `Task`.
        texts: B strings.

    Returns:
        The tokenizer's dict.

    Raises:
        ValueError: if there is no tokenizer, or a text has no tokens or more than the model has positions.
    """
    backbone = backbone_of(model)
    if backbone.tokenizer is None:
        raise ValueError("Expected a model with a tokenizer, to read raw text; this one has none.")
    inputs = backbone.tokenizer(texts, max_length=getattr(model, "max_length", None))
    lengths = inputs["padding_mask"].sum(axis=1)
    if not lengths.all():
        raise ValueError(f"Expected texts of at least one token; text {lengths.argmin()} has none.")
    check_lengths(lengths, getattr(backbone.config, "max_sequence_length", np.inf))
    return inputs


def gradients(function, arrays):
    """Computes the gradients of the sum of a function's values, on TensorFlow and on JAX.

    Args:
        function: a function of `arrays` that returns floats (B,). Where row b depends on row b of the arrays alone, row
            b of a gradient is that of value b.
        arrays: an array, or a list or a dict of arrays.

    Returns:
        The values (B,), and the gradients in the structure of `arrays`; zeros where the function does not depend on an
        array.
    """
    arrays = keras.tree.map_structure(ops.convert_to_tensor, arrays)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(arrays)
            values = function(arrays)
        return values, tape.gradient(values, arrays, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    import jax

    def total(arrays):
        values = function(arrays)
        return ops.sum(values), values

    found, values = jax.grad(total, has_aux=True)(arrays)
    return values, found


def compiled(function, model, num_calls):
    """Compiles a function of arrays that runs a model, if it will be called so often that this saves time.

    Args:
        function: the function.
        model: the model.
        num_calls: about how often the function will be called.

    Returns:
        A function.
    """
    return Compiled(function, lambda: model.variables, False, any_shape=True) if num_calls > 32 else function
