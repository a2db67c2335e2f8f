"""The schematics of chapter 14."""

from course_lib.course.figures.drawing import COLOURS, GREY, Drawing


def block():
    """What one block computes for each token, drawn to scale for MiniLM (D = 384, F = 1,536) and texts of 32 tokens.
    From bottom to top: queries, keys and values, three matrices from D to D, 6 · D² operations, 0.88 million. Scores
    and weighted values, no weights, 4 · T · D operations, 0.05 million. Output, a matrix from D to D, 2 · D²
    operations, 0.29 million. Feed-forward, two matrices, D to F and F to D, 4 · D · F operations, 2.36 million.
    """
    drawing = Drawing(82, 30)
    drawing.text(13, 1.6, "part", bold=True)
    drawing.text(37.5, 1.6, "weights", bold=True)
    drawing.text(52, 1.6, "operations per token", bold=True)
    D, F, T = 384, 1536, 32
    rows = (
        ("feed-forward", "feed_forward", "2 · D · F", "4 · D · F", 4 * D * F),
        ("output", "stream", "D²", "2 · D²", 2 * D**2),
        ("scores, weighted values", "attention", "none", "4 · T · D", 4 * T * D),
        ("queries, keys, values", "query", "3 · D²", "6 · D²", 6 * D**2),
    )
    for number, (name, role, weights, operations, count) in enumerate(rows):
        y = 3.6 + 6 * number
        box = drawing.box(1, y, name, role, 24, 3.6)
        drawing.text(37.5, y + 1.8, weights)
        drawing.text(46, y + 1.8, operations, align="left")
        width = 14 * count / (4 * D * F)
        drawing.axes.barh(y + 1.8, width, 3.6, left=56, color=COLOURS[role], edgecolor=GREY)
        drawing.text(56.8 + width, y + 1.8, f"{count / 1e6:.2f} million", align="left", size=9)
        if number < 3:
            drawing.arrow((box.bottom[0], y + 6), box.bottom)
    drawing.arrow((13, 28.8), (13, 25.2), "(B, T, D)")
    return drawing


def student():
    """Distillation. One text goes through two classifiers. Above, the teacher, which is frozen: 6 blocks, 384 wide,
    22.6 million weights. Its logits v are divided by the temperature τ, and softmax makes probabilities of them. Below,
    the student, which is trained: 3 blocks, 192 wide, 3.0 million weights. Its logits z are divided by τ, too. The loss
    is the cross-entropy between the two, times τ².
    """
    drawing = Drawing(84, 20)
    (text,) = drawing.tokens(0.5, 8.7, ["text"], width=8)
    for y, name, role, size, letter in (
        (2, "teacher", "frozen", "6 blocks, 384 wide\n22.6 million weights", "v"),
        (13, "student", "trained", "3 blocks, 192 wide\n3.0 million weights", "z"),
    ):
        box = drawing.box(15, y, f"{name}\n{size}", role, 22, 6)
        soft = drawing.box(48, y + 1.2, f"softmax({letter} / τ)", "attention", 14, 3.6)
        drawing.arrow(text.right, box.left, via=[(11.7, text.right[1]), (11.7, box.left[1])])
        drawing.arrow(box.right, soft.left, f"${letter}$ (C,)", side="above")
        loss_y = 8.2 if name == "teacher" else 11.8
        drawing.arrow(soft.right, (74, loss_y), via=[(74, soft.right[1])])
    drawing.box(66, 8.2, "cross-entropy · τ²", "tokens", 16.5, 3.6)
    return drawing


def data_parallel():
    """Data parallelism on two devices. A batch of four rows is cut in two. Each device has a copy of all weights, and
    computes the loss of its rows and the gradient. The gradients are added up across the devices (all-reduce): each
    device sends and receives about as many numbers as there are weights. Then both take the same step.
    """
    drawing = Drawing(84, 24)
    drawing.tensor(2, 7.4, 4, 3, "batch", "(B, T)", "tokens", cell=2)
    for y, name in ((1.6, "device 0"), (13.2, "device 1")):
        drawing.frame(14, y, 43, 9.4, name)
        rows = drawing.tensor(17, y + 3.6, 2, 3, "", "(B / 2, T)", "tokens", cell=1.8)
        weights = drawing.box(31, y + 3.2, "all weights", "trained", 11, 4.2)
        gradient = drawing.box(47, y + 3.2, "$g_0$" if y < 5 else "$g_1$", "value", 7, 4.2)
        drawing.arrow((8, 11.4), rows.left, via=[(11, 11.4), (11, rows.left[1])])
        drawing.arrow((rows.right[0], weights.left[1]), weights.left)
        drawing.arrow(weights.right, gradient.left)
        drawing.arrow(gradient.right, (68, 9.8 if y < 5 else 14.4), via=[(68, gradient.right[1])])
    drawing.box(60, 9.8, "all-reduce\n$g_0 + g_1$", "value", 16, 4.6)
    return drawing


def tensor_parallel():
    """Tensor parallelism of a feed-forward layer on two devices. Both have all of x (T, D). The first kernel (D, F) is
    cut by columns: each device computes half of the F features, and applies GELU to them. The second kernel (F, D) is
    cut by rows: each device multiplies its features by its rows and gets a part of the sum (T, D). The two parts are
    added up across the devices: T · D numbers per layer.
    """
    drawing = Drawing(84, 27)
    for y, name, last in ((1.4, "device 0", 11.4), (14.6, "device 1", 15.6)):
        drawing.frame(1, y, 64, 11.4, name)
        middle = y + 6
        x = drawing.tensor(4, middle - 1.8, 3, 4, "x", "(T, D)", "stream", cell=1.2)
        first = drawing.tensor(15, middle - 2.4, 4, 4, "columns of $W_1$", "(D, F / 2)", "feed_forward", cell=1.2)
        features = drawing.tensor(29.4, middle - 1.8, 3, 4, "GELU", "(T, F / 2)", "attention", cell=1.2)
        second = drawing.tensor(42, middle - 2.4, 4, 4, "rows of $W_2$", "(F / 2, D)", "feed_forward", cell=1.2)
        part = drawing.tensor(56, middle - 1.8, 3, 4, "a part", "(T, D)", "stream", cell=1.2)
        for one, other in ((x, first), (first, features), (features, second), (second, part)):
            drawing.arrow((one.right[0], middle), (other.left[0], middle))
        drawing.arrow((part.right[0], middle), (74.5, last), via=[(74.5, middle)])
    drawing.box(68.5, 11.4, "sum", "stream", 12, 4.2)
    return drawing
