"""The schematics of chapter 15."""

from course_lib.course.figures.drawing import Drawing


def taps():
    """The residual stream with its taps, from left to right. Token ids (B, T) become embeddings (B, T, D). In each
    block, attention reads the stream and adds to it, then the feed-forward layer does. A head turns the end of the
    stream into a score. The taps, where a function can see and replace what is computed: embeddings; inside the
    attention layer of block 0 the weights (B, N, T, T) and the heads (B, T, N, H); what attention adds; what the
    feed-forward layer adds; and the stream after the block.
    """
    drawing = Drawing(105, 36)
    y = 25
    ids = drawing.box(1, y - 1.6, "token ids", "tokens", 10)
    embed = drawing.box(15, y - 1.6, "embed", "stream", 9)
    attention = drawing.box(36, 13, "attention", "attention", 10)
    forward = drawing.box(60, 13, "feed-forward", "feed_forward", 11)
    first, second = drawing.operation(47, y), drawing.operation(72, y)
    head = drawing.box(89, y - 1.6, "head", "tokens", 7)
    drawing.arrow(ids.right, embed.left, "(B, T)", side="below")
    drawing.arrow(embed.right, first.left, "(B, T, D)", side="below")
    drawing.arrow(first.right, second.left)
    drawing.arrow(second.right, head.left)
    drawing.arrow(head.right, (103, y), "score", side="above")
    for x, layer, plus in ((33, attention, first), (57.5, forward, second)):
        drawing.arrow((x, y), layer.left, via=[(x, layer.left[1])])
        drawing.arrow(layer.right, plus.top, via=[(plus.top[0], layer.right[1])])
    drawing.frame(30.5, 1, 53, 27, "block 0")
    drawing.text(41, 7, "block_0/attention/weights\nblock_0/attention/heads", size=9, bold=True)
    drawing.arrow((41, 9.2), (41, 12.8))
    drawing.text(48, 19.5, "block_0/\nattention", "left", size=9, bold=True)
    drawing.text(73, 19.5, "block_0/\nfeed_forward", "left", size=9, bold=True)
    for x, name in ((27, "embeddings"), (86, "block_0")):
        drawing.text(x, 33, name, size=9, bold=True)
        drawing.arrow((x, 31.4), (x, y + 0.4))
    return drawing


def patching():
    """Activation patching. Left, the clean run on the source German: forty-two, right, the corrupted run on German:
    forty-seven, each with the embeddings and the outputs of two blocks at five positions, from bottom to top. One
    activation, at the last position after block 0, is copied from the clean run into the corrupted one, where
    everything above it is computed from it. The clean run answers zwei, the corrupted one sieben. Which of the two
    answers does the patched run give?
    """
    drawing = Drawing(96, 30)
    cells = {}
    for x, last, answer, name in ((12, "two", "zwei", "clean"), (56, "seven", "zwei or sieben?", "corrupted")):
        words = ["German", ":", "forty", "-", last]
        drawing.tokens(x, 24, words, width=6.4)
        for row, layer in enumerate(("block 1", "block 0", "embeddings")):
            y = 9.5 + 4.4 * row
            is_copied = layer == "block 0"
            roles = ["stream"] * 4 + ["trained" if is_copied else "stream"]
            cells[name, layer] = drawing.tokens(x, y, [""] * 5, roles, width=6.4)
            if name == "clean":
                drawing.text(11, y + 1.4, layer, align="right", size=9)
        top = drawing.box(x + 10.1, 3.2, answer, "tokens", 15, 3)
        drawing.arrow((x + 17.6, 9.2), top.bottom)
        drawing.text(x + 17.6, 1.5, f"{name} run", bold=True)
    start, end = (cells[name, "block 0"][-1] for name in ("clean", "corrupted"))
    around = [(51, start.right[1]), (51, 28.6), (93, 28.6), (93, end.right[1])]
    drawing.arrow(start.right, (end.right[0] + 0.3, end.right[1]), "copy", around, side="above", piece=2)
    return drawing
