"""`docs/names_in_use.md` shows every name that the library exports, and its examples run."""

import pathlib
import re

import pytest

import course_lib
import course_lib.layers
import course_lib.text

pytestmark = pytest.mark.one_backend

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "names_in_use.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    "package", [course_lib, course_lib.layers, course_lib.text], ids=lambda package: package.__name__
)
def test_every_exported_name_has_an_example(package):
    code = "\n".join(line for block in BLOCKS for line in block.splitlines() if not line.startswith("from "))
    assert not [name for name in package.__all__ if not re.search(rf"\b{name}\b", code)]


@pytest.mark.slow
def test_the_examples_run():
    variables = {}
    for block in BLOCKS:
        exec(block, variables)
