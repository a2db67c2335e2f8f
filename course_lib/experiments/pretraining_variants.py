"""Pre-trains with random heads, without warm-up, and onwards from bert-mini at two learning rates; for chapter 07."""

import dataclasses
import itertools
import pathlib
import tempfile

import keras

from course_lib import assets, experiments
from course_lib.data import corpus
from course_lib.experiments import replays
from course_lib.models.bert import Bert
from course_lib.models.bert_pretrainer import BertPretrainer
from course_lib.training import resumable
from course_lib.training.pretrain import Batches, batch_maker, build, digest_of, prepare
from course_lib.training.recipes import RECIPES

NEIGHBOURS, RANDOM = "neighbour heads", "random heads"


@dataclasses.dataclass(frozen=True)
class PretrainingVariants:
    """Runs recipes that differ in one thing each, with several seeds, and evaluates them on the same held-out batches.

    Args:
        data: the assets that it reads.
        variants: tuples of a name; a key of `RECIPES`; the fields that differ from it, as pairs; how many steps are
            run, which may be fewer than the schedule has; and the number of steps from one evaluation to the next. The
            variant `RANDOM` has the model's default initial weights where the others have heads that look at
            neighbours.
        seeds: seeds of the weights, batches and masks.
        evaluation_steps: number of held-out batches.
        evaluation_seed: seed of the held-out batches, the same for all runs.
    """

    data: tuple = ("movie-reviews", "bert-mini")
    variants: tuple = (
        (NEIGHBOURS, "bert-mini-short", (), 8_000, 500),
        (RANDOM, "bert-mini-short", (), 8_000, 500),
        ("no warm-up", "bert-mini-short", (("warmup_steps", 0),), 2_000, 500),
        *(
            (
                f"continued at {rate:g}",
                "bert-mini",
                (("start", "bert-mini"), ("steps", 1_000), ("warmup_steps", 100), ("learning_rate", rate)),
                1_000,
                100,
            )
            for rate in (1.5e-3, 1e-4)
        ),
    )
    seeds: tuple = (0, 1, 2)
    evaluation_steps: int = 64
    evaluation_seed: int = 1

    def run(self):
        """Runs the experiment, except parts that are cached. A run that was stopped resumes at its last evaluation.

        Returns:
            A list of dicts with `variant`, `seed` and `step`; `training_loss` of masked tokens, the mean over the steps
            since the last evaluation, and None at step 0; and, on held-out documents, `loss` and `accuracy` of masked
            tokens and `next_sentence_accuracy`.
        """
        results = []
        for seed, variant in itertools.product(self.seeds, self.variants):
            key = f"{variant[0]}, seed {seed}"
            results += experiments.cached("pretraining-variants", key, lambda v=variant, s=seed: self.train(v, s))
            self.checkpoint(variant[0], seed).unlink(missing_ok=True)
        return results

    def replay(self):
        """Computes the losses of two steps of each variant, with small batches and vocabularies, on sixty reviews.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        found, prepared, documents = {}, {}, corpus.imdb()
        documents = dataclasses.replace(documents, train=documents.train[:60], held_out=documents.held_out[:20])
        for name, base, changes, *_ in self.variants:
            small = (("vocabulary_size", 400), ("batch_size", 4), ("jit_compile", False))
            recipe = self.recipe((name, base, (*changes, *small)), seed=0)
            if base not in prepared:
                with tempfile.TemporaryDirectory() as folder:
                    prepared[base] = prepare(documents, recipe, pathlib.Path(folder))
            tokenizer, train, _ = prepared[base]
            batch_of = batch_maker(train, tokenizer, recipe, recipe.seed)
            model = self.model(name, recipe, tokenizer, train)
            found[name] = replays.first_losses(model, (batch_of(step) for step in range(2)))
        return found

    def recipe(self, variant, seed):
        """Makes the recipe of a run.

        Args:
            variant: one of `variants`, or its first three entries.
            seed: one of `seeds`.

        Returns:
            A `Recipe`.
        """
        _, base, changes, *_ = variant
        return dataclasses.replace(RECIPES[base], seed=seed, **dict(changes))

    def checkpoint(self, name, seed):
        """Returns the path of the checkpoint of a run that is not complete.

        Args:
            name: name of the variant.
            seed: one of `seeds`.
        """
        return assets.cache_folder() / "experiments" / f"pretraining-variants-{name}-{seed}.safetensors"

    def model(self, name, recipe, tokenizer, train):
        """Makes the model that a run starts from, compiled.

        Args:
            name: name of the variant.
            recipe: a `Recipe`.
            tokenizer: of the run.
            train: the training documents, as `prepare` returns them.

        Returns:
            A `BertPretrainer`.
        """
        model = build(recipe, tokenizer, train.counts(tokenizer.vocabulary_size))
        if name == RANDOM:
            keras.utils.set_random_seed(recipe.seed)
            default = BertPretrainer(Bert(model.backbone.config))
            default.build()
            for weight, other in zip(looking_at_neighbours(model), looking_at_neighbours(default), strict=True):
                weight.assign(other)
        return model

    def train(self, variant, seed):
        """Runs one variant with one seed.

        Args:
            variant: one of `variants`.
            seed: one of `seeds`.

        Returns:
            A list of dicts for the list of `run`.
        """
        name, _, _, steps, every = variant
        recipe, documents = self.recipe(variant, seed), corpus.imdb()
        with tempfile.TemporaryDirectory() as folder:
            tokenizer, train, held_out = prepare(documents, recipe, pathlib.Path(folder))
        model = self.model(name, recipe, tokenizer, train)
        batch_of = batch_maker(train, tokenizer, recipe, seed)
        validation = Batches(
            batch_maker(held_out, tokenizer, recipe, self.evaluation_seed), steps=self.evaluation_steps
        )

        def row(step, training_loss):
            found = model.evaluate(validation, verbose=0, return_dict=True)
            return {
                "variant": name,
                "seed": seed,
                "step": step,
                "training_loss": training_loss,
                "loss": float(found["mlm_logits_loss"]),
                "accuracy": float(found["mlm_logits_accuracy"]),
                "next_sentence_accuracy": float(found["nsp_logits_accuracy"]),
            }

        path = self.checkpoint(name, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = f"{name}, {self.evaluation_steps}, {digest_of(recipe, documents)}"
        rows = resumable.restore(path, model, digest) if path.exists() else [row(0, None)]
        while (done := rows[-1]["step"]) < steps:
            fitted = model.fit(Batches(batch_of, done, every), shuffle=False, verbose=0)
            rows.append(row(done + every, float(fitted.history["mlm_logits_loss"][0])))
            resumable.save(path, model, digest, rows)
        return rows


def looking_at_neighbours(model):
    """Lists the weights that `relative_position_initialization` sets.

    Args:
        model: a `BertPretrainer`, built.

    Returns:
        A list of Keras variables: the position embeddings, and the kernels of the first block's queries and keys.
    """
    backbone = model.backbone
    attention = backbone.encoder.blocks[0].attention
    return [backbone.position_embedding.embeddings, attention.query.kernel, attention.key.kernel]


EXPERIMENT = PretrainingVariants()
