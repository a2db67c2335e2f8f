"""Pre-trains a BERT: `python -m course_lib.training.pretrain bert-mini`.

Stopped at any moment and started again, it goes on where it was and ends with the same numbers: each batch depends on
the recipe's seed and the step alone, and a checkpoint holds all that training changes.
Devlin et al., 2019, https://arxiv.org/abs/1810.04805, sections 3.1 and A.2.
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
import numpy as np
from tqdm.auto import tqdm

from course_lib import objectives
from course_lib.bert import Bert, BertConfig, BertPretrainer
from course_lib.data import corpus
from course_lib.text.masking import Masking
from course_lib.text.packing import pack_segments
from course_lib.text.sentence_pairs import SentencePairs, split_sentences
from course_lib.text.word_piece import WordPieceTokenizer
from course_lib.training import checkpoint, starts
from course_lib.training.optimizers import AdamW
from course_lib.training.recipes import RECIPES, Recipe, locate, run_folder
from course_lib.training.schedules import WarmupLinearDecay


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


def batch_maker(pairs, tokenizer, recipe, seed):
    """What makes the batches of a run.

    Args:
        pairs: `SentencePairs`.
        tokenizer: a `WordPieceTokenizer`.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to the inputs, the targets and the sample weights of its batch, as
        `course_lib.objectives.pretraining` describes them.
    """
    masking = Masking.of(tokenizer, recipe.whole_words, rate=recipe.masking_rate, positions=recipe.predictions)
    special = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id

    def batch_of(step):
        first, second, labels = pairs.draw(recipe.batch_size, seed, step)
        inputs, tokens, weights = masking(pack_segments(first, second, *special, recipe.length), seed, step)
        targets = {"mlm_logits": tokens, "nsp_logits": labels}
        return inputs, targets, {"mlm_logits": weights, "nsp_logits": np.ones(len(labels), "float32")}

    return batch_of


def build(recipe, tokenizer, counts=None):
    """A model as training finds it, its weights drawn with the recipe's seed, and compiled.

    Args:
        recipe: a `Recipe`.
        tokenizer: a `WordPieceTokenizer`.
        counts: int (V,), how often each token occurs in the corpus, for the scores to start from; even if None.

    Returns:
        A `BertPretrainer`.
    """
    keras.utils.set_random_seed(recipe.seed)
    names = [field.name for field in dataclasses.fields(BertConfig) if hasattr(recipe, field.name)]
    fields = {name: getattr(recipe, name) for name in names} | {"vocabulary_size": tokenizer.vocabulary_size}
    config = BertConfig(**fields, attention_dropout=recipe.dropout)
    model = BertPretrainer(Bert(config, tokenizer, dtype=recipe.dtype), dtype=recipe.dtype)
    model.build()
    if recipe.start:
        model.set_weights(BertPretrainer.from_preset(locate(recipe.start)).get_weights())
    else:
        starts.look_at_neighbours(model.backbone)
        if counts is not None:
            starts.score_by_frequency(model.masked_lm, counts)
    schedule = WarmupLinearDecay(recipe.learning_rate, recipe.warmup_steps, recipe.steps)
    optimizer = AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, jit_compile=recipe.jit_compile, **objectives.pretraining())
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


def prepare(documents, recipe, folder):
    """The vocabulary of a run, trained or taken over at its first start, and its sentences as token ids.

    Args:
        documents: a `course_lib.data.corpus.Documents`.
        recipe: a `Recipe`.
        folder: of the run.

    Returns:
        The `WordPieceTokenizer`, and the `SentencePairs` of the training and of the held-out documents.

    Raises:
        ValueError: if a document has no sentence, fewer than two have two sentences or more, or `vocabulary_size` is
            smaller than the alphabet.
    """
    if (folder / "vocab.txt").is_file():
        tokenizer = WordPieceTokenizer.from_preset(folder)
    else:
        if recipe.start:
            tokenizer = WordPieceTokenizer.from_preset(locate(recipe.start))
        else:
            tokenizer = WordPieceTokenizer.train(documents.train, recipe.vocabulary_size)
        tokenizer.save(folder)
    pairs = (
        SentencePairs(
            [[tokenizer.encode(sentence)[1:-1] for sentence in split_sentences(text)] for text in texts],
            recipe.length - 3,
        )
        for texts in (documents.train, documents.held_out)
    )
    return tokenizer, *pairs


def pretrain(recipe, documents, folder, tensorboard=False):
    """Runs a recipe, or what is left of it.

    Args:
        recipe: a `Recipe`; `steps` is a multiple of `steps_per_checkpoint`.
        documents: a `course_lib.data.corpus.Documents`.
        folder: path of the run's folder, which is made if need be; it gets `vocab.txt`, `checkpoint.safetensors`,
            `log.csv`, and at the end `preset/`, the model in float16.
        tensorboard: whether to log for TensorBoard too, into `tensorboard/`.

    Returns:
        The `BertPretrainer`.

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
