"""Progress bars, where somebody watches: in a terminal and in a notebook, but not in a log."""

import sys


def in_terminal():
    """Tells whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def in_notebook():
    """Tells whether this is the kernel of a notebook."""
    interactive = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return type(interactive).__name__ == "ZMQInteractiveShell"


def progress_bar(total, show="auto", **kwargs):
    """Makes a progress bar.

    Args:
        total: the number at which it is full.
        show: whether to show it. With "auto", only where somebody watches.
        **kwargs: arguments of `tqdm.tqdm`, such as `desc` and `unit`.

    Returns:
        A `tqdm.tqdm`, also a context manager. Its `update` takes what has been done since the last call.
    """
    from tqdm import tqdm

    show = in_terminal() or in_notebook() if show == "auto" else bool(show)
    file = sys.stdout if in_notebook() else sys.stderr  # a notebook shows standard error in red
    return tqdm(total=total, disable=not show, file=file, **kwargs)
