"""Checks for the chapters' exercises, one module a chapter: an answer is examined property by property."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Property:
    """One thing that must hold of an answer.

    Args:
        claim: what holds, in words.
        holds: from the answer to whether it does.
        hint: where to look if it does not.
    """

    claim: str
    holds: Callable
    hint: str


class Exercise:
    """A check to call with an answer. It prints what holds and, at the first property that does not, where to look.

    Args:
        *properties: `Property` after `Property`, the most basic first.

    Example:
        >>> double = Exercise(Property("2 becomes 4", lambda answer: answer(2) == 4, "Multiply by 2."))
        >>> double(lambda x: 2 * x)
        holds: 2 becomes 4
        All 1 properties hold.
        True
    """

    def __init__(self, *properties):
        self.properties = properties

    def __call__(self, answer):
        """Examines an answer.

        Args:
            answer: what the exercise asks for, mostly a function. One that raises `NotImplementedError` or returns
                None counts as not yet written.

        Returns:
            Whether every property holds.
        """
        for prop in self.properties:
            try:
                holds, raised = prop.holds(_written(answer)), ""
            except (NotImplementedError, _NotWritten):
                print("Not written yet.")
                return False
            except Exception as error:  # whatever a learner's code raises is a finding, not our failure
                holds, raised = False, f" It raised {type(error).__name__}: {error}."
            if not holds:
                print(f"fails: {prop.claim}.{raised}\nLook here: {prop.hint}")
                return False
            print(f"holds: {prop.claim}")
        print(f"All {len(self.properties)} properties hold.")
        return True


class _NotWritten(Exception):
    pass


def _written(answer):
    """The answer, with None as its result meaning that it is not written."""
    if answer is None or answer is Ellipsis:
        raise _NotWritten
    if not callable(answer):
        return answer

    def checked(*args, **kwargs):
        result = answer(*args, **kwargs)
        if result is None or result is Ellipsis:
            raise _NotWritten
        return result

    return checked


def close(actual, expected, tolerance=1e-5):
    """Whether two arrays have one shape and nearly the same values.

    Args:
        actual: an array or tensor.
        expected: an array or tensor.
        tolerance: largest difference allowed, absolute.

    Returns:
        True or False.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    return actual.shape == expected.shape and bool(np.all(np.abs(actual - expected) <= tolerance))
