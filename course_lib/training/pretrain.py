"""Pre-trains a BERT or a GPT-2: `python -m course_lib.training.pretrain bert-mini`, or `gpt-mini`.

A run that was stopped resumes when it is started again, and ends with the same numbers: each batch depends only on the
recipe's seed and the step, and a checkpoint holds everything that training changes. What differs between the two models
is in the classes `course_lib.training.mlm.MaskedLanguageModeling` and `course_lib.training.clm.CausalLanguageModeling`.
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

from course_lib.data import corpus
from course_lib.progress import progress_bar
from course_lib.training import resumable
from course_lib.training.clm import CausalLanguageModeling
from course_lib.training.losses import CrossEntropy
from course_lib.training.mlm import MaskedLanguageModeling
from course_lib.training.optimizers import AdamW, Muon
from course_lib.training.recipes import RECIPES, Recipe, resolve_start, run_folder
from course_lib.training.schedules import WarmupLinearDecay

OBJECTIVES = {"masked": MaskedLanguageModeling, "causal": CausalLanguageModeling}
OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


class Batches(keras.utils.PyDataset):
    """Batches for `fit`, each a function of its step.

    Args:
        batch_of: a function from a step to inputs, labels and, optionally, weights.
        first: the first step.
        steps: number of steps. Without it, there is no end.
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
    """Makes the tokenizer of a run, or reads it if the run has been started before, and encodes the documents.

    Args:
        documents: a `course_lib.data.corpus.Documents`.
        recipe: a `Recipe`.
        folder: path of the run's folder.

    Returns:
        The tokenizer; and the training and the held-out documents, as `encode` of the objective returns them.

    Raises:
        ValueError: if `encode` cannot use the documents, or `vocabulary_size` is smaller than the alphabet.
    """
    objective = OBJECTIVES[recipe.objective](recipe)
    if (folder / "tokenizer_config.json").is_file():  # the last file that `save` writes
        tokenizer = objective.tokenizer_class.from_preset(folder)
    else:
        if recipe.start:
            tokenizer = objective.tokenizer_class.from_preset(resolve_start(recipe.start))
        else:
            tokenizer = objective.tokenizer_class.train(documents.train, recipe.vocabulary_size)
        tokenizer.save(folder)
    return tokenizer, *(objective.encode(part, tokenizer) for part in (documents.train, documents.held_out))


def batch_maker(data, tokenizer, recipe, seed):
    """Makes the function that draws the batches of a run.

    Args:
        data: what `encode` of the objective returned.
        tokenizer: of the run.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to its batch, as `fit` takes it.
    """
    return OBJECTIVES[recipe.objective](recipe).batch_maker(data, tokenizer, seed)


def build(recipe, tokenizer, counts=None):
    """Makes the model that training starts from, with weights drawn from the recipe's seed, and compiles it.

    Args:
        recipe: a `Recipe`.
        tokenizer: of the run.
        counts: integers (V,), how often each token occurs in the corpus. Without them, all tokens are equally likely at
            first.

    Returns:
        A `BertPretrainer`, or a `GPT2CausalLM`.
    """
    objective = OBJECTIVES[recipe.objective](recipe)
    keras.utils.set_random_seed(recipe.seed)
    model = objective.new_model(tokenizer, counts)
    if recipe.start:
        model.set_weights(objective.model_class.from_preset(resolve_start(recipe.start)).get_weights())
    schedule = WarmupLinearDecay(recipe.learning_rate, recipe.warmup_steps, recipe.steps)
    optimizer = OPTIMIZERS[recipe.optimizer](schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip)
    optimizer.build(model.trainable_variables)
    defaults = model.default_compile()
    model.compile(
        optimizer,
        loss=keras.tree.map_structure(lambda _: CrossEntropy(), defaults["loss"]),
        weighted_metrics=defaults["weighted_metrics"],
        jit_compile=recipe.jit_compile,
    )
    return model


class _Log(keras.callbacks.Callback):
    """Writes a row of the log and a checkpoint after each epoch of `fit`."""

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
        resumable.save(self.folder / "checkpoint.safetensors", self.model, self.digest, self.rows)
        write_log(self.folder / "log.csv", self.rows)


class _Progress(keras.callbacks.Callback):
    """Shows a bar with the loss, the tokens per second, and the time left."""

    def __init__(self, recipe, first):
        super().__init__()
        self.tokens = recipe.batch_size * recipe.length
        self.bar = progress_bar(
            recipe.steps * self.tokens, True, initial=first * self.tokens, unit="token", unit_scale=True
        )

    def on_train_batch_end(self, batch, logs=None):
        if batch % 10 == 9:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}", refresh=False)
        self.bar.update(self.tokens)

    def on_train_end(self, logs=None):
        self.bar.close()


def write_log(path, rows):
    """Writes a CSV file, which appears when it is complete.

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
        recipe: a `Recipe`. Its `steps` are a multiple of `steps_per_checkpoint`.
        documents: a `course_lib.data.corpus.Documents`.
        folder: path of the run's folder. It is made if need be, and gets the vocabulary, `checkpoint.safetensors`,
            `log.csv`, and at the end `preset/`, the model in float16.
        tensorboard: whether to log for TensorBoard too, into `tensorboard/`.

    Returns:
        The model, as `build` returns it, after training.

    Raises:
        ValueError: if `prepare` cannot use the corpus, or the checkpoint in the folder is cut short, or is of another
            recipe or corpus.
        OSError: if a checkpoint cannot be written. The last one is unchanged then.
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
    rows = resumable.restore(path, model, digest) if path.exists() else []
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
        if recipe.start in RECIPES:  # if it has been run on the same corpus, this takes no time
            run(recipe.start, None)
        folder = folder or run_folder(pathlib.Path(name).stem)
        print(f"{name} on {documents}, in {folder}")
        pretrain(recipe, documents, folder, arguments.tensorboard)

    run(arguments.recipe, arguments.folder)


if __name__ == "__main__":
    main()
