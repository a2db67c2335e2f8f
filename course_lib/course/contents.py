"""Writes what is made from the chapters: README.md's table and picture, the contents page, links, and the claims.

`python -m course_lib.course.chapters contents` does it alone, and `make notebooks` at its end.
"""

import base64
import hashlib
import json
import re

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

from course_lib.course import chapters, claims

MARKS = ("<!-- chapters -->\n", "<!-- /chapters -->")
PAGES = {"index": "Contents", "glossary": "Glossary and notation"}  # notebooks without a number
INTRODUCTION = """# Transformers, from attention to pre-trained models

A course in Jupyter chapters, on a library that is small enough to read. The chapters follow an article on pre-trained
language models from section to section; the column *article* says which sections. Each chapter runs alone. If attention
is new to you, start with chapter 00. If you already know it, start with chapter 08.

Each term and each symbol is explained in [Glossary and notation](glossary.ipynb).

"""


def write():
    """Writes the table of chapters, the contents page, links, the list of claims, and the picture of README.md.

    Raises:
        ValueError: if README.md does not have both marks exactly once and in the right order.
    """
    path = chapters.ROOT / "README.md"
    before, _, after = split_readme(path.read_text(encoding="utf-8"))
    chapters.replace_file(path, before + render_table("notebooks/") + after)
    page = new_notebook(cells=[new_markdown_cell(INTRODUCTION + render_table().rstrip(), id="contents")])
    chapters.replace_file(chapters.ROOT / "notebooks" / "index.ipynb", nbformat.writes(chapters.tidy(page)) + "\n")
    _link_chapters()
    claims.path().parent.mkdir(exist_ok=True)
    chapters.replace_file(claims.path(), claims.render())
    _write_picture()


def render_table(folder=""):
    """Makes the table of chapters from their headers and the record.

    Args:
        folder: what stands before each chapter's file name in its link.

    Returns:
        A string of Markdown that ends with a line break.
    """
    record = chapters.read_record()
    rows = ["| # | chapter | article | you build | time |", "| --- | --- | --- | --- | --- |"]
    for path, header in _headers():
        sections = ", ".join(re.findall(r"\d+(?:\.\d+)?", header.follows.split("of the article")[0]))
        took = chapters.in_words(record[header.number]["seconds"]) if header.number in record else "not yet measured"
        link = f"[{header.title}]({folder}{path.name})"
        rows.append(f"| {header.number} | {link} | {sections} | {header.builds.rstrip('.')} | {took} |")
    return "\n".join(rows) + "\n"


def split_readme(text):
    """Splits README.md at the marks of its table.

    Args:
        text: content of README.md.

    Returns:
        Three strings: the text before the table, the table, and the text after it.

    Raises:
        ValueError: if the text does not have both marks exactly once and in the right order.
    """
    opening, closing = MARKS
    if (text.count(opening), text.count(closing)) != (1, 1) or text.index(closing) < text.index(opening):
        raise ValueError(f"Expected README.md to have the lines {opening.strip()} and {closing} once, in this order.")
    start, end = text.index(opening) + len(opening), text.index(closing)
    return text[:start], text[start:end], text[end:]


def render_links(number):
    """Makes the line of links that ends a chapter's summary.

    Args:
        number: two digits.

    Returns:
        A string of Markdown, with the previous chapter, the other pages, and the next chapter.
    """
    links = {header.number: f"[{{}}{header.number} · {header.title}{{}}]({path.name})" for path, header in _headers()}
    numbers = sorted(links)
    place = numbers.index(number)
    before = [links[numbers[place - 1]].format("← ", "")] if place else []
    after = [links[numbers[place + 1]].format("", " →")] if place + 1 < len(numbers) else []
    return " · ".join([*before, *(f"[{title}]({name}.ipynb)" for name, title in PAGES.items()), *after])


def _headers():
    for path in chapters.find():
        yield path, chapters.read_header(nbformat.read(path, as_version=4).cells[0].source)


def _link_chapters():
    """Puts the links before the first section that follows the summary, in a cell tagged `navigation`."""
    for path in chapters.find():
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if "navigation" not in cell.metadata.get("tags", [])]
        heads = [cell.source.startswith(("## For the curious", "## Solutions")) for cell in cells]
        if True not in heads:
            continue
        number = path.name[:2]
        cell = new_markdown_cell(render_links(number), id=hashlib.sha256(path.stem.encode()).hexdigest()[:8])
        cell.metadata = nbformat.from_dict({"tags": ["navigation"]})
        cells.insert(heads.index(True), cell)
        notebook.cells = cells
        chapters.replace_file(path, nbformat.writes(notebook) + "\n")


def _write_picture():
    """Saves the picture for README.md, `data/runs/readme.png`: the output of the cell tagged `readme`."""
    for path in chapters.find():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if "readme" in cell["metadata"].get("tags", []):
                for output in cell["outputs"]:  # none while the chapter is being written
                    if picture := output.get("data", {}).get("image/png"):
                        (chapters.ROOT / "data" / "runs" / "readme.png").write_bytes(base64.b64decode(picture))
