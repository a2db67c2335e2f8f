"""Grades the exercises in learners' copies of the chapters: `python -m course_lib.course.grade 01_ada.ipynb`.

It runs each copy in a fresh kernel, up to its end even if cells fail, and then checks every answer by itself, whatever
the copy has printed. An answer's score is the number of its properties that hold before the first that does not. The
command runs the code of the copies on your machine, so grade the work of strangers in a container.
"""

import argparse
import ast
import csv
import dataclasses
import importlib
import pathlib
import re
import sys

import nbformat

from course_lib.course import chapters


@dataclasses.dataclass(frozen=True)
class Grade:
    """The grade of one answer.

    Attributes:
        notebook: name of the copy's file.
        exercise: number and title of the exercise.
        points: number of properties that hold.
        possible: number of properties.
        comment: what the check says about the first property that does not hold.
    """

    notebook: str
    exercise: str
    points: int
    possible: int
    comment: str


def exercises_of(notebook):
    """Lists the exercises of a chapter.

    Args:
        notebook: an `nbformat.NotebookNode`.

    Returns:
        A list of dicts with `title`, such as "1. Temperature"; `module`, such as "chapter_01"; `check`, the name of the
        check in it; and `answer`, the source of its arguments.
    """
    found, title = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (titles := re.findall(r"^\*\*(\d+\. .+?)\*\*", cell.source, re.MULTILINE)):
            title = titles[-1].rstrip(".")
        if "exercise" in cell.metadata.get("tags", []):
            call = ast.parse(cell.source).body[-1].value
            check = {"module": call.func.value.id, "check": call.func.attr}
            found.append({"title": title, **check, "answer": ", ".join(map(ast.unparse, call.args))})
    return found


def grade(path, timeout=1800):
    """Runs a learner's copy and checks its answers.

    Args:
        path: path of the copy. Its name begins with the chapter's number.
        timeout: seconds after which a cell is interrupted.

    Returns:
        A list of `Grade`s.

    Raises:
        ValueError: if there is no chapter with the number.
    """
    from nbclient import NotebookClient

    path = pathlib.Path(path)
    (chapter,) = chapters.find([path.name[:2]])
    exercises = exercises_of(nbformat.read(chapter, as_version=4))
    notebook = nbformat.read(path, as_version=4)
    written = [cell for cell in notebook.cells if cell.cell_type == "code"]
    checks = [
        nbformat.v4.new_code_cell(
            f"from course_lib.course.exercises import {each['module']} as checks\n"
            f"checks.{each['check']}({each['answer']});"
        )
        for each in exercises
    ]
    notebook.cells = written + checks
    client = NotebookClient(
        notebook,
        timeout=timeout,
        interrupt_on_timeout=True,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(chapter.parent)}},
    )
    client.execute()
    return [_grade(path, each, cell) for each, cell in zip(exercises, checks, strict=True)]


def _grade(path, exercise, cell):
    check = getattr(importlib.import_module(f"course_lib.course.exercises.{exercise['module']}"), exercise["check"])
    said = "".join(output.get("text", f"{output.get('ename')}: {output.get('evalue')}") for output in cell.outputs)
    points = len(re.findall(r"^✓", said, re.MULTILINE))
    comment = "" if points == len(check.properties) else re.sub(r"^✓.*\n", "", said, flags=re.MULTILINE).strip()
    return Grade(path.name, exercise["title"], points, len(check.properties), comment)


def main(arguments=None):
    """Runs the command `python -m course_lib.course.grade`.

    Args:
        arguments: list of strings. Defaults to the arguments of the process.

    Returns:
        The exit code for `sys.exit`: 0 if all went well, otherwise a message.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.course.grade", description=__doc__)
    parser.add_argument("copies", nargs="+", help="notebooks whose names begin with the chapter's number")
    parser.add_argument("--csv", help="file to write all grades to")
    options = parser.parse_args(arguments)
    grades = []
    try:
        for copy in options.copies:
            new = grade(copy)
            grades += new
            print(f"{copy}: {sum(each.points for each in new)} of {sum(each.possible for each in new)} points")
            for each in new:
                print(f"  {each.points} of {each.possible}  {each.exercise}")
    except ValueError as error:
        return str(error)
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([field.name for field in dataclasses.fields(Grade)])
            writer.writerows(map(dataclasses.astuple, grades))
    return 0


if __name__ == "__main__":
    sys.exit(main())
