"""The command that runs the chapters, and what every chapter has to have. `pytest --nbval notebooks` runs them."""

import ast
import copy
import json
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.course import chapters, contents, figures

pytestmark = pytest.mark.one_backend

HEADER = """# 01 · A title

**Follows** sections 2 and 4.1 of the article, written in 2023

**You build** a
thing.

**Takes** ?"""
PATHS = chapters.find()
FORM = "00", "01", "02", "03", "13", "15"  # chapters in the form that all shall have
REWRITTEN = [path for path in PATHS if path.name[:2] in FORM]
SANITIZE = chapters.ROOT / "tests" / "nbval_sanitize.cfg"
PARTS = ["## Objectives", "Break it", "## Exercises", "## Summary", "## Solutions"]


# The command


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A checkout with nothing but a README, and a function that writes a chapter into it."""
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("before\n<!-- chapters -->\n<!-- /chapters -->\nafter\n")

    def write(*sources, tags=()):
        cells = [new_code_cell(source, metadata={"tags": list(tags), "scrolled": True}) for source in sources]
        path = tmp_path / "notebooks" / "01_title.ipynb"
        nbformat.write(new_notebook(cells=[new_markdown_cell(HEADER), *cells]), path)
        return path

    return write


def test_execute_saves_outputs_header_record_and_table(course, tmp_path):
    path = course("import os\nprint('one')", "print('two')\nos.environ['KERAS_BACKEND']")
    before = nbformat.read(path, as_version=4)
    assert chapters.main(["execute", "01"]) == 0
    after = nbformat.read(path, as_version=4)
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert [cell.execution_count for cell in after.cells[1:]] == [1, 2]
    assert after.cells[1].outputs[0].text == "one\n"
    assert after.cells[2].outputs[1].data == {"text/plain": "'tensorflow'"}
    assert after.metadata == chapters.KERNEL and after.cells[1].metadata == {}

    taken = json.loads((tmp_path / "data" / "runs" / "chapters.json").read_text())["01"]
    assert 0 < taken["seconds"] < 60 and 0 < taken["gigabytes"] < 3 and taken["processor"] and taken["cores"] >= 1
    assert chapters.read_header(after.cells[0].source).takes == chapters.describe(taken)
    row = "| 01 | [A title](notebooks/01_title.ipynb) | 2, 4.1 | a thing | 5 s |\n"
    assert (
        tmp_path / "README.md"
    ).read_text() == f"before\n{contents.MARKS[0]}{contents.render_table('notebooks/')}{contents.MARKS[1]}\nafter\n"
    assert contents.render_table("notebooks/").endswith(row)


def test_a_failing_cell_leaves_the_file_as_it_was(course, tmp_path):
    path = course("1 / 0")
    before = path.read_bytes()
    message = chapters.main(["execute"])
    assert "1 / 0" in message and "ZeroDivisionError" in message and path.name in message and "\x1b" not in message
    assert path.read_bytes() == before and not (tmp_path / "data").exists()


def test_a_cell_that_should_fail_may(course):
    path = course("1 / 0", tags=["raises-exception"])
    assert chapters.main(["execute"]) == 0
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].ename == "ZeroDivisionError"


def test_the_record_changes_only_by_more_than_noise(course):
    first = {"seconds": 100, "gigabytes": 1.0, "cores": 2, "processor": "a", "date": "2026-01-01"}
    assert chapters._record("01", first) == first
    assert chapters._record("01", first | {"seconds": 129, "gigabytes": 1.1, "date": "2026-01-02"}) == first
    for change in ({"seconds": 131}, {"seconds": 69}, {"gigabytes": 1.2}):
        assert chapters._record("01", first | change) == first | change == chapters.read_record()["01"]
        chapters._record("01", first | {"seconds": 1000})
        chapters._record("01", first)


@pytest.mark.parametrize(
    "seconds, words",
    [(2, "5 s"), (27, "25 s"), (88, "90 s"), (95, "1.5 minutes"), (121, "2 minutes"), (140, "2.5 minutes")],
)
def test_times_in_words(seconds, words):
    taken = {"seconds": seconds, "gigabytes": 1.3, "cores": 2}
    assert chapters.describe(taken) == f"about {words} and 1.3 GB of memory on 2 cores."


@pytest.mark.parametrize(
    "source, message",
    [
        ("# Attention\n", "begin with"),
        (HEADER.replace("**You build**", "You build"), "You build"),
        (HEADER + "\n**Takes** twice", "got 2"),
    ],
)
def test_a_header_of_another_form_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        chapters.read_header(source)


def test_an_unknown_chapter_or_a_readme_without_marks_is_refused(course, tmp_path):
    course("1")
    with pytest.raises(ValueError, match="01; got 77"):
        chapters.find(["77"])
    (tmp_path / "README.md").write_text("<!-- /chapters -->\n<!-- chapters -->\n")
    assert "in this order" in chapters.main(["contents"])


# The chapters


def test_the_readme_has_the_table_of_chapters():
    readme = (chapters.ROOT / "README.md").read_text(encoding="utf-8")
    advice = "python -m course_lib.course.chapters contents"
    assert contents.split_readme(readme)[1] == contents.render_table("notebooks/"), advice
    page = nbformat.read(chapters.ROOT / "notebooks" / "index.ipynb", as_version=4)
    assert page.cells[0].source == contents.INTRODUCTION + contents.render_table().rstrip(), advice


@pytest.fixture(params=PATHS, ids=[path.stem for path in PATHS])
def chapter(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=REWRITTEN, ids=[path.stem for path in REWRITTEN])
def rewritten(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(chapter):
    return [cell for cell in chapter.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def length(cell):
    return sum(1 for line in cell.source.splitlines() if line.strip())


def texts(cell):
    """All that a code cell's outputs say in words."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield "\n".join([output.get("ename", ""), output.get("evalue", "")])
        yield from (value for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_header_agrees_with_name_and_record(path):
    header = chapters.read_header(nbformat.read(path, as_version=4).cells[0].source)
    assert re.fullmatch(rf"{header.number}_[a-z0-9_]+\.ipynb", path.name)
    assert re.search(r"\d.* of the article", header.follows), "which sections of the seed?"
    record = chapters.read_record()
    assert header.number in record, f"make notebooks CHAPTERS={header.number}"
    assert header.takes == chapters.describe(record[header.number])


def test_saved_by_the_command(chapter):
    assert [cell.execution_count for cell in code_cells(chapter)] == list(range(1, len(code_cells(chapter)) + 1))
    assert chapter == chapters.tidy(copy.deepcopy(chapter)), "make notebooks"


def test_starts_reproducibly(chapter):
    assert "course_lib.reproducible(" in code_cells(chapter)[0].source


def test_cells_are_short(chapter):
    lengths = [length(cell) for cell in code_cells(chapter)]
    assert max(lengths) <= 25
    assert sum(lines <= 10 for lines in lengths) >= len(lengths) / 2


def test_lines_are_of_88_columns(chapter):
    """Code is held to it by Ruff. Tables, headings, and lines with a formula, a link or a picture may be longer."""
    for cell in chapter.cells:
        if cell.cell_type == "markdown" and "navigation" not in tags(cell):
            prose = [line for line in cell.source.splitlines() if not re.search(r"^[|#]|\$|\]\(|^```", line)]
            assert not [line for line in prose if len(line) > 88]


def test_outputs_are_compared(chapter):
    cells = code_cells(chapter)
    ignored = [
        cell for cell in cells if "nbval-ignore-output" in tags(cell) and not {"exercise", "progress"} & {*tags(cell)}
    ]
    assert len(ignored) <= len(cells) / 8
    assert not [cell.source for cell in cells if "nbval-skip" in tags(cell) or "NBVAL_" in cell.source]


def test_outputs_are_clean(chapter):
    # An absolute path (not the end of an HTML tag, a fraction or an address), a time of day, a warning.
    unwanted = re.compile(r"(?:^|[\s'\"(=])(?:/\w[\w.-]*){2}|[A-Z]:\\\w|\b[0-2]\d:[0-5]\d\b|Warning", re.MULTILINE)
    for cell in code_cells(chapter):
        assert not [match[0] for text in texts(cell) for match in unwanted.finditer(text)], cell.source
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.source
        errors = [output.ename for output in cell.outputs if output.output_type == "error"]
        assert not errors or "raises-exception" in tags(cell), cell.source


def test_has_its_parts_in_order(chapter):
    headings = [
        line
        for cell in chapter.cells
        if cell.cell_type == "markdown"
        for line in re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL).splitlines()
        if re.match(r"#+ ", line)
    ]
    places = [[number for number, heading in enumerate(headings) if part in heading] for part in PARTS]
    assert all(places), dict(zip(PARTS, places, strict=True))
    first = [place[0] for place in places]
    assert first == sorted(first)
    assert not [heading for heading in headings[first[-1] + 1 :] if heading.startswith("## ")]


def test_solutions_come_last_and_hidden(chapter):
    (start,) = [number for number, cell in enumerate(chapter.cells) if cell.source.startswith("## Solutions")]
    solutions = [cell for cell in chapter.cells[start:] if cell.cell_type == "code"]
    assert solutions
    for cell in solutions:
        assert "solution" in tags(cell) and cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source
    assert not [cell.source for cell in chapter.cells[:start] if "solution" in tags(cell)]
    assert [cell for cell in chapter.cells[:start] if "exercise" in tags(cell)]


def test_pictures_are_our_own(chapter):
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[[^\]]*\]\(\s*(?:https?:)?//|<img", cell.source), cell.source


def test_sections_are_numbered(chapter):
    headings = [line for cell in chapter.cells for line in cell.source.splitlines() if line.startswith("## ")]
    numbers = [int(found[1]) for line in headings if (found := re.match(r"## (\d+)\. ", line))]
    assert numbers and numbers == list(range(1, len(numbers) + 1))
    others = [line for line in headings if not re.match(r"## \d+\. ", line)]
    assert not [
        line for line in others if not re.match(r"## (Objectives|Exercises|Summary|For the curious|Solutions)", line)
    ]


def test_links_lead_to_the_neighbours_and_the_other_pages(chapter):
    number = chapters.read_header(chapter.cells[0].source).number
    (place,) = [place for place, cell in enumerate(chapter.cells) if "navigation" in tags(cell)]
    assert chapter.cells[place].source == contents.render_links(number), "make notebooks"
    assert chapter.cells[place + 1].source.startswith(("## For the curious", "## Solutions"))


# Chapters that were rewritten


def test_a_picture_shows_the_whole(rewritten):
    drawn = figures.figures()
    pictures = [found for cell in rewritten.cells for found in re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", cell.source)]
    assert pictures
    for text, target in pictures:
        name = target.removeprefix("../docs/figures/")
        assert text == figures.alternative_text(drawn[name]), f"the docstring of {name} is its alternative text"


def test_the_main_line_is_short(rewritten):
    """Pictures, tables, formulas that stand alone and tags of claims are no prose."""
    words = 0
    for cell in rewritten.cells[1:]:
        if "## Exercises" in cell.source:
            break
        if cell.cell_type == "markdown":
            prose = re.sub(
                r"!\[[^\]]*\]\([^)]*\)|^\|[^\n]*|\$\$.*?\$\$|<!--.*?-->",
                "",
                cell.source,
                flags=re.MULTILINE | re.DOTALL,
            )
            words += len(prose.split())
    assert words <= 2_500


def test_something_is_used_before_the_exercises(rewritten):
    headings = [line for cell in rewritten.cells for line in cell.source.splitlines() if line.startswith("## ")]
    exercises = headings.index("## Exercises")
    assert "Use it" in headings[exercises - 1] and "Break it" in headings[exercises - 2]


def test_asserts_in_view_teach(rewritten):
    """An `assert` that only bounds a measured number belongs in a collapsed cell with the tag `guard`."""
    seen = 0
    for cell in code_cells(rewritten):
        if not {"guard", "exercise", "solution"} & {*tags(cell)}:
            for statement in ast.walk(ast.parse(cell.source)):
                if isinstance(statement, ast.Assert):
                    seen += 1
                    bounds = [
                        node
                        for node in ast.walk(statement.test)
                        if isinstance(node, ast.Compare)
                        and any(isinstance(each, ast.Lt | ast.Gt | ast.LtE | ast.GtE) for each in node.ops)
                    ]
                    assert not bounds, f"only guards: {ast.unparse(statement)}"
    assert seen <= 15


def test_guards_are_collapsed_and_silent(chapter):
    for cell in code_cells(chapter):
        if "guard" in tags(cell):
            assert cell.metadata.jupyter.source_hidden and not cell.outputs and "assert" in cell.source


# Schematics


def test_the_files_are_what_is_drawn():
    drawn = figures.figures()
    assert {path.name for path in figures.FOLDER.glob("*.svg")} == {*drawn}, "make figures"
    for name, function in drawn.items():
        assert (figures.FOLDER / name).read_text(encoding="utf-8") == function().svg(), f"{name}: make figures"


def test_every_picture_is_shown():
    shown = "".join(path.read_text(encoding="utf-8") for path in PATHS)
    assert not [name for name in figures.figures() if f"docs/figures/{name}" not in shown]


# Numbers that are not compared


def test_nbval_reads_every_rule():
    """nbval drops a rule of another form without a word."""
    from nbval.plugin import get_sanitize_patterns

    text = SANITIZE.read_text(encoding="utf-8")
    assert len(get_sanitize_patterns(text)) == text.count("regex") == text.count("replace") > 0


def test_only_numbers_that_are_marked_may_differ(tmp_path):
    stored = {
        "loss ≈ 1.21 nats": "loss ≈ 1.19 nats",
        "61 ≈ 60.7 ± 2.8 |": "61 ≈   9.7 ± 0.1    |",
        "≈ 1,024 ms": "≈ 2 s",
        "1.21": "1.19",
        "≈ 1.21 of 3": "≈ 1.21 of 4",
        "≈ 1.21": "≈ nan",
    }
    cells = [
        new_code_cell(
            f"print({now!r})", execution_count=1, outputs=[new_output("stream", name="stdout", text=before + "\n")]
        )
        for before, now in stored.items()
    ]
    path = tmp_path / "numbers.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=chapters.KERNEL), path)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    run = subprocess.run(
        [*command, "--nbval-sanitize-with", SANITIZE, path], capture_output=True, text=True, cwd=tmp_path
    )
    results = re.findall(r"^(PASSED|FAILED) \S+::Cell (\d)", run.stdout, re.MULTILINE)
    assert sorted(results, key=lambda result: result[1]) == [
        ("PASSED", "0"), ("PASSED", "1"), ("PASSED", "2"), ("FAILED", "3"), ("FAILED", "4"), ("FAILED", "5"),
    ], run.stdout  # fmt: skip
