"""Pre-trains a BERT or a GPT-2: `python -m course_lib.training.pretrain bert-mini`, or `gpt-mini`.

Stopped at any moment and started again, it goes on where it was and ends with the same numbers: each batch depends on
the recipe's seed and the step alone, and a checkpoint holds all that training changes. What the two models do not share
stands in `course_lib.training.masked` and `course_lib.training.causal`, under the same names.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import time

import keras
from tqdm.auto import tqdm

from course_lib.data import corpus
from course_lib.training import causal, checkpoint, masked
from course_lib.training.optimizers import AdamW, Muon
from course_lib.training.recipes import RECIPES, Recipe, locate, run_folder
from course_lib.training.schedules import WarmupLinearDecay

OBJECTIVES = {"masked": masked, "causal": causal}
OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


class Batches(keras.utils.PyDataset):
    """Batches for `fit`, each a function of its step.

    Args:
        batch_of: from a step to inputs, targets and sample weights.
        first: the first step.
        steps: how many there are; without end if None.
    """

    def __init__(self, batch_of, first=0, steps=None):
        super().__init__()
        self.batch_of, self.first, self.steps = batch_of, first, steps

    @property
    def num_batches(self):
        """How many batches there are, or None."""
        return self.steps

    def __getitem__(self, index):
        return self.batch_of(self.first + index)


def prepare(documents, recipe, folder):
    """The vocabulary of a run, trained or taken over at its first start, and its documents as token ids.

    Args:
        documents: a `course_lib.data.corpus.Documents`.
        recipe: a `Recipe`.
        folder: of the run.

    Returns:
        The tokenizer; and the training and the held-out documents, as the `encode` of the objective returns them.

    Raises:
        ValueError: if the documents cannot be used, as that says, or `vocabulary_size` is smaller than the alphabet.
    """
    objective = OBJECTIVES[recipe.objective]
    if (folder / "tokenizer_config.json").is_file():  # the last file that `save` writes
        tokenizer = objective.TOKENIZER.from_preset(folder)
    else:
        if recipe.start:
            tokenizer = objective.TOKENIZER.from_preset(locate(recipe.start))
        else:
            tokenizer = objective.TOKENIZER.train(documents.train, recipe.vocabulary_size)
        tokenizer.save(folder)
    return tokenizer, *(objective.encode(part, tokenizer, recipe) for part in (documents.train, documents.held_out))


def batch_maker(data, tokenizer, recipe, seed):
    """What makes the batches of a run.

    Args:
        data: what the objective's `encode` returned.
        tokenizer: of the run.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to its batch: what `fit` takes.
    """
    return OBJECTIVES[recipe.objective].batch_maker(data, tokenizer, recipe, seed)


def build(recipe, tokenizer, counts=None):
    """A model as training finds it, its weights drawn with the recipe's seed, and compiled.

    Args:
        recipe: a `Recipe`.
        tokenizer: of the run.
        counts: int (V,), how often each token occurs in the corpus, for scores to start from; even if None.

    Returns:
        A `BertPretrainer`, or a `GPT2CausalLM`.
    """
    objective = OBJECTIVES[recipe.objective]
    keras.utils.set_random_seed(recipe.seed)
    model = objective.new_model(recipe, tokenizer, counts)
    if recipe.start:
        model.set_weights(objective.MODEL.from_preset(locate(recipe.start)).get_weights())
    schedule = WarmupLinearDecay(recipe.learning_rate, recipe.warmup_steps, recipe.steps)
    optimizer = OPTIMIZERS[recipe.optimizer](schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, jit_compile=recipe.jit_compile, **objective.compile_arguments())
    return model


class _Log(keras.callbacks.Callback):
    """After each epoch of `fit`: a row in the log, and a checkpoint."""

    def __init__(self, folder, recipe, digest, rows):
        super().__init__()
        self.folder, self.recipe, self.digest, self.rows = folder, recipe, digest, rows

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self.recipe.steps_per_checkpoint
        tokens = step * self.recipe.batch_size * self.recipe.length
        seconds = round(time.perf_counter() - self.start, 1)
        row = {"step": step, "tokens": tokens, "seconds": seconds} | {
            name: float(value) for name, value in logs.items()
        }
        self.rows.append(row)
        checkpoint.save(self.folder / "checkpoint.safetensors", self.model, self.digest, self.rows)
        write_log(self.folder / "log.csv", self.rows)


class _Progress(keras.callbacks.Callback):
    """A bar with the loss, tokens a second, and the time left."""

    def __init__(self, recipe, first):
        super().__init__()
        self.tokens = recipe.batch_size * recipe.length
        self.bar = tqdm(total=recipe.steps * self.tokens, initial=first * self.tokens, unit="token", unit_scale=True)

    def on_train_batch_end(self, batch, logs=None):
        if batch % 10 == 9:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}", refresh=False)
        self.bar.update(self.tokens)

    def on_train_end(self, logs=None):
        self.bar.close()


def write_log(path, rows):
    """Writes a CSV file, whole or not at all.

    Args:
        path: of the file.
        rows: dicts with the same keys.
    """
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def pretrain(recipe, documents, folder, tensorboard=False):
    """Runs a recipe, or what is left of it.

    Args:
        recipe: a `Recipe`; `steps` is a multiple of `steps_per_checkpoint`.
        documents: a `course_lib.data.corpus.Documents`.
        folder: path of the run's folder, which is made if need be; it gets the vocabulary,
            `checkpoint.safetensors`, `log.csv`, and at the end `preset/`, the model in float16.
        tensorboard: whether to log for TensorBoard too, into `tensorboard/`.

    Returns:
        The model, as `build` describes it.

    Raises:
        ValueError: if the corpus cannot be used, as `prepare` says, or the checkpoint in the folder is cut short or of
            another recipe or corpus.
        OSError: if a checkpoint cannot be written; the last one is untouched then.
    """
    if recipe.steps % recipe.steps_per_checkpoint:
        raise ValueError(
            f"Expected steps to be a multiple of steps_per_checkpoint; got {recipe.steps} and "
            f"{recipe.steps_per_checkpoint}."
        )
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, train, held_out = prepare(documents, recipe, folder)
    model = build(recipe, tokenizer, train.counts(tokenizer.vocabulary_size))
    digest = hashlib.sha256((json.dumps(dataclasses.asdict(recipe)) + documents.sha256).encode()).hexdigest()
    path = folder / "checkpoint.safetensors"
    rows = checkpoint.restore(path, model, digest) if path.exists() else []
    done = rows[-1]["step"] if rows else 0
    if done < recipe.steps:
        callbacks = [_Log(folder, recipe, digest, rows), _Progress(recipe, done)]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
        model.fit(
            Batches(batch_maker(train, tokenizer, recipe, recipe.seed), first=done),
            steps_per_epoch=recipe.steps_per_checkpoint,
            initial_epoch=done // recipe.steps_per_checkpoint,
            epochs=recipe.steps // recipe.steps_per_checkpoint,
            validation_data=Batches(
                batch_maker(held_out, tokenizer, recipe, recipe.seed + 1), steps=recipe.evaluation_steps
            ),
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    model.save_to_preset(folder / "preset", dtype="float16")
    return model


def main():
    """Runs the recipe that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.pretrain", description=__doc__)
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}, or the path of a TOML file")
    parser.add_argument("--corpus", help="text file in UTF-8, an empty line between documents; default: IMDb's reviews")
    parser.add_argument("--folder", help="where the run is kept; default: in the cache of data")
    parser.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too")
    arguments = parser.parse_args()
    documents = corpus.read(arguments.corpus) if arguments.corpus else corpus.imdb()

    def run(name, folder):
        recipe = RECIPES[name] if name in RECIPES else Recipe.read(name)
        if recipe.start in RECIPES:  # if it is there, this finds it to be of the same corpus, and is quick
            run(recipe.start, None)
        folder = folder or run_folder(pathlib.Path(name).stem)
        print(f"{name} on {documents}, in {folder}")
        pretrain(recipe, documents, folder, arguments.tensorboard)

    run(arguments.recipe, arguments.folder)


if __name__ == "__main__":
    main()
