"""A Sphinx extension for the chapters: it folds predictions' answers and solutions, and links terms to the glossary."""

import re

from docutils import nodes

from course_lib.course.book import glossary


def setup(app):
    """Connects the extension to Sphinx.

    Args:
        app: a `sphinx.application.Sphinx`.

    Returns:
        A dict that says the extension can read documents in parallel.
    """
    app.connect("doctree-read", _fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fold(app, doctree):
    if not re.match(r"notebooks/\d\d_", app.env.docname):
        return
    for section in list(doctree.findall(nodes.section)):
        if section.next_node(nodes.title).astext() == "Solutions":
            fold_solutions(section)
        else:
            fold_answers(section)
    link_terms(doctree, app.env.docname)


def link_terms(doctree, page):
    """Links the first bold or emphasised use of each term to its entry in the glossary.

    A word counts as a term in the objectives, and where its entry says that the chapter introduces it. Elsewhere it may
    mean something else.

    Args:
        doctree: a `docutils.nodes.document`, changed in place.
        page: name of the document.
    """
    from sphinx.addnodes import pending_xref

    terms, places = glossary.terms(), glossary.places()
    for node in [*doctree.findall(lambda node: isinstance(node, nodes.emphasis | nodes.strong))]:
        if isinstance(node.parent, nodes.reference | nodes.title):
            continue
        name = glossary.normal(node.astext())
        introduced = any(page.removeprefix("notebooks/") in link for link in places.get(name, ()))
        if (introduced or _section_of(node) == "Objectives") and (term := terms.pop(name, None)):
            place = {"refdomain": "std", "reftype": "term", "reftarget": term, "refdoc": page, "refexplicit": True}
            node.parent.replace(node, pending_xref("", node.deepcopy(), **place, refwarn=True))


def fold_solutions(section):
    """Folds each solution of the section "Solutions": the paragraph that begins with its number, and what follows.

    Args:
        section: a `docutils.nodes.section`, changed in place.
    """
    title, groups = "Solutions", []
    for child in section.children[1:]:
        strong = _starts_strong(child)
        if (strong and re.match(r"\d+\.", strong.astext())) or not groups:
            if strong:
                title = f"Solution {strong.astext().rstrip('. ')}"
                child.remove(strong)
            groups.append((title, []))
        if not isinstance(child, nodes.paragraph) or child.astext():
            groups[-1][1].append(child)
    section.children[1:] = []
    section.extend(folded(title, children, "solution") for title, children in groups)


def fold_answers(section):
    """Folds the answer to each "Predict": outputs of the code that follows, and the first block of text after it.

    Args:
        section: a `docutils.nodes.section`, changed in place.
    """
    for paragraph in [child for child in section.children if _asks(child)]:
        paragraph["classes"].append("predict")
        after = section.children[section.index(paragraph) + 1 :]
        ends = [place for place, node in enumerate(after) if isinstance(node, nodes.section) or _asks(node)]
        after = after[: ends[0]] if ends else after
        starts = [place for place, node in enumerate(after) if _outputs(node)]
        if not starts:
            continue
        cells = [after[starts[0]]]
        texts = []
        for node in after[starts[0] + 1 :]:
            if texts and not texts[-1].astext().rstrip().endswith(":"):
                break
            if _is_cell(node) and not texts:
                cells.append(node)
            else:
                texts.append(node)
        outputs = _outputs(cells[0])
        for output in outputs:
            output.parent.remove(output)
        for node in cells[1:] + texts:
            section.remove(node)
        answer = nodes.container("", *outputs, classes=["cell", "answer"])
        section.insert(section.index(cells[0]) + 1, folded("Show the answer", [answer, *cells[1:], *texts], "answer"))


def folded(title, children, kind):
    """Wraps nodes into a block that is closed until somebody opens it.

    Args:
        title: text of its heading.
        children: `docutils` nodes.
        kind: name of its class in the style sheet.

    Returns:
        A `docutils.nodes.admonition`, which Sphinx renders as HTML's `details`.
    """
    heading = nodes.title("", title)
    return nodes.admonition("", heading, *children, classes=["fold", kind], collapsible="closed")


def _section_of(node):
    while node and not isinstance(node, nodes.section):
        node = node.parent
    return node.next_node(nodes.title).astext() if node else ""


def _starts_strong(node):
    first = next((child for child in node.children if child.astext()), None)
    return first if isinstance(node, nodes.paragraph) and isinstance(first, nodes.strong) else None


def _asks(node):
    return isinstance(node, nodes.paragraph) and any(
        strong.astext().startswith("Predict") for strong in node.findall(nodes.strong)
    )


def _is_cell(node):
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def _outputs(node):
    """The outputs of a code cell, a list of nodes."""
    if not _is_cell(node):
        return []
    return [part for part in node.children if part.get("nb_element") == "cell_code_output"]
