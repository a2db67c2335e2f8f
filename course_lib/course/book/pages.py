"""Writes the sources of the web edition into a folder that has the repository's layout, so that links hold."""

import importlib.util
import pathlib
import re
import shutil

import nbformat

from course_lib.course import chapters, contents
from course_lib.course.book import api, chapter, glossary, objectives, results

# Guides stand in this order. One that is not named here comes before the last three.
FIRST = ("the_library_on_your_own_texts", "docs/your_own_text", "docs/names_in_use", "docs/scale", "commands")
LAST = ("data/README", "what_could_not_be_checked_here", "licence")
CONTENTS = """
```{toctree}
:caption: Chapters
:hidden:
:glob:

notebooks/[0-9]*
```

```{toctree}
:caption: Guides
:hidden:

GUIDES
```

```{toctree}
:caption: Reference
:hidden:

notebooks/glossary
runs
benchmarks
docs/claims
api/index
```
"""


def write(folder):
    """Writes all sources, and removes those of pages that are no more.

    Args:
        folder: path of a folder, which is made if it does not exist.
    """
    folder = pathlib.Path(folder)
    before = set(folder.rglob("*"))
    (folder / "extra").mkdir(parents=True, exist_ok=True)
    written = {*_copies(folder), *_texts(folder)}
    for path in before:
        if path.is_file() and path not in written:
            path.unlink()


def _copies(folder):
    mathjax = pathlib.Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
    patterns = [(chapters.ROOT, pattern) for pattern in ("docs/figures/*.svg", "data/runs/readme.png", "LICENSE")]
    patterns += [(mathjax, f"static/mathjax/{each}") for each in ("tex-chtml.js", "output/chtml/fonts/woff-v2/*")]
    for root, pattern in patterns:
        for path in root.glob(pattern):
            target = folder / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            yield target


def _texts(folder):
    for name, text in pages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            chapters.replace_file(path, text)
        yield path


def pages():
    """Yields the name and the text of every page, and the name and the bytes of the pictures that are made for them."""
    for path in chapters.find():
        yield f"notebooks/{path.name}", _render(chapter.prepare(nbformat.read(path, as_version=4), path.name))
        if chapter.REPOSITORY:
            yield f"extra/colab/{path.name}", _render(chapter.for_colab(nbformat.read(path, as_version=4)))
    yield "notebooks/glossary.md", glossary.page()
    text, figures = results.runs()
    yield from {"runs.md": text, "benchmarks.md": results.benchmarks(), **figures}.items()
    yield from api.pages()
    yield "objectives.md", objectives.page()
    yield "commands.md", commands()
    guides = ["objectives", "commands", "data/README"]
    for path in sorted((chapters.ROOT / "docs").glob("*.md")):
        if path.stem != "claims":
            guides.append(f"docs/{path.stem}")
        yield f"docs/{path.name}", path.read_text(encoding="utf-8")
    yield "data/README.md", (chapters.ROOT / "data" / "README.md").read_text(encoding="utf-8")
    index, *sections = split_readme()
    yield from ((f"{name}.md", text) for name, text in sections)
    guides += [name for name, _ in sections]
    order = [*FIRST, *(name for name in guides if name not in FIRST + LAST), *LAST]
    yield "index.md", index[1] + CONTENTS.replace("GUIDES", "\n".join(name for name in order if name in guides))


def commands():
    """Writes the page of the commands, from what the Makefile says of its targets.

    Returns:
        A string of Markdown.
    """
    makefile = (chapters.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.MULTILINE)
    rows = "".join(f"| `make {name}` | {text.replace('|', chr(92) + '|')} |\n" for name, text in targets)
    heading = "# Commands\n\nIn the folder of the course. `make help` prints this list.\n\n"
    return f"{heading}| command | does |\n| --- | --- |\n{rows}"


def split_readme():
    """Splits README.md into pages: what stands before the table of chapters, and each section after it.

    Returns:
        A list of pairs, a page's name and its text.
    """
    before, table, after = contents.split_readme((chapters.ROOT / "README.md").read_text(encoding="utf-8"))
    beginning, *sections = re.split(r"^## ", after, flags=re.MULTILINE)
    named = [(re.sub(r"\W+", "_", section.partition("\n")[0].lower()), section) for section in sections]
    return [("index", before + table + beginning), *((name, f"# {section}") for name, section in named)]


def _render(notebook):
    return nbformat.writes(notebook) + "\n"
