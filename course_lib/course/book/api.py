"""Writes the pages of the API reference, one per folder of the library, and turns docstrings into what Sphinx reads."""

import ast
import inspect
import re

from course_lib.course import chapters

# Checks of exercises would give solutions away, and schematics are drawings.
LEFT_OUT = ("course.exercises.", "course.figures.")
INTRODUCTION = """# The library, name by name

Each page has the modules of one folder: every public name with its shapes, its errors, its source, and the places in
the chapters that use it. Names with a capital letter are classes. The most used ones can be imported from `course_lib`
itself.

"""
SECTION = """
```{{eval-rst}}
.. automodule:: course_lib.{name}
   :members:
   :ignore-module-all:
   :member-order: bysource
   :show-inheritance:
```
"""


def modules():
    """Lists the modules of the library.

    Returns:
        A dict from a module's name without `course_lib`, such as "layers.attention", to the first line of its
        docstring. A folder stands before its modules.
    """
    root = chapters.ROOT / "course_lib"
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if docstring and not name.endswith(("__init__", "__main__")) and not name.startswith(LEFT_OUT):
            found[name] = docstring.partition("\n")[0]
    return dict(sorted(found.items()))


def pages():
    """Yields the name and the text of every page of the reference."""
    found = modules()
    folders = sorted({name.partition(".")[0] for name in found})
    rows = "".join(f"| [{name}]({name}.md) | {_contents(found, name)} |\n" for name in folders)
    toctree = "\n```{toctree}\n:hidden:\n\n" + "\n".join(folders) + "\n```\n"
    yield "api/index.md", f"{INTRODUCTION}| page | modules |\n| --- | --- |\n{rows}{toctree}"
    for folder in folders:
        inner = [name for name in found if name == folder or name.startswith(f"{folder}.")]
        sections = ((f"\n## {name}\n" if name != folder else "") + SECTION.format(name=name) for name in inner)
        yield f"api/{folder}.md", f"# {folder}\n" + "".join(sections)


def page_of(path):
    """Finds the place of a file or folder of the library in the reference.

    Args:
        path: such as "layers/attention.py" or "text".

    Returns:
        The target of a link from another folder, such as "../api/layers.md#layers.attention".
    """
    folder, *rest = path.removesuffix(".py").split("/")
    return f"../api/{folder}.md" + (f"#{'.'.join([folder, *rest])}" if rest else "")


def _contents(found, folder):
    names = [name for name in found if name.startswith(f"{folder}.")]
    return ", ".join(name.removeprefix(f"{folder}.") for name in names) or found[folder]


def setup(app):
    """Connects the extension to Sphinx.

    Args:
        app: a `sphinx.application.Sphinx`.

    Returns:
        A dict that says the extension can read documents in parallel.
    """
    app.connect("autodoc-process-docstring", _translate, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", _sign)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _translate(app, what, name, obj, options, lines):
    lines[:] = to_rest("\n".join(lines)).split("\n")


def _skip(app, what, name, obj, skip, options):
    return True if what == "class" and isinstance(obj, type) else None  # such as a model's `config_class`


def _sign(app, what, name, obj, options, signature, annotation):
    if signature == "(*args, **kwargs)":  # Keras's layers and optimizers have a `__new__` that hides their `__init__`
        own = inspect.signature(obj.__init__ if what == "class" else obj)
        return str(
            own.replace(parameters=[each for each in own.parameters.values() if each.name != "self"])
        ), annotation


def to_rest(docstring):
    """Turns a docstring, which is written in Markdown, into reStructuredText.

    Args:
        docstring: a string.

    Returns:
        A string in which names between backticks are links, other code is literal, formulas are formulas, and no sign
        has another meaning. Examples, which begin with ">>>", stay as they are.
    """
    return "\n\n".join(part if ">>>" in part else _paragraph(part) for part in docstring.split("\n\n"))


def _paragraph(text):
    texts, last = [], 0
    for found in re.finditer(r"`+([^`]+)`+|\$\$([^$]+)\$\$|\$([^$]+)\$", text):
        code, display, formula = (" ".join((part or "").split()) for part in found.groups())
        if display:
            formula = rf"\displaystyle {display}"
        role = ":math:" if formula else ":py:obj:" if re.fullmatch(r"[\w.]+", code) else "`"
        marked = rf"\ {role}`{formula or code}`" + ("`" if role == "`" else "") + r"\ "
        texts += [_escaped(text[last : found.start()]), marked]
        last = found.end()
    return re.sub(r" \\ |(?<=\n)\\ ", lambda found: found[0][:-2], "".join([*texts, _escaped(text[last:])]))


def _escaped(text):
    lines = []
    for line in text.split("\n"):
        is_argument = re.match(r"\s*\*+\w+:", line)  # such as **options
        line = re.sub(r"\||(?<=\w)_(?=\W|$)", r"\\\g<0>", line)
        lines.append(line if is_argument or line.count("*") % 2 == 0 else line.replace("*", r"\*"))
    return "\n".join(lines)
