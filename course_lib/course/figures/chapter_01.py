"""The schematics of chapter 01."""

import numpy as np

from course_lib.course.figures.drawing import Drawing

WORDS = ("dog", "gate", "it", "hungry")
SCORES = np.array([[0.5, 0.3, 0.0, 0.1], [0.3, 0.5, 0.0, 0.1], [0.2, 0.1, 0.1, 1.0], [0.4, 0.1, 0.1, 0.3]])


def attention():
    """Self-attention with shapes: X (T, D) times three matrices gives queries Q, keys K and values V, each (T, H). Q
    times K transposed gives scores (T, T); scaling and softmax turn them into weights (T, T); weights times V give the
    output (T, H).
    """
    return _attention()


def projections():
    """The picture of self-attention again. In colour: X times three matrices gives queries, keys and values."""
    return _attention(("x", "query", "key", "value"))


def scores():
    """The picture of self-attention again. In colour: from scores to weights, by scaling and softmax."""
    return _attention(("scores", "weights"))


def mean():
    """Three tokens a, b, c of two numbers. Dot products with c: 1, 1, 2. Weights: 2/8, 2/8, 4/8. Weighted mean of the
    tokens: the new c, (3/4, 3/4).
    """
    drawing = Drawing(78, 15)
    cell, top = 3.0, 4.5
    x = drawing.matrix(5, top, np.full((3, 2), np.nan), "the tokens", "", "stream", "abc",
                       numbers=[["1", "0"], ["0", "1"], ["1", "1"]], cell=cell)  # fmt: skip
    products = drawing.matrix(28, top, np.array([[0.35], [0.35], [0.7]]), "scores", "", "attention",
                              numbers=["1", "1", "2"], cell=cell)  # fmt: skip
    shares = drawing.matrix(48, top, np.array([[0.35], [0.35], [0.7]]), "weights", "", "attention",
                            numbers=[["2/8"], ["2/8"], ["4/8"]], cell=cell)  # fmt: skip
    new = drawing.matrix(
        69, top + cell, np.full((1, 2), np.nan), "new $c$", "", "stream", numbers=[["¾", "¾"]], cell=cell
    )
    for start, end, text in ((x, products, "dot product\nwith $c$"), (products, shares, "softmax\n(with base 2)"),
                             (shares, new, "weighted mean\nof the tokens")):  # fmt: skip
        middle = (start.right[0] + 0.6, top + 1.5 * cell), (end.left[0] - 0.6, top + 1.5 * cell)
        drawing.arrow(*middle)
        drawing.text((middle[0][0] + middle[1][0]) / 2, top + 1.5 * cell - 2.0, text, size=9)
    return drawing


def layers():
    """Two layers. In layer 1, "it" attends to "hungry" and learns that it is living. In layer 2, it attends to the
    living noun, "dog", and takes over its vector.
    """
    drawing = Drawing(78, 37)
    lefts, width, tops, height = (13, 29.5, 46, 62.5), 13, (4, 17, 30), 4.6
    rows = (
        ("noun\nliving", "noun\nlifeless", "pronoun", "tells\nliving"),
        ("noun\nliving", "noun\nlifeless", "pronoun\nliving", "tells\nliving"),
        (None, None, "pronoun, noun\nliving", None),
    )
    boxes = [
        [
            text and drawing.box(left, top, text, "stream" if word == "it" else None, width, height, dashed=False)
            for word, left, text in zip(WORDS, lefts, texts, strict=True)
        ]
        for top, texts in zip(tops, rows, strict=True)
    ]
    for word, left in zip(WORDS, lefts, strict=True):
        drawing.text(left + width / 2, 2.2, word, bold=True)
    for above, below, source, offset, name, query in (
        (*boxes[:2], 3, 2.5, "layer 1", "“it” asks:\nwho tells\nsomething?"),
        (*boxes[1:], 0, -2.5, "layer 2", "“it” asks:\nwhich noun\nis living?"),
    ):
        drawing.text(0.5, above[0].bottom[1] + 1.0, name, align="left", bold=True)
        drawing.text(0.5, above[0].bottom[1] + 4.8, query, align="left", size=9)
        start, end = above[source].bottom, (below[2].top[0] + offset, below[2].top[1] - 0.3)
        bend = start[1] + 4.2
        drawing.arrow((start[0], start[1] + 0.3), end, via=[(start[0], bend), (end[0], bend)])
        for upper, lower in zip(above, below, strict=True):
            if lower:
                drawing.arrow((upper.bottom[0], upper.bottom[1] + 0.3), (lower.top[0], lower.top[1] - 0.3))
    return drawing


def _attention(focus=()):
    drawing = Drawing(82, 33, focus)
    x = drawing.tensor(7, 13.2, 4, 6, "$X$", "(T, D)", "stream", part="x")
    for row, word in enumerate(WORDS):
        drawing.text(6.4, 13.2 + 1.3 * (row + 0.5), word, align="right", size=8)
    tops = {"query": 2.6, "key": 13.2, "value": 23.8}
    boxes = {}
    for (role, top), letter in zip(tops.items(), "QKV", strict=True):
        boxes[role] = drawing.tensor(24.5, top, 4, 3, f"${letter}$", "(T, H)", role, part=role)
        middle = boxes[role].left
        via = [(18.2, x.right[1]), (18.2, middle[1])]
        drawing.arrow(
            (x.right[0] + 0.4, x.right[1]), (middle[0] - 0.4, middle[1]), f"$W^{letter}$", via, side="above", piece=-1
        )
    cell, top = 1.9, 7.2
    scores = drawing.matrix(36, top, SCORES, "scores $QK^T$", "(T, T)", part="scores", cell=cell)
    for role, sign in (("query", -1.6), ("key", 1.6)):
        start, y = boxes[role].right, scores.left[1] + sign
        drawing.arrow((start[0] + 0.4, start[1]), (scores.left[0] - 0.4, y), via=[(32.2, start[1]), (32.2, y)])
    weights = np.exp(4 * SCORES) / np.exp(4 * SCORES).sum(axis=1, keepdims=True)
    shares = drawing.matrix(
        56, top, weights / weights.max(), "weights", "(T, T), rows sum to 1", part="weights", cell=cell
    )
    drawing.arrow(
        (scores.right[0] + 0.4, scores.right[1]),
        (shares.left[0] - 0.4, shares.left[1]),
        "÷ $\\sqrt{H}$, softmax",
        side="above",
    )
    product = drawing.operation(70.5, 19.8, "×", part="output")
    drawing.arrow((shares.right[0] + 0.4, shares.right[1]), product.top, via=[(70.5, shares.right[1])])
    value = boxes["value"].right
    drawing.arrow((value[0] + 0.4, value[1]), product.bottom, via=[(70.5, value[1])])
    output = drawing.tensor(76, 17.2, 4, 3, "output", "(T, H)", "stream", part="output")
    drawing.arrow(product.right, (output.left[0] - 0.4, output.left[1]))
    return drawing
