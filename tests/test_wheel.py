"""The wheel works away from the checkout: it carries every module, the registry, the cards and the recorded runs."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the checkout, so that the build leaves nothing in it, with a file of each kind of data."""
    folder = tmp_path_factory.mktemp("copy") / "course"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "notebooks", "cache", "__pycache__"))
    for name in ("runs/a.json", "weights/ours/model.safetensors", "cache/fetched/model.safetensors"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).touch()
    return folder


@pytest.fixture(scope="module")
def installed(copy, tmp_path_factory):
    """A folder with course_lib as pip installs it from the wheel."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", target, copy], check=True)
    return target


def test_the_wheel_carries_all_that_it_should_and_nothing_that_was_fetched(copy, installed):
    data = {path.relative_to(copy / "data") for path in (copy / "data").rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT) for path in (ROOT / "course_lib").rglob("*.py")}
    expected |= {pathlib.Path("course_lib", "shipped", path) for path in data if path.parts[0] != "cache"}
    there = {path.relative_to(installed) for path in (installed / "course_lib").rglob("*") if path.is_file()}
    assert {path for path in there if path.suffix != ".pyc"} == expected


def test_the_installed_library_has_its_own_registry(installed, tmp_path):
    program = """
import course_lib
from course_lib import assets
print(course_lib.__file__, assets.data_folder(), assets.cache_folder(), *assets.names(), sep="\\n")
"""
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, data, cache, *names = run.stdout.splitlines()
    assert pathlib.Path(file) == installed / "course_lib" / "__init__.py"
    assert pathlib.Path(data) == installed / "course_lib" / "shipped"
    assert not pathlib.Path(cache).is_relative_to(ROOT)
    assert {"movie-reviews", "all-MiniLM-L6-v2", "gpt2-vocabulary"} <= set(names)
