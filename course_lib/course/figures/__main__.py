"""Writes the chapters' schematics: `python -m course_lib.course.figures`."""

from course_lib.course import figures

figures.write()
