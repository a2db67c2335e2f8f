"""The schematics of chapter 02."""

import numpy as np

from course_lib.course.figures.drawing import Drawing


def heads():
    """Multi-head attention with three heads. X (T, D) is projected to queries, keys and values of width D. Each is cut
    into three pieces of width H. Each head computes its own weights (T, T) and its own output (T, H). The outputs stand
    side by side again, (T, D), and the output projection mixes them.
    """
    return _heads()


def heads_cut():
    """The picture again, with the first part in colour: queries, keys and values are cut into one piece per head."""
    return _heads(("project", "cut"))


def heads_attend():
    """The picture again, with the middle in colour: each head's weights (T, T) and output (T, H)."""
    return _heads(("cut", "attend", "output"))


def heads_join():
    """The picture again, with the end in colour: the heads' outputs side by side, and the output projection."""
    return _heads(("output", "join"))


def masks():
    """Three masks for the tokens it, was, long and two of padding; rows look, columns are looked at. The causal mask
    allows the lower triangle. The padding mask forbids the last two columns. Combined by "and", they allow what both
    allow.
    """
    drawing = Drawing(78, 22)
    causal = np.tril(np.ones((5, 5), bool))
    padding = np.broadcast_to([True, True, True, False, False], (5, 5))
    words, columns = ("0  it", "1  was", "2  long", "3  [PAD]", "4  [PAD]"), "01234"
    for x, mask, name, shape, rows in (
        (11, causal, "causal mask", "(T, S)", words),
        (35, padding, "padding mask", "(B, 1, 1, S), the same for each row", columns),
        (59, causal & padding, "both", "(B, 1, T, S)", columns),
    ):
        drawing.matrix(x, 5, mask, name, shape, rows=rows, columns=columns, cell=2.7)
    for x, sign in ((28.5, "and"), (52.5, "=")):
        drawing.text(x, 11.75, sign)
    return drawing


def wrong_cut():
    """A tensor of 4 positions and 4 channels, cut into two heads. Reshape, then transpose: head 1 gets channels 0 and 1
    of all positions, so each of its rows comes from one position. Reshape alone: head 1 gets positions 0 and 1, and
    each of them fills two of its rows.
    """
    drawing = Drawing(78, 18.5)
    numbers = np.array([[f"{t}{d}" for d in range(4)] for t in range(4)])
    dark = np.where(np.arange(4) < 2, 1.0, 0.1)
    sides = (
        (10.5, np.broadcast_to(dark, (4, 4)), numbers[:, :2], "reshape, then transpose"),
        (47.5, np.broadcast_to(dark[:, None], (4, 4)), numbers[:2].reshape(4, 2), "reshape alone"),
    )
    for x, heads, rows, name in sides:
        labels = [f"position {t}" for t in range(4)]
        whole = drawing.matrix(
            x, 4, heads, name, "dark: head 1, pale: head 2", "query", rows=labels, numbers=numbers, cell=2.7
        )
        head = drawing.matrix(x + 19, 4, np.full((4, 2), np.nan), "head 1", "(T, H)", "query", numbers=rows, cell=2.7)
        drawing.arrow((whole.right[0] + 0.8, whole.right[1]), (head.left[0] - 0.8, head.left[1]))
    return drawing


def _heads(focus=()):
    drawing = Drawing(82, 36.5, focus)
    x = drawing.tensor(1.5, 15.6, 4, 6, "$X$", "(T, D)", part="project")
    random = np.random.default_rng(4)
    roles = {"query": "Q", "key": "K", "value": "V"}
    for (role, letter), y in zip(roles.items(), (5.6, 15.6, 25.6), strict=True):
        whole = drawing.tensor(14.5, y, 4, 6, f"${letter}$", "(T, D)", role, part="project")
        drawing.arrow((x.right[0] + 0.4, x.right[1]), (whole.left[0] - 0.4, whole.left[1]), f"$W^{letter}$",
                      [(10.6, x.right[1]), (10.6, whole.left[1])], side="above", piece=-1)  # fmt: skip
        drawing.arrow((whole.right[0] + 0.4, whole.right[1]), (25.4, whole.right[1]), "cut", side="above", head=False)
    for n, y in enumerate((3.6, 16.0, 28.4)):
        pieces = [drawing.tensor(28.2 + 3.7 * i, y, 4, 2, role=role, part="cut") for i, role in enumerate(roles)]
        middle = pieces[0].left[1]
        drawing.arrow((22.7, 18.2), (27.8, middle), via=[(25.4, 18.2), (25.4, middle)])
        drawing.text(33.2, y - 1.2, f"head {n + 1}")
        drawing.text(33.2, y + 6.4, "(T, H) each", size=9)
        powers = np.exp(1.6 * random.normal(size=(4, 4)))
        strengths = powers / powers.max(axis=1, keepdims=True)
        weights = drawing.matrix(42.2, y, strengths, "weights", "(T, T)", part="attend", cell=1.3)
        output = drawing.tensor(51.8, y, 4, 2, "output", "(T, H)", part="output")
        drawing.arrow((pieces[-1].right[0] + 0.4, middle), (weights.left[0] - 0.4, middle))
        drawing.arrow((weights.right[0] + 0.4, middle), (output.left[0] - 0.4, middle), "× V", side="above")
        drawing.arrow((output.right[0] + 0.4, middle), (59.8, 18.6), via=[(57.0, middle), (57.0, 18.6)], head=n == 1)
        drawing.tensor(60.2 + 2.8 * n, 16.0, 4, 2, part="join")
    drawing.text(64.4, 14.8, "side by side")
    drawing.text(64.4, 22.4, "(T, N·H)", size=9)
    drawing.arrow((69.0, 18.6), (72.6, 18.6), "$W^O$", side="above")
    drawing.tensor(73.0, 16.0, 4, 6, "output", "(T, D)", part="join")
    return drawing
