"""Builds the web edition: `python -m course_lib.course.book`."""

import hashlib
import pathlib
import sys

from course_lib.course import chapters
from course_lib.course.book import pages


def main():
    """Writes the sources and runs Sphinx on them. Warnings are errors.

    Sphinx reads only pages that have changed, and all of them after a change of the code that prepares them.

    Returns:
        The exit code for `sys.exit`.
    """
    from sphinx.cmd.build import build_main

    build, configuration = chapters.ROOT / "build", chapters.ROOT / "docs" / "book"
    pages.write(build / "book-source")
    code = [configuration / "conf.py", *sorted(pathlib.Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    doctrees = build / "book-doctrees"
    last = doctrees / "code"
    fresh = [] if last.exists() and last.read_text() == digest else ["--fresh-env", "--write-all"]
    options = ["-W", "--keep-going", "-q", "-j", "auto", "-c", str(configuration), "-d", str(doctrees)]
    failed = build_main([*options, *fresh, str(build / "book-source"), str(build / "book")])
    if not failed:
        last.write_text(digest)
    return failed


if __name__ == "__main__":
    sys.exit(main())
