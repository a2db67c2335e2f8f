"""Tokenizes a corpus of any size into shards on disk: `python -m course_lib.training.shards write` RECIPE `--corpus` ….

`course_lib.training.pretrain` takes the folder as its corpus. docs/scale.md shows how to use both.
"""

import argparse
import contextlib
import hashlib
import heapq
import json
import os
import pathlib

import numpy as np

from course_lib.data import corpus
from course_lib.data.token_shards import FORMAT, PARTS, TokenShards, digest_of_files, part_of
from course_lib.progress import progress_bar
from course_lib.training.pretrain import OBJECTIVES
from course_lib.training.recipes import RECIPES, Recipe, resolve_start


class _Writer:
    """Appends documents to a shard."""

    def __init__(self, stream):
        self.stream, self.digest = stream, hashlib.sha256()
        self.documents = self.tokens = 0

    def append(self, ids):
        data = ids.tobytes()
        self.stream.write(data)
        self.digest.update(data)
        self.documents, self.tokens = self.documents + 1, self.tokens + len(ids)


def write(folder, texts, tokenizer, token_ids, num_shards, held_out=20, row_length=1):
    """Tokenizes documents, one at a time, into a folder of shards.

    Each document goes to the shard that has the fewest tokens. So shards have about the same size, and each is a sample
    of the whole corpus. The index is written last: a folder without one is not complete.

    Args:
        folder: path of a folder without shards. It is made if need be.
        texts: an iterable of strings.
        tokenizer: a tokenizer of `course_lib.text` with an `end_token_id`.
        token_ids: function from a text and the tokenizer to ids without the end token.
        num_shards: number of shards of each part.
        held_out: one document in about `held_out` is held out, as `part_of` says.
        row_length: number of tokens that each shard has to exceed, so that it fills a row.

    Raises:
        ValueError: if the folder has shards, a number is too small, or there is too little text for so many shards.
        OSError: if a file cannot be written.
    """
    _check(folder, num_shards, held_out)
    folder = pathlib.Path(folder)
    tokenizer.save(folder / "tokenizer")
    dtype = np.dtype("<u2" if tokenizer.vocabulary_size <= 1 << 16 else "<u4")
    counts = np.zeros(tokenizer.vocabulary_size, "int64")
    names = {part: [f"{part}-{n:05d}-of-{num_shards:05d}.bin" for n in range(num_shards)] for part in PARTS}
    smallest = {part: [(0, number) for number in range(num_shards)] for part in PARTS}  # heaps of tokens and shard
    with contextlib.ExitStack() as stack, progress_bar(None, unit="token", unit_scale=True) as bar:
        writers = {
            part: [_Writer(stack.enter_context(open(folder / name, "wb"))) for name in names[part]] for part in PARTS
        }
        for text in texts:
            part = part_of(text, held_out)
            ids = np.array([*token_ids(text, tokenizer), tokenizer.end_token_id], dtype)
            tokens, number = smallest[part][0]
            heapq.heapreplace(smallest[part], (tokens + len(ids), number))
            writers[part][number].append(ids)
            if part == "train":
                np.add.at(counts, ids, 1)
            bar.update(len(ids))
    for part in PARTS:
        tokens, number = smallest[part][0]
        if tokens <= row_length:
            raise ValueError(
                f"Expected more than {row_length} tokens in each shard, so that it fills a row; "
                f"{folder / names[part][number]} has {tokens}. Write fewer shards, or hold out more documents."
            )
    np.save(folder / "counts.npy", counts)
    index = {
        "format": FORMAT,
        "dtype": dtype.name,
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer": {"class": type(tokenizer).__name__, "sha256": digest_of_files(folder / "tokenizer")},
        "parts": {
            part: [
                {"file": name, "documents": w.documents, "tokens": w.tokens, "sha256": w.digest.hexdigest()}
                for name, w in zip(names[part], writers[part], strict=True)
            ]
            for part in PARTS
        },
    }
    (folder / "index.partial").write_text(json.dumps(index, indent=1) + "\n")
    os.replace(folder / "index.partial", folder / "index.json")


def _check(folder, num_shards, held_out):
    """Refuses what cannot be written, before hours are spent on it."""
    if (pathlib.Path(folder) / "index.json").exists():
        raise ValueError(f"Expected a folder without shards; {folder} has some. Name another one, or remove it first.")
    if num_shards < 1 or held_out < 2:
        raise ValueError(f"Expected 1 shard or more, and held_out of 2 or more; got {num_shards} and {held_out}.")


def write_with_recipe(recipe, corpus_path, folder, num_shards, held_out=20, tokenizer=None):
    """Writes shards that a recipe can be run on.

    Args:
        recipe: a `Recipe`.
        corpus_path: as `course_lib.data.corpus.stream` takes it. It is read twice if a tokenizer is trained.
        folder: path of a folder without shards.
        num_shards: number of shards of each part.
        held_out: one document in about `held_out` is held out.
        tokenizer: preset of a tokenizer. Defaults to that of the recipe's start. If there is none, either, a tokenizer
            is trained on the training part.

    Returns:
        `TokenShards`.

    Raises:
        ValueError: if the recipe needs sentence pairs, the vocabulary does not fit the recipe, or `write` cannot use
            the corpus.
        OSError: if the corpus cannot be read, or a file cannot be written.
    """
    _check(folder, num_shards, held_out)
    objective = OBJECTIVES[recipe.objective](recipe)
    row_length = objective.row_length
    preset = tokenizer or (recipe.start and resolve_start(recipe.start))
    if preset:
        tokenizer = objective.tokenizer_class.from_preset(preset)
    else:
        texts = (text for text in corpus.stream(corpus_path) if part_of(text, held_out) == "train")
        tokenizer = objective.tokenizer_class.train(texts, recipe.vocabulary_size)
    write(folder, corpus.stream(corpus_path), tokenizer, objective.token_ids, num_shards, held_out, row_length)
    return TokenShards(folder)


def main(arguments=None):
    """Writes or checks shards, as the command line says.

    Args:
        arguments: strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.shards", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    to_write = commands.add_parser("write", help="tokenize a corpus into shards")
    to_write.add_argument("recipe", help=f"one of {', '.join(RECIPES)}, or the path of a TOML file")
    to_write.add_argument("--corpus", required=True, help="a text file, a folder or a pattern, as for pretrain")
    to_write.add_argument("--folder", required=True, help="where the shards are written")
    to_write.add_argument("--shards", type=int, required=True, help="how many; best a multiple of the number of hosts")
    to_write.add_argument("--held-out", type=int, default=20, help="one document in about this many is held out")
    to_write.add_argument("--tokenizer", help="preset of a tokenizer; default: the recipe's, or a new one")
    to_check = commands.add_parser("check", help="compare every byte of the shards with their index")
    to_check.add_argument("folder", help="where the shards are")
    given = parser.parse_args(arguments)
    try:
        if given.command == "check":
            shards = TokenShards(given.folder)
            shards.check()
            print(f"All is as the index says: {shards}.")
        else:
            recipe = RECIPES[given.recipe] if given.recipe in RECIPES else Recipe.read(given.recipe)
            shards = write_with_recipe(
                recipe, given.corpus, given.folder, given.shards, given.held_out, given.tokenizer
            )
            print(f"{shards}, in {given.folder}. To train on them:")
            print(f"  python -m course_lib.training.pretrain {given.recipe} --corpus {given.folder}")
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
