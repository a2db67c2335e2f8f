"""Prepares a chapter for the web edition: its header, buttons, folded cells, and the alternative texts of its plots."""

import ast
import os
import re

from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell

from course_lib.course import chapters
from course_lib.course.book import api
from course_lib.course.working_copies import cleared

WORDS_PER_MINUTE, LINES_PER_MINUTE = 180, 20  # of prose and of code, for somebody who reads to learn
JUPYTER = os.environ.get("COURSE_JUPYTER", "http://localhost:8888")  # where `make lab` serves
REPOSITORY = os.environ.get("COURSE_REPOSITORY", "")  # owner/name on GitHub; without it there are no buttons for it
INSTALL = """# Installs the library where it is missing, as on Colab; some minutes
import importlib.util

if importlib.util.find_spec("course_lib") is None:
    %pip install --quiet "{requirement}"
"""


def prepare(notebook, name):
    """Prepares a chapter for MyST-NB.

    Args:
        notebook: an `nbformat.NotebookNode`, changed in place. It loses the cell of links, and the empty results of its
            exercises.
        name: its file's name, such as "01_self_attention.ipynb".

    Returns:
        The same notebook.
    """
    header = chapters.read_header(notebook.cells[0].source)
    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = rest[re.search(r"^\*\*Takes\*\*.*\n?", rest, re.MULTILINE).end() :]
    facts = f"**Follows** {header.follows}\n\n**You build** {header.builds}\n\n**Takes** {header.takes}"
    facts += f" Reading it takes about {reading_minutes(notebook)} minutes."
    links = " ".join(_link(text, target) for text, target in _buttons(name).items())
    notebook.cells[0].source = f"{title}\n\n:::{{container}} facts\n{facts}\n\n{links}\n:::\n\n{rest}"
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "navigation" in tags:  # the theme has its own
            continue
        cell.source = re.sub(r"(?<=\]\()\.\./course_lib/([\w/.]+)(?=\))", lambda m: api.page_of(m[1]), cell.source)
        cell.source = cell.source.replace("(index.ipynb", "(../index.md").replace("(glossary.ipynb", "(glossary.md")
        cells.append(cell)
        if cell.cell_type == "code":
            _fold(cell, tags)
            if "exercise" in tags:
                cell.outputs = []
                cells.append(_open_exercise(cell, name))
            cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), "image": {"alt": plot_description(cell)}}
    notebook.cells = cells
    return notebook


def reading_minutes(notebook):
    """Estimates how long it takes to read a chapter, its solutions and collapsed cells not counted.

    Args:
        notebook: an `nbformat.NotebookNode`.

    Returns:
        A whole number, a multiple of 5.
    """
    words = lines = 0
    for cell in notebook.cells:
        if cell.source.startswith("## Solutions"):
            break
        if cell.cell_type == "markdown":
            words += len(re.sub(r"<!--.*?-->|\]\([^)]*\)", "", cell.source, flags=re.DOTALL).split())
        elif "guard" not in cell.metadata.get("tags", []):
            lines += len(cell.source.splitlines())
    return max(5, 5 * round((words / WORDS_PER_MINUTE + lines / LINES_PER_MINUTE) / 5))


def for_colab(notebook):
    """Prepares a chapter for Google Colab, where neither the library nor the pictures are there.

    Args:
        notebook: an `nbformat.NotebookNode`, changed in place. It loses its outputs.

    Returns:
        The same notebook, with a first cell that installs the library where it is missing.
    """

    def elsewhere(found):
        kind = "raw" if found[1] else "blob"  # a picture or a page
        return f"{found[1]}[{found[2]}](https://github.com/{REPOSITORY}/{kind}/HEAD/{found[3]})"

    source = INSTALL.format(requirement=f"course_lib[course] @ git+https://github.com/{REPOSITORY}")
    for cell in notebook.cells:
        cell.source = re.sub(r"(!?)\[([^\]]*)\]\(\.\./([^)]*)\)", elsewhere, cell.source)
    notebook.cells.insert(1, new_code_cell(source, id="install"))
    return cleared(notebook)


def slug(heading):
    """Writes a heading as it stands in JupyterLab's links.

    Args:
        heading: a string.

    Returns:
        The part of a link after "#".
    """
    return heading.replace(" ", "-")


def plot_description(cell):
    """Describes the plot of a cell by what the code writes on it: titles, labels of axes, and names of lines.

    Args:
        cell: a code cell.

    Returns:
        A string. The result of the plot is in the text around it.
    """
    found = {"title": [], "label": [], "xlabel": [], "ylabel": []}
    try:
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # a magic
        calls = []
    for call in calls:
        named = [(keyword.arg, keyword.value) for keyword in call.keywords]
        if isinstance(call.func, ast.Attribute) and call.args:
            named.append((call.func.attr.removeprefix("set_").replace("suptitle", "title"), call.args[0]))
        for kind, value in named:
            if kind in found and (text := _literal(value)):
                found[kind].append(text)
    parts = [", ".join(dict.fromkeys(found["title"])), ", ".join(dict.fromkeys(found["label"]))]
    if found["xlabel"] or found["ylabel"]:
        parts.append(f"{', '.join(dict.fromkeys(found['ylabel']))} against {', '.join(dict.fromkeys(found['xlabel']))}")
    return "Plot. " + "; ".join(filter(None, parts)) if any(parts) else "Plot drawn by the code above."


def _literal(node):
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def _fold(cell, tags):
    if "guard" in tags and "solution" not in tags:
        cell.metadata["tags"] = [*tags, "hide-cell"]
        cell.metadata["mystnb"] = from_dict({"code_prompt_show": "Checked", "code_prompt_hide": "Checked"})


def _buttons(name):
    """Texts and addresses of the links that open a chapter somewhere else."""
    buttons = {"Open in JupyterLab": f"{JUPYTER}/lab/tree/work/{name}"}
    if REPOSITORY:
        buttons["Open in Colab"] = f"https://colab.research.google.com/github/{REPOSITORY}/blob/gh-pages/colab/{name}"
        buttons["Open in Binder"] = f"https://mybinder.org/v2/gh/{REPOSITORY}/HEAD?urlpath=lab/tree/notebooks/{name}"
    return buttons


def _open_exercise(cell, name):
    link = _link("Solve it in JupyterLab", _buttons(name)["Open in JupyterLab"])
    return new_markdown_cell(f":::{{container}} open-exercise\n{link}\n:::", id=f"open-{cell.id}")


def _link(text, target):
    title = ' "your copy of this chapter, while make lab is running"' if target.startswith(JUPYTER) else ""
    return f"[{text}]({target}{title})"
