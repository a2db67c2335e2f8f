"""The page "Glossary and notation": it has the chapters' terms and symbols, and its links lead somewhere."""

import re
from urllib.parse import unquote

import nbformat
import pytest

from course_lib.course import chapters

pytestmark = pytest.mark.one_backend

PATHS = chapters.find()
GREEK = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi varphi chi "
    "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()
)


@pytest.fixture(params=PATHS, ids=[path.stem for path in PATHS])
def path(request):
    return request.param


@pytest.fixture(scope="module")
def page():
    """The sources of the page's cells by their ids"""
    cells = nbformat.read(chapters.ROOT / "notebooks" / "glossary.ipynb", as_version=4).cells
    assert {cell.cell_type for cell in cells} == {"markdown"}
    return {cell.id: cell.source for cell in cells}


@pytest.fixture(scope="module")
def entries(page):
    """A list of pairs, the names of a term (all that is bold before the colon) and what is said of it"""
    pairs = []
    for line in re.findall(r"^- (.+)$", page["glossary"], re.MULTILINE):
        head, _, text = line.partition(": ")
        pairs.append(([name.strip("`") for name in re.findall(r"\*\*(.+?)\*\*", head)], text))
    assert len(pairs) > 100 and all(names and text for names, text in pairs)
    return pairs


@pytest.fixture(scope="module")
def symbols(page):
    """The letters in the first column of the tables of symbols"""
    columns = re.findall(r"^\| ([^|]+) \|", page["notation"], re.MULTILINE)
    return set().union(*map(letters, formulas("\n".join(columns))))


def prose(path):
    """A notebook's Markdown without its code"""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def formulas(text):
    return [one or other for one, other in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, re.DOTALL)]


def letters(formula):
    """The letters of a formula: single Latin ones, and names of Greek ones"""
    formula = re.sub(r"\\(text|mathrm|mathbb|operatorname\*?|begin|end|tag)\s*\{[^{}]*\}", " ", formula)
    names = set(re.findall(r"\\([A-Za-z]+)", formula))
    return names & GREEK | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", formula)))


def sizes(path):
    """The capital letters in the shapes of a notebook's comments, such as `# (B, T, D)`"""
    cells = nbformat.read(path, as_version=4).cells
    comments = [line for cell in cells if cell.cell_type == "code" for line in re.findall(r"#.*", cell.source)]
    shapes = re.findall(r"\(([\w\s·'+*/…-]+,[\w\s·'+*/…,-]*)\)", "\n".join(comments))
    return set(re.findall(r"\b[A-Z]\b", " ".join(shapes)))


def test_objectives_use_terms_of_the_glossary(path, entries):
    known = {name.lower() for names, _ in entries for name in names}
    objectives = prose(path).partition("## Objectives")[2].partition("\n## ")[0]
    terms = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", re.sub(r"\*\*.+?\*\*", "", objectives, flags=re.DOTALL))
    terms = [" ".join(term.lower().split()) for term in terms]
    assert terms
    assert not [term for term in terms if not {term, term.removesuffix("s")} & known]


def test_links_lead_to_headings(page):
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page["glossary"] + page["notation"])
    assert links
    for name, anchor in links:
        target = chapters.ROOT / "notebooks" / (name or "glossary.ipynb")
        assert target.is_file(), name
        headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
        assert not anchor or unquote(anchor) in [heading.replace(" ", "-") for heading in headings], (name, anchor)


def test_terms_are_in_alphabetical_order(entries):
    first = [(re.sub(r"[^a-z0-9]", "", names[0].lower()), names[0]) for names, _ in entries]  # hyphens do not count
    assert first == sorted(set(first))


def test_definitions_are_short(entries):
    for names, text in entries:
        assert 3 <= len(re.sub(r"\[[^]]*\]\([^)]*\)", "", text).split()) <= 60, names


def test_symbols_are_explained(path, symbols):
    used = sizes(path).union(*map(letters, formulas(prose(path))))
    assert not used - symbols
