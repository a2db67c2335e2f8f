"""The schematics of chapter 13."""

from course_lib.course.figures.drawing import Drawing


def blocks():
    """GPT-2's block on the left and Llama's block on the right, from bottom to top. What differs is in colour. GPT-2
    adds learned positions to the token embeddings. Its block is LayerNorm, self-attention with keys and values for
    every head, a sum with the residual stream, LayerNorm, a feed-forward layer from D to 4D, GELU and back to D, and
    a sum. Llama adds no positions: it turns queries and keys by their position (RoPE). Its norms are RMSNorm, three
    heads share one head of keys and values, and its feed-forward layer is a SwiGLU: two matrices from D to F, SiLU
    after one of them, their product, and a matrix from F to D.
    """
    return _blocks(("norm", "positions", "gate", "groups"))


def blocks_norm():
    """The two blocks again, with the norms in colour: LayerNorm in GPT-2, and RMSNorm in the same places in Llama."""
    return _blocks("norm")


def blocks_positions():
    """The two blocks again, with the positions in colour: GPT-2 adds a learned vector to the embeddings, once. Llama
    turns the queries and the keys in every block.
    """
    return _blocks("positions")


def blocks_gate():
    """The two blocks again, with the feed-forward layers in colour: D to 4D and GELU in GPT-2. In Llama, two matrices
    from D to F, SiLU after one of them, and the product of both.
    """
    return _blocks("gate")


def blocks_groups():
    """The two blocks again, with queries, keys and values in colour: in GPT-2 there are N heads of each. In Llama there
    are N heads of queries and K heads of keys and values, drawn as three and one.
    """
    return _blocks(("groups", "queries"))


def rotation():
    """Rotary positions turn pairs of numbers. Left, one pair of a key as an arrow in a circle, at positions 0, 1, 2 and
    3: it is turned by 0, θ, 2θ and 3θ. In the upper row θ is 50 degrees, a fast pair, and in the lower row 15 degrees,
    a slow pair. Right, a query at position m and a key at position n: the angle between them was α, and after the
    query has turned by mθ and the key by nθ, it is α + (m − n)θ.
    """
    drawing = Drawing(84, 33.5)
    for y, speed, angle in ((8.6, "fast", 50), (25.4, "slow", 15)):
        drawing.text(1.5, y - 6.8, f"a {speed} pair of a key, θ = {angle}°", align="left", bold=True)
        for position, turn in enumerate(("0", "θ", "2θ", "3θ")):
            x, turned = 5.6 + 10.6 * position, 20 + position * angle
            start = [(20, None, "")] if position else []
            drawing.vectors(x, y, [*start, (turned, "key", "")], [(20, turned)])
            drawing.text(x, y + 5.4, f"position {position}")
            drawing.text(x, y + 7.1, f"turned by {turn}", size=9)
    drawing.frame(45.6, 0.6, 37.8, 32.3, "a query at position m, a key at position n")
    before, after = (
        drawing.vectors(x, 15.8, [(key, "key", "$k$"), (query, "query", "$q$")], [(key, query)], radius=6)
        for x, key, query in ((54.2, 20, 55), (74, 20 + 50, 55 + 3 * 50))
    )
    drawing.arrow((before.right[0] + 1.2, 15.8), (after.left[0] - 1.2, 15.8))
    drawing.text(before.bottom[0], 24, "angle α")
    drawing.text(after.bottom[0], 24, "angle α + (m − n)θ")
    drawing.text(64.5, 27.4, "the query turns by mθ, the key by nθ")
    return drawing


def groups():
    """Nine heads of queries, and a line from each to the head of keys and values that it reads, in three panels.
    Multi-head attention has nine heads of keys and values: 2 · 9 · 64 = 1,152 floats per token and layer. Grouped
    queries, as in SmolLM2, have three, each for three heads of queries: 384 floats. Multi-query attention has one for
    all: 128 floats.
    """
    drawing = Drawing(84, 23.5)
    for y, name in ((6, "queries"), (13, "keys"), (15.4, "values")):
        drawing.text(7, y, name, align="right")
    for panel, (name, heads) in enumerate((("multi-head", 9), ("grouped, as in SmolLM2", 3), ("multi-query", 1))):
        left = 8.4 + 25.8 * panel
        drawing.text(left + 11.1, 1.8, name, bold=True)
        share = 9 // heads  # of the query heads, for each head of keys and values
        first, gap = left + 1.25 * (share - 1), 2.5 * share - 2.2
        queries = drawing.tokens(left, 5, [""] * 9, "query", width=2.2, gap=0.3, height=2.2)
        keys = drawing.tokens(first, 12, [""] * heads, "key", width=2.2, gap=gap, height=2.2)
        drawing.tokens(first, 14.4, [""] * heads, "value", width=2.2, gap=gap, height=2.2)
        for i, query in enumerate(queries):
            drawing.arrow(query.bottom, keys[i // share].top, head=False)
        drawing.text(left + 11.1, 19, f"2 · {heads} · 64 = {2 * heads * 64:,} floats")
        drawing.text(left + 11.1, 20.9, "per token and layer", size=9)
    return drawing


def _blocks(focus):
    drawing = Drawing(78, 67, focus)
    for x, name in ((6, "GPT-2"), (46.4, "Llama")):
        _block(drawing, x, name, name == "Llama")
    return drawing


def _block(drawing, x, name, is_llama):
    width, middle = 26, x + 13

    def layer(below, y, text, role, part, x=x, width=width):
        box = drawing.box(x, y, text, role, width, 2.4, part)
        drawing.arrow((box.bottom[0], below), box.bottom)
        return box.y

    def norm(below, y):
        return layer(below, y, "RMSNorm" if is_llama else "LayerNorm", "norm", "norm")

    def add(below, y, start):
        plus = drawing.operation(middle, y, "+", "same")
        drawing.arrow((middle, below), plus.bottom)
        drawing.residual((middle, start), plus.right, 16.2)
        return plus.y

    drawing.text(middle, 1.6, name, bold=True)
    below = layer(66.6, 61.2, "token embedding", "stream", "same")
    drawing.text(middle + 0.8, 65.2, "ids (B, T)", "left", 9)
    drawing.text(middle - 0.8, 59.9, "(B, T, D)", "right", 9)
    if not is_llama:
        plus = drawing.operation(middle, 57.4, "+", "positions")
        positions = drawing.box(middle + 4.4, 56.2, "learned positions", "stream", 14, 2.4, "positions")
        drawing.arrow((middle, below), plus.bottom)
        drawing.arrow(positions.left, plus.right)
        below = plus.y
    drawing.frame(x - 2.5, 9.2, width + 7, 45.4)
    drawing.text(x - 3.1, 32, "× L", align="right")

    norm(below, 50)
    for i, (role, name) in enumerate((("query", "queries"), ("key", "keys"), ("value", "values"))):
        left, centre, shared = x + 9.4 * i, x + 9.4 * i + 3.6, is_llama and i > 0
        heads, start = ([""], left + 2.5) if shared else ([""] * 3, left)
        drawing.tokens(start, 46.2, heads, role, "groups" if i else "queries", 2.2, 0.3, 2.2)
        drawing.text(centre + 0.7, 44.4, f"{name}\n{'K' if shared else 'N'} heads", "left", 9)
        ends = ((50, 48.4), (46.2, 42.4), (40, 38.4)) if is_llama and i < 2 else ((50, 48.4), (46.2, 38.4))
        for start, end in ends:
            drawing.arrow((centre, start), (centre, end))
    if is_llama:
        drawing.box(x, 40, "rotation (RoPE)", "stream", 16.6, 2.4, "positions")
    drawing.box(x, 36, "self-attention", "attention", width, 2.4, "same")
    below = add(36, 33.4, 53.6)

    below = norm(below, 28)
    if is_llama:
        product = drawing.operation(middle, 17.8, "×", "gate")
        for side, end in ((x, product.left), (x + 13.8, product.right)):
            top = layer(below, 24.2, "D → F", "feed_forward", "gate", side, 12.2)
            if side == x:
                top = layer(top, 20.4, "SiLU", "feed_forward", "gate", side, 12.2)
            drawing.arrow((side + 6.1, top), end, via=[(side + 6.1, end[1])])
        drawing.text(x + 16, 21.4, "SwiGLU", size=9)
        below = product.y
    else:
        below = layer(below, 24.2, "D → 4D", "feed_forward", "gate")
        below = layer(below, 20.4, "GELU", "feed_forward", "gate")
        drawing.text(middle + 0.8, 17.8, "feed-forward", "left", 9)
    below = layer(below, 13, "F → D" if is_llama else "4D → D", "feed_forward", "same")
    below = norm(add(below, 10.6, 31.4), 5.6)
    drawing.arrow((middle, below), (middle, 2.8), "(B, T, D)")
