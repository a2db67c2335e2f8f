"""The data sets of the course. `course_lib.assets` downloads the files; the modules here read or generate the data."""
