"""Trains small decoders that differ from GPT-2 in one of Llama's choices, or in all of them; for chapter 13."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from course_lib import experiments
from course_lib.data import corpus
from course_lib.experiments import replays
from course_lib.layers.positions import PositionEmbedding, RotaryEmbedding
from course_lib.layers.transformer import TransformerStack
from course_lib.models.gpt2 import GPT2CausalLM
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay

GATED = (("gated", True), ("activation", "silu"), ("intermediate_dim", 256))
CHOICES = (("norm", "rms"), ("positions", "rotary"), *GATED, ("num_key_value_heads", 2))


@dataclasses.dataclass(frozen=True)
class DecoderVariants:
    """Trains each variant on the same rows of film reviews, and evaluates it on rows longer than those.

    Each variant has its own learning rate, chosen with the first seed by the loss on rows set apart. A gate has three
    matrices in place of two, so its feed-forward layers are two thirds as wide, with as many weights. Grouped queries
    have fewer weights.

    Args:
        data: the assets that it reads.
        variants: pairs of a name and of what differs from GPT-2: pairs of an argument of `TransformerStack`, or
            "positions" ("learned", "rotary" or "none"), and its value.
        num_layers: number of blocks.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers.
        length: T in training.
        evaluated_length: T in evaluation, a multiple of `length`.
        steps: number of steps.
        batch_size: B.
        learning_rates: peak learning rates to choose from.
        seeds: seeds of weights and rows.
        documents: number of training documents.
        apart: number of rows that are set apart, and of those that are evaluated.
    """

    data: tuple = ("movie-reviews", "gpt-mini")
    variants: tuple = (
        ("GPT-2", ()),
        ("RMSNorm", CHOICES[:1]),
        ("rotary positions", CHOICES[1:2]),
        ("no positions", (("positions", "none"),)),
        ("gate", GATED),
        ("grouped queries", CHOICES[-1:]),
        ("all, no biases", (*CHOICES, ("use_bias", False))),
    )
    num_layers: int = 2
    num_heads: int = 6
    hidden_dim: int = 96
    intermediate_dim: int = 384
    length: int = 64
    evaluated_length: int = 256
    steps: int = 1000
    batch_size: int = 16
    learning_rates: tuple = (1e-3, 3e-3, 1e-2)
    seeds: tuple = (0, 1, 2)
    documents: int = 4000
    apart: int = 300

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `trained`: for each variant all rates with the first seed, then the other seeds.
        """
        results = []
        for name, _ in self.variants:
            tried = [self.once(name, self.seeds[0], rate) for rate in self.learning_rates]
            rate = min(tried, key=lambda result: result["chosen_loss"])["rate"]
            results += tried + [self.once(name, seed, rate) for seed in self.seeds[1:]]
        return results

    def replay(self):
        """Computes a few numbers of the experiment: two steps of the first and of the last variant.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        small = dataclasses.replace(self, documents=50, steps=2)
        found = {}
        for name in (self.variants[0][0], self.variants[-1][0]):
            model = small.model(name, 0, self.learning_rates[0])
            found[name] = replays.first_losses(model, (small.batch(0, step) for step in range(2)))
        return found

    def once(self, name, seed, rate):
        """Trains a model, unless this is cached.

        Args:
            name: name of the variant.
            seed: seed of weights and rows.
            rate: the peak learning rate.

        Returns:
            A dict from `trained`.
        """
        key = f"{name}, seed {seed}, rate {rate}"
        return experiments.cached("decoder-variants", key, lambda: self.trained(name, seed, rate))

    @functools.cached_property
    def rows(self):
        """The rows, integers (n, T + 1): those to train on, and longer ones set apart and for evaluation."""
        tokenizer, texts = GPT2CausalLM.from_preset(self.data[1]).tokenizer, corpus.imdb()

        def cut(texts, length):
            stream = np.concatenate([[*tokenizer.encode(text), tokenizer.end_token_id] for text in texts])
            return stream[: len(stream) // (length + 1) * (length + 1)].reshape(-1, length + 1).astype("int32")

        held_out = cut(texts.held_out, self.evaluated_length)[: 2 * self.apart]
        return cut(texts.train[: self.documents], self.length), held_out[: self.apart], held_out[self.apart :]

    def batch(self, seed, step):
        """Draws a batch.

        Args:
            seed: seed of the run.
            step: number of the step.

        Returns:
            Token ids and the tokens that follow, both integers (B, T).
        """
        rows = self.rows[0]
        drawn = rows[np.random.default_rng((seed, step)).integers(len(rows), size=self.batch_size)]
        return drawn[:, :-1], drawn[:, 1:]

    def model(self, name, seed, rate):
        """Makes a compiled model.

        Args:
            name: name of the variant.
            seed: seed of the weights.
            rate: the peak learning rate.

        Returns:
            A `keras.Model` from token ids (B, T) to logits (B, T, V).
        """
        keras.utils.set_random_seed(seed)
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        options = {"activation": "gelu", "intermediate_dim": self.intermediate_dim} | dict(dict(self.variants)[name])
        positions = options.pop("positions", "learned")
        size = int(max(rows.max() for rows in self.rows)) + 1
        table = keras.layers.ReversibleEmbedding(size, self.hidden_dim, embeddings_initializer=initializer)
        token_ids = keras.Input((None,), dtype="int32")
        x = table(token_ids)
        if positions == "learned":
            x = PositionEmbedding(self.evaluated_length, initializer.clone())(x)
        stack = TransformerStack(
            self.num_layers,
            self.num_heads,
            norm_first=True,
            kernel_initializer=initializer.clone(),
            rotary=RotaryEmbedding() if positions == "rotary" else None,
            **options,
        )
        x = stack(x, use_causal_mask=True)["sequence_output"]
        model = keras.Model(token_ids, table(x, reverse=True))
        optimizer = AdamW(WarmupLinearDecay(rate, self.steps // 10, self.steps), global_clipnorm=1.0)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    def trained(self, name, seed, rate):
        """Trains and evaluates a model.

        Args:
            name: name of the variant.
            seed: seed of weights and rows.
            rate: the peak learning rate.

        Returns:
            A dict with `variant`; `seed`; `rate`; `block_weights`, the number of weights in the blocks; `chosen_loss`
            and `loss`, in nats per token within the trained length, on the rows set apart and on those for evaluation;
            and `loss_by_place`, on the latter, the mean of each 16 places up to `evaluated_length`.
        """
        model = self.model(name, seed, rate)
        for step in range(self.steps):
            model.train_on_batch(*self.batch(seed, step))
        apart, evaluated = (_losses(model, rows) for rows in self.rows[1:])  # (n, T)
        stack = next(layer for layer in model.layers if isinstance(layer, TransformerStack))
        return {
            "variant": name,
            "seed": seed,
            "rate": rate,
            "block_weights": stack.count_params(),
            "chosen_loss": float(apart[:, : self.length].mean()),
            "loss": float(evaluated[:, : self.length].mean()),
            "loss_by_place": evaluated.mean(axis=0).reshape(-1, 16).mean(axis=1).round(4).tolist(),
        }


def _losses(model, rows):
    """Computes the loss of each token of rows but the first, floats (n, T)."""
    return np.concatenate(
        [
            ops.convert_to_numpy(
                ops.sparse_categorical_crossentropy(part[:, 1:], model.predict_on_batch(part[:, :-1]), from_logits=True)
            )
            for part in np.array_split(rows, -(-len(rows) // 20))
        ]
    )


EXPERIMENT = DecoderVariants()
