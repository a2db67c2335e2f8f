"""What every exercise must do, as a class to inherit: its solution passes, each common mistake meets its own hint."""

import re
import typing

import numpy as np


class ExerciseChecks:
    """Inherit it, with `exercises`: for each its check, a solution, and mistakes with a part of the hint of each."""

    exercises: typing.ClassVar = {}

    def pytest_generate_tests(self, metafunc):
        names = list(self.exercises)
        if "mistake" in metafunc.fixturenames:
            metafunc.parametrize("name, mistake", [(name, one) for name in names for one in self.exercises[name][2]])
        elif "name" in metafunc.fixturenames:
            metafunc.parametrize("name", names)
        if "stub" in metafunc.fixturenames:
            metafunc.parametrize("stub", [lambda *_: None, lambda *_: ..., None, ...])

    def test_the_solution_passes(self, name, capsys):
        check, solution, _ = self.exercises[name]
        assert check(solution) is True, capsys.readouterr().out

    def test_a_stub_is_not_written_yet(self, name, stub, capsys):
        assert self.exercises[name][0](stub) is False
        assert capsys.readouterr().out == "Not written yet.\n"

    def test_a_mistake_meets_its_hint(self, name, mistake, capsys):
        check, _, mistakes = self.exercises[name]
        answer, hint = mistakes[mistake]
        assert check(answer) is False
        said = capsys.readouterr().out
        assert re.search(f"Look here: .*(?:{hint})", said), said

    def test_each_property_meets_a_mistake(self, name, capsys):
        check, _, mistakes = self.exercises[name]
        for answer, _ in mistakes.values():
            check(answer)
        said = capsys.readouterr().out
        assert not [prop.claim for prop in check.properties if f"✗ {prop.claim}\n" not in said]


def softmax(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def unsafe_softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def forbid(may):
    return np.where(may, 0.0, -np.inf)
