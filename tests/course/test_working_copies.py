"""Working copies: without outputs, refreshed while nobody has changed them, and never lost."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.course.working_copies import refresh

pytestmark = pytest.mark.one_backend


@pytest.fixture
def house(tmp_path):
    """A folder with two chapters in `notebooks/`."""
    (tmp_path / "notebooks").mkdir()
    for name in ("05_one", "06_two"):
        write(tmp_path / "notebooks" / f"{name}.ipynb", "print('old')")
    return tmp_path


def write(path, source):
    cell = new_code_cell(source, outputs=[new_output("stream", text="old\n")], execution_count=1)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), cell]), path)


def read(path):
    return nbformat.read(path, as_version=4)


def run(house, reset=()):
    return refresh(house / "notebooks", house / "work", reset)


def test_copies_have_the_cells_and_no_outputs(house):
    assert run(house) == []
    for name in ("05_one.ipynb", "06_two.ipynb"):
        copy, chapter = read(house / "work" / name), read(house / "notebooks" / name)
        assert [cell.source for cell in copy.cells] == [cell.source for cell in chapter.cells]
        assert copy.cells[1].outputs == [] and copy.cells[1].execution_count is None
        assert chapter.cells[1].outputs, "the chapter keeps its own"


def test_running_a_copy_is_no_change_and_it_is_refreshed(house):
    run(house)
    path = house / "work" / "05_one.ipynb"
    copy = read(path)
    copy.cells[1].outputs, copy.metadata["kernelspec"] = [new_output("stream", text="mine\n")], {"name": "python3"}
    nbformat.write(copy, path)
    assert run(house) == [] and read(path).cells[1].outputs, "and it keeps its outputs while the chapter is the same"
    write(house / "notebooks" / "05_one.ipynb", "print('new')")
    assert run(house) == [] and read(path).cells[1].source == "print('new')"


def test_a_changed_copy_is_never_overwritten(house):
    run(house)
    path = house / "work" / "05_one.ipynb"
    write(path, "print('mine')")
    before = path.read_bytes()
    assert run(house) == [] and path.read_bytes() == before
    write(house / "notebooks" / "05_one.ipynb", "print('new')")
    (message,) = run(house)
    assert "make reset CHAPTERS=05" in message and path.read_bytes() == before


def test_reset_restores_a_chapter_and_keeps_what_was_there(house):
    run(house)
    path = house / "work" / "05_one.ipynb"
    for number in (1, 2):
        write(path, f"print('mine {number}')")
        (message,) = run(house, ["05"])
        kept = house / "work" / f"05_one.mine-{number}.ipynb"
        assert kept.name in message and read(kept).cells[1].source == f"print('mine {number}')"
        assert read(path).cells[1].source == "print('old')" and read(path).cells[1].outputs == []
    other = (house / "work" / "06_two.ipynb").read_bytes()
    run(house, ["05"])
    assert (house / "work" / "06_two.ipynb").read_bytes() == other
    with pytest.raises(ValueError, match=r"05 to 06; got \['99'\]"):
        run(house, ["99"])


def test_a_copy_that_is_no_notebook_any_more_or_was_there_before_is_left_alone(house):
    (house / "work").mkdir()
    path = house / "work" / "05_one.ipynb"
    path.write_text("my notes")
    run(house)
    assert path.read_text() == "my notes"
    assert "mine-1" in run(house, ["05"])[0] and (house / "work" / "05_one.mine-1.ipynb").read_text() == "my notes"
