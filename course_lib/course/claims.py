"""Collects what the chapters claim, and which assertion shows it.

A statement in a chapter's Markdown is tagged with a comment after it, `<!-- claim: name -->`, which no reader sees. The
`assert` that shows it has the comment `# claim: name` in the line before it or in one of its own lines. One comment may
have several names, with commas between them; names are valid within their chapter. The cells run as tests, so a claim
that no longer holds fails there; `docs/claims.md` lists all of them side by side, so a changed assertion is seen in a
review. `python -m course_lib.course.chapters contents` writes it.
"""

import ast
import dataclasses
import io
import re
import tokenize

import nbformat

from course_lib.course import chapters

INTRODUCTION = """# What the chapters claim, and what shows it

Every statement of result in a chapter, and below it the assertions that hold it. They stand in the chapter's cells,
which the tests run, in the section named after them. Written by `make notebooks` from the tags in the chapters.
"""
_STATEMENT = re.compile(r"<!-- claim: (.+?) -->", re.DOTALL)
_EVIDENCE = re.compile(r"# claim: (.+)")
# Where a statement begins: a block, an item, a row of a table, another tag, or a sentence after another.
_BEGINS = re.compile(
    r"\n\s*\n|^\s*(?:[-*]|\d+\.) |^\s*#+ |\|\s*\n|-->|(?<=[.!?])[\"*_)]*\s+(?=[*_\"(`$]*[A-Z0-9`$])", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement and its evidence.

    Attributes:
        name: its tag.
        statements: the tagged sentences, strings of Markdown in one line.
        evidence: pairs of the heading of a section and the source of an `assert` in it.
    """

    name: str
    statements: tuple
    evidence: tuple


def collect(notebook):
    """Collects the claims of a chapter.

    Args:
        notebook: an `nbformat.NotebookNode`.

    Returns:
        A list of `Claim`s, in the order in which they are stated. Claims that only have evidence come last.

    Raises:
        ValueError: if a comment in code belongs to no `assert`.
    """
    statements, evidence, heading = {}, {}, "the beginning"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in re.findall(r"^## (.+)$", cell.source, re.MULTILINE):
                heading = line
            for found in _STATEMENT.finditer(cell.source):
                for name in _names(found[1]):
                    statements.setdefault(name, []).append(_sentence(cell.source[: found.start()]))
        elif cell.cell_type == "code":
            for name, source in _tagged_asserts(cell.source):
                evidence.setdefault(name, []).append((heading, source))
    return [
        Claim(name, tuple(statements.get(name, ())), tuple(evidence.get(name, ())))
        for name in {**statements, **evidence}
    ]


def path():
    """Returns the path of the list of all claims."""
    return chapters.ROOT / "docs" / "claims.md"


def render():
    """Makes the list of all claims.

    Returns:
        A string of Markdown.
    """
    parts = [INTRODUCTION]
    for chapter in chapters.find():
        notebook = nbformat.read(chapter, as_version=4)
        if claims := collect(notebook):
            header = chapters.read_header(notebook.cells[0].source)
            parts.append(f"\n## [{header.number} · {header.title}](../notebooks/{chapter.name})\n")
        for claim in claims:
            parts.append("".join(f"\n- {statement}" for statement in claim.statements) + "\n")
            sources = "\n".join(f"{source}  # {heading}" for heading, source in claim.evidence)
            parts.append("\n  ```python\n" + "".join(f"  {line}\n" for line in sources.splitlines()) + "  ```\n")
    return "".join(parts)


def _names(text):
    return [name.strip() for name in text.split(",")]


def _sentence(text):
    """Returns the last sentence of a text, in one line and without tags."""
    text = text.rstrip()
    starts = [found.end() for found in _BEGINS.finditer(text) if text[found.end() :].strip()]
    return " ".join(text[starts[-1] if starts else 0 :].split())


def _tagged_asserts(source):
    """Yields pairs of a claim's name and the source of an `assert` of a code cell."""
    if not _EVIDENCE.search(source):
        return
    asserts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (found := _EVIDENCE.match(token.string)):
            line = token.start[0]
            shown = [node for node in asserts if node.lineno - 1 <= line <= node.end_lineno]
            if not shown:
                raise ValueError(f"Expected the comment {token.string!r} at an assert, or in the line before it.")
            node = max(shown, key=lambda node: node.lineno <= line)  # its own line, before the next statement's
            for name in _names(found[1]):
                yield name, ast.unparse(node)
