"""What exercises share: how they report, how they compare numbers, and that every chapter uses its own."""

import importlib

import nbformat
import numpy as np
import pytest

from course_lib.course import chapters, exercises
from course_lib.course.exercises import Exercise, Property, close


def test_an_exercise_reports_the_first_property_that_fails(capsys):
    double = Exercise(
        Property("2 becomes 4", lambda answer: answer(2) == 4, "Multiply by 2."),
        Property("-1 becomes -2", lambda answer: answer(-1) == -2, "Negative numbers, too."),
    )
    assert double(lambda x: 2 * x) is True
    assert capsys.readouterr().out == "✓ 2 becomes 4\n✓ -1 becomes -2\nAll 2 properties hold.\n"
    assert double(lambda x: abs(2 * x)) is False
    assert capsys.readouterr().out == "✓ 2 becomes 4\n✗ -1 becomes -2\n  Look here: Negative numbers, too.\n"
    assert double(lambda x: "2") is False
    assert capsys.readouterr().out == "✗ 2 becomes 4\n  Look here: Multiply by 2.\n"

    def broken(x):
        return x + atention  # noqa: F821

    assert double(broken) is False
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["✗ 2 becomes 4", "  NameError: name 'atention' is not defined"]
    assert said[2].endswith("of your cell: return x + atention  # noqa: F821") and len(said) == 3, "and no hint"


@pytest.mark.parametrize("actual, same", [([1, 2], True), ([1, 2.1], False), ([[1, 2]], False), ([1, np.nan], False)])
def test_close(actual, same):
    assert close(actual, [1, 2]) is same


@pytest.mark.one_backend
@pytest.mark.parametrize("path", chapters.find(), ids=lambda path: path.name[:2])
def test_a_chapter_uses_each_of_its_exercises_as_a_stub_and_in_the_solutions(path):
    name = f"chapter_{path.name[:2]}"
    module = importlib.import_module(f"{exercises.__name__}.{name}")
    checks = [exercise for exercise, value in vars(module).items() if isinstance(value, Exercise)]
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for tag in ("exercise", "solution"):
        text = "\n".join(cell.source for cell in cells if tag in cell.metadata.get("tags", []))
        assert [check for check in checks if f"{name}.{check}(" in text] == checks


def test_a_function_without_arguments_is_called_once():
    """It may train a model. With arguments, each call is another."""
    calls = []
    properties = [Property(str(i), lambda answer: answer() == answer() == 1, "") for i in range(3)]
    assert Exercise(*properties)(lambda: calls.append("without") or 1)
    assert Exercise(Property("two", lambda answer: answer(1) != answer(1), ""))(
        lambda x: calls.append("with") or len(calls)
    )
    assert calls == ["without", "with", "with"]
