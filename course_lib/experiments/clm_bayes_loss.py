"""Compares a small GPT-2 with the lowest possible loss, on the artificial language; for chapter 09."""

import dataclasses
import functools
import time

import keras
import numpy as np

from course_lib import experiments
from course_lib.data.synthetic_language import CLS, FIRST_WORD, ArtificialLanguage
from course_lib.experiments import replays
from course_lib.experiments.mlm_bayes_loss import compare
from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.pretrain import Batches
from course_lib.training.schedules import WarmupLinearDecay


@dataclasses.dataclass(frozen=True)
class ClmBayesLoss:
    """Trains a small GPT-2 on fresh artificial documents, and compares it with the exact next-word distributions.

    Each document begins after a start token. Its first words have little context and reveal little about the topic, so
    the exact loss over a whole document is above the entropy rate. The exact loss over its second half is close to it.

    Args:
        data: the assets that it reads, none.
        num_words: T, words per document.
        num_layers: number of layers of the decoder.
        num_heads: number of heads of the decoder.
        hidden_dim: D.
        batch_size: B.
        steps: number of training steps.
        warmup_steps: number of steps until the learning rate reaches its peak.
        learning_rate: the peak learning rate.
        evaluations: number of comparisons in a run.
        held_out: number of documents for the comparison, the same documents each time.
        seeds: seeds of weights and batches, with one run for each.
    """

    data: tuple = ()
    num_words: int = 64
    num_layers: int = 2
    num_heads: int = 4
    hidden_dim: int = 64
    batch_size: int = 64
    steps: int = 1000
    warmup_steps: int = 200
    learning_rate: float = 3e-3
    evaluations: int = 20
    held_out: int = 2000
    seeds: tuple = (0, 1, 2)

    def run(self):
        """Runs the experiment.

        Returns:
            A list of dicts with `model`: "unigram", "two words before" (tables of the true probabilities), or "GPT-2".
            GPT-2's also have `seed`, `step`, and `seconds` of training so far. Each dict has the entries that
            `compared` returns.
        """
        held_out = self.batch(self.held_out, seed=2**20, step=0)
        exact = self.exact(held_out)
        tables = {"unigram": 0, "two words before": 2}
        results = [{"model": name} | compared(self.table(held_out, n), held_out, exact) for name, n in tables.items()]
        for seed in self.seeds:
            results += experiments.cached(
                "clm-bayes-loss", f"seed {seed}", lambda s=seed: self.train(s, held_out, exact)
            )
        return results

    def replay(self):
        """Computes a few numbers of the experiment.

        These are the losses of six steps, and a comparison of the model and a table with the exact distributions on
        fifty documents.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        few, held_out = dataclasses.replace(self, steps=6, warmup_steps=2), self.batch(50, seed=2**20, step=0)
        exact, model = self.exact(held_out), few.model(seed=0)
        return {
            "losses": replays.first_losses(model, (self.batch(16, 0, step) for step in range(few.steps))),
            "GPT-2": compared(predict(model, held_out[0]), held_out, exact) | {"loss_by_place": []},
            "amplified": compared(predict(replays.amplify(model), held_out[0]), held_out, exact)["loss"],
            "two words before": compared(self.table(held_out, 2), held_out, exact) | {"loss_by_place": []},
        }

    @functools.cached_property
    def language(self):
        """The `ArtificialLanguage` of the course."""
        return ArtificialLanguage.draw()

    def batch(self, count, seed, step):
        """Draws fresh documents.

        Args:
            count: B.
            seed: an integer.
            step: an integer.

        Returns:
            The inputs, a dict whose `token_ids` are a start token and all words but the last; and the labels, all
            words.
        """
        words = self.language.documents(count, self.num_words, (seed, step))
        return {"token_ids": np.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=CLS)}, words

    def exact(self, batch):
        """Computes the exact distributions of the words.

        Args:
            batch: inputs and labels from `batch`.

        Returns:
            Floats (B, T, V).
        """
        return self.language.next_word(batch[1])

    def table(self, batch, words):
        """Computes the distributions that the best table predicts.

        Args:
            batch: inputs and labels from `batch`.
            words: number of preceding words that the table looks at, 0 or 2. At the start of a document there are
                fewer.

        Returns:
            Floats (B, T, V).
        """
        ids, pairs = batch[1] - FIRST_WORD, self.language.pairs.sum(axis=0)
        found = np.zeros((*ids.shape, len(self.language.vocabulary)))
        found[..., FIRST_WORD:] = pairs.sum(axis=0)
        if words == 2:
            triples = np.einsum("zab,zabc->abc", self.language.pairs, self.language.transitions)
            found[:, 1, FIRST_WORD:] = (pairs / pairs.sum(axis=1, keepdims=True))[ids[:, 0]]
            found[:, 2:, FIRST_WORD:] = (triples / pairs[..., None])[ids[:, :-2], ids[:, 1:-1]]
        return found

    def model(self, seed):
        """Makes and compiles a new model.

        Args:
            seed: seed of its weights.

        Returns:
            A `GPT2CausalLM`.
        """
        keras.utils.set_random_seed(seed)
        config = GPT2Config(
            vocabulary_size=len(self.language.vocabulary),
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            max_sequence_length=self.num_words,
            embedding_dropout=0.0,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_range=0.05,
            end_token_id=-1,
        )
        model = GPT2CausalLM(GPT2(config))
        model.build()
        schedule = WarmupLinearDecay(self.learning_rate, self.warmup_steps, self.steps)
        optimizer = AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
        model.compile(optimizer, loss=CrossEntropy(), jit_compile=True)
        return model

    def train(self, seed, held_out, exact):
        """Trains one model.

        Args:
            seed: seed of its weights and batches.
            held_out: the batch to compare on.
            exact: its exact distributions.

        Returns:
            A list of dicts, one per comparison.
        """
        model, rows, spent, part = self.model(seed), [], 0.0, self.steps // self.evaluations
        for step in range(0, part * self.evaluations, part):
            start = time.perf_counter()
            batches = Batches(lambda s: self.batch(self.batch_size, seed, s), first=step, steps=part)
            model.fit(batches, shuffle=False, verbose=0)
            spent += time.perf_counter() - start
            row = {"model": "GPT-2", "seed": seed, "step": step + part, "seconds": round(spent, 1)}
            rows.append(row | compared(predict(model, held_out[0]), held_out, exact))
        return rows


def predict(model, inputs):
    """Computes a model's distributions of the next words.

    Args:
        model: a `GPT2CausalLM`.
        inputs: the dict of its inputs, (B, T).

    Returns:
        Floats (B, T, V).
    """
    logits = model.predict(inputs, batch_size=250, verbose=0).astype("float64")
    return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def compared(predicted, batch, exact):
    """Compares predictions with the exact distributions, in nats per word.

    Args:
        predicted: floats (B, T, V).
        batch: inputs and targets.
        exact: floats (B, T, V).

    Returns:
        A dict with the entries of `course_lib.experiments.mlm_bayes_loss.compare`, over all words; with `late_loss` and
        `late_exact_loss`, over the second half of each document; and with `loss_by_place`, a list with the mean loss at
        each of the T positions.
    """
    words = batch[1]
    every = np.ones(words.shape)
    late = every * (np.arange(words.shape[1]) >= words.shape[1] // 2)
    second_half = compare(predicted, (batch[0], {"next": words}, {"next": late}), exact)
    right = np.take_along_axis(predicted, words[..., None], axis=-1)[..., 0]
    return compare(predicted, (batch[0], {"next": words}, {"next": every}), exact) | {
        "late_loss": second_half["loss"],
        "late_exact_loss": second_half["exact_loss"],
        "loss_by_place": [round(float(loss), 4) for loss in -np.log(right).mean(axis=0)],
    }


EXPERIMENT = ClmBayesLoss()
