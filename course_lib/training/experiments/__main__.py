"""`python -m course_lib.training.experiments NAME`."""

from course_lib.training.experiments import main

main()
