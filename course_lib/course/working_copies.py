"""Working copies of the chapters, in `work/`: without outputs, and never overwritten once somebody has changed them.

`make lab` runs this file: it makes the copies that are missing, and refreshes those whose chapter has changed since.
`--reset 05` restores chapters; a changed copy is kept under another name. It imports nothing of the library, so it is
quick.
"""

import argparse
import hashlib
import json
import pathlib

import nbformat

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_BASES = ".bases.json"  # what each copy was made from, to know whether it was changed


def digest_of(notebook):
    """Computes the SHA-256 of the cells' kinds and sources. Outputs and metadata do not count.

    Args:
        notebook: as nbformat reads it.

    Returns:
        64 hexadecimal digits.
    """
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def cleared(notebook):
    """Removes the outputs of a notebook, so predictions are made before the answer is seen.

    Args:
        notebook: as nbformat reads it. It changes.

    Returns:
        The notebook.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def refresh(source=_ROOT / "notebooks", folder=_ROOT / "work", reset=()):
    """Makes missing copies, replaces unchanged ones whose chapter has changed, and leaves all others alone.

    Args:
        source: path of the folder with the chapters.
        folder: path of the folder with the copies. It is made if it does not exist.
        reset: numbers of chapters to restore, such as "05". A changed copy is kept beside the new one.

    Returns:
        A list of messages for the reader.

    Raises:
        ValueError: if there is no chapter with such a number.
    """
    source, folder = pathlib.Path(source), pathlib.Path(folder)
    chapters = sorted(source.glob("*.ipynb"))
    numbers = [path.name[:2] for path in chapters if path.name[:2].isdigit()]
    if unknown := sorted(set(reset) - set(numbers)):
        raise ValueError(f"Expected numbers of chapters, {numbers[0]} to {numbers[-1]}; got {unknown}.")
    folder.mkdir(parents=True, exist_ok=True)
    bases_path = folder / _BASES
    bases = json.loads(bases_path.read_text()) if bases_path.is_file() else {}
    messages = []
    for path in chapters:
        chapter, copy = nbformat.read(path, as_version=4), folder / path.name
        digest = digest_of(chapter)
        is_changed = copy.is_file() and _digest_of_copy(copy) != bases.get(path.name)
        if path.name[:2] in reset and is_changed:
            kept = _free_name(copy)
            copy.rename(kept)
            messages.append(f"{path.name} is new again; yours is {kept.name}.")
        elif is_changed:
            if bases.get(path.name) != digest:
                messages.append(
                    f"{path.name} has a newer version; yours stays. To get it: make reset CHAPTERS={path.name[:2]}"
                )
            continue
        if not copy.is_file() or bases.get(path.name) != digest or path.name[:2] in reset:
            nbformat.write(cleared(chapter), copy)
            bases[path.name] = digest
            bases_path.write_text(json.dumps(bases, indent=1) + "\n")
    return messages


def _digest_of_copy(path):
    try:
        return digest_of(nbformat.read(path, as_version=4))
    except (ValueError, KeyError, AttributeError):  # not a notebook any more: somebody's work, to be left alone
        return ""


def _free_name(path):
    """The first of NAME.mine-1.ipynb, NAME.mine-2.ipynb and so on that is not taken."""
    number = 1
    while (free := path.with_name(f"{path.stem}.mine-{number}.ipynb")).exists():
        number += 1
    return free


def main(arguments=None):
    """Refreshes the copies, as the command line says.

    Args:
        arguments: strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reset", nargs="*", default=[], metavar="NN", help="chapters to restore")
    arguments = parser.parse_args(arguments)
    try:
        for message in refresh(reset=arguments.reset):
            print(message)
    except ValueError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
