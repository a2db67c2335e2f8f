"""Sphinx's configuration for the web edition. `make book` builds it; nothing is fetched while it builds."""

import re

import course_lib
import course_lib.layers
import course_lib.text

project = "Transformer-based pre-trained models, in Keras 3"
html_title = "Transformers in Keras 3"
author = "the authors of the course"
version = release = course_lib.__version__

extensions = [
    "myst_nb",
    "sphinx_codeautolink",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "course_lib.course.book.api",
    "course_lib.course.book.folds",
]
suppress_warnings = ["misc.highlighting_failure"]

nb_execution_mode = "off"
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4

myst_heading_slug_func = "course_lib.course.book.chapter.slug"

default_role = "py:obj"  # `Bert` in a docstring leads to its page where there is one
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
viewcode_follow_imported_members = False
add_module_names = False
toc_object_entries_show_parents = "hide"

codeautolink_concat_default = True  # a name that one cell imports is known in the next
codeautolink_autodoc_inject = True
codeautolink_inventory_map = {
    f"{package.__name__}.{name}": f"{getattr(package, name).__module__}.{name}"
    for package in (course_lib, course_lib.layers, course_lib.text)
    for name in package.__all__
    if hasattr(getattr(package, name), "__module__")
}

html_theme = "furo"
mathjax_path = "mathjax/tex-chtml.js"  # `pages` copies it from the package sphinx-mathjax-offline
html_extra_path = ["../../build/book-source/extra"]  # notebooks for Colab
exclude_patterns = ["extra"]
html_static_path = ["static", "../../build/book-source/static"]
html_css_files = ["book.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"


def setup(app):
    """Mends what axe finds: headings without a level, links in summaries, wide blocks that no key can scroll."""
    app.connect("html-page-context", _mend, priority=900)  # after the theme and the links in code


def _mend(app, pagename, templatename, context, doctree):
    navigation = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    body = re.sub(r"<summary>Expand for references to <a.*?</summary>", "<summary>Where it is used</summary>", body)
    context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
