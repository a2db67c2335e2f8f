"""Runs the command `python -m course_lib.experiments NAME`."""

from course_lib.experiments import main

main()
