"""Writes the page for teachers: each chapter's objectives with the sections that teach them, and its exercises."""

import importlib
import re

import nbformat

from course_lib.course import chapters, grade
from course_lib.course.book import glossary

INTRODUCTION = """# What each chapter teaches

For teachers, and for whoever looks for a subject. After each objective stand the sections in which its terms are
introduced, taken from the glossary. The properties are those that the check of an exercise tests, one after the other.

"""


def page():
    """Writes the page.

    Returns:
        A string of Markdown.
    """
    places = glossary.places()
    return INTRODUCTION + "".join(_chapter(path, places) for path in chapters.find())


def _chapter(path, places):
    notebook = nbformat.read(path, as_version=4)
    header = chapters.read_header(notebook.cells[0].source)
    text = f"## {header.number} · {header.title}\n\nThe learner builds {header.builds.rstrip('.')}.\n\n"
    text += f"[Open the chapter](notebooks/{path.name}), which follows {header.follows.rstrip('.')}.\n\n"
    for objective in read_objectives(notebook):
        terms = [glossary.normal(term) for term in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", objective)]
        links = [link for term in terms for link in places.get(term, ()) if f"]({path.name}" in link]
        links = [link.replace("](", "](notebooks/").replace(f"[{header.number} ", "[") for link in dict.fromkeys(links)]
        text += f"- {objective}" + (f" {', '.join(links)}" if links else "") + "\n"
    text += f"\n[Exercises](notebooks/{path.name}#Exercises):\n\n"
    for exercise in grade.exercises_of(notebook):
        module = importlib.import_module(f"course_lib.course.exercises.{exercise['module']}")
        claims = "; ".join(_plain(prop.claim) for prop in getattr(module, exercise["check"]).properties)
        text += f"- **{exercise['title']}**: {claims}\n"
    return text + "\n"


def read_objectives(notebook):
    """Reads the objectives of a chapter.

    Args:
        notebook: an `nbformat.NotebookNode`.

    Returns:
        A list of strings of Markdown, each in one line.
    """
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    section = text.partition("## Objectives")[2].partition("\n## ")[0]
    items = re.findall(r"^- (.+?)(?=^- |\n\n|\Z)", section, re.MULTILINE | re.DOTALL)
    return [" ".join(item.split()).rstrip(";") for item in items]


def _plain(claim):
    return re.sub(r"([*_$<>\[\]`|])", r"\\\1", claim)
