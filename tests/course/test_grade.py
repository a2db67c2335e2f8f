"""Copies for a class have no solutions, and answers are graded by the checks and not by what a copy prints."""

import csv

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib.course import chapters, grade, student_copies

pytestmark = pytest.mark.one_backend


def test_copies_have_exercises_and_neither_solutions_nor_outputs(tmp_path):
    (path,) = student_copies.write(tmp_path / "students", ["01"])
    copy, chapter = (nbformat.read(each, as_version=4) for each in (path, chapters.find(["01"])[0]))
    assert grade.exercises_of(copy) == grade.exercises_of(chapter)
    assert not [cell for cell in copy.cells if "olutions" in cell.source or cell.get("outputs")]
    assert not [cell for cell in copy.cells if "solution" in cell.metadata.get("tags", [])]
    assert len(copy.cells) > 50
    assert "99" in student_copies.main([str(tmp_path), "99"])


def test_every_exercise_of_every_chapter_can_be_graded():
    for path in chapters.find():
        exercises = grade.exercises_of(nbformat.read(path, as_version=4))
        assert len({each["check"] for each in exercises}) == len(exercises) >= 3
        assert all(each["module"] == f"chapter_{path.name[:2]}" and each["answer"] for each in exercises)
        assert len({each["title"] for each in exercises}) == len(exercises), path.name


def test_answers_are_graded_in_spite_of_cells_that_fail_or_pretend(tmp_path, capsys):
    answers = """import numpy as np

def weights_at(query, key, temperature):
    scores = query @ key.T / np.sqrt(query.shape[-1]) / temperature
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)

def window_mask(length, radius):
    return np.abs(np.arange(length)[:, None] - np.arange(length)) < max(radius, 1)

def one_pass(query, pairs):
    ...
"""
    cells = ["1 / 0", answers, "print('✓ all of it\\nAll 9 properties hold.')"]
    copy, table = tmp_path / "01_ada.ipynb", tmp_path / "grades.csv"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine"), *map(new_code_cell, cells)]), copy)
    assert grade.main([str(copy), "--csv", str(table)]) == 0
    right, wrong, missing, undefined = csv.DictReader(table.open(encoding="utf-8"))
    assert right["points"] == right["possible"] != "0" and not right["comment"]
    assert 0 < int(wrong["points"]) < int(wrong["possible"]) and "Look here" in wrong["comment"]
    assert missing["points"] == "0" and missing["comment"] == "Not written yet."
    assert undefined["points"] == "0" and "NameError" in undefined["comment"]
    assert "of" in capsys.readouterr().out
