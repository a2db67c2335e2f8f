"""The repository's own rules: packages, commands, the direction of imports, docstrings, nothing of one machine."""

import ast
import itertools
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = "course", "test", "jax", "scale"
MODULES = sorted((ROOT / "course_lib").rglob("*.py"))
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]


def name_of(module):
    """`course_lib/text/word_piece.py` → `text.word_piece`."""
    return ".".join(module.relative_to(ROOT / "course_lib").with_suffix("").parts)


# Packages


def read_lock():
    """The requirements of requirements.lock, and all its lines."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if not line.startswith((" ", "#"))], lines


@pytest.mark.parametrize("platform, machine", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_pins_what_pyproject_asks_for(python, platform, machine):
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": platform}
    here |= {"platform_machine": machine, "implementation_name": "cpython", "os_name": "posix"}
    pins = {}
    for pin in read_lock()[0]:
        if pin.marker is None or pin.marker.evaluate(here):
            assert pins.setdefault(pin.name, pin) is pin, f"{pin.name} is pinned twice"
    locked = PROJECT["dependencies"] + [line for name in LOCKED for line in EXTRAS[name]]
    for wanted in map(Requirement, locked):
        pin = pins[canonicalize_name(wanted.name)]
        (version,) = (part.version for part in pin.specifier)
        assert version in wanted.specifier, f"make lock: pyproject.toml asks for {wanted}, the lock has {pin}"


def test_lock_has_a_hash_for_each_pin_and_no_address():
    pins, lines = read_lock()
    hashed = [
        line for line, following in itertools.pairwise(lines) if not line.startswith(" ") and "--hash" in following
    ]
    assert len(pins) == len(hashed) > 100
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_environment_installs_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, section = environment["dependencies"]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert section == {"pip": [f"--editable .[{','.join(LOCKED)}]"]}


def test_the_course_has_its_packages():
    library, course = (
        {canonicalize_name(Requirement(line).name) for line in lines}
        for lines in (PROJECT["dependencies"], EXTRAS["course"])
    )
    assert {"tensorflow", "keras", "keras-nlp", "jupyterlab", "nbval", "matplotlib"} <= library | course
    assert not {"jupyterlab", "nbval", "matplotlib", "scikit-learn"} & library, "importing a layer must not need these"
    assert set(EXTRAS) == {"course", "test", "jax", "gpu", "tpu", "onnx", "scale", "tensorboard", "book", "parity"}


# Commands and files


def test_each_target_of_the_makefile_says_what_it_does():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    explained = re.findall(r"^([a-z-]+):.* ## .+$", makefile, re.MULTILINE)
    assert sorted(phony.split()) == sorted(explained)
    assert {"lab", "test", "notebooks", "notebooks-jax", "bench", "parity", "lint", "help"} <= set(explained)


def test_no_file_names_a_place_of_one_machine():
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    home = re.compile(r"(?<![\w.*}])/(?:root|work|Users|home)/\w")
    registry = re.compile(r"py[p]i\.org|python[h]osted|--(?:extra-)?index-ur[l]|--find-link[s]")
    found = []
    for path in filter(None, paths):
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # no text, or removed and not yet committed
        found += [f"{path}: {match[0]}" for pattern in (home, registry) for match in pattern.finditer(text)]
    assert not found


# Imports

ROOMS = (  # a module imports from its own room and from those after it: downwards only
    "course experiments training interpretability models baselines generation metrics layers data text checkpoints "
    "assets progress validation"
).split()


def imported_parts(module):
    """The parts of course_lib that a module imports, wherever in it: `text` for `course_lib.text.word_piece`."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(module)} imports with dots: write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("course_lib."))


@pytest.mark.parametrize("module", [path for path in MODULES if name_of(path) != "__init__"], ids=name_of)
def test_imports_run_downwards(module):
    own = name_of(module).split(".")[0]
    assert own in ROOMS, f"say in ROOMS where {own} stands"
    for part in imported_parts(module):
        assert part in ROOMS, f"{name_of(module)} imports {part}: import it from the module that defines it"
        assert ROOMS.index(part) >= ROOMS.index(own), f"{name_of(module)} imports {part}, which stands above it"


def test_course_lib_costs_what_keras_costs():
    program = """
import sys, time
import keras
before, start = set(sys.modules), time.process_time()
import course_lib
print(time.process_time() - start)
print(*{name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"course_lib"})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, added = run.stdout.split("\n")[:2]
    assert not added.split(), "import it where it is used"
    assert float(seconds) < 0.3


# Docstrings


def public_definitions(module):
    """Yields the public classes, functions and methods of a module: their name, the node, and the class they are in."""
    for node in ast.parse(module.read_text()).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        yield f"{name_of(module)}.{node.name}", node, None
        for method in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(method, ast.FunctionDef) and (method.name == "__init__" or not method.name.startswith("_")):
                yield f"{name_of(module)}.{node.name}.{method.name}", method, node


def complaints(node, owner):
    """What a docstring leaves unsaid."""
    # A class's docstring speaks for its constructor, and for the fields of a dataclass.
    text = ast.get_docstring(owner if node.name == "__init__" else node) or ""
    if not text:
        return ["it has no docstring"]
    if isinstance(node, ast.ClassDef):
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        fields = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign)]
        names = fields if any("dataclass" in decorator for decorator in decorators) else []
        raised = []
    else:
        arguments = node.args
        names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
        names += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
        names = names[1:] if owner and "staticmethod" not in map(ast.unparse, node.decorator_list) else names
        raised = [ast.unparse(part.exc) for part in ast.walk(node) if isinstance(part, ast.Raise) and part.exc]
    unsaid = [
        f"it does not explain {name}" for name in names if not re.search(rf"^\s*[`*]*{name}\b.*:", text, re.MULTILINE)
    ]
    if any("ValueError" in exception for exception in raised) and not re.search(r"Raises:\n\s+\w*ValueError", text):
        unsaid.append("it does not say when it raises ValueError")
    return unsaid


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_docstrings_explain_every_public_name(module):
    assert ast.get_docstring(ast.parse(module.read_text())) or not module.read_text(), "the module has no docstring"
    found = {name: complaints(node, owner) for name, node, owner in public_definitions(module)}
    assert not {name: unsaid for name, unsaid in found.items() if unsaid}
