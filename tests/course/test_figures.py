"""The vocabulary of the schematics: what is in focus has colour, and all that is written can be read."""

import pytest

from course_lib.course.figures.drawing import COLOURS, GREY, INK, Drawing

pytestmark = pytest.mark.one_backend


def luminance(colour):
    """Relative luminance, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_letters_are_legible_in_every_box_and_on_white_and_black_pages():
    assert all(contrast(INK, colour) > 7 for colour in COLOURS.values())
    assert contrast(GREY, "#FFFFFF") > 4.5 and contrast(GREY, "#000000") > 4.5
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_only_what_is_in_focus_has_colour():
    drawing = Drawing(40, 10, "encoder")
    for part in ("encoder", "decoder"):
        drawing.box(1, 1, "norm", "norm", part=part)
    filled, empty = [patch.get_facecolor()[3] for patch in drawing.axes.patches]
    assert (filled, empty) == (1, 0)


def test_a_stack_has_its_copies_and_tokens_stand_side_by_side():
    drawing = Drawing(40, 10)
    drawing.box(1, 5, "block", copies=3)
    assert len(drawing.axes.patches) == 3
    first, second = drawing.tokens(1, 1, ["a", "b"], width=7, gap=1)
    assert second.x - first.x == 8 and first.right == (8, second.left[1])


def test_a_mask_is_empty_where_it_forbids():
    drawing = Drawing(10, 10)
    drawing.matrix(1, 1, [[True, False]])
    assert [patch.get_facecolor()[3] for patch in drawing.axes.patches] == [1, 0]


def test_vectors_turn_counter_clockwise_and_end_on_the_circle():
    drawing = Drawing(20, 20)
    circle = drawing.vectors(10, 10, [(0, "query", "q"), (90, "key", "k")], [(0, 90)], radius=4)
    right, up = (patch.get_xy() for patch in drawing.axes.patches[1:])  # the corners of two arrows
    assert (circle.right, circle.top) == ((14, 10), (10, 6))
    assert tuple(right[right[:, 0].argmax()].round(6)) == circle.right
    assert tuple(up[up[:, 1].argmin()].round(6)) == circle.top  # y grows downwards
