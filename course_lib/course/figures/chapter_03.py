"""The schematics of chapter 03."""

from course_lib.course.figures.drawing import Drawing


def transformer():
    """The Transformer from bottom to top. Left, the encoder: source token ids (B, S) become embeddings (B, S, D), sine
    positions are added, and L blocks of self-attention and feed-forward follow, each sublayer with a residual
    connection. Right, the decoder: target token ids (B, T), embeddings, positions, and L blocks of causal
    self-attention, cross-attention to the encoder's output, and feed-forward. A projection gives logits (B, T, V).
    """
    return _transformer()


def encoder():
    """The picture of the Transformer again, with the encoder's block in colour: self-attention and feed-forward, each
    with a norm before it and a residual connection around it.
    """
    return _transformer(("encoder",))


def decoder():
    """The picture of the Transformer again, with the decoder's block in colour: causal self-attention, cross-attention,
    whose keys and values come from the encoder, and feed-forward.
    """
    return _transformer(("decoder",))


def norms():
    """Three blocks side by side, each with two sublayers f and g from bottom to top. Norm after: x passes f, x is
    added, and a norm follows the sum, so every path from bottom to top goes through the norms. Norm before: the norm
    stands in front of f, inside the branch, and x itself reaches the top through nothing but sums. No norm: only the
    sublayers and the sums.
    """
    drawing = Drawing(74, 42)
    layouts = {
        "norm after": ("layer", "sum", "norm"),
        "norm before": ("norm", "layer", "sum"),
        "no norm": ("layer", "sum"),
    }
    for column, (title, layout) in enumerate(layouts.items()):
        x, y = 5 + 25 * column, 38.5
        middle = x + 6
        drawing.text(middle, 2, title, bold=True)
        below = (middle, 41.0)
        drawing.text(middle + 1, 40.2, "x  (B, T, D)", align="left", size=9)
        for name, role in (("f", "attention"), ("g", "feed_forward")):
            start = (middle, y)
            for part in layout:
                if part == "sum":
                    plus = drawing.operation(middle, y - 2.9)
                    drawing.arrow(below, plus.bottom)
                    drawing.residual(start, plus.right, 9)
                    below, y = plus.top, y - 4.4
                else:
                    box = drawing.box(
                        x, y - 4, "norm" if part == "norm" else name, part if part == "norm" else role, 12, 2.4
                    )
                    drawing.arrow(below, box.bottom)
                    below, y = box.top, y - 4.4
            y -= 1.2
        drawing.arrow(below, (middle, 5))
    return drawing


def _transformer(focus=()):
    drawing = Drawing(74, 63, focus)
    sublayers = {
        "encoder": ("self-attention", "feed-forward"),
        "decoder": ("causal self-attention", "cross-attention", "feed-forward"),
    }
    width, tops = 17, {}
    for x, part, ids, length in ((9, "encoder", "source token ids", "S"), (46, "decoder", "target token ids", "T")):
        middle = x + width / 2
        bottom = drawing.box(x, 58, ids, "tokens", width, part=part)
        embedding = drawing.box(x, 52, "embedding", "stream", width, part=part)
        plus = drawing.operation(middle, 48, "+", part)
        positions = drawing.box(x - 8 if part == "encoder" else x + width + 1, 46.4, "sines", "stream", 7, part=part)
        drawing.arrow(bottom.top, embedding.bottom, f"(B, {length})")
        drawing.arrow(embedding.top, plus.bottom, f"(B, {length}, D)", side="left" if part == "decoder" else "right")
        drawing.arrow(*((positions.right, plus.left) if part == "encoder" else (positions.left, plus.right)))
        y, below = 45.0, plus.top
        levels = sublayers[part]
        frame_bottom, frame_top = 45.2, 44.2 - 9.4 * len(levels)
        drawing.frame(x - 3.5, frame_top, width + 7, frame_bottom - frame_top)
        drawing.text(x + width + 4.2 if part == "decoder" else x - 4.2, (frame_top + frame_bottom) / 2, "× L",
                     align="left" if part == "decoder" else "right")  # fmt: skip
        for name in levels:
            role = "feed_forward" if name == "feed-forward" else "attention"
            start = (middle, y - 0.9)
            norm = drawing.box(x, y - 4.0, "norm", "norm", width, 2.0, part)
            layer = drawing.box(x, y - 7.0, name, role, width, 2.6, part)
            plus = drawing.operation(middle, y - 9.0, "+", part)
            drawing.arrow(below, norm.bottom)
            drawing.arrow(layer.top, plus.bottom, head=False)
            drawing.residual(start, plus.right, 10.3)
            if name == "cross-attention":
                cross = layer
            below, y = plus.top, y - 9.4
        norm = drawing.box(x, frame_top - 4.4, "norm", "norm", width, 2.0, part)
        drawing.arrow(below, norm.bottom)
        tops[part] = norm
    drawing.arrow(
        tops["encoder"].top, cross.left, "keys and values (B, S, D)",
        [(tops["encoder"].top[0], 16), (36.2, 16), (36.2, cross.left[1])], side="above",
    )  # fmt: skip
    logits = drawing.box(46, 4.2, "projection to V logits", "tokens", width, part="decoder")
    drawing.arrow(tops["decoder"].top, logits.bottom, "(B, T, D)", side="left")
    drawing.arrow(logits.top, (logits.top[0], 1.2), "(B, T, V)")
    return drawing
