"""The vocabulary of the course's schematics: boxes, tensors, matrices, tokens and arrows, in one look.

A drawing has its origin in the upper left corner, x to the right and y downwards, in units of a tenth of an inch. The
background is transparent, and what stands outside of boxes is of a middle grey, so a drawing is legible on a white and
on a black page. Each colour stands for one role through the whole course.
"""

import dataclasses
import io
import itertools
import math

import numpy as np

COLOURS = {
    "tokens": "#F4F0E2",  # words, ids, logits: what goes in and comes out
    "stream": "#D9D4EE",  # the vectors of the positions
    "query": "#F6C27A",
    "key": "#93C5EA",
    "value": "#8ED3AE",
    "attention": "#E5A9CC",  # scores, weights, and layers that compute them
    "feed_forward": "#F0E68A",
    "norm": "#D3D6DA",
    "trained": "#F29574",
    "frozen": "#C4E1EA",
}
INK, GREY = "#1A1A1A", "#767676"  # the grey has a contrast of 4.5 to 1 with white and with black
SIZE = 10  # of the letters, in points


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle on a drawing, and the points where arrows begin and end.

    Attributes:
        x: its left side.
        y: its upper side.
        width: its width.
        height: its height.
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self):
        """The middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def right(self):
        """The middle of the right side."""
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self):
        """The middle of the upper side."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self):
        """The middle of the lower side."""
        return self.x + self.width / 2, self.y + self.height


class Drawing:
    """A schematic.

    Args:
        width: in tenths of an inch.
        height: in tenths of an inch.
        focus: names of the parts that are shown in colour; of all others only the outline is drawn. By default all are
            in colour. Each method that draws takes its part's name as `part`.
    """

    def __init__(self, width, height, focus=()):
        from matplotlib.figure import Figure

        self.focus = {focus} if isinstance(focus, str) else set(focus)
        self.figure = Figure(figsize=(width / 10, height / 10))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis("off")

    def box(self, x, y, text="", role="stream", width=10.0, height=3.2, part=None, copies=1, dashed=None):
        """Draws a rounded box with a text in its middle.

        Args:
            x: left side.
            y: upper side.
            text: what stands in it, with mathematics between dollars.
            role: a key of `COLOURS`, or None for an outline.
            width: its width.
            height: its height.
            part: name of the part that it belongs to.
            copies: how many lie on top of each other, as in a stack of layers.
            dashed: whether the outline is dashed. Defaults to `role == "frozen"` and to outlines.

        Returns:
            A `Box`.
        """
        from matplotlib.patches import FancyBboxPatch

        dashed = role in ("frozen", None) if dashed is None else dashed
        for copy in reversed(range(copies)):
            self.axes.add_patch(
                FancyBboxPatch(
                    (x + 0.7 * copy, y - 0.7 * copy),
                    width,
                    height,
                    boxstyle="round,pad=0,rounding_size=0.7",
                    facecolor=self._fill(role, part),
                    edgecolor=GREY,
                    linewidth=1,
                    linestyle=(0, (3, 2)) if dashed else "-",
                )
            )
        self._text_in(x + width / 2, y + height / 2, text, role, part)
        return Box(x, y, width, height)

    def tensor(self, x, y, rows, columns, name="", shape="", role="stream", part=None, cell=1.3):
        """Draws a matrix of empty cells, its name in it and its shape below it.

        Args:
            x: left side.
            y: upper side.
            rows: number of rows drawn.
            columns: number of columns drawn.
            name: its name, above it.
            shape: its shape, below it.
            role: a key of `COLOURS`.
            part: name of the part that it belongs to.
            cell: width and height of a cell.

        Returns:
            A `Box`.
        """
        return self.matrix(x, y, np.full((rows, columns), np.nan), name, shape, role, part=part, cell=cell)

    def matrix(
        self, x, y, values, name="", shape="", role="attention", rows=(), columns=(), numbers=None, part=None, cell=2.2
    ):
        """Draws a matrix to scale, each cell as strong as its value.

        Args:
            x: left side.
            y: upper side.
            values: (rows, columns), from 0 (pale) to 1 (full colour). NaN is drawn in full colour. Booleans are drawn
                as a mask: full where true, empty where false.
            name: its name, above it.
            shape: its shape, below it.
            role: a key of `COLOURS`.
            rows: a label for each row, to its left.
            columns: a label for each column, above it. Then the name stands higher.
            numbers: (rows, columns) of texts to write into the cells.
            part: name of the part that it belongs to.
            cell: width and height of a cell.

        Returns:
            A `Box`.
        """
        from matplotlib.patches import Rectangle

        values = np.asarray(values)
        height, width = (cell * length for length in values.shape)
        for (row, column), value in np.ndenumerate(values):
            strength = 1.0 if np.isnan(value) else 0.08 + 0.92 * float(value) if values.dtype != bool else float(value)
            place = x + column * cell, y + row * cell
            colour = self._fill(role if strength else None, part, strength)
            self.axes.add_patch(Rectangle(place, cell, cell, facecolor=colour, edgecolor=GREY, linewidth=0.8))
            if numbers is not None:
                self._text_in(place[0] + cell / 2, place[1] + cell / 2, numbers[row][column], role, part, size=9)
        for row, label in enumerate(rows):
            self.text(x - 0.6, y + (row + 0.5) * cell, label, align="right")
        for column, label in enumerate(columns):
            self.text(x + (column + 0.5) * cell, y - 1.0, label)
        self.text(x + width / 2, y - (2.8 if columns else 1.1), name)
        self.text(x + width / 2, y + height + 1.2, shape, size=9)
        return Box(x, y, width, height)

    def tokens(self, x, y, words, role="tokens", part=None, width=7.0, gap=0.8, height=2.6):
        """Draws a row of boxes with a word in each.

        Args:
            x: left side.
            y: upper side.
            words: strings.
            role: a key of `COLOURS`, or one for each word.
            part: name of the part that it belongs to.
            width: width of each box.
            gap: space between two boxes.
            height: height of each box.

        Returns:
            A list of `Box`.
        """
        roles = [role] * len(words) if isinstance(role, str) else role
        return [
            self.box(x + i * (width + gap), y, word, one, width, height, part)
            for i, (word, one) in enumerate(zip(words, roles, strict=True))
        ]

    def arrow(self, start, end, text="", via=(), side="right", piece=None, head=True):
        """Draws an arrow of straight pieces.

        Args:
            start: a point (x, y).
            end: a point (x, y).
            text: what stands beside it, such as a shape.
            via: the points where it bends.
            side: on which side of it the text stands: "right", "left", "above" or "below".
            piece: index of the piece beside whose middle the text stands. Defaults to the longest.
            head: whether it has a head.
        """
        points = [start, *via, end]
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color=GREY, linewidth=1.3, solid_joinstyle="round", solid_capstyle="butt")
        if head:
            self.axes.annotate(
                "",
                xy=points[-1],
                xytext=points[-2],
                arrowprops={"arrowstyle": "-|>,head_length=0.5,head_width=0.22", "color": GREY, "lw": 1.3,
                            "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        pieces = list(itertools.pairwise(points))
        (x0, y0), (x1, y1) = pieces[piece] if piece is not None else max(pieces, key=lambda ends: math.dist(*ends))
        dx, dy, align = {
            "right": (0.7, 0, "left"),
            "left": (-0.7, 0, "right"),
            "above": (0, -1.0, "center"),
            "below": (0, 1.1, "center"),
        }[side]
        self.text((x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy, text, align=align, size=9)

    def residual(self, start, end, offset=3.0, text=""):
        """Draws a connection around what lies between two points, one above the other.

        Args:
            start: a point (x, y).
            end: a point (x, y).
            offset: how far it goes to the right; negative, to the left.
            text: what stands beside it.
        """
        x = start[0] + offset
        self.arrow(start, end, text, [(x, start[1]), (x, end[1])], "right" if offset > 0 else "left")

    def operation(self, x, y, sign="+", part=None):
        """Draws a small circle with a sign in it.

        Args:
            x: its middle.
            y: its middle.
            sign: such as "+" or "×".
            part: name of the part that it belongs to.

        Returns:
            The `Box` around it.
        """
        from matplotlib.patches import Circle

        self.axes.add_patch(Circle((x, y), 1.1, facecolor=self._fill("stream", part), edgecolor=GREY, linewidth=1))
        self._text_in(x, y, sign, "stream", part)
        return Box(x - 1.1, y - 1.1, 2.2, 2.2)

    def vectors(self, x, y, vectors, arcs=(), radius=4.0, part=None):
        """Draws vectors of two numbers: arrows from the middle of a circle to its edge. Angles are in degrees,
        counter-clockwise from the right.

        Args:
            x: middle of the circle.
            y: middle of the circle.
            vectors: for each, its angle, its role (a key of `COLOURS`, or None for a dashed line), and its name, which
                stands beyond its tip.
            arcs: pairs of angles. An arc is drawn from the first to the second.
            radius: of the circle.
            part: name of the part that it belongs to.

        Returns:
            The `Box` around the circle.
        """
        from matplotlib.patches import Circle, FancyArrow

        def place(angle, distance):
            return x + distance * np.cos(np.radians(angle)), y - distance * np.sin(np.radians(angle))

        self.axes.add_patch(Circle((x, y), radius, facecolor="none", edgecolor=GREY, linewidth=0.8))
        for ends in arcs:
            self.axes.plot(*place(np.linspace(*ends), 0.55 * radius), color=GREY, linewidth=1.3)
        for angle, role, name in vectors:
            tip_x, tip_y = place(angle, radius)
            if role is None:
                self.axes.plot((x, tip_x), (y, tip_y), color=GREY, linewidth=1, linestyle=(0, (3, 2)))
            else:
                size = {"width": 0.45, "head_width": 1.4, "head_length": 1.4, "length_includes_head": True}
                look = {"facecolor": self._fill(role, part), "edgecolor": GREY, "linewidth": 0.8, "zorder": 3}
                self.axes.add_patch(FancyArrow(x, y, tip_x - x, tip_y - y, **size, **look))
            self.text(*place(angle, radius + 1.3), name)
        return Box(x - radius, y - radius, 2 * radius, 2 * radius)

    def frame(self, x, y, width, height, text=""):
        """Draws a dashed outline around several parts, with a text in its upper left corner.

        Args:
            x: left side.
            y: upper side.
            width: its width.
            height: its height.
            text: its name.

        Returns:
            A `Box`.
        """
        self.box(x, y, "", None, width, height)
        self.text(x + 0.8, y + 1.4, text, align="left")
        return Box(x, y, width, height)

    def text(self, x, y, text, align="center", size=SIZE, colour=GREY, bold=False):
        """Writes a text.

        Args:
            x: its left side, middle or right side, as `align` says.
            y: its middle.
            text: a string, with mathematics between dollars.
            align: "left", "center" or "right".
            size: in points.
            colour: a colour. The default is legible outside of boxes.
            bold: whether it is bold.
        """
        weight = "bold" if bold else "normal"
        self.axes.text(x, y, text, ha=align, va="center", color=colour, fontsize=size, weight=weight)

    def svg(self):
        """Renders the drawing.

        Returns:
            The content of an SVG file, a string that depends on nothing but the drawing and Matplotlib's version.
        """
        from matplotlib import rc_context

        file = io.StringIO()
        with rc_context({"svg.hashsalt": "course_lib", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return file.getvalue()

    def _fill(self, role, part, share=1.0):
        is_shown = role and (not self.focus or part in self.focus)
        return _mix(COLOURS[role], share) if is_shown else "none"

    def _text_in(self, x, y, text, role, part, size=SIZE):
        self.text(x, y, text, size=size, colour=GREY if self._fill(role, part) == "none" else INK)


def _mix(colour, share):
    """A colour, and as much white as its share leaves."""
    channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * channel + (1 - share) * 255):02X}" for channel in channels)
