"""Pre-trains a BERT or a GPT-2. `python -m course_lib.training.pretrain` is the command, in `__main__.py`.

A run that was stopped resumes when it is started again, and ends with the same numbers: each batch depends only on the
recipe's seed and the step, and a checkpoint holds everything that training changes. What differs between the two models
is in the classes `course_lib.training.mlm.MaskedLanguageModeling` and `course_lib.training.clm.CausalLanguageModeling`.
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import time

import keras
import numpy as np

from course_lib.data import token_shards
from course_lib.layers.transformer import TransformerStack
from course_lib.progress import progress_bar
from course_lib.training import resumable
from course_lib.training.clm import CausalLanguageModeling
from course_lib.training.distribution import gather, in_memory_of_the_host, own_rows, own_slice
from course_lib.training.hosts import is_first_host
from course_lib.training.losses import CrossEntropy
from course_lib.training.mlm import MaskedLanguageModeling
from course_lib.training.optimizers import AdamW, Muon
from course_lib.training.recipes import Recipe, resolve_start
from course_lib.training.schedules import WarmupLinearDecay

OBJECTIVES = {"masked": MaskedLanguageModeling, "causal": CausalLanguageModeling}
OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


class Batches(keras.utils.PyDataset):
    """Batches for `fit`, each a function of its step.

    Args:
        batch_of: a function from a step to inputs, labels and, optionally, weights.
        first: the first step.
        steps: number of steps. Without it, there is no end.
        batch_size: B, if `batch_of` also takes a slice, and returns these rows of the batch. A host then asks for its
            own rows, except with `parts`. By default, a host draws the whole batch and keeps its own rows.
        parts: number of parts that each batch is cut into. The weights of a whole batch then add up to this number. So
            the mean over the parts of a loss that adds up is the loss of the batch. By default, nothing is changed.
    """

    def __init__(self, batch_of, first=0, steps=None, batch_size=None, parts=None):
        super().__init__()
        self.batch_of = functools.lru_cache(maxsize=1)(batch_of) if parts else batch_of
        self.first, self.steps, self.batch_size, self.parts = first, steps, batch_size, parts

    @property
    def num_batches(self):
        """How many batches there are, or None."""
        return self.steps and self.steps * (self.parts or 1)

    def __getitem__(self, index):
        if self.batch_size and not self.parts:
            return self.batch_of(self.first + index, own_slice(self.batch_size))
        if not self.parts:
            return own_rows(self.batch_of(self.first + index))
        step, part = divmod(index, self.parts)
        inputs, labels, *weights = self.batch_of(self.first + step)
        (weights,) = weights or [keras.tree.map_structure(lambda array: np.ones(array.shape), labels)]
        weights = keras.tree.map_structure(lambda w: (w * self.parts / w.sum()).astype("float32"), weights)
        rows = len(keras.tree.flatten(labels)[0]) // self.parts
        cut = slice(part * rows, (part + 1) * rows)
        return own_rows(keras.tree.map_structure(lambda array: array[cut], (inputs, labels, weights)))


def digest_of(recipe, documents):
    """Computes the SHA-256 of what decides the numbers of a run.

    Args:
        recipe: a `Recipe`.
        documents: a `course_lib.data.corpus.Documents`, or `course_lib.data.token_shards.TokenShards`.

    Returns:
        64 hexadecimal digits.
    """
    fields = dataclasses.asdict(recipe)
    for name in ("accumulation", "rematerialize", "next_sentence"):  # left out by default, so that older runs resume
        if fields[name] == getattr(Recipe, name):
            del fields[name]
    return hashlib.sha256((json.dumps(fields) + documents.sha256).encode()).hexdigest()


def prepare(documents, recipe, folder):
    """Makes the tokenizer of a run, or reads it if the run has been started before, and encodes the documents.

    Shards have a tokenizer and are encoded already.

    Args:
        documents: a `course_lib.data.corpus.Documents`, or `course_lib.data.token_shards.TokenShards`.
        recipe: a `Recipe`.
        folder: path of the run's folder.

    Returns:
        The tokenizer; and the training and the held-out documents, as `encode` of the objective returns them, or each
        a `ShardedStream`.

    Raises:
        ValueError: if `encode` cannot use the documents, or `vocabulary_size` is smaller than the alphabet; or if
            shards do not fit the recipe.
    """
    objective = OBJECTIVES[recipe.objective](recipe)
    if isinstance(documents, token_shards.TokenShards):
        return _of_shards(documents, recipe, objective)
    made_for = folder / "tokenizer.sha256"  # the last file that is written, and what it was made for
    digest = digest_of(recipe, documents)
    while not is_first_host() and not (made_for.is_file() and made_for.read_text() == digest):
        time.sleep(0.2)
    if made_for.is_file() and made_for.read_text() == digest:
        tokenizer = objective.tokenizer_class.from_preset(folder)
    else:
        made_for.unlink(missing_ok=True)
        if recipe.start:
            tokenizer = objective.tokenizer_class.from_preset(resolve_start(recipe.start))
        else:
            tokenizer = objective.tokenizer_class.train(documents.train, recipe.vocabulary_size)
        tokenizer.save(folder)
        made_for.write_text(digest)
    return tokenizer, *(objective.encode(part, tokenizer) for part in (documents.train, documents.held_out))


def _of_shards(shards, recipe, objective):
    """Returns what `prepare` does."""
    streams = [token_shards.ShardedStream(shards, part, objective.row_length) for part in token_shards.PARTS]
    tokenizer = shards.tokenizer(objective.tokenizer_class)
    if recipe.start:
        started = objective.tokenizer_class.from_preset(resolve_start(recipe.start))
        if token_shards.fingerprint(started) != token_shards.fingerprint(tokenizer):
            raise ValueError(
                f"Expected shards with the tokenizer of {recipe.start}; those in {shards.folder} have another. "
                f"Write shards with this recipe."
            )
    elif tokenizer.vocabulary_size > recipe.vocabulary_size:
        raise ValueError(
            f"Expected shards with a vocabulary of at most {recipe.vocabulary_size} tokens, as in the recipe; those in "
            f"{shards.folder} have {tokenizer.vocabulary_size}. Set vocabulary_size, or write shards with this recipe."
        )
    return tokenizer, *streams


def batch_maker(data, tokenizer, recipe, seed):
    """Makes the function that draws the batches of a run.

    Args:
        data: what `prepare` returned, of one part.
        tokenizer: of the run.
        recipe: a `Recipe`.
        seed: an integer of 0 or more.

    Returns:
        A function from a step to its batch, as `fit` takes it. If it gets a slice as well, it returns these rows.
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

    Raises:
        ValueError: if the recipe accumulates gradients within the scope of a `tf.distribute.MirroredStrategy`, or asks
            for next-sentence prediction and starts from a model without a head for it.
    """
    objective = OBJECTIVES[recipe.objective](recipe)
    keras.utils.set_random_seed(recipe.seed)
    model = _start_of(recipe, objective.model_class) if recipe.start else objective.new_model(tokenizer, counts)
    schedule = WarmupLinearDecay(recipe.learning_rate, recipe.warmup_steps, recipe.steps)
    if micro_batches(recipe) and _is_mirrored():
        raise ValueError("Expected accumulation = 1 on several devices with TensorFlow. Set KERAS_BACKEND=jax.")
    parts = micro_batches(recipe)
    optimizer = OPTIMIZERS[recipe.optimizer](
        schedule,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip,
        gradient_accumulation_steps=parts,
    )
    for layer in model._flatten_layers():
        if isinstance(layer, TransformerStack):
            layer.rematerialize = recipe.rematerialize
    defaults, reduction = model.default_compile(), "sum" if parts else "mean_with_sample_weight"
    model.compile(
        optimizer,
        loss=keras.tree.map_structure(lambda _: CrossEntropy(reduction=reduction), defaults["loss"]),
        weighted_metrics=defaults["weighted_metrics"],
        jit_compile=recipe.jit_compile and not _is_mirrored(),
    )
    model.optimizer.build(model.trainable_variables)  # with mixed_float16, `compile` has wrapped it
    return model


def micro_batches(recipe):
    """Returns into how many micro-batches a batch is cut, or None if it stays whole.

    Args:
        recipe: a `Recipe`.
    """
    return recipe.accumulation if recipe.accumulation > 1 else None


def _is_mirrored():
    """Whether a `tf.distribute.MirroredStrategy` is in use, under which XLA does not compile a step."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync > 1


def _start_of(recipe, model_class):
    """Loads the model that a run starts from, with the recipe's dropout and dtype."""
    trained = model_class.from_preset(resolve_start(recipe.start))
    rates = [field.name for field in dataclasses.fields(trained.config) if field.name.endswith("dropout")]
    changes, left_out = dict.fromkeys(rates, recipe.dropout), []
    if recipe.objective == "masked" and recipe.next_sentence and not trained.next_sentence:
        raise ValueError(f"Expected next_sentence = false, since {recipe.start} has no head for it.")
    if recipe.objective == "masked" and not recipe.next_sentence and trained.next_sentence:
        changes["pooler"], left_out = False, trained.backbone.pooler.weights + trained.next_sentence.weights
    config = dataclasses.replace(trained.config, **changes)
    backbone = model_class.backbone_class(config, trained.tokenizer, dtype=recipe.dtype)
    model = model_class(backbone, dtype=recipe.dtype)
    model.build()
    left_out = {id(weight) for weight in left_out}
    model.set_weights([np.asarray(weight) for weight in trained.weights if id(weight) not in left_out])
    return model


class _Log(keras.callbacks.Callback):
    """Writes a row of the log and a checkpoint after each epoch of `fit`."""

    def __init__(self, folder, recipe, digest, rows):
        super().__init__()
        self.folder, self.recipe, self.digest, self.rows = folder, recipe, digest, rows

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step = min((epoch + 1) * self.recipe.steps_per_checkpoint, self.recipe.steps)
        tokens = step * self.recipe.batch_size * self.recipe.length
        seconds = round(time.perf_counter() - self.start, 1)
        row = {"step": step, "tokens": tokens, "seconds": seconds} | {
            name: float(value) for name, value in logs.items()
        }
        self.rows.append(row)
        resumable.save(self.folder / "checkpoint.safetensors", self.model, self.digest, self.rows)
        if is_first_host():
            write_log(self.folder / "log.csv", self.rows)


class _Progress(keras.callbacks.Callback):
    """Shows a bar with the loss, the tokens per second, and the time left."""

    def __init__(self, recipe, first):
        super().__init__()
        self.tokens = recipe.batch_size * recipe.length // recipe.accumulation
        self.bar = progress_bar(
            recipe.steps * recipe.accumulation * self.tokens,
            is_first_host(),
            initial=first * recipe.accumulation * self.tokens,
            unit="token",
            unit_scale=True,
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


def pretrain(recipe, documents, folder, tensorboard=False, distribution=None):
    """Runs a recipe, or what is left of it.

    The batches, masks and weights do not depend on the distribution, so a run may resume on another one.

    Args:
        recipe: a `Recipe`.
        documents: a `course_lib.data.corpus.Documents`, or `course_lib.data.token_shards.TokenShards`.
        folder: path of the run's folder. It is made if need be, and gets the vocabulary, `checkpoint.safetensors`,
            `log.csv`, and at the end `preset/`, the model in float16.
        tensorboard: whether to log for TensorBoard too, into `tensorboard/`.
        distribution: what `course_lib.training.distribution.distribute` returns. Defaults to one device. Several hosts
            need to share the folder.

    Returns:
        The model, as `build` returns it, after training. With a distribution, it is a copy in the memory of the host.

    Raises:
        ValueError: if `prepare` cannot use the corpus, or the checkpoint in the folder is cut short, or is of another
            recipe or corpus.
        OSError: if a checkpoint cannot be written. The last one is unchanged then.
    """
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("Logs for TensorBoard need a package: pip install tensorboard")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, train, held_out = prepare(documents, recipe, folder)
    scope = distribution.scope() if distribution else contextlib.nullcontext()
    with scope:
        model = _train(recipe, documents, folder, tokenizer, train, held_out, tensorboard)
    if distribution:
        state = gather(resumable.variables(model).values())
        with in_memory_of_the_host():
            model = build(recipe, tokenizer)
        for variable, array in zip(resumable.variables(model).values(), state, strict=True):
            variable.assign(array)
    if is_first_host():
        model.save_to_preset(folder / "preset", dtype="float16")
    return model


def _train(recipe, documents, folder, tokenizer, train, held_out, tensorboard):
    """Builds the model of a run, and takes the steps that are left."""
    model = build(recipe, tokenizer, train.counts(tokenizer.vocabulary_size))
    digest = digest_of(recipe, documents)
    path = folder / "checkpoint.safetensors"
    rows = resumable.restore(path, model, digest) if path.exists() else []
    done = rows[-1]["step"] if rows else 0
    callbacks = [_Log(folder, recipe, digest, rows), _Progress(recipe, done)] if done < recipe.steps else []
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    cut = {"batch_size": recipe.batch_size, "parts": micro_batches(recipe)}
    validation = Batches(
        batch_maker(held_out, tokenizer, recipe, recipe.seed + 1), steps=recipe.evaluation_steps, **cut
    )
    validation[0]  # if a shard is missing, this says so now and not at the first evaluation
    while done < recipe.steps:  # once, or twice if the last checkpoint comes after fewer steps than the others
        steps = min(recipe.steps_per_checkpoint, recipe.steps - done)
        first, more = done // recipe.steps_per_checkpoint, (recipe.steps - done) // steps
        model.fit(
            Batches(batch_maker(train, tokenizer, recipe, recipe.seed), first=done, **cut),
            steps_per_epoch=steps * recipe.accumulation,
            initial_epoch=first,
            epochs=first + more,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
        done += more * steps
    return model
