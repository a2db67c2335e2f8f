"""Distils chapter 10's classifier into a student with a seventh of its weights; for chapter 14."""

import dataclasses
import functools
import itertools
import re
import shutil
import time

import keras
import numpy as np

from course_lib import assets, experiments
from course_lib.data import reviews
from course_lib.data.splits import by_hash
from course_lib.experiments import replays
from course_lib.experiments.sentiment_finetuning import mean_vectors
from course_lib.models.bert import Bert
from course_lib.models.classifiers import TextClassifier
from course_lib.training.adaptation import merge_lora
from course_lib.training.distillation import distil, drop_layers, imitate
from course_lib.training.finetuning import fine_tune, logits_of
from course_lib.training.peft import load_lora

LABELS, LOGITS, VECTORS = TARGETS = ("labels", "logits", "vectors, then logits")
TEACHER, CONTROL = "teacher", "blocks dropped"
PRESET = "sentiment-mini"  # the asset that the best student becomes


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Trains a small classifier on labels, on a teacher's logits, and on its vectors; on few texts and on more.

    The teacher is MiniLM with the adapters of `lora-budget`. A student starts from bert-mini's weights, its pooler's
    included. The few texts are the train split of Rotten Tomatoes. The others are sentences of IMDb reviews, one per
    review, which have no labels of their own: a student that needs labels gets that of the whole review.

    Labels and logits have a learning rate each, chosen with the first seed on the few texts; vectors have that of the
    logits. Rate and epoch are chosen by the loss on the validation split, which has labels. The control is the teacher
    without some of its blocks, not trained further.

    Args:
        name: name of the record.
        data: the assets that it reads.
        methods: pairs of the number of sentences of IMDb and what a student learns from, one of `TARGETS`.
        epochs: maximum number of epochs, without and with sentences of IMDb. With `VECTORS`, the backbone first learns
            the vectors for as many epochs.
        learning_rates: peak learning rates to choose from.
        seeds: seeds of the new weights, dropout and order.
        temperature: τ, of the teacher's logits.
        words: lowest and highest number of words of a sentence of IMDb.
        kept: of each control, the blocks of the teacher that stay.
        batch_size: B.
        max_length: maximum length of a text, in tokens.
        dropout: dropout of the student's backbone and head.
    """

    name: str = "distillation"
    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2", "bert-mini", "sentiment-lora")
    methods: tuple = ((0, LABELS), (0, LOGITS), (20_000, LABELS), (20_000, LOGITS), (20_000, VECTORS))
    epochs: tuple = (3, 1)
    learning_rates: tuple = (3e-4, 1e-3)
    seeds: tuple = (0, 1, 2)
    temperature: float = 2.0
    words: tuple = (5, 40)
    kept: tuple = ((0, 1, 2), (0, 2, 4), (1, 3, 5), (0, 1, 2, 3, 4))
    batch_size: int = 32
    max_length: int = 64
    dropout: float = 0.1

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `scored`: of the teacher, of the controls, and of the students, as `trained` returns
            them. The student with the lowest loss on the validation split is shipped.
        """

        def once(key, make, *arguments, **keywords):
            return experiments.cached(self.name, key, functools.partial(make, *arguments, **keywords))

        results = [once(TEACHER, lambda: self.scored(self.teacher, method=TEACHER))]
        results += [once(f"{CONTROL}: {kept} stay", self.control, kept) for kept in self.kept]
        students, rates = {}, {}

        def student(*setting):
            key = "{}, {} sentences, seed {}, learning rate {}".format(*setting)
            students[setting] = once(key, self.trained, *setting)
            return students[setting]["chosen_loss"]

        for targets in (LABELS, LOGITS):
            rates[targets] = min(self.learning_rates, key=lambda rate: student(targets, 0, self.seeds[0], rate))
        rates[VECTORS] = rates[LOGITS]
        for (sentences, targets), seed in itertools.product(self.methods, self.seeds):
            student(targets, sentences, seed, rates[targets])
        shipped = min(students, key=lambda setting: students[setting]["chosen_loss"])
        shutil.copytree(self.folder(*shipped), assets.data_folder() / "weights" / PRESET, dirs_exist_ok=True)
        return [*results, *students.values()]

    def replay(self):
        """Computes a few numbers of the experiment: an epoch of each method on 24 texts.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        train, validation = (
            reviews.few_shot(split, count, seed=0)
            for split, count in ((reviews.rotten_tomatoes().train, 24), (self.validation, 4))
        )
        few, found = replays.with_methods(self, texts=train, validation=validation, epochs=(1, 1), batch_size=8), {}
        for targets in TARGETS:
            model, losses = few.student(targets, 0, seed=0, rate=self.learning_rates[0])
            logits = logits_of(model, model.examples(validation.texts))
            found[targets] = {"losses": losses, "logits": replays.projections(logits)}
        return found

    def trained(self, targets, sentences, seed, rate):
        """Trains and evaluates a student, and keeps its weights in float16 in the cache.

        Args:
            targets: one of `TARGETS`.
            sentences: number of sentences of IMDb, besides the train split.
            seed: seed of weights, dropout and order.
            rate: the peak learning rate.

        Returns:
            A dict from `scored`, with `method`, `sentences`, `seed`, `rate`, `losses` (of the validation split, after
            each epoch), `chosen_loss` (the lowest of them), and `seconds` and `processor_seconds` of training.
        """
        if targets != LABELS:
            _ = self.taught  # so it does not count as training
        start = time.perf_counter(), time.process_time()
        model, losses = self.student(targets, sentences, seed, rate)
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        model.save_to_preset(self.folder(targets, sentences, seed, rate), "float16")
        return self.scored(
            model,
            method=targets,
            sentences=sentences,
            seed=seed,
            rate=rate,
            losses=losses,
            chosen_loss=min(losses),
            seconds=round(seconds[0], 1),
            processor_seconds=round(seconds[1], 1),
        )

    def folder(self, *setting):
        """Names the folder of a student's weights.

        Args:
            *setting: the arguments of `trained`.

        Returns:
            A path in the cache.
        """
        return assets.cache_folder() / "experiments" / self.name / "-".join(map(str, setting))

    def student(self, targets, sentences, seed, rate):
        """Trains a student.

        Args:
            targets: one of `TARGETS`.
            sentences: number of sentences of IMDb, besides the train split.
            seed: seed of weights, dropout and order.
            rate: the peak learning rate.

        Returns:
            A `TextClassifier`, and a list with its loss on the validation split after each epoch.
        """
        keras.utils.set_random_seed(seed)
        start = Bert.from_preset("bert-mini")
        backbone = Bert(dataclasses.replace(start.config, dropout=self.dropout), start.tokenizer)
        backbone.build()
        backbone.set_weights(start.get_weights())
        model = TextClassifier(backbone, self.teacher.classes, "pooled", self.dropout, self.max_length)
        model.build()
        train, epochs = self.split(sentences), self.epochs[bool(sentences)]
        validation = self.validation.texts, self.validation.labels
        common = {"batch_size": self.batch_size, "seed": seed, "jit_compile": True, "verbose": 0}
        if targets == LABELS:
            return model, fine_tune(model, (train.texts, train.labels), validation, rate, epochs, **common)
        logits, vectors = (array[: len(train)] for array in self.taught)
        if targets == VECTORS:
            imitate(model, train.texts, vectors, rate, epochs, **common)
        temperature = self.temperature
        return model, distil(
            model, train.texts, logits, validation, rate, epochs, alpha=1.0, temperature=temperature, **common
        )

    def control(self, kept):
        """Evaluates the teacher without some of its blocks.

        Args:
            kept: indices of the blocks that stay.

        Returns:
            A dict from `scored`, with `method`, `kept` and `chosen_loss`, the loss on the validation split.
        """
        model = TextClassifier(
            drop_layers(self.teacher.backbone, kept), self.teacher.classes, max_length=self.max_length
        )
        model.build()
        model.classifier.set_weights(self.teacher.classifier.get_weights())
        logits = logits_of(model, model.examples(self.validation.texts, batch_size=128)).astype("float64")
        right = np.take_along_axis(logits, self.validation.labels[:, None], axis=1)[:, 0]
        loss = float(np.mean(np.logaddexp.reduce(logits, axis=1) - right))
        return self.scored(model, method=CONTROL, kept=list(kept), chosen_loss=loss)

    def scored(self, model, **about):
        """Evaluates a classifier on the test split.

        Args:
            model: a `TextClassifier`.
            **about: entries to begin the dict with.

        Returns:
            A dict with `parameters`, the number of weights; `accuracy`; and `margins`, of each text the logit of the
            positive class minus that of the negative.
        """
        test = reviews.rotten_tomatoes().test
        margins = np.diff(logits_of(model, model.examples(test.texts, batch_size=128)).astype("float64"))[:, 0]
        return about | {
            "parameters": model.count_params(),
            "accuracy": float(np.mean((margins > 0) == test.labels)),
            "margins": margins.round(3).tolist(),
        }

    @functools.cached_property
    def teacher(self):
        """Chapter 10's classifier, a `TextClassifier`."""
        backbone = Bert.from_preset("all-MiniLM-L6-v2")
        model = TextClassifier(backbone, ["negative", "positive"], max_length=self.max_length)
        model.build()
        load_lora(model, assets.fetch("sentiment-lora"))
        return merge_lora(model)

    @functools.cached_property
    def validation(self):
        """The validation split, a `Split`."""
        return reviews.rotten_tomatoes().validation

    @functools.cached_property
    def texts(self):
        """All texts to learn from, a `Split`: the train split of Rotten Tomatoes, and one sentence per IMDb review.

        A sentence has the label of its review.
        """
        train, found = reviews.rotten_tomatoes().train, {}
        for review, label in zip(*vars(reviews.imdb().train).values(), strict=True):
            parts = re.split(r"(?<=[.!?])\s+(?=[A-Z])", review)
            if parts := [part for part in parts if self.words[0] <= len(part.split()) <= self.words[1]]:
                found.setdefault(by_hash(parts)[0], label)
        chosen = list(found)[: max(sentences for sentences, _ in self.methods)]
        return reviews.Split(train.texts + chosen, np.append(train.labels, [found[text] for text in chosen]))

    @functools.cached_property
    def taught(self):
        """What the teacher says of `texts`: its logits (n, C), and its mean token vectors (n, D')."""
        inputs = self.teacher.tokenizer(self.texts.texts, max_length=self.max_length)
        vectors = mean_vectors(self.teacher.backbone, inputs)
        return np.asarray(self.teacher.classifier(vectors)), vectors

    def split(self, sentences):
        """Returns the first texts to learn from: the train split of Rotten Tomatoes, then sentences of IMDb.

        Args:
            sentences: number of sentences of IMDb.
        """
        count = len(reviews.rotten_tomatoes().train) + sentences
        return reviews.Split(self.texts.texts[:count], self.texts.labels[:count])


EXPERIMENT = Distillation()
