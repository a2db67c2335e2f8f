"""Runs the chapters and saves them, as `make notebooks` does. All stored outputs are made in this way.

`python -m course_lib.course.chapters execute 01 08` runs chapters 01 and 08 (without numbers, all of them), and
`… contents` writes what is made from them: the table of chapters, the contents page, links, and the list of claims.
Times and memory are recorded in `data/runs/chapters.json` and copied from there, so nobody types them.
"""

import argparse
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
        follows: the sections of the article that it follows, the text after **Follows**.
        builds: the text after **You build**.
        takes: the text after **Takes**.
    """

    number: str
    title: str
    follows: str
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
    for part, name in {"follows": "Follows", "builds": "You build", "takes": "Takes"}.items():
        texts = re.findall(rf"^\*\*{name}\*\*(.*?)(?=^\*\*|^\s*$|\Z)", source, re.MULTILINE | re.DOTALL)
        if len(texts) != 1:
            raise ValueError(f"Expected one line that begins with **{name}** in chapter {title[1]}; got {len(texts)}.")
        parts[part] = " ".join(texts[0].rstrip("\\ \n").split())
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
    chapters = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
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

    from course_lib.progress import progress_bar

    notebook = nbformat.read(path, as_version=4)
    number = read_header(notebook.cells[0].source).number
    notebook.cells.append(nbformat.v4.new_code_cell(MEMORY))
    bar = progress_bar(len(notebook.cells), desc=path.stem, unit="cell", leave=False)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_complete=lambda cell, cell_index: bar.update(cell_index + 1 - bar.n),
    )
    start = time.perf_counter()
    with bar:
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
    replace_file(path, nbformat.writes(tidy(notebook)) + "\n")
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
    return f"about {in_words(taken['seconds'])} and {taken['gigabytes']} GB of memory on {taken['cores']} core{plural}."


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
    run = commands.add_parser("execute", help="run chapters, save them, and write what is made from their headers")
    run.add_argument("numbers", nargs="*", metavar="NUMBER", help="such as 01; all chapters without")
    commands.add_parser("contents", help="write the table of chapters, the contents page, links, and the claims")
    options = parser.parse_args(arguments)
    from nbclient.exceptions import CellExecutionError

    from course_lib.course import contents

    try:
        for path in find(options.numbers) if options.command == "execute" else []:
            print(f"{path.stem}: ", end="", flush=True)
            print(describe(execute(path)), flush=True)
        contents.write()
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
    replace_file(path, json.dumps(dict(sorted({**record, number: now}.items())), indent=2, ensure_ascii=False) + "\n")
    return now


def _near(value, other, share):
    return abs(value - other) <= share * other


def in_words(seconds):
    """Says a time as a reader needs it.

    Args:
        seconds: a number.

    Returns:
        A string such as "25 s" or "2.5 minutes".
    """
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


def replace_file(path, text):
    """Writes a text file in one step, if its content changes.

    Args:
        path: path of the file.
        text: its content.
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main())
