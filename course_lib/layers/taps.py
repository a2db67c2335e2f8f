"""Taps: how a caller's function sees and may replace what a layer or a model computes on the way to its output.

`call` of the attention layer, the block, the stack, the backbones and the tasks takes a `tap`, a function
`tap(name, x)` that returns x, or what to use in its place. It is called where the activation is computed, so gradients
pass through it, and it may be compiled with the model. Without a tap, nothing changes.

    def silence_head_3(name, x):  # (B, T, N, H) at "heads"
        return x * (np.arange(x.shape[2]) != 3)[:, None] if name == "block_5/attention/heads" else x

    model(inputs, tap=silence_head_3)

To add a tap to a layer, write `x = tapped(tap, "a name", x)` where x is computed. To pass it on to a part, write
`part(x, tap=inside(tap, "name of the part"))`.
"""


def tapped(tap, name, x):
    """Shows an activation to a tap.

    Args:
        tap: a function of a name and an activation, or None.
        name: what the activation is called in this layer.
        x: the activation, floats of any shape.

    Returns:
        What the tap returns, or x if there is no tap.
    """
    return x if tap is None else tap(name, x)


def inside(tap, part):
    """Makes the tap of a part of a layer. Its names begin with the part's name and a slash.

    Args:
        tap: a function of a name and an activation, or None.
        part: what the part is called in this layer.

    Returns:
        A tap, or None if there is none.
    """
    return None if tap is None else lambda name, x: tap(f"{part}/{name}", x)
