"""Pictures: each square stands where its labels say and has the colour of its number, to the pixel."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops

from course_lib.course import plots

pytestmark = pytest.mark.one_backend

MATRIX = np.array([[0.0, 0.3, 1.0], [0.5, 0.8, 0.2]])


@pytest.fixture(autouse=True)
def apart():
    """Each test starts from Matplotlib's own style, draws no window and leaves no figure."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        plt.switch_backend("agg")
        yield
        plt.close("all")


def seen(ax):
    """Draws, and returns a function: the colour at a place of a heatmap, three numbers from 0 to 1."""
    ax.figure.canvas.draw()
    picture = np.asarray(ax.figure.canvas.buffer_rgba())[::-1]  # from the bottom, as Matplotlib counts

    def colour(column, row):
        x, y = ax.transData.transform((column, row))
        return picture[int(y), int(x), :3] / 255

    return colour


@pytest.mark.parametrize(("limits", "low", "high"), [((0, 1), 0, 1), ((-1, 2), -1, 2), (None, 0.2, 1.0)])
def test_each_square_has_its_place_and_its_colour(limits, low, high):
    matrix = np.where(MATRIX == 0, 0.4, MATRIX)
    ax = plots.heatmap(matrix, "ab", "cde", limits=limits, colours="Reds")
    colour = seen(ax)
    for (row, column), value in np.ndenumerate(matrix):
        expected = matplotlib.colormaps["Reds"]((value - low) / (high - low))[:3]
        np.testing.assert_allclose(colour(column, row), expected, atol=0.01)
    assert ax.transData.transform((0, 0))[1] > ax.transData.transform((0, 1))[1], "the first row is at the top"
    np.testing.assert_allclose(colour(0.5, 0.25), 1, atol=0.3)  # a white line between two squares


def test_booleans_and_tensors_are_drawn_too():
    for matrix in (MATRIX > 0.4, ops.convert_to_tensor(MATRIX > 0.4)):
        colour = seen(plots.heatmap(matrix))
        assert np.all(colour(0, 0) > 0.9) and colour(2, 0).sum() < 1


def labels(axis):
    return {
        float(tick): label.get_text() for tick, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    }


def test_labels_stand_at_their_rows_and_columns():
    ax = plots.heatmap(MATRIX, ["a", 2], ["it", "a", "horse"])
    assert labels(ax.yaxis) == {0: "a", 1: "2"} and labels(ax.xaxis) == {0: "it", 1: "a", 2: "horse"}
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {45}, "long ones are turned"
    assert {label.get_rotation() for label in plots.heatmap(MATRIX, "ab", "cde").get_xticklabels()} == {0}
    ax = plots.heatmap(MATRIX)
    assert labels(ax.yaxis) == labels(ax.xaxis) == {}


def test_numbers_stand_in_their_squares_and_can_be_read():
    ax = plots.heatmap(MATRIX, numbers=".2f")
    written = {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts}
    assert {place: text for place, (text, _) in written.items()} == {
        (column, row): f"{value:.2f}" for (row, column), value in np.ndenumerate(MATRIX)
    }
    colour = seen(ax)
    for (column, row), (_, ink) in written.items():
        assert ink == ("white" if colour(column + 0.35, row + 0.35).mean() < 0.5 else "black")
    assert {ink for _, ink in written.values()} == {"white", "black"}
    assert not plots.heatmap(MATRIX).texts


def test_a_heatmap_is_drawn_where_it_is_told():
    _, (left, right) = plots.subplots(1, 2)
    assert plots.heatmap(MATRIX, ax=right, title="weights") is right
    assert len(right.images) == 1 and not left.images and len(plt.get_fignums()) == 1
    assert (left.get_title(), right.get_title()) == ("", "weights")
    assert plots.heatmap(MATRIX).figure is not right.figure


def test_figures_have_the_size_and_the_style_that_were_asked_for():
    figure, axes = plots.subplots(2, 3, width=7, height=4, sharex="col")
    assert axes.shape == (2, 3) and figure.get_size_inches().tolist() == [7, 4]
    axes[0, 0].set_xlim(3, 5)
    assert axes[1, 2].get_xlim() != (3, 5) and axes[1, 0].get_xlim() == (3, 5)
    assert not axes[0, 0].spines["top"].get_visible() and axes[0, 0].spines["left"].get_visible()
    (line,) = axes[0, 0].plot([1, 2])
    assert line.get_linewidth() == plots.STYLE["lines.linewidth"]


def test_figures_are_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    plots.subplots()
    plots.show()
    assert shown == [[1]]
