"""The schematics of chapter 00."""

from course_lib.course.figures.drawing import Drawing


def pre_training():
    """Two stages. Pre-training: a network with random weights reads much text without labels, guesses hidden or next
    words, and becomes a pre-trained network. Then one of two ways for the task's few labelled texts: the network is
    frozen and only a small classifier on top of it is trained, or the network and the classifier are trained
    together, which is fine-tuning.
    """
    return _stages()


def frozen():
    """The same two stages, with the path of this chapter in colour: few labelled texts go through the frozen network,
    and its vectors train a small classifier.
    """
    return _stages("frozen")


def _stages(focus=()):
    drawing = Drawing(76, 32, focus)
    drawing.text(1, 1.6, "1. pre-training", align="left", bold=True)
    drawing.text(1, 12.6, "2. adaptation to the task", align="left", bold=True)
    networks = []
    for y, text, name, role, target, part in (
        (4.0, "much text, no labels", "network", "trained", "guess words of the text", "pre-training"),
        (15.0, "few texts with labels", "network, frozen", "frozen", "classifier", "frozen"),
        (22.6, "few texts with labels", "network, fine-tuned", "trained", "classifier", "fine-tuned"),
    ):
        source = drawing.box(1, y, text, "tokens", 19, 4, part)
        network = drawing.box(29, y, name, role, 18, 4, part)
        goal = drawing.box(56, y, target, "trained" if target == "classifier" else "tokens", 19, 4, part)
        drawing.arrow(source.right, network.left)
        drawing.arrow(network.right, goal.left, "vectors (D)", side="above")
        networks.append(network)
    pre_trained, frozen, fine_tuned = networks
    drawing.arrow(pre_trained.bottom, frozen.top, "its weights", piece=0)
    turn = fine_tuned.left[1] - 1
    drawing.arrow((38, 12.6), (29, turn), via=[(25.4, 12.6), (25.4, turn)], piece=0)
    for x, role, text in ((24, "trained", "weights change"), (44, "frozen", "weights stay as they are")):
        drawing.box(x, 29, "", role, 3, 1.8, next(iter(drawing.focus), None))
        drawing.text(x + 4, 29.9, text, align="left", size=9)
    return drawing
