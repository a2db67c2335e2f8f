"""The chapters' schematics: a module per chapter, and in it a function per figure.

A function draws a figure and returns it; its docstring is the figure's alternative text in the chapter. The files in
`docs/figures/` are written by `python -m course_lib.course.figures`, and a test compares them with what is drawn.
"""

import importlib
import inspect
import pathlib
import pkgutil

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "docs" / "figures"


def figures():
    """Lists all figures.

    Returns:
        A dict from a file's name, such as "01_attention.svg", to the function that draws it.
    """
    found = {}
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__) if each.name.startswith("chapter_")):
        functions = inspect.getmembers(importlib.import_module(f"{__name__}.{module}"), inspect.isfunction)
        for name, function in functions:
            if not name.startswith("_") and function.__module__ == f"{__name__}.{module}":
                found[f"{module.removeprefix('chapter_')}_{name}.svg"] = function
    return found


def alternative_text(function):
    """Returns a figure's alternative text, on one line.

    Args:
        function: a function that draws a figure.
    """
    return " ".join(function.__doc__.split())


def write():
    """Writes every figure's file, and removes files that no function draws."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = figures()
    for path in FOLDER.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()
    for name, function in drawn.items():
        (FOLDER / name).write_text(function().svg(), encoding="utf-8")
