"""Writes two pages from what was measured: the recorded runs of `data/runs/`, and the benchmarks."""

import ast
import base64
import json
import math
import re

import nbformat

from course_lib.course import chapters
from course_lib.course.book import chapter
from course_lib.experiments import EXPERIMENTS

RUNS = """# Every recorded run

What takes too long for a chapter is run by a command and kept in `data/runs/`, with every seed's result. The chapters
draw their figures from these records. A test recomputes a few steps of each run and compares them.

"""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
BENCHMARKS = """# Speed

Our code beside other libraries, as `make bench` measures it. Each script runs all of them in one process or right after
one another, on the same machine. Rows are what was run, columns what was measured.

"""


def runs():
    """Writes the page of the recorded runs.

    Returns:
        A pair: the page's Markdown, and a dict from the file names of its figures to their content.
    """
    used, text, figures = _uses(), RUNS, {}
    for name, module in EXPERIMENTS.items():
        path = chapters.ROOT / "data" / "runs" / f"{name}.json"
        if not path.is_file():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        text += f"## {name}\n\n{_purpose(module)}\n\n{_origin(record)}"
        for link, output, alt in used.get(name, ()):
            text += f"Used in {link}.\n\n"
            if output and name not in figures:
                figures[name] = output
                text += f"![{alt}](runs/{name}.png)\n\n"
    rows = [
        f"| {number} | {chapters.in_words(taken['seconds'])} | {taken['gigabytes']} GB | {taken['cores']} | "
        f"{taken['processor']} | {taken['date']} |\n"
        for number, taken in chapters.read_record().items()
    ]
    text += "## The chapters themselves\n\n| chapter | time | memory | cores | processor | date |\n"
    text += "| --- " * 6 + "|\n" + "".join(rows)
    return text, {f"runs/{name}.png": base64.b64decode(picture) for name, picture in figures.items()}


def benchmarks():
    """Writes the page of the benchmarks.

    Returns:
        A string of Markdown.
    """
    text = BENCHMARKS
    for path in sorted((chapters.ROOT / "benchmarks").glob("*.json")):
        script = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))
        text += f"## {path.stem}\n\n{ast.get_docstring(script).partition(chr(10) * 2)[0]}\n\n"
        text += tables(json.loads(path.read_text(encoding="utf-8")), level=3)
    for path in sorted((chapters.ROOT / "data" / "runs").glob("accelerator-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        text += f"## {record['device']['name']}\n\nFrom `make accelerator`.\n\n" + tables(record, level=3)
    return text


def tables(measured, level):
    """Writes a dict of measurements: single values as a list, dicts of values as one table, others as sections.

    Args:
        measured: a dict from names to numbers, strings, lists or dicts.
        level: level of the headings of its sections.

    Returns:
        A string of Markdown.
    """
    columns = {name: part for name, part in measured.items() if isinstance(part, dict) and _is_flat(part)}
    text = "".join(
        f"- {name}: {_shown(part)}\n" for name, part in measured.items() if not isinstance(part, dict) and part != []
    )
    if columns:
        rows = list(dict.fromkeys(row for part in columns.values() for row in part))
        text += f"\n| | {' | '.join(columns)} |\n" + "| --- " * (len(columns) + 1) + "|\n"
        for row in rows:
            cells = (_shown(part[row]) if row in part else "" for part in columns.values())
            text += f"| {row} | {' | '.join(cells)} |\n"
    text += "\n"
    for name, part in measured.items():
        if isinstance(part, dict) and name not in columns:
            text += f"{'#' * level} {name}\n\n{tables(part, level + 1)}"
    return text


def _is_flat(part):
    return not any(isinstance(value, dict) for value in part.values())


def _shown(value):
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "yes", False: "no"}.get(value, str(value))
    if value and not 1e-4 <= abs(value) < 1e6:
        power = 3 * math.floor(math.log10(abs(value)) / 3)
        return f"{value / 10**power:.3g} × 10{str(power).translate(_RAISED)}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _purpose(module):
    path = chapters.ROOT / f"{module.replace('.', '/')}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition("\n\n")[0]


def _origin(record):
    took = chapters.in_words(record["seconds"]) if record["seconds"] > 60 else "not recorded: its parts were cached"
    rows = {
        "command": f"`{record['command']}`",
        "date": record["date"],
        "machine": f"{record['machine']}, {record['backend']}",
        "time": took,
        "commit": f"`{record['commit']}`",
        "recipe": "; ".join(f"{name} {_shown(value)}" for name, value in record["recipe"].items() if _is_short(value)),
        "results": f"{len(record['results'])}, in `data/runs/{record['name']}.json`",
    }
    rows |= {f"confirmed {stamp['date']}": stamp["why"] for stamp in record["stamps"]}
    first, *others = (f"| {name} | {value} |\n" for name, value in rows.items())
    return f"{first}| --- | --- |\n{''.join(others)}\n"


def _is_short(value):
    return value not in ([], "") and not isinstance(value, dict) and len(str(value)) < 60


def _uses():
    """For each experiment, the sections that load its record: a link, the plot there (base64), and its description."""
    found = {}
    for path in chapters.find():
        notebook, heading, names = nbformat.read(path, as_version=4), "", []
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and (headings := re.findall(r"^## (.+)$", cell.source, re.MULTILINE)):
                heading, names = headings[-1], []
            if cell.cell_type != "code":
                continue
            names += re.findall(r"experiments\.load\(\"([\w-]+)\"\)", cell.source)
            link = f"[{path.name[:2]}, {heading}](notebooks/{path.name}#{chapter.slug(heading)})"
            plots = [picture for output in cell.outputs if (picture := output.get("data", {}).get("image/png"))]
            for name in names:
                places = found.setdefault(name, {})
                if plots and not places.get(link, ("", ""))[0]:
                    places[link] = plots[0], chapter.plot_description(cell)
                places.setdefault(link, ("", ""))
    return {name: [(link, *plot) for link, plot in places.items()] for name, places in found.items()}
