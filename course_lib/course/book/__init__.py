"""The course as a book on the web: `make book` writes it to `build/book/`, from what lies in the repository.

`pages` writes the sources for Sphinx, with the help of `chapter`, `glossary`, `objectives`, `results` and `api`.
`folds` is a Sphinx extension that closes answers until somebody opens them, `docs/book/conf.py` configures Sphinx,
`serving` serves the book, and `printed` prints it.
"""
