"""Each statement of result has an assertion that shows it, and a list shows both side by side."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib.course import chapters, claims

pytestmark = pytest.mark.one_backend
PATHS = chapters.find()


def test_statements_and_evidence_find_each_other():
    notebook = new_notebook(
        cells=[
            new_markdown_cell(
                "## 1. One\n\nFirst sentence. A loss of 1.5\nis *lower* than 2.<!-- claim: lower -->\n\n"
                "- An item.<!-- claim: item, lower -->\n- Another.\n\n| a | b |<!-- claim: row -->"
            ),
            new_code_cell("assert 1.5 < 2  # claim: lower\n# claim: item\nassert (\n    3\n    > 2\n)\nassert 4 > 3"),
            new_code_cell("if True:\n    assert 5 > 4  # claim: alone\n    assert 6 > 5\ntext = '# claim: none'"),
        ]
    )
    lower, item, row, alone = claims.collect(notebook)
    assert lower.statements == ("A loss of 1.5 is *lower* than 2.", "An item.")
    assert lower.evidence == (("1. One", "assert 1.5 < 2"),)
    assert item.evidence == (("1. One", "assert 3 > 2"),)
    assert row.statements == ("| a | b |",) and not row.evidence
    assert not alone.statements and alone.evidence == (("1. One", "assert 5 > 4"),)


def test_evidence_has_to_be_an_assertion():
    with pytest.raises(ValueError, match="at an assert"):
        claims.collect(new_notebook(cells=[new_code_cell("a = 1  # claim: one\nb = 2")]))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_claim_lacks_its_statement_or_its_evidence(path):
    for claim in claims.collect(nbformat.read(path, as_version=4)):
        assert claim.statements and claim.evidence, claim


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_item_of_the_summary_is_shown(path):
    """An item without a result, such as a definition, says so: `<!-- no result -->`. Chapters without tags follow."""
    notebook = nbformat.read(path, as_version=4)
    if not claims.collect(notebook):
        pytest.skip("no claim of this chapter is tagged yet")
    sources = [cell.source for cell in notebook.cells if cell.source.startswith("## Summary")]
    items = re.findall(r"^- (?:.|\n(?!- |\n))+", sources[0], re.MULTILINE)
    assert items
    assert not [item for item in items if not re.search(r"<!-- (?:claim: .+|no result) -->", item)]


def test_the_list_is_what_the_chapters_say():
    assert claims.path().read_text(encoding="utf-8") == claims.render(), "python -m course_lib.course.chapters contents"
