"""The glossary of the web edition: entries that other pages and the search can point to."""

import re

import nbformat

from course_lib.course import chapters


def page():
    """Writes the page: each letter's list becomes a directive of Sphinx's.

    Returns:
        A string of Markdown.
    """
    text = re.sub(r"(?:^- \*\*.+\n?)+", _letter, _read(), flags=re.MULTILINE)
    return text.replace("(index.ipynb)", "(../index.md)")


def terms():
    """Lists the terms that the glossary explains.

    Returns:
        A dict from a term, as `normal` writes it, to the term as it is written there.
    """
    heads = re.findall(r"^- (\*\*.+?): ", _read(), re.MULTILINE)
    return {normal(name): name for head in heads for name in _names(head)}


def _read():
    notebook = nbformat.read(chapters.ROOT / "notebooks" / "glossary.ipynb", as_version=4)
    return "\n\n".join(cell.source for cell in notebook.cells)


def _names(head):
    return [name.strip("`") for name in re.findall(r"\*\*(.+?)\*\*", head)]


def _letter(found):
    entries = []
    for line in found[0].splitlines():
        head, _, text = line.removeprefix("- ").partition(": ")
        entries.append("\n".join(_names(head)) + f"\n  {text}\n")
    return "```{glossary}\n" + "\n".join(entries) + "```\n"


def places():
    """Lists where each term is introduced.

    Returns:
        A dict from a term, as `normal` writes it, to the links of its entry, strings of Markdown.
    """
    found = {}
    for head, text in re.findall(r"^- (\*\*.+?): (.+)$", _read(), re.MULTILINE):
        links = re.findall(r"\[[^]]*\]\([^)]*\)", text)
        found |= {normal(name): links for name in _names(head)}
    return found


def normal(term):
    """Writes a term in small letters, on one line, and in the singular.

    Args:
        term: a string.

    Returns:
        A string, the same for *attention weights* and *attention weight*.
    """
    return " ".join(term.lower().split()).removesuffix("s")
