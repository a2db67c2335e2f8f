"""The web edition's sources: what is folded, linked and described. `make book` builds it, `make book-test` opens it."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib import experiments
from course_lib.course import chapters
from course_lib.course.book import api, chapter, glossary, objectives, pages, results

pytestmark = pytest.mark.one_backend

HEADER = """# 01 · A title

**Follows** section 2 of the article

**You build** a thing

**Takes** about 5 s.

## Objectives"""


@pytest.fixture
def prepared():
    """The cells of a small chapter, prepared."""
    cells = [
        new_markdown_cell(HEADER),
        new_code_cell("ax.plot(x, label='ours')\nax.set(title='loss', xlabel='step', ylabel=f'{unit} per token')"),
        new_code_cell("assert loss < 1", metadata={"tags": ["guard"]}),
        new_code_cell("...", metadata={"tags": ["exercise"]}, id="stub", outputs=[nbformat.v4.new_output("stream")]),
        new_markdown_cell("See [it](../course_lib/layers/attention.py) and [them](../course_lib/text)."),
        new_markdown_cell("[Contents](index.ipynb)", metadata={"tags": ["navigation"]}),
    ]
    return chapter.prepare(new_notebook(cells=cells), "01_title.ipynb").cells


def test_the_header_gets_a_reading_time_and_a_link_to_the_working_copy(prepared):
    assert prepared[0].source.startswith("# 01 · A title\n") and prepared[0].source.endswith("## Objectives")
    assert "about 5 minutes" in prepared[0].source
    assert "/lab/tree/work/01_title.ipynb" in prepared[0].source and "colab" not in prepared[0].source


def test_buttons_for_colab_and_binder_appear_with_a_repository(monkeypatch):
    monkeypatch.setattr(chapter, "REPOSITORY", "owner/name")
    source = chapter.prepare(new_notebook(cells=[new_markdown_cell(HEADER)]), "01_title.ipynb").cells[0].source
    assert "/github/owner/name/blob/" in source and "/gh/owner/name/" in source


def test_a_copy_for_colab_installs_the_library_and_finds_its_pictures(monkeypatch):
    monkeypatch.setattr(chapter, "REPOSITORY", "owner/name")
    text = "![a picture](../docs/figures/01_layers.svg) of [it](../course_lib/layers) and [next](02_next.ipynb)"
    cells = [new_markdown_cell(HEADER), new_markdown_cell(text)]
    _, install, texts = chapter.for_colab(new_notebook(cells=cells)).cells
    assert '"course_lib[course] @ git+https://github.com/owner/name"' in install.source
    for place in ("raw/HEAD/docs/figures/01_layers.svg", "blob/HEAD/course_lib/layers"):
        assert f"(https://github.com/owner/name/{place})" in texts.source
    assert "(02_next.ipynb)" in texts.source


def test_guards_are_folded_and_exercises_open_in_jupyterlab(prepared):
    guard, exercise, link = prepared[2:5]
    assert "hide-cell" in guard.metadata.tags
    assert exercise.outputs == [] and "/lab/tree/work/01_title.ipynb" in link.source
    assert "index.ipynb" not in prepared[-1].source


def test_links_to_code_lead_to_the_reference(prepared):
    assert "(../api/layers.md#layers.attention)" in prepared[-1].source and "(../api/text.md)" in prepared[-1].source


def test_a_plot_is_described_by_what_is_written_on_it(prepared):
    assert prepared[1].metadata.mystnb.image.alt == "Plot. loss; ours; … per token against step"


def test_the_reference_has_every_module_with_a_name_that_chapters_may_use():
    text = "".join(text for _, text in api.pages())
    for name in ("layers.attention", "checkpoints.huggingface.bert", "course.depth", "assets", "experiments"):
        assert f"automodule:: course_lib.{name}\n" in text
    assert "exercises.chapter" not in text


@pytest.mark.parametrize(
    "line, rest",
    [
        ("sums `two\n  parts`: $$a\n  b$$", r"sums ``two parts``\ : :math:`\displaystyle a b`\ "),
        ("see:\n\n>>> a_ | `b`", "see:\n\n>>> a_ | `b`"),
        ("of `Claim`s", r"of :py:obj:`Claim`\ s"),
        ("P(x_i | x_S) and p_ and `a b`", r"P(x_i \| x_S) and p\_ and ``a b``\ "),
        ("    **options: and *this*", "    **options: and *this*"),
        ("as `docs/*.md` and 2 * 3", r"as ``docs/*.md``\  and 2 \* 3"),
    ],
)
def test_docstrings_become_what_sphinx_reads(line, rest):
    assert api.to_rest(line) == rest


def test_glossary_entries_become_terms_with_all_their_names():
    assert glossary.terms()["attention weight"] == "attention weight"
    assert glossary.terms()[glossary.normal("low-rank adapters")] == "low-rank adapter"
    page = glossary.page()
    assert "\nadapter\nlow-rank adapter\n  A small" in page and "- **" not in page.partition("## Notation")[0]


def test_objectives_lead_to_sections_and_exercises_say_what_is_tested():
    page = objectives.page()
    assert page.count("\n## ") == len(chapters.find())
    first = page.partition("## 01 ·")[2].partition("\n## ")[0]
    assert "notebooks/01_self_attention.ipynb#6.-The-formula-in-Keras" in first and "**1. Temperature**: " in first


def test_every_record_is_on_the_page_of_runs_with_its_command():
    page, figures = results.runs()
    for name in experiments.recorded():
        assert f"`python -m course_lib.experiments {name}`" in page
    assert figures and all(f"]({name})" in page and data.startswith(b"\x89PNG") for name, data in figures.items())


def test_measurements_become_tables():
    measured = {
        "date": "today",
        "seconds": {"ours": 1.5, "theirs": 2},
        "rate": {"ours": 2e9},
        "inner": {"a": {"b": 0.5}},
    }
    text = results.tables(measured, level=3)
    assert "- date: today\n" in text
    assert "| ours | 1.5 | 2 × 10⁹ |\n| theirs | 2 |  |\n" in text
    assert "### inner\n" in text and "| b | 0.5 |" in text


def test_every_chapter_and_every_section_of_the_readme_has_a_page():
    names = [name for name, _ in pages.pages()]
    assert len(names) == len(set(names))
    assert {f"notebooks/{path.name}" for path in chapters.find()} < set(names)
    assert {"index.md", "docs/your_own_text.md", "contributing_a_chapter.md"} <= set(names)
