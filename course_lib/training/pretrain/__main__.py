"""Pre-trains a BERT or a GPT-2: `python -m course_lib.training.pretrain bert-mini`, or `gpt-mini`.

A run that was stopped resumes when it is started again, and ends with the same numbers.
"""

import argparse
import os
import pathlib
import sys

from course_lib.data import corpus, token_shards
from course_lib.training.distribution import distribute
from course_lib.training.hosts import connect, is_first_host, watch
from course_lib.training.pretrain import pretrain
from course_lib.training.recipes import RECIPES, Recipe, run_folder

_WATCHED = "COURSE_LIB_WATCHED"  # set in the process that trains, of the two that --hosts starts


def _hosts(text):
    return text if text == "auto" else int(text)


def _read(path):
    """Reads a corpus, or the index of its shards. A folder of shards without an index is not complete."""
    is_sharded = any(pathlib.Path(path).glob("train-*-of-*.bin")) or (pathlib.Path(path) / "index.json").is_file()
    return token_shards.TokenShards(path) if is_sharded else corpus.read(path)


def main(arguments=None):
    """Runs the recipe that the command line names.

    Args:
        arguments: strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.pretrain", description=__doc__)
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}, or the path of a TOML file")
    parser.add_argument(
        "--corpus",
        help="a text file in UTF-8 with an empty line between documents, a folder of such files (*.txt), or a pattern "
        "such as 'texts/*.md'; or a folder of shards; default: IMDb's reviews",
    )
    parser.add_argument("--folder", help="where the run is kept; default: in the cache of data")
    parser.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too")
    several = parser.add_argument_group("several devices", "docs/scale.md shows how to use these.")
    several.add_argument("--distribution", choices=["data", "model"], help="what is split: batches, or weights as well")
    several.add_argument("--devices", type=int, help="number of devices; default: all")
    several.add_argument("--model-devices", type=int, help="devices that share a copy of the weights; default: all")
    several.add_argument("--hosts", type=_hosts, help="number of processes, on JAX; or auto, under SLURM or on TPUs")
    several.add_argument("--host", type=int, help="number of this process, from 0")
    several.add_argument("--coordinator", help="address and port of process 0, such as 10.0.0.1:4444")
    several.add_argument("--timeout", type=int, default=100, help="seconds after which a silent host counts as missing")
    given, arguments = sys.argv[1:] if arguments is None else arguments, parser.parse_args(arguments)
    if arguments.hosts and not os.environ.get(_WATCHED):
        os.environ[_WATCHED] = "1"
        sys.exit(watch([sys.executable, "-m", "course_lib.training.pretrain", *given]))

    errors = []

    def attempt(function, *args):
        try:
            return function(*args)
        except (ValueError, OSError, ImportError) as error:
            errors.append(str(error))

    if arguments.hosts:
        hosts = None if arguments.hosts == "auto" else arguments.hosts
        attempt(connect, hosts, arguments.host, arguments.coordinator, arguments.timeout)
    elif arguments.host is not None or arguments.coordinator:
        errors.append("Expected --hosts beside --host and --coordinator: the number of processes.")
    wanted = arguments.devices, arguments.model_devices
    kind = arguments.distribution or ("data" if arguments.hosts or wanted != (None, None) else None)
    distribution = attempt(distribute, kind, *wanted) if kind and not errors else None

    name = arguments.recipe
    recipe = RECIPES[name] if name in RECIPES else attempt(Recipe.read, name)
    documents = attempt(_read, arguments.corpus) if arguments.corpus else attempt(corpus.imdb)

    def run(name, recipe, folder):
        if name in RECIPES and recipe.start in RECIPES:  # if it has been run on the same corpus, this takes no time
            run(recipe.start, RECIPES[recipe.start], None)
        folder = pathlib.Path(folder or run_folder(pathlib.Path(name).stem))
        if is_first_host():
            print(f"{name} on {documents}, in {folder}")
        model = pretrain(recipe, documents, folder, arguments.tensorboard, distribution)
        if not is_first_host():
            return
        preset, class_name = folder / "preset", type(model).__name__
        print(f"The model is in {preset}. To load it:")
        print(f"  from course_lib import {class_name}\n  model = {class_name}.from_preset({str(preset)!r})")

    if not errors:
        attempt(run, name, recipe, arguments.folder)
    if errors:
        parser.exit(2, "".join(f"{error}\n" for error in errors))


if __name__ == "__main__":
    main()
