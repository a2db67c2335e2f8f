"""Controls which weights of a backbone learn, and how fast: freezing, LoRA, and layer-wise learning rates.

`course_lib.training.peft` saves and loads the adapters alone.

Shapes: D model width, R rank.
"""

import pathlib
import tempfile

import keras

from course_lib.layers.transformer import TransformerStack

PROJECTIONS = ("query", "key", "value", "output_projection")


def freeze(backbone, layers):
    """Freezes the embeddings and the lowest blocks, and unfreezes the blocks above them.

    `backbone.trainable = False` freezes all of it. Compile the model afterwards.

    Args:
        backbone: a backbone with one stack of blocks, such as a `Bert` or a `GPT2`.
        layers: number of blocks to freeze, from below. With 0, only the embeddings are frozen.

    Raises:
        ValueError: if the backbone does not have exactly one stack, `layers` is not between 0 and its number of blocks,
            or there are low-rank adapters, since unfreezing their blocks would let the original kernels learn again.
    """
    embeddings, blocks = embeddings_and_blocks(backbone)
    if not 0 <= layers <= len(blocks):
        raise ValueError(f"Expected from 0 to {len(blocks)} layers to freeze, as many as there are; got {layers}.")
    if has_adapters(backbone):
        raise ValueError("Expected a backbone without low-rank adapters; freeze it before enable_lora.")
    for layer in embeddings:
        layer.trainable = False
    for index, block in enumerate(blocks):
        block.trainable = index >= layers


def enable_lora(backbone, rank, alpha=None, projections=("query", "value")):
    r"""Freezes a backbone, and adds low-rank adapters to its attention: $W + \frac{\alpha}{R} A B$, A (D, R), B (R, D).

    The method is that of Hu et al., 2022, https://arxiv.org/abs/2106.09685; Keras's layers implement it. B starts at
    zero, so nothing changes before training. Compile the model afterwards. Keras saves the merged kernel, W plus the
    product; `course_lib.training.peft.save_lora` saves A and B.

    Args:
        backbone: a backbone with one stack of blocks, such as a `Bert` or a `GPT2`.
        rank: R.
        alpha: α. Defaults to R.
        projections: which projections of each block get adapters: "query", "key", "value", "output_projection".

    Raises:
        ValueError: if the backbone does not have exactly one stack, the rank is not positive, a projection does not
            exist or occurs twice, or there are adapters already. The backbone is unchanged in that case.
    """
    if rank < 1:
        raise ValueError(f"Expected a rank of at least 1; got {rank}.")
    if isinstance(projections, str) or {*projections} - {*PROJECTIONS} or len({*projections}) < len(projections):
        raise ValueError(f"Expected a sequence of different projections of {PROJECTIONS}; got {projections!r}.")
    blocks = embeddings_and_blocks(backbone)[1]
    backbone.build()
    if has_adapters(backbone):
        raise ValueError("Expected a backbone without low-rank adapters; this one has them. merge_lora merges them.")
    freeze_weights(backbone)
    for block in blocks:
        for name in projections:
            getattr(block.attention, name).enable_lora(rank, lora_alpha=alpha)


def merge_lora(model):
    """Copies a model, and merges the adapters into the kernels of the copy.

    Args:
        model: a backbone or a task, with adapters or without.

    Returns:
        A new model with the same outputs. It is not compiled. All its weights can learn, except those of a pooler that
        no output depends on.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "merged.keras"
        model.save(path)  # Keras saves merged kernels
        return keras.saving.load_model(path, compile=False)


def layerwise_lr_decay(model, decay):
    r"""Computes factors of the learning rate by depth (Howard & Ruder, 2018, https://arxiv.org/abs/1801.06146, 3.2).

    The head gets the full learning rate. The l-th block from the top gets $\text{decay}^l$ times as much, and the
    embeddings get $\text{decay}$ times the rate of the lowest block.

    Args:
        model: a task with a backbone.
        decay: factor from each block to the one below, in (0, 1].

    Returns:
        A list with one factor per trainable variable: the `lr_multipliers` of `course_lib.training.optimizers`.

    Raises:
        ValueError: if the decay is not in (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"Expected a decay in (0, 1]; got {decay}.")
    model.build()
    embeddings, blocks = embeddings_and_blocks(model.backbone)
    multipliers = {}
    for depth, layers in enumerate([*([block] for block in reversed(blocks)), embeddings], start=1):
        multipliers |= {id(weight): decay**depth for layer in layers for weight in layer.weights}
    return [multipliers.get(id(weight), 1.0) for weight in model.trainable_variables]


def embeddings_and_blocks(backbone):
    """Finds the layers below the stack, and the blocks of the stack.

    Args:
        backbone: a backbone with one stack of blocks.

    Returns:
        Two lists of layers.

    Raises:
        ValueError: if the backbone does not have exactly one stack.
    """
    layers = backbone.layers
    stacks = [index for index, layer in enumerate(layers) if isinstance(layer, TransformerStack)]
    if len(stacks) != 1:
        kind = type(backbone).__name__
        raise ValueError(f"Expected a backbone with one stack of blocks, such as a Bert or a GPT2; got a {kind}.")
    return layers[: stacks[0]], layers[stacks[0]].blocks


def has_adapters(backbone):
    """Tells whether any dense layer has a low-rank adapter.

    Args:
        backbone: a backbone.

    Returns:
        A boolean.
    """
    return any(isinstance(layer, keras.layers.Dense) and layer.lora_enabled for layer in backbone._flatten_layers())


def freeze_weights(backbone):
    """Freezes every weight, but not the layers: an adapter that is added to a frozen layer could not learn.

    Args:
        backbone: a built backbone.
    """
    for weight in backbone.trainable_weights:
        weight.trainable = False
