"""The web edition in a real browser: `make book-test` builds it and runs this with Chromium.

Nothing may be requested from elsewhere, all formulas are rendered, the search finds what it should, pages fit on a
phone, and axe finds no serious barrier.
"""

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import pytest

from course_lib.course.book import printed, serving

pytestmark = [pytest.mark.browser, pytest.mark.one_backend]

BOOK = serving.BOOK
PAGES = sorted(str(path.relative_to(BOOK)) for path in BOOK.rglob("*.html"))
READ = [page for page in PAGES if not page.startswith("_modules/")]  # the others are sources
SAMPLE = ["index.html", "notebooks/01_self_attention.html", "notebooks/glossary.html", "api/layers.html", "runs.html"]
SEARCHES = {
    "self-attention": "notebooks/01_self_attention",
    "causal mask": "notebooks/02_multi_head_attention",
    "label smoothing": "notebooks/12_translation",
    "WordPiece": "notebooks/04_tokenization",
    "exact floor": "notebooks/05_masked_language_model",
    "freeze": "api/training",
    "BLEU": "notebooks/12_translation",
    "perplexity": "api/metrics",
    "RoPE": "notebooks/13_from_gpt_2_to_today",
    "scaled_dot_product_attention": "api/layers",
}


@pytest.fixture(scope="module")
def address():
    """Where the book is served."""
    assert READ, "make book"
    with serving.served() as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with printed.chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser, address):
    """A function that opens a page of the book in a fresh context, and the page with lists of what it met."""
    contexts = []

    def open_page(name, width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.bytes, page.outside = [], [], []
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: "ABORTED" in request.failure or page.complaints.append(request.url))
        page.on("request", lambda each: each.url.startswith((address, "data:")) or page.outside.append(each.url))
        page.on("response", lambda each: page.bytes.append(int(each.headers.get("content-length", 0))))
        page.goto(urljoin(address, name), wait_until="load")
        if page.locator(".math").count():
            page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
            page.evaluate("MathJax.startup.promise")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", READ)
def test_a_page_is_complete_light_and_fits_on_a_phone(open_page, name):
    page = open_page(name, width=390)
    assert not page.outside and not page.complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_load_state("networkidle")
    assert not page.evaluate("[...document.images].filter(i => !i.naturalWidth || !i.alt).map(i => i.src)")
    bare = (
        "[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).map(e => e.outerHTML)"
    )
    assert not page.evaluate(bare)
    assert not page.evaluate("[...document.querySelectorAll('mjx-merror')].map(e => e.outerHTML)")
    assert sum(page.bytes) < 2.5e6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLE)
def test_axe_finds_no_serious_barrier(open_page, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(name, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, {each["id"]: [node["html"][:200] for node in each["nodes"]][:3] for each in serious}


@pytest.mark.parametrize("query, target", SEARCHES.items())
def test_the_search_finds(open_page, query, target):
    page = open_page("index.html")
    page.get_by_role("textbox", name="Search").first.fill(query)
    page.keyboard.press("Enter")
    page.get_by_text("Search finished").wait_for()
    found = [link.get_attribute("href") for link in page.locator("#search-results li a").all()[:10]]
    assert [link for link in found if link.startswith(target)], found
    page.locator("#search-results li a").first.click()
    assert page.locator("h1").count() and not page.complaints and not page.outside


def test_a_search_without_result_is_no_dead_end(open_page):
    page = open_page("search.html?q=xylophone")
    page.get_by_text("did not match any documents").wait_for()
    assert page.get_by_role("link", name="01 · Self-attention").count()
    assert page.get_by_role("textbox", name="Search").count()


def test_answers_solutions_and_checks_are_closed_and_open_by_keyboard(open_page):
    page = open_page("notebooks/01_self_attention.html")
    for kind in ("details.answer", "details.solution", "details.hide"):
        assert page.locator(kind).count() > 2 and not page.locator(f"{kind}[open]").count()
    first = page.locator("details.answer").first
    assert "All three" not in page.locator("article").inner_text()
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "All three lie inside it" in first.inner_text() and first.locator("img").count() == 1
    assert "weights_at" not in page.locator("#solutions").inner_text()


def test_the_keyboard_reaches_the_content_first(open_page):
    page = open_page("notebooks/01_self_attention.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Skip to content"


def test_names_in_code_lead_to_the_reference_and_from_there_to_the_source(open_page):
    page = open_page("notebooks/01_self_attention.html")
    page.locator("div.cell a", has_text="Bert").first.click()
    assert "/api/models.html#course_lib.models.bert.Bert" in page.url
    source = page.locator("[id='course_lib.models.bert.Bert'] a", has_text="source").first
    assert source.get_attribute("href") == "../_modules/course_lib/models/bert.html#Bert"


@pytest.mark.parametrize("scheme, background", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(0, 0, 0)")])
def test_schematics_stand_on_white_and_black(open_page, scheme, background):
    """`test_figures` measures their contrast there; the page behind them may have another colour."""
    page = open_page("notebooks/01_self_attention.html", scheme=scheme)
    own = "getComputedStyle(document.querySelector('article img[src$=\".svg\"]')).backgroundColor"
    assert page.evaluate(own) in (background, "rgba(0, 0, 0, 0)" if scheme == "light" else background)
    plot = "getComputedStyle(document.querySelector('article img[src$=\".png\"]')).backgroundColor"
    assert page.evaluate(plot) == "rgb(255, 255, 255)"


def test_the_first_view_takes_less_than_a_second(open_page):
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    for name in SAMPLE:
        assert min(open_page(name).evaluate(paint) for _ in range(3)) < 1000, name


class _Links(HTMLParser):
    """The targets of a page's links, and the places in it that a link can lead to."""

    def __init__(self):
        super().__init__()
        self.targets, self.places = set(), {""}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places |= {attributes.get("id", ""), attributes.get("name", "") or ""}
        if tag == "a" and attributes.get("href"):
            self.targets.add(attributes["href"])


def test_every_link_leads_somewhere():
    pages = {}
    for name in PAGES:
        pages[name] = _Links()
        pages[name].feed((BOOK / name).read_text(encoding="utf-8"))
    dead = []
    for name, links in pages.items():
        for target in links.targets:
            path, place = urldefrag(urljoin(f"http://book/{name}", target))
            path, place = unquote(path), unquote(place)
            if not path.startswith("http://book/"):
                continue
            path = path.removeprefix("http://book/")
            if not (BOOK / path).is_file() or (path in pages and place not in pages[path].places):
                dead.append((name, target))
    assert not dead
