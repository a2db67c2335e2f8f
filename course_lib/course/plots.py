"""Plots that the chapters share, in one style. They only draw arrays, and do not depend on any model."""

import logging

import numpy as np

# Blue, vermilion, green, purple, grey: readers with red–green blindness can tell them apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777")
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
}


def subplots(rows=1, columns=1, width=8.0, height=3.0, **options):
    """Makes a new figure in the course's style.

    Args:
        rows: number of rows of axes.
        columns: number of columns of axes.
        width: width of the figure, in inches.
        height: height of the figure, in inches.
        **options: further arguments of `matplotlib.pyplot.subplots`.

    Returns:
        The figure, and its axes: a single object if there is only one, otherwise an array.
    """
    plt = _pyplot()
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def show():
    """Displays the figures drawn in this cell. Call it in the last line of a cell that draws."""
    _pyplot().show()


def heatmap(matrix, rows=None, columns=None, ax=None, title=None, limits=(0, 1), numbers=None, colours="Blues"):
    """Draws a matrix with one square per entry, such as attention weights or a mask.

    Args:
        matrix: array or tensor (rows, columns) of numbers or booleans.
        rows: a label for each row, such as the words that attend.
        columns: a label for each column, such as the words attended to.
        ax: the axes to draw on. Defaults to new axes.
        title: a string.
        limits: values of the palest and of the strongest colour, or None for the minimum and maximum of the matrix.
        numbers: format such as ".2f" to write each entry into its square. By default nothing is written.
        colours: name of a Matplotlib colour map.

    Returns:
        The axes.
    """
    matrix = np.asarray(matrix).astype("float64")
    if ax is None:
        _, ax = subplots(width=4, height=4)
    low, high = limits or (matrix.min(), matrix.max())
    image = ax.imshow(matrix, cmap=colours, vmin=low, vmax=high)
    for axis, labels in ((ax.yaxis, rows), (ax.xaxis, columns)):
        labels = [] if labels is None else [str(label) for label in labels]
        axis.set_ticks(range(len(labels)), labels)
        if axis is ax.xaxis and max(map(len, labels), default=0) > 2:
            axis.set_ticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_xticks(np.arange(matrix.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(matrix.shape[0] + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(True, which="minor", color="white", linewidth=1, alpha=1)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    if numbers:
        for (row, column), value in np.ndenumerate(matrix):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            ax.text(column, row, f"{value:{numbers}}", ha="center", va="center", color="white" if dark else "black")
    if title:
        ax.set_title(title)
    return ax


def _pyplot():
    # At its first import on a machine, Matplotlib lists the fonts and warns that this takes a while.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    return plt
