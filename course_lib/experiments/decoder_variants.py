"""Trains small decoders that differ from GPT-2 in one of Llama's choices, or in all of them; for chapter 13."""

import dataclasses
import functools

import keras
import numpy as np

from course_lib import experiments
from course_lib.experiments import replays
from course_lib.experiments.clm_bayes_loss import ClmBayesLoss, predict
from course_lib.layers.positions import PositionEmbedding, RotaryEmbedding
from course_lib.layers.transformer import TransformerStack
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.pretrain import Batches
from course_lib.training.schedules import WarmupLinearDecay

GATED = (("gated", True), ("activation", "silu"), ("intermediate_dim", 128))
CHOICES = (("norm", "rms"), ("positions", "rotary"), *GATED, ("num_key_value_heads", 2))


@dataclasses.dataclass(frozen=True)
class DecoderVariants(ClmBayesLoss):
    """Trains each variant on the artificial language, and evaluates it on documents longer than those of the training.

    What is measured is how far a model is above the exact loss. Each variant has its own learning rate, chosen with the
    first seed on documents of their own. A gate has three matrices in place of two, so its feed-forward layers are two
    thirds as wide, with as many weights. Grouped queries have fewer weights.

    Args:
        data: as in `ClmBayesLoss`.
        num_words: as in `ClmBayesLoss`.
        num_layers: as in `ClmBayesLoss`.
        num_heads: as in `ClmBayesLoss`.
        hidden_dim: as in `ClmBayesLoss`.
        batch_size: as in `ClmBayesLoss`.
        steps: as in `ClmBayesLoss`.
        warmup_steps: as in `ClmBayesLoss`.
        learning_rate: not used.
        evaluations: not used.
        held_out: number of documents for the evaluation, and of those by which the learning rate is chosen.
        seeds: as in `ClmBayesLoss`.
        intermediate_dim: width inside the feed-forward layers.
        evaluated_words: number of words of a document for the evaluation.
        learning_rates: peak learning rates to choose from.
        variants: pairs of a name and of what differs from GPT-2: pairs of an argument of `TransformerStack`, or
            "positions" ("learned", "rotary" or "none"), and its value.
    """

    num_heads: int = 6
    hidden_dim: int = 48
    batch_size: int = 32
    steps: int = 1000
    warmup_steps: int = 100
    held_out: int = 250
    intermediate_dim: int = 192
    evaluated_words: int = 256
    learning_rates: tuple = (3e-3, 1e-2, 3e-2)
    variants: tuple = (
        ("GPT-2", ()),
        ("RMS norm", CHOICES[:1]),
        ("rotary positions", CHOICES[1:2]),
        ("no positions", (("positions", "none"),)),
        ("gate", GATED),
        ("grouped queries", CHOICES[-1:]),
        ("all, no biases", (*CHOICES, ("use_bias", False))),
    )

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `trained`: for each variant all rates with the first seed, then the other seeds.
        """
        results = []
        for name, _ in self.variants:
            tried = [self.once(name, self.seeds[0], rate) for rate in self.learning_rates]
            rate = min(tried, key=lambda result: result["chosen_excess"])["rate"]
            results += tried + [self.once(name, seed, rate) for seed in self.seeds[1:]]
        return results

    def replay(self):
        """Computes a few numbers of the experiment: the losses of two steps of the first and of the last variant.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        found = {}
        for name in (self.variants[0][0], self.variants[-1][0]):
            model, few = self.model(name, 0, self.learning_rates[0]), (self.batch(4, 0, step) for step in range(2))
            found[name] = replays.first_losses(model, few)
        return found

    def once(self, name, seed, rate):
        """Trains a model, unless this is cached.

        Args:
            name: name of the variant.
            seed: seed of weights and batches.
            rate: the peak learning rate.

        Returns:
            A dict from `trained`.
        """
        key = f"{name}, seed {seed}, rate {rate}"
        return experiments.cached("decoder-variants", key, lambda: self.trained(name, seed, rate))

    @functools.cached_property
    def held_out_batches(self):
        """Pairs of documents and their exact distributions: to choose by, and to evaluate on."""
        long = dataclasses.replace(self, num_words=self.evaluated_words)
        batches = self.batch(self.held_out, seed=2**21, step=0), long.batch(self.held_out, seed=2**20, step=0)
        return [(batch, self.exact(batch)) for batch in batches]

    def model(self, name, seed, rate):
        """Makes and compiles a new model.

        Args:
            name: name of the variant.
            seed: seed of its weights.
            rate: the peak learning rate.

        Returns:
            A `keras.Model` that gives logits (B, T, V).
        """
        keras.utils.set_random_seed(seed)
        initializer = keras.initializers.RandomNormal(stddev=0.05)
        options = {"activation": "gelu", "intermediate_dim": self.intermediate_dim} | dict(dict(self.variants)[name])
        positions = options.pop("positions", "learned")
        size = len(self.language.vocabulary)
        table = keras.layers.ReversibleEmbedding(size, self.hidden_dim, embeddings_initializer=initializer)
        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        x = table(token_ids)
        if positions == "learned":
            x = PositionEmbedding(self.evaluated_words, initializer.clone())(x)
        stack = TransformerStack(
            self.num_layers,
            self.num_heads,
            norm_first=True,
            kernel_initializer=initializer.clone(),
            rotary=RotaryEmbedding() if positions == "rotary" else None,
            **options,
        )
        x = stack(x, use_causal_mask=True)["sequence_output"]
        model = keras.Model({"token_ids": token_ids}, table(x, reverse=True))
        schedule = WarmupLinearDecay(rate, self.warmup_steps, self.steps)
        model.compile(AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0), loss=CrossEntropy(), jit_compile=True)
        return model

    def trained(self, name, seed, rate):
        """Trains and evaluates a model.

        Args:
            name: name of the variant.
            seed: seed of weights and batches.
            rate: the peak learning rate.

        Returns:
            A dict with `variant`; `seed`; `rate`; `block_weights`, the number of weights in the blocks; `chosen_excess`
            and `excess`, the nats per word above the exact loss within the trained length, on the documents to choose
            by and on those for evaluation; and `excess_by_place`, on the latter, the mean of each 16 places.
        """
        model = self.model(name, seed, rate)
        batches = Batches(lambda step: self.batch(self.batch_size, seed, step), steps=self.steps)
        model.fit(batches, shuffle=False, verbose=0)
        chosen, evaluated = (_excess(predict(model, batch[0]), exact) for batch, exact in self.held_out_batches)
        stack = next(layer for layer in model.layers if isinstance(layer, TransformerStack))
        return {
            "variant": name,
            "seed": seed,
            "rate": rate,
            "block_weights": stack.count_params(),
            "chosen_excess": float(chosen.mean()),
            "excess": float(evaluated[: self.num_words].mean()),
            "excess_by_place": evaluated.reshape(-1, 16).mean(axis=1).round(5).tolist(),
        }


def _excess(predicted, exact):
    """Computes by how much predictions cost more than the exact distributions, on average over rows: floats (T,)."""
    ratio = np.log(exact, where=exact > 0, out=np.zeros_like(exact)) - np.log(predicted)
    return (exact * ratio).sum(axis=-1).mean(axis=0)


EXPERIMENT = DecoderVariants()
