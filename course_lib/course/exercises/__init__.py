"""Checks for the exercises, one module per chapter. They test an answer property by property."""

import dataclasses
import pathlib
import traceback
from collections.abc import Callable

import numpy as np

_SLIPS = (NameError, AttributeError, ImportError, SyntaxError)  # on which no hint about the subject helps


@dataclasses.dataclass(frozen=True)
class Property:
    """One property that an answer must have.

    Args:
        claim: the property in words.
        holds: function that tells whether an answer has the property.
        hint: hint to print if it does not.
    """

    claim: str
    holds: Callable
    hint: str


class Exercise:
    """A check to call with an answer. It prints ✓ and each property that holds, then ✗ and the first one that fails.

    A wrong answer gets a hint. An exception in the learner's code is shown with its type, message and line, and
    without the hint if a name is wrong.

    Args:
        *properties: several `Property`, the most basic first.

    Example:
        >>> double = Exercise(Property("2 becomes 4", lambda answer: answer(2) == 4, "Multiply by 2."))
        >>> double(lambda x: 2 * x)
        ✓ 2 becomes 4
        All 1 properties hold.
        True
    """

    def __init__(self, *properties):
        self.properties = properties

    def __call__(self, answer):
        """Checks an answer.

        Args:
            answer: what the exercise asks for, usually a function. If it is or returns None or `...`, or raises
                `NotImplementedError`, it counts as not written yet.

        Returns:
            True if every property holds, otherwise False.
        """
        answer = _called_once(answer)
        for prop in self.properties:
            try:
                holds, raised = prop.holds(_written(answer)), ""
            except (NotImplementedError, _NotWritten):
                print("Not written yet.")
                return False
            except Exception as error:  # an error in the learner's code is feedback, not a failure of ours
                holds, line = False, _line_of(error)
                raised = f"\n  {type(error).__name__}: {error}\n  {line}" if line else ""
                if line and isinstance(error, _SLIPS):
                    print(f"✗ {prop.claim}{raised}")
                    return False
            if not holds:
                print(f"✗ {prop.claim}{raised}\n  Look here: {prop.hint}")
                return False
            print(f"✓ {prop.claim}")
        print(f"All {len(self.properties)} properties hold.")
        return True


def _line_of(error):
    """Finds the learner's line in which an exception was raised, if there is one."""
    own = pathlib.Path(__file__).parents[2]  # the library
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = pathlib.Path(frame.filename)
        if "site-packages" not in path.parts and not path.is_relative_to(own) and frame.line:
            return f"in line {frame.lineno} of your cell: {frame.line}"
    return ""


def _called_once(answer):
    """Keeps the result of a call without arguments, which may have trained a model, for the other properties."""
    if not callable(answer):
        return answer
    results = []

    def called(*args, **kwargs):
        if args or kwargs:
            return answer(*args, **kwargs)
        if not results:
            results.append(answer())
        return results[0]

    return called


class _NotWritten(Exception):
    pass


def _written(answer):
    """Returns the answer, wrapped so that a result of None or `...` raises `_NotWritten`."""
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
    """Tells whether two arrays have the same shape and nearly the same values.

    Args:
        actual: an array or tensor.
        expected: an array or tensor.
        tolerance: largest absolute difference allowed.

    Returns:
        True or False.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    return actual.shape == expected.shape and bool(np.all(np.abs(actual - expected) <= tolerance))
