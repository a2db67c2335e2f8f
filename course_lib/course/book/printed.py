"""The book on paper: `make book-pdf` prints the web edition's chapters and glossary into one PDF with Chromium."""

import contextlib
import io
import shutil
import sys

from course_lib.course import chapters
from course_lib.course.book.serving import BOOK, served

FOOTER = """<div style="font: 8px sans-serif; width: 100%; text-align: center">
<span class="title"></span> · <span class="pageNumber"></span> of <span class="totalPages"></span></div>"""
FORM = {
    "format": "A4",
    "scale": 0.85,  # so that a line of code of 88 columns fits
    "margin": {"top": "18mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
    "display_header_footer": True,
    "header_template": "<span></span>",
    "outline": True,
    "tagged": True,
    "print_background": True,
}
OPEN = "document.querySelectorAll('details.answer, details.solution').forEach(each => each.open = true)"
TYPESET = "window.MathJax ? MathJax.startup.promise.then(() => true) : true"


@contextlib.contextmanager
def chromium():
    """Starts Chromium: that of the system, or Playwright's own.

    Yields:
        A `playwright.sync_api.Browser`.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def write(path, names):
    """Prints pages of the book into one file. Answers and solutions are open in it.

    Args:
        path: path of the PDF.
        names: files in `build/book/`.
    """
    from pypdf import PdfWriter

    writer = PdfWriter()
    with served() as address, chromium() as browser:
        for name in names:
            page = browser.new_page(color_scheme="light")
            page.goto(address + name, wait_until="networkidle")
            page.evaluate(OPEN)
            page.wait_for_function(TYPESET)
            page.evaluate("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
            page.wait_for_load_state("networkidle")
            title = page.title().removesuffix(" - Transformers in Keras 3")
            printed = page.pdf(**FORM, footer_template=FOOTER)
            writer.append(io.BytesIO(printed), outline_item=title)
            page.close()
    writer.write(path)


def main():
    """Runs the command `python -m course_lib.course.book.printed`.

    Returns:
        The exit code for `sys.exit`: 0 if all went well, otherwise a message.
    """
    names = [f"notebooks/{path.stem}.html" for path in chapters.find()] + ["notebooks/glossary.html"]
    if not (BOOK / names[0]).is_file():
        return "Expected the web edition in build/book/; run make book first."
    path = BOOK.parent / "transformers-in-keras-3.pdf"
    write(path, names)
    print(f"{path.relative_to(chapters.ROOT)}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
