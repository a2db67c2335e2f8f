"""Runs the chapters and saves them, as `make notebooks` does. All stored outputs are made in this way.

`python -m course_lib.course.chapters execute 01 08` runs chapters 01 and 08 (without numbers, all of them). `… table`
writes the table of chapters into README.md. Times and memory are recorded in `data/runs/chapters.json` and copied from
there into each chapter's header and the table, so nobody types them.
"""

import argparse
import base64
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKS = ("<!-- chapters -->\n", "<!-- /chapters -->")
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# The kernel's peak resident memory, in GB. Linux reports it in kB and macOS in bytes.
MEMORY = """
import resource, sys
resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)
"""


@dataclasses.dataclass(frozen=True)
class Header:
    """The header in a chapter's first cell: `# 01 · Title`, and a paragraph or line for each bold word.

    Attributes:
        number: two digits, as in the file's name.
        title: the text after the dot.
        mirrors: the sections of the article that it follows, the text after **Mirrors**.
        builds: the text after **Builds**.
        takes: the text after **Takes**.
    """

    number: str
    title: str
    mirrors: str
    builds: str
    takes: str


def read_header(source):
    """Parses a chapter's first cell.

    Args:
        source: the cell's Markdown, a string.

    Returns:
        A `Header`.

    Raises:
        ValueError: if the cell does not begin with `# 01 · Title`, or does not have each bold word once.
    """
    title = re.match(r"# (\d\d) · (.+)\n", source + "\n")
    if not title:
        raise ValueError(f"Expected a chapter to begin with '# 01 · Its title'; got {source[:60]!r}.")
    parts = {}
    for name in ("Mirrors", "Builds", "Takes"):
        texts = re.findall(rf"^\*\*{name}\*\*(.*?)(?=^\*\*|^\s*$|\Z)", source, re.MULTILINE | re.DOTALL)
        if len(texts) != 1:
            raise ValueError(f"Expected one line that begins with **{name}** in chapter {title[1]}; got {len(texts)}.")
        parts[name.lower()] = " ".join(texts[0].rstrip("\\ \n").split())
    return Header(title[1], title[2].strip(), **parts)


def find(numbers=()):
    """Finds the notebooks of chapters.

    Args:
        numbers: strings such as "01". Defaults to all chapters.

    Returns:
        A list of paths, in the chapters' order.

    Raises:
        ValueError: if there is no chapter with one of the numbers.
    """
    chapters = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    if unknown := [number for number in numbers if number not in chapters]:
        raise ValueError(f"Expected chapters among {', '.join(chapters)}; got {', '.join(unknown)}.")
    return [path for number, path in chapters.items() if not numbers or number in numbers]


def execute(path):
    """Runs a chapter in a fresh kernel on TensorFlow, and saves it with its outputs, time and memory.

    The file is replaced in one step, after the last cell has run; if a cell fails, the file stays as it was.

    Args:
        path: path of the notebook.

    Returns:
        A dict of this run's measurements: `seconds`, `gigabytes`, `cores`, `processor` and `date`.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell without the tag `raises-exception` fails.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    number = read_header(notebook.cells[0].source).number
    notebook.cells.append(nbformat.v4.new_code_cell(MEMORY))
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    start = time.perf_counter()
    client.execute(env={**os.environ, "KERAS_BACKEND": "tensorflow"}, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    gigabytes = float(notebook.cells.pop().outputs[0].data["text/plain"])
    now = {
        "seconds": round(seconds),
        "gigabytes": round(gigabytes, 1),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "date": datetime.date.today().isoformat(),
    }
    source = notebook.cells[0].source
    takes = describe(_record(number, now))
    notebook.cells[0].source = re.sub(r"^\*\*Takes\*\*.*$", f"**Takes** {takes}", source, flags=re.MULTILINE)
    _replace(path, nbformat.writes(tidy(notebook)) + "\n")
    return now


def tidy(notebook):
    """Removes details that differ from run to run without meaning, so a diff shows only real changes.

    Args:
        notebook: an `nbformat.NotebookNode`, changed in place. It gets the course's kernel and language. Cells keep
            their ids, tags and hidden sources, and outputs lose their metadata.

    Returns:
        The same notebook.
    """
    from nbformat import from_dict

    notebook.metadata = from_dict(KERNEL)
    for cell in notebook.cells:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        kept = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        cell.metadata = from_dict(kept | ({"jupyter": {"source_hidden": True}} if hidden else {}))
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = from_dict({})
    return notebook


def read_record():
    """Reads the recorded measurements: a dict from a chapter's number to a dict that `execute` returned."""
    path = ROOT / "data" / "runs" / "chapters.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def describe(taken):
    """Describes a chapter's time and memory in words, for the text after **Takes**.

    Args:
        taken: an entry of the record.

    Returns:
        A string such as "about 25 s and 1.3 GB of memory on 2 cores."
    """
    plural = "" if taken["cores"] == 1 else "s"
    return f"about {_time(taken['seconds'])} and {taken['gigabytes']} GB of memory on {taken['cores']} core{plural}."


def render_table():
    """Makes the table of chapters for README.md from the chapters' headers and the record.

    Returns:
        A string of Markdown that ends with a line break.
    """
    record = read_record()
    rows = ["| # | chapter | seed | builds | time |", "| --- | --- | --- | --- | --- |"]
    for path in find():
        header = read_header("".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]))
        sections = ", ".join(re.findall(r"\d+(?:\.\d+)?", header.mirrors.split("of the seed")[0]))
        took = _time(record[header.number]["seconds"]) if header.number in record else "not yet measured"
        link = f"[{header.title}](notebooks/{path.name})"
        rows.append(f"| {header.number} | {link} | {sections} | {header.builds.rstrip('.')} | {took} |")
    return "\n".join(rows) + "\n"


def write_table():
    """Writes the table of chapters between its marks in README.md.

    Raises:
        ValueError: if README.md does not have both marks exactly once and in the right order.
    """
    path = ROOT / "README.md"
    before, table, after = split_readme(path.read_text(encoding="utf-8"))
    if table != render_table():
        _replace(path, before + render_table() + after)


def write_picture():
    """Saves the picture for README.md, `data/runs/readme.png`: the output of the cell tagged `readme`."""
    for path in find():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if "readme" in cell["metadata"].get("tags", []):
                pictures = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output["data"]]
                (ROOT / "data" / "runs" / "readme.png").write_bytes(base64.b64decode(pictures[0]))


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


def main(arguments=None):
    """Runs the command `python -m course_lib.course.chapters`.

    Args:
        arguments: list of strings. Defaults to the arguments of the process.

    Returns:
        The exit code for `sys.exit`: 0 if all went well, otherwise a message.
    """
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.course.chapters", description="Run and save the chapters."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run chapters, save them, and write README.md's table and picture")
    run.add_argument("numbers", nargs="*", metavar="NUMBER", help="such as 01; all chapters without")
    commands.add_parser("table", help="write the table of chapters into README.md, and its picture")
    options = parser.parse_args(arguments)
    from nbclient.exceptions import CellExecutionError

    try:
        for path in find(options.numbers) if options.command == "execute" else []:
            print(f"{path.stem}: ", end="", flush=True)
            print(describe(execute(path)), flush=True)
        write_table()
        write_picture()
    except CellExecutionError as error:
        return f"a cell failed, and {path.name} stays as it was.\n" + re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    except ValueError as error:
        return str(error)
    return 0


def _record(number, now):
    """Records a chapter's measurements if they differ from the record by more than noise. Returns the valid ones."""
    record = read_record()
    last = record.get(number)
    if last and _near(now["seconds"], last["seconds"], 0.3) and _near(now["gigabytes"], last["gigabytes"], 0.15):
        return last
    path = ROOT / "data" / "runs" / "chapters.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(dict(sorted({**record, number: now}.items())), indent=2, ensure_ascii=False) + "\n")
    return now


def _near(value, other, share):
    return abs(value - other) <= share * other


def _time(seconds):
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 30) / 2:g} minutes"


def _processor():
    """Returns the processor's name, or the machine type if the system does not give a name."""
    if sys.platform == "darwin":
        return subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True
        ).stdout.strip()
    if (info := pathlib.Path("/proc/cpuinfo")).exists():
        name = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        return name[1] if name else platform.machine()
    return platform.machine()


def _replace(path, text):
    """Writes a file in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main())
