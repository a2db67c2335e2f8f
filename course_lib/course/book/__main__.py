"""Builds the web edition: `python -m course_lib.course.book`."""

import hashlib
import pathlib
import shutil
import sys

from course_lib.course import chapters
from course_lib.course.book import pages


def main():
    """Writes the sources and runs Sphinx on them. Warnings are errors.

    Only pages that have changed are read; after a change of the code that prepares them, all are made anew.

    Returns:
        The exit code for `sys.exit`.
    """
    from sphinx.cmd.build import build_main

    build, configuration = chapters.ROOT / "build", chapters.ROOT / "docs" / "book"
    pages.write(build / "book-source")
    code = [configuration / "conf.py", *sorted(pathlib.Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    doctrees, book = build / "book-doctrees", build / "book"
    last = doctrees / "code"
    if not last.exists() or last.read_text() != digest:
        for folder in (doctrees, book):
            shutil.rmtree(folder, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-j", "auto", "-c", str(configuration), "-d", str(doctrees)]
    failed = build_main([*options, str(build / "book-source"), str(book)])
    if not failed:
        last.write_text(digest)
    return failed


if __name__ == "__main__":
    sys.exit(main())
