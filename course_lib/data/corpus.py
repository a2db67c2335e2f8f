"""Documents for pre-training, split into a training part and a held-out part."""

import dataclasses
import functools
import glob
import hashlib
import itertools
import pathlib

from course_lib.data import reviews
from course_lib.data.splits import by_hash


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """Texts without labels, in two parts that have no text in common.

    Attributes:
        train: a list of strings.
        held_out: a list of strings, to evaluate on.
    """

    train: list
    held_out: list

    def __repr__(self):
        return f"{len(self.train):,} documents, {len(self.held_out):,} more held out"

    @functools.cached_property
    def sha256(self):
        """SHA-256 of all texts in their order, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for text in [*self.train, "", *self.held_out]:
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()


def imdb():
    """Reads `course_lib.data.reviews.imdb`: its train split to train on, its validation split as held out.

    Returns:
        `Documents`: 21,152 to train on and 1,250 held out.

    Raises:
        ValueError: if a downloaded file has the wrong hash, as described in `assets.fetch`.
        ConnectionError: if the texts must be downloaded and no source can be reached.
    """
    data = reviews.imdb()
    return Documents(data.train.texts, data.validation.texts)


def read(path, held_out=20):
    """Reads your own corpus and holds out part of it. A document that occurs more than once is kept once.

    Args:
        path: path of a text file in UTF-8 with an empty line between documents; or of a folder of such files, which are
            all its `.txt` files, those in folders inside it included; or a pattern such as "texts/*.md".
        held_out: one document in `held_out` is held out, and at least two. They are those with the lowest SHA-256.

    Returns:
        `Documents`, each part in the order of the files by name.

    Raises:
        ValueError: if a file is not UTF-8, or there are fewer than four documents.
        FileNotFoundError: if there is no such file.
    """
    texts = list(dict.fromkeys(stream(path)))
    if len(texts) < 4:
        raise ValueError(
            f"Expected at least four documents with an empty line between them, two to train on and two to hold out; "
            f"{path} has {len(texts)}."
        )
    apart = set(by_hash(texts)[: max(2, len(texts) // held_out)])
    return Documents([text for text in texts if text not in apart], [text for text in texts if text in apart])


def stream(path):
    """Reads documents one after the other, so a corpus of any size takes little memory.

    Args:
        path: as for `read`.

    Yields:
        Strings, one for each document, in the order of the files by name.

    Raises:
        ValueError: if a file is not UTF-8.
        FileNotFoundError: if there is no such file.
    """
    for file in _files(path):
        lines = []
        try:
            with open(file, encoding="utf-8") as content:
                for line in itertools.chain(content, [""]):
                    if line.strip():
                        lines.append(line)
                    elif lines:
                        yield "".join(lines).strip()
                        lines = []
        except UnicodeDecodeError as error:
            raise ValueError(f"Expected text in UTF-8; {file} is not, at byte {_first_invalid_byte(file)}.") from error


def _first_invalid_byte(path):
    """Finds the byte at which a file is not UTF-8. What a text stream reports counts from the start of its buffer."""
    start = 0
    with open(path, "rb") as content:
        for line in content:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return start + error.start
            start += len(line)


def _files(path):
    path = pathlib.Path(path)
    if path.is_dir():
        found = sorted(path.rglob("*.txt"))
    else:
        found = [path] if path.is_file() else sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise FileNotFoundError(
            f"Expected a text file, a folder with .txt files, or a pattern such as 'texts/*.md'; nothing is at {path}."
        )
    return found
