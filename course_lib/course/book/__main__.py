"""Builds the web edition: `python -m course_lib.course.book`."""

import sys

from course_lib.course import chapters
from course_lib.course.book import pages


def main():
    """Writes the sources and runs Sphinx on them. Warnings are errors.

    Returns:
        The exit code for `sys.exit`.
    """
    from sphinx.cmd.build import build_main

    build = chapters.ROOT / "build"
    pages.write(build / "book-source")
    options = ["-W", "--keep-going", "-q", "-j", "auto", "-c", str(chapters.ROOT / "docs" / "book")]
    return build_main([*options, "-d", str(build / "book-doctrees"), str(build / "book-source"), str(build / "book")])


if __name__ == "__main__":
    sys.exit(main())
