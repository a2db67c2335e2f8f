"""Recorded runs: experiments too long for a chapter, whose every result is kept in `data/runs/NAME.json`.

`python -m course_lib.training.experiments NAME` runs one and writes its record. Chapters read it with `load`, which
refuses a record whose recipe or code is no longer the one that made it.
"""

import argparse
import ast
import dataclasses
import datetime
import hashlib
import importlib
import inspect
import json
import os
import platform
import subprocess
import sys
import time

import filelock
import keras

from course_lib.data import assets

# The module of each: it defines a dataclass of settings with `data`, the assets it reads, and `run()`, and one
# instance of that, `EXPERIMENT`.
EXPERIMENTS = {
    "causal-floor": "course_lib.training.experiments.causal_floor",
    "classes": "course_lib.training.experiments.classes",
    "compression": "course_lib.training.experiments.compression",
    "floors": "course_lib.training.experiments.floors",
    "frozen-features": "course_lib.training.experiments.frozen_features",
    "named-entities": "course_lib.training.experiments.named_entities",
    "numbers": "course_lib.training.experiments.numbers",
    "scaling": "course_lib.training.experiments.scaling",
    "translation": "course_lib.training.experiments.translation",
    "truncation": "course_lib.training.experiments.truncation",
    "untrained": "course_lib.training.experiments.untrained",
    "worth": "course_lib.training.experiments.worth",
}


def experiment(name):
    """The settings of an experiment, ready to run.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        The `EXPERIMENT` of its module.

    Raises:
        ValueError: if there is no such experiment.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"Expected an experiment of {sorted(EXPERIMENTS)}; got {name!r}.")
    return importlib.import_module(EXPERIMENTS[name]).EXPERIMENT


def recipe_hash(name):
    """SHA-256 of an experiment's settings and of its module's classes and functions, docstrings and layout aside.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: if there is no such experiment.
    """
    settings = experiment(name)
    tree = ast.parse(inspect.getsource(sys.modules[type(settings).__module__]))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return hashlib.sha256((json.dumps(dataclasses.asdict(settings)) + ast.dump(tree)).encode()).hexdigest()


def load(name):
    """Reads the record of an experiment.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        A dict with `results`, as the experiment's `run` returned them, and how they came to be: `command`, `commit`,
        `recipe`, `recipe_hash`, `data_hashes`, `machine`, `date`, and `seconds` of the run that wrote it, parts that
        were there `once` before aside.

    Raises:
        ValueError: if there is no such experiment or no record of it, or its recipe or code has changed since.
    """
    today = recipe_hash(name)
    path = _path(name)
    if not path.is_file():
        raise ValueError(f"Expected the record {path}; there is none. Make it with {_command(name)}.")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["recipe_hash"] != today:
        raise ValueError(f"Expected {path} to be of today's recipe; it has changed since. Run {_command(name)} again.")
    return record


def record(name):
    """Runs an experiment and writes its record, when all of it is there.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        The record, as `load` returns it.
    """
    settings = experiment(name)
    start = time.perf_counter()
    results = settings.run()
    entry = {
        "name": name,
        "command": _command(name),
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "backend": keras.backend.backend(),
        "seconds": round(time.perf_counter() - start),
        "recipe": dataclasses.asdict(settings),
        "recipe_hash": recipe_hash(name),
        "data_hashes": {
            f"{asset}/{name}": file["sha256"]
            for asset in settings.data
            for name, file in assets.registry()[asset]["files"].items()
        },
        "results": results,
    }
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    _write(path, entry)
    return entry


def once(name, key, make):
    """A part of an experiment that takes minutes: made once, and then remembered for as long as the recipe is the same.

    Args:
        name: a key of `EXPERIMENTS`.
        key: a string that tells this part from others.
        make: makes it, a function without arguments that returns what JSON can hold.

    Returns:
        What `make` returned, now or in an earlier run.
    """
    path = assets.cache_folder() / "experiments" / f"{name}-{recipe_hash(name)[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def done():
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    if key not in done():
        made = make()
        with filelock.FileLock(path.with_suffix(".lock")):  # others may make other parts at the same time
            _write(path, done() | {key: made})
        print(f"{key}: done", flush=True)
    return done()[key]


def _write(path, content):
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _path(name):
    return assets.data_folder() / "runs" / f"{name}.json"


def _command(name):
    return f"python -m course_lib.training.experiments {name}"


def _commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main():
    """Runs the experiments that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(EXPERIMENTS))
    for name in parser.parse_args().names:
        entry = record(name)
        print(f"{name}: {len(entry['results'])} results in {entry['seconds']} s, in {_path(name)}")
