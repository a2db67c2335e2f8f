"""Copies of the chapters for a class: without solutions and without outputs.

`python -m course_lib.course.student_copies students 01 02` writes those of two chapters into the folder `students/`.
Without numbers it writes all of them. A folder beside `notebooks/` keeps the pictures and links working.
"""

import argparse
import pathlib
import re
import sys

import nbformat

from course_lib.course import chapters
from course_lib.course.working_copies import cleared


def without_solutions(notebook):
    """Removes the section "Solutions", which is a chapter's last, the sentence that announces it, and all outputs.

    Args:
        notebook: an `nbformat.NotebookNode`, changed in place.

    Returns:
        The same notebook.
    """
    starts = [place for place, cell in enumerate(notebook.cells) if cell.source.startswith("## Solutions")]
    notebook.cells = notebook.cells[: starts[0]] if starts else notebook.cells
    for cell in notebook.cells:
        cell.source = re.sub(r"\s*\bSolutions\s+are\s+at\s+the\s+end[^.]*\.", "", cell.source)
    return cleared(notebook)


def write(folder, numbers=()):
    """Writes the copies. Existing files are replaced.

    Args:
        folder: path of the folder, which is made if it does not exist.
        numbers: of chapters, such as "01". Defaults to all chapters.

    Returns:
        A list of the paths of the copies.

    Raises:
        ValueError: if there is no chapter with one of the numbers.
    """
    folder = pathlib.Path(folder)
    paths = chapters.find(numbers)
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        nbformat.write(without_solutions(nbformat.read(path, as_version=4)), folder / path.name)
    return [folder / path.name for path in paths]


def main(arguments=None):
    """Runs the command `python -m course_lib.course.student_copies`.

    Args:
        arguments: list of strings. Defaults to the arguments of the process.

    Returns:
        The exit code for `sys.exit`: 0 if all went well, otherwise a message.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.course.student_copies", description=__doc__)
    parser.add_argument("folder", help="where to write them")
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="such as 01; all chapters without")
    options = parser.parse_args(arguments)
    try:
        print(*write(options.folder, options.numbers), sep="\n")
    except ValueError as error:
        return str(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
