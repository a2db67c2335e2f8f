"""Serves the book on this machine: `make book-serve` opens it in a browser, and the tests and the printer read it."""

import contextlib
import functools
import http.server
import sys
import threading
import webbrowser

from course_lib.course import chapters

BOOK = chapters.ROOT / "build" / "book"


@contextlib.contextmanager
def served(folder=BOOK, port=0):
    """Serves a folder to this machine, and to no other.

    Args:
        folder: path of the folder.
        port: number of the port, or 0 for any that is free.

    Yields:
        The address, with a slash at its end.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def main():
    """Runs the command `python -m course_lib.course.book.serving PORT`, until it is interrupted."""
    with served(port=int(sys.argv[1])) as address, contextlib.suppress(KeyboardInterrupt):
        print(f"The book is at {address}; Control-C ends it.", flush=True)
        webbrowser.open(address)
        threading.Event().wait()


if __name__ == "__main__":
    main()
