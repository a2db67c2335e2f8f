"""The course as a book on the web: `make book` writes it to `build/book/`, from what lies in the repository.

`pages` writes the sources for Sphinx, `chapter` prepares a notebook, `folds` is a Sphinx extension that folds answers
until somebody asks for them, and `docs/book/conf.py` configures Sphinx.
"""
