"""Assets: what is fetched is what the registry says, whatever goes wrong on the way."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tomllib
import zipfile

import huggingface_hub
import pytest

from course_lib import assets

pytestmark = pytest.mark.one_backend

MODULE = pathlib.Path(assets.__file__)
TEXT = b"one line of text\n" * 1000
LINES = "".join(f"{name} = 'a test'\n" for name in ("title", "licence", "citation", "homepage"))


def describe(content):
    return f'{{ size = {len(content)}, sha256 = "{hashlib.sha256(content).hexdigest()}" }}'


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A registry, a cache and a place to download from, all in a temporary folder."""
    for folder in ("data", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "there" / "text.txt").write_bytes(TEXT)
    monkeypatch.setattr(assets, "data_folder", lambda: tmp_path / "data")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "there"))
    return tmp_path


def register(house, *sources, file="text.txt", known=None, name="thing"):
    text = f"['{name}']\n{LINES}['{name}'.files]\n'{file}' = {known or describe(TEXT)}\n"
    text += "".join(f"[['{name}'.sources]]\n{source}\n" for source in sources)
    (house / "data" / "registry.toml").write_text(text)


def there(house):
    return f"url = '{(house / 'there').as_uri()}'"


def make_wheel(house, content, path="nice/data/text.txt", **more):
    info = "nice-1.0.dist-info"
    files = {
        path: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: nice\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
        **more,
    }
    with zipfile.ZipFile(house / "there" / "nice-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)


WHEEL = "pip = 'nice'\nversion = '1.0'\nfolder = 'nice/data'"


def left_behind(house):
    """What lies in the asset's folder beside the file and the note that it was verified."""
    return {path.name for path in (house / "cache" / "thing").iterdir()} - {"text.txt", ".verified.json"}


# What works


def test_a_url_is_fetched_verified_and_cached(house):
    register(house, there(house))
    folder = assets.fetch("thing")
    assert folder == house / "cache" / "thing"
    assert (folder / "text.txt").read_bytes() == TEXT
    assert not left_behind(house)
    (house / "there" / "text.txt").unlink()
    assert assets.fetch("thing") == folder


def test_a_wheel_is_unpacked_but_not_installed(house):
    make_wheel(house, TEXT, **{"../evil.txt": b"!", "nice/__init__.py": b"raise SystemExit('was run')"})
    register(house, WHEEL)
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT
    assert not list(house.rglob("evil.txt")) and not left_behind(house)
    with pytest.raises(ImportError):
        __import__("nice")


def test_local_names_may_differ_from_those_in_the_source(house):
    make_wheel(house, TEXT, path="nice/data/words.bpe")
    register(house, WHEEL + "\nfiles = { 'text.txt' = 'words.bpe' }")
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT


def test_the_hub_is_asked_for_the_revision(house, monkeypatch):
    asked = []

    def download(repository, path, revision):
        asked.append((repository, path, revision))
        return str(house / "there" / "text.txt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    register(house, "hub = 'owner/model'\nrevision = 'abc'")
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT
    assert asked == [("owner/model", "text.txt", "abc")]


def test_the_next_source_serves_where_the_first_fails(house):
    register(house, "url = 'file:///nowhere'", there(house))
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT


def test_shipped_files_are_used_where_they_lie(house):
    folder = house / "data" / "weights" / "thing"
    folder.mkdir(parents=True)
    (folder / "text.txt").write_bytes(TEXT)
    register(house, "shipped = 'weights/thing'", there(house))
    assert assets.fetch("thing") == folder
    assert [path.name for path in folder.iterdir()] == ["text.txt"] and not (house / "cache").exists()
    (folder / "text.txt").write_bytes(TEXT[::-1])
    assert assets.fetch("thing") == house / "cache" / "thing"


def test_a_file_put_by_hand_is_hashed_once(house, monkeypatch):
    register(house, "url = 'file:///nowhere'")
    folder = house / "cache" / "thing"
    folder.mkdir(parents=True)
    (folder / "text.txt").write_bytes(TEXT)
    assert assets.fetch("thing") == folder
    monkeypatch.setattr(assets, "_sha256", lambda path: pytest.fail("hashed a second time"))
    assert assets.fetch("thing") == folder


@pytest.mark.parametrize("altered", [TEXT[:-1], TEXT[::-1], b""], ids=["truncated", "same size", "empty"])
def test_an_altered_file_is_fetched_again(house, altered):
    register(house, there(house))
    path = assets.fetch("thing") / "text.txt"
    path.write_bytes(altered)
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT


def test_verify_looks_behind_an_unchanged_time(house):
    register(house, there(house))
    path = assets.fetch("thing") / "text.txt"
    status = path.stat()
    path.write_bytes(TEXT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (assets.fetch("thing", verify=True) / "text.txt").read_bytes() == TEXT


# What is refused


def test_an_unknown_name_lists_those_that_exist(house):
    register(house, there(house))
    with pytest.raises(ValueError, match=r"one of thing; got 'think'"):
        assets.fetch("think")


@pytest.mark.parametrize("came", [TEXT[::-1], TEXT[:-1], TEXT + b"more"], ids=["other", "truncated", "longer"])
def test_another_hash_is_refused(house, came):
    (house / "there" / "text.txt").write_bytes(came)
    register(house, there(house))
    with pytest.raises(ValueError) as caught:
        assets.fetch("thing")
    assert f"have {len(TEXT)} bytes, with SHA-256 {hashlib.sha256(TEXT).hexdigest()}; got" in str(caught.value)
    if len(came) <= len(TEXT):
        assert f"got {len(came)}, with SHA-256 {hashlib.sha256(came).hexdigest()}" in str(caught.value)
    assert not (house / "cache" / "thing" / "text.txt").exists() and not left_behind(house)


def test_a_wheel_with_another_file_is_refused(house):
    make_wheel(house, TEXT[::-1])
    register(house, WHEEL)
    with pytest.raises(ValueError, match=r"pip package nice 1\.0: Refused: expected text\.txt to have"):
        assets.fetch("thing")


def test_no_more_is_downloaded_than_was_promised(house, monkeypatch):
    class Endless(io.RawIOBase):
        served = 0

        def read(self, count):
            self.served += count
            assert self.served < 10 << 20, "went on reading"
            return b"x" * count

    monkeypatch.setattr(assets, "_opener", lambda source: contextlib.nullcontext(lambda path: Endless()))
    register(house, there(house))
    with pytest.raises(ValueError, match="got more than 17000"):
        assets.fetch("thing")


ESCAPES = ["../text.txt", "/text.txt", "a/../../text.txt", r"..\text.txt", "C:/text.txt"]


@pytest.mark.parametrize(
    ("where", "path"),
    [
        *((where, path) for where in ("name", "local", "folder", "there", "shipped") for path in ESCAPES),
        *((where, ".") for where in ("name", "local", "there", "shipped")),
    ],
)
def test_a_path_that_escapes_is_refused(house, where, path):
    source = {
        "local": f"{there(house)}\nfiles = {{ '{path}' = 'text.txt' }}",
        "folder": f"{there(house)}\nfolder = '{path}'",
        "there": f"{there(house)}\nfiles = {{ 'text.txt' = '{path}' }}",
        "shipped": f"shipped = '{path}'",
    }.get(where, there(house))
    name, file = (path if where == "name" else "thing"), (path if where == "local" else "text.txt")
    register(house, source, file=file, name=name)
    with pytest.raises(ValueError, match="Expected relative paths that stay in their folder"):
        assets.fetch(name)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".bin", ".ckpt", ".PTH"])
@pytest.mark.parametrize("where", ["local", "there"])
def test_a_pickle_is_refused_by_its_name(house, suffix, where):
    local, other = (f"weights{suffix}", "text.txt") if where == "local" else ("text.txt", f"weights{suffix}")
    register(house, f"{there(house)}\nfiles = {{ '{local}' = '{other}' }}", file=local)
    with pytest.raises(ValueError, match="by its name a pickle"):
        assets.registry()


def zipped_pickle():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content", [*(pickle.dumps({"weight": [1.0]}, p) for p in (2, 3, 4, 5)), zipped_pickle()], ids=[2, 3, 4, 5, "zip"]
)
def test_a_pickle_is_refused_by_its_content(house, content):
    (house / "there" / "text.txt").write_bytes(content)
    register(house, there(house), known=describe(content))
    with pytest.raises(ValueError, match="got a pickle"):
        assets.fetch("thing")
    assert not (house / "cache" / "thing" / "text.txt").exists()


def test_safetensors_that_start_like_a_pickle_are_kept(house):
    header = b"{" + b" " * (0x0280 - 2) + b"}"
    content = len(header).to_bytes(8, "little") + header
    assert content[:2] == pickle.dumps(0, protocol=2)[:2]
    (house / "there" / "text.txt").write_bytes(content)
    register(house, there(house), known=describe(content))
    assert (assets.fetch("thing") / "text.txt").read_bytes() == content


@pytest.mark.parametrize(
    ("source", "known", "complaint"),
    [
        ("url = 'x'\npip = 'y'", None, "to have one of shipped, pip, hub, url"),
        ("folder = 'x'", None, "to have one of shipped, pip, hub, url"),
        ("url = 'x'", "{ size = 1, sha256 = 'abc' }", "a SHA-256 of 64 digits"),
        ("url = 'x'", "{ size = 1 }", "a SHA-256 of 64 digits"),
    ],
)
def test_a_wrong_registry_is_refused(house, source, known, complaint):
    register(house, source, known=known)
    with pytest.raises(ValueError, match=complaint):
        assets.registry()


def test_an_incomplete_entry_is_refused(house):
    (house / "data" / "registry.toml").write_text("[thing]\ntitle = 'a test'\n")
    with pytest.raises(ValueError, match="'thing' lacks citation, files, homepage, licence, sources"):
        assets.registry()


# What goes wrong on the way


def test_without_a_network_the_error_says_what_was_tried_and_what_to_do(house, monkeypatch):
    def download(*_, **__):
        raise OSError("the hub is far")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    register(house, WHEEL, "hub = 'owner/model'", "url = 'file:///nowhere'")
    with pytest.raises(ConnectionError) as caught:
        assets.fetch("thing")
    message = str(caught.value)
    path = house / "cache" / "thing" / "text.txt"
    for part in (
        f"{path}: missing",
        "pip package nice 1.0: OSError: ERROR: Could not find a version that satisfies the requirement nice==1.0",
        "Hugging Face hub owner/model: OSError: the hub is far",
        "file:///nowhere: URLError:",
        f"{path} ({len(TEXT)} bytes, SHA-256 {hashlib.sha256(TEXT).hexdigest()})",
        "COURSE_DATA",
    ):
        assert part in message
    path.write_bytes(TEXT)
    assert assets.fetch("thing") == path.parent, "the file that the message asked for did not help"


def test_a_missing_pip_is_named(house, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    register(house, WHEEL)
    with pytest.raises(ConnectionError, match="no pip; `python -m ensurepip`"):
        assets.fetch("thing")


def test_an_interruption_leaves_nothing_half_written(house, monkeypatch):
    class Interrupted(io.BytesIO):
        def read(self, count):
            if self.tell():
                assert list((house / "cache" / "thing").iterdir()), "nothing was being written"
                raise KeyboardInterrupt
            return super().read(10)

    monkeypatch.setattr(assets, "_opener", lambda source: contextlib.nullcontext(lambda path: Interrupted(TEXT)))
    register(house, there(house))
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("thing")
    assert not list((house / "cache" / "thing").iterdir())
    monkeypatch.undo()


def test_what_a_killed_process_left_is_no_obstacle(house):
    register(house, there(house))
    folder = house / "cache" / "thing"
    folder.mkdir(parents=True)
    (folder / ".text.txt.partial").write_bytes(b"half")
    assert (assets.fetch("thing") / "text.txt").read_bytes() == TEXT
    assert not left_behind(house)


def test_two_processes_at_once_download_once(house):
    make_wheel(house, TEXT)
    register(house, WHEEL)
    script = f"""
import pathlib, sys
sys.path.append({str(MODULE.parent)!r})
import assets
house = pathlib.Path({str(house)!r})
assets.data_folder = lambda: house / "data"
download = assets._wheel
def counted(source, folder):
    with open(house / "downloads", "a") as log:
        log.write("one\\n")
    return download(source, folder)
assets._wheel = counted
input()
print((assets.fetch("thing") / "text.txt").stat().st_size)
"""
    start = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen([sys.executable, "-c", script], **start) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out == f"{len(TEXT)}\n" and "Error" not in err
    assert (house / "downloads").read_text() == "one\n"
    assert (house / "cache" / "thing" / "text.txt").read_bytes() == TEXT and not left_behind(house)


def test_a_cache_that_cannot_be_written_serves_what_it_holds(house, monkeypatch):
    register(house, "url = 'file:///nowhere'")
    folder = house / "cache" / "thing"
    folder.mkdir(parents=True)
    (folder / "text.txt").write_bytes(TEXT)

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(assets.os, "replace", refuse)
    assert assets.fetch("thing") == folder


# Where things lie


def locate(module, **environment):
    script = f"import sys; sys.path.insert(0, {str(module.parent)!r}); import assets\n"
    script += "print(assets.data_folder()); print(assets.cache_folder()); print(sorted(assets.registry()))"
    environment = {**{key: value for key, value in os.environ.items() if key != "COURSE_DATA"}, **environment}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("layout", ["checkout", "wheel"])
def test_the_registry_is_found_in_a_checkout_and_in_a_wheel(house, layout):
    register(house, there(house))
    site = house / "site"
    copy = site / "course_lib" / "assets.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(MODULE.read_text())
    data = site / "data"  # somebody else's, in a wheel's case
    data.mkdir()
    (data / "registry.toml").write_text((house / "data" / "registry.toml").read_text())
    shipped = site / "course_lib" / "shipped"
    shipped.mkdir()
    (shipped / "registry.toml").write_text("")
    if layout == "checkout":
        (site / "pyproject.toml").write_text("")
        assert locate(copy) == [str(data), str(data / "cache"), "['thing']"]
    else:
        folder, cache, names = locate(copy)
        assert (folder, names) == (str(shipped), "[]")
        assert "course_lib" in cache and not cache.startswith(str(site))
    assert locate(copy, COURSE_DATA=str(house / "elsewhere"))[1] == str(house / "elsewhere")


# The command


def test_the_command_lists_and_fetches_all(house, capsys):
    register(house, there(house))
    assert assets.main(["--list"]) == 0
    assert "not yet here" in capsys.readouterr().out
    assert assets.main(["--all"]) == 0
    assert capsys.readouterr() == (f"thing: {house / 'cache' / 'thing'}\n", "")
    assert assets.main(["--list"]) == 0
    assert "not yet here" not in capsys.readouterr().out


def test_the_command_goes_on_after_a_failure_and_reports_it(house, capsys):
    register(house, there(house))
    assert assets.main(["think", "thing"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("thing: ") and "got 'think'" in err
    with pytest.raises(SystemExit):
        assets.main([])


# The real ones


def test_every_entry_of_the_registry_can_be_fetched():
    for name, entry in assets.registry().items():
        folder = assets.fetch(name)
        for file, known in entry["files"].items():
            assert (folder / file).stat().st_size == known["size"]
    assert json.loads((assets.fetch("all-MiniLM-L6-v2") / "config.json").read_text())["hidden_size"] == 384
    assert len(json.loads((assets.fetch("gpt2-vocabulary") / "vocab.json").read_text())) == 50257


def test_every_entry_of_the_registry_has_its_card():
    cards = (assets.data_folder() / "README.md").read_text()
    with open(assets.data_folder() / "registry.toml", "rb") as stream:
        for name, entry in tomllib.load(stream).items():
            assert f"## `{name}`" in cards and entry["homepage"] in cards
