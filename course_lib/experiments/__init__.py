"""Recorded experiments that take too long for a chapter. Their results are kept in `data/runs/NAME.json`.

`python -m course_lib.experiments NAME` runs one and writes its record. Chapters read it with `load`, which refuses a
record if its recipe or code has changed since. After a change that cannot affect the results, such as a new name,
`python -m course_lib.experiments NAME --stamp "why"` notes this in the record, provided that the replay gives the same
numbers.
"""

import argparse
import ast
import dataclasses
import datetime
import hashlib
import importlib
import inspect
import itertools
import json
import os
import platform
import subprocess
import sys
import time

import filelock
import keras

from course_lib import assets
from course_lib.experiments import replays

# Name → module. Each module defines a dataclass of settings, and one instance of it, `EXPERIMENT`. The dataclass has a
# field `data`, the assets it reads; a method `run()`; and a method `replay()`, which computes a few numbers in seconds.
EXPERIMENTS = {
    "clm-bayes-loss": "course_lib.experiments.clm_bayes_loss",
    "sentiment-finetuning": "course_lib.experiments.sentiment_finetuning",
    "compression": "course_lib.experiments.compression",
    "against-counting": "course_lib.experiments.against_counting",
    "mlm-bayes-loss": "course_lib.experiments.mlm_bayes_loss",
    "random-heads": "course_lib.experiments.random_heads",
    "frozen-features": "course_lib.experiments.frozen_features",
    "named-entities": "course_lib.experiments.named_entities",
    "number-translation": "course_lib.experiments.number_translation",
    "scaling": "course_lib.experiments.scaling",
    "interface-translation": "course_lib.experiments.interface_translation",
    "truncation": "course_lib.experiments.truncation",
    "random-init-control": "course_lib.experiments.random_init_control",
    "lora-budget": "course_lib.experiments.lora_budget",
    "distillation": "course_lib.experiments.distillation",
    "pretraining-ablation": "course_lib.experiments.pretraining_ablation",
    "pretraining-variants": "course_lib.experiments.pretraining_variants",
    "decoder-variants": "course_lib.experiments.decoder_variants",
    "prompting": "course_lib.experiments.prompting",
    "prompting-lora": "course_lib.experiments.prompting_lora",
}

# Fields of a syntax tree that are empty or redundant: a "u" before a string, type comments, the use of a name.
_UNSTABLE = ("ctx", "kind", "type_comment", "type_ignores", "type_params")


def experiment(name):
    """Finds the settings of an experiment, ready to run.

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


def recorded():
    """Lists the experiments that have a record; a new one may still be running.

    Returns:
        A list of keys of `EXPERIMENTS`.
    """
    return [name for name in EXPERIMENTS if _path(name).is_file()]


def recipe_hash(name):
    """Computes the SHA-256 of an experiment's settings and of the code of its module.

    If an experiment is a subclass of another one, the code of that module is included, too. The hash is the same in
    every supported Python version, and does not depend on the module's path or imports. It does not cover code that
    experiments share; the `replay` of a record checks that.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: if there is no such experiment.
    """
    settings = experiment(name)
    modules = dict.fromkeys(kind.__module__ for kind in type(settings).__mro__)
    sources = [inspect.getsource(sys.modules[module]) for module in modules if module in EXPERIMENTS.values()]
    content = [dataclasses.asdict(settings), *map(normalized, sources)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def normalized(source):
    """Reduces a module's source to a form that changes only if the code does.

    It leaves out comments, layout, docstrings, imports, and methods named `replay`, which do not affect the results. It
    also leaves out empty fields of the syntax tree, because they differ between versions of Python.

    Args:
        source: source of a module, a string.

    Returns:
        Nested lists of strings.
    """
    return _plain(ast.parse(source))


def _plain(node):
    if isinstance(node, list):
        return [_plain(part) for part in node if not isinstance(part, ast.Import | ast.ImportFrom)]
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, ascii(node.value)]
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = node.body[ast.get_docstring(node, clean=False) is not None :]
    if isinstance(node, ast.JoinedStr):  # an f-string, which some versions split into more pieces, or empty ones
        fields["values"] = [
            part
            for is_text, group in itertools.groupby(node.values, lambda part: isinstance(part, ast.Constant))
            for part in ([ast.Constant("".join(text.value for text in group))] if is_text else group)
            if not is_text or part.value
        ]
    if isinstance(node, ast.ClassDef):
        fields["body"] = [part for part in fields["body"] if getattr(part, "name", None) != "replay"]
    plain = {name: _plain(value) for name, value in fields.items() if value is not None and name not in _UNSTABLE}
    return [type(node).__name__, *([name, value] for name, value in sorted(plain.items()) if value != [])]


def load(name):
    """Reads the record of an experiment.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        A dict with `results`, as the experiment's `run` returned them, and their origin: `command`, `commit`, `recipe`,
        `recipe_hash`, `data_hashes`, `machine`, `backend`, `date`, and `seconds`, the duration of the run that wrote
        the record, without parts that were `cached` before; `replay`, numbers that the code must still compute; and
        `stamps`, added by `stamp`.

    Raises:
        ValueError: if there is no such experiment, it has no record, or its recipe or code has changed since.
    """
    today = recipe_hash(name)
    record = _read(name)
    if record["recipe_hash"] != today:
        raise ValueError(
            f"Expected {_path(name)} to be of today's recipe; it has changed since. Run {_command(name)} again; or, "
            f'if the change cannot change a result, as a new name cannot, {_command(name)} --stamp "why".'
        )
    return record


def record(name):
    """Runs an experiment, and writes its record when all results are complete.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        The record, as `load` returns it.
    """
    settings = experiment(name)
    start, commit = time.perf_counter(), _commit()
    results = settings.run()
    entry = {
        "name": name,
        "command": _command(name),
        "commit": commit,
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
        "replay": replays.compute(settings),
        "stamps": [],
        "results": results,
    }
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    _write(path, entry)
    return entry


def stamp(name, why):
    """Marks a record as valid for today's recipe, after a change of code that cannot affect the results.

    The replay must still compute the same numbers. It does not cover everything, so `why` must give the reason.

    Args:
        name: a key of `EXPERIMENTS`.
        why: the reason, for readers of the record.

    Returns:
        The record, with a new entry in `stamps`: a dict with `date`, `commit` and `why`.

    Raises:
        ValueError: if there is no such experiment, it has no record, its settings have changed, no reason is given, or
            the replay gives different numbers.
    """
    settings, entry = experiment(name), _read(name)
    if not why.strip():
        raise ValueError("Expected a reason why the results are the same; got none.")
    today = json.loads(json.dumps(dataclasses.asdict(settings)))
    if changed := [key for key in {**today, **entry["recipe"]} if today.get(key) != entry["recipe"].get(key)]:
        raise ValueError(f"Expected the settings of {_path(name)}; {sorted(changed)} differ. Run {_command(name)}.")
    if wrong := replays.differences(entry.get("replay", {}), replays.compute(settings)):
        raise ValueError(
            f"Expected the replay of {_path(name)}; today's code computes another, and so the results may have "
            f"changed. Run {_command(name)} again. " + "; ".join(wrong)
        )
    entry["recipe_hash"] = recipe_hash(name)
    done = {"date": datetime.date.today().isoformat(), "commit": _commit(), "why": why}
    entry["stamps"] = [*entry.get("stamps", []), done]
    _write(_path(name), entry)
    return entry


def cached(name, key, make):
    """Computes a part of an experiment once, and remembers it as long as the recipe stays the same.

    Args:
        name: a key of `EXPERIMENTS`.
        key: a string that identifies this part.
        make: function without arguments that computes the part. The result must be writable as JSON.

    Returns:
        What `make` returned, now or in an earlier run.
    """
    path = assets.cache_folder() / "experiments" / f"{name}-{recipe_hash(name)[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def done():
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    if key not in done():
        made = make()
        with filelock.FileLock(path.with_suffix(".lock")):  # other processes may compute other parts at the same time
            _write(path, done() | {key: made})
        print(f"{key}: done", flush=True)
    return done()[key]


def _write(path, content):
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _read(name):
    path = _path(name)
    if not path.is_file():
        raise ValueError(f"Expected the record {path}; there is none. Make it with {_command(name)}.")
    return json.loads(path.read_text(encoding="utf-8"))


def _path(name):
    return assets.data_folder() / "runs" / f"{name}.json"


def _command(name):
    return f"python -m course_lib.experiments {name}"


def _commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main():
    """Runs the experiments named on the command line, or stamps their records."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(EXPERIMENTS))
    parser.add_argument(
        "--stamp",
        metavar="WHY",
        help="run nothing: say that the records are of today's code, if their replays agree, and why no result changed",
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if arguments.stamp is not None:
            stamp(name, arguments.stamp)
            print(f"{name}: stamped, in {_path(name)}")
            continue
        entry = record(name)
        print(f"{name}: {len(entry['results'])} results in {entry['seconds']} s, in {_path(name)}")
