"""How much of a backbone learns: freezing by depth, low-rank adaptation, and learning rates that fall with depth.

Shapes: D model width, R rank.
"""

import pathlib
import tempfile

import keras

from course_lib.bert import Bert
from course_lib.gpt2 import GPT2

_PROJECTIONS = ("query", "key", "value", "output_projection")


def freeze(backbone, layers):
    """Lets the embeddings and the lowest blocks learn no more, and those above them learn.

    `backbone.trainable = False` freezes all of it. Compile the model afterwards.

    Args:
        backbone: a `Bert` or a `GPT2`.
        layers: how many blocks, counted from below; with 0, the embeddings alone.

    Raises:
        ValueError: if the backbone is another, there are not so many blocks, or there are low-rank adapters, whose
            kernels would learn again.
    """
    embeddings, blocks = _parts(backbone)
    if not 0 <= layers <= len(blocks):
        raise ValueError(f"Expected from 0 to {len(blocks)} layers to freeze, as many as there are; got {layers}.")
    if any(map(_is_adapted, _dense_layers(backbone))):
        raise ValueError("Expected a backbone without low-rank adapters; freeze it before enable_lora.")
    for layer in embeddings:
        layer.trainable = False
    for index, block in enumerate(blocks):
        block.trainable = index >= layers


def enable_lora(backbone, rank, alpha=None, projections=("query", "value")):
    r"""Freezes a backbone but for low-rank adapters of its attention: $W + \frac{\alpha}{R} A B$, A (D, R), B (R, D).

    Hu et al., 2022, https://arxiv.org/abs/2106.09685, by Keras's own `enable_lora`. B is zero at first, so that nothing
    changes before training. Compile the model afterwards. What is saved is merged: A and B are added to W.

    Args:
        backbone: a `Bert` or a `GPT2`.
        rank: R.
        alpha: α; R if None.
        projections: which of each block's "query", "key", "value" and "output_projection" have adapters.

    Raises:
        ValueError: if the backbone is another, the rank is not positive, there is no such projection or it is named
            twice, or there are adapters already. Nothing is changed then.
    """
    if rank < 1:
        raise ValueError(f"Expected a rank of at least 1; got {rank}.")
    if isinstance(projections, str) or {*projections} - {*_PROJECTIONS} or len({*projections}) < len(projections):
        raise ValueError(f"Expected a sequence of different projections of {_PROJECTIONS}; got {projections!r}.")
    blocks = _parts(backbone)[1]
    backbone.build()
    if any(map(_is_adapted, _dense_layers(backbone))):
        raise ValueError("Expected a backbone without low-rank adapters; this one has them. merge_lora takes them in.")
    for weight in backbone.trainable_weights:  # and not the layers: adapters in them could not learn
        weight.trainable = False
    for block in blocks:
        for name in projections:
            getattr(block.attention, name).enable_lora(rank, lora_alpha=alpha)


def merge_lora(model):
    """The same model without adapters: they are added to the kernels, as Keras does when it saves a model.

    Args:
        model: a backbone or a task, with adapters or without.

    Returns:
        A new model with the same outputs, not compiled, all of whose weights can learn, but for a pooler on which
        nothing depends.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "merged.keras"
        model.save(path)
        return keras.saving.load_model(path, compile=False)


def rates_by_depth(model, decay):
    r"""Learning rates that fall with depth (Howard & Ruder, 2018, https://arxiv.org/abs/1801.06146, section 3.2).

    What stands above the blocks has the whole rate, the l-th block from above $\text{decay}^l$ of it, and the
    embeddings as if they were one more block.

    Args:
        model: a task with a backbone.
        decay: from each block to the one below, in (0, 1].

    Returns:
        A list of factors, one for each of the trainable variables: the `rates` of
        `course_lib.training.optimizers.AdamW`.

    Raises:
        ValueError: if the decay is not in (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"Expected a decay in (0, 1]; got {decay}.")
    model.build()
    embeddings, blocks = _parts(model.backbone)
    rates = {}
    for depth, layers in enumerate([*([block] for block in reversed(blocks)), embeddings], start=1):
        rates |= {id(weight): decay**depth for layer in layers for weight in layer.weights}
    return [rates.get(id(weight), 1.0) for weight in model.trainable_variables]


def _parts(backbone):
    """The layers below the blocks, and the blocks."""
    if not isinstance(backbone, Bert | GPT2):
        raise ValueError(f"Expected a backbone, a Bert or a GPT2; got a {type(backbone).__name__}.")
    stack = backbone.encoder if hasattr(backbone, "encoder") else backbone.decoder
    return backbone.layers[: backbone.layers.index(stack)], stack.blocks


def _dense_layers(backbone):
    return [layer for layer in backbone._flatten_layers() if isinstance(layer, keras.layers.Dense)]


def _is_adapted(layer):
    return layer.lora_enabled
