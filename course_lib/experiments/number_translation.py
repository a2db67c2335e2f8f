"""How exactly a small Transformer translates numbers in words, and what becomes of it without its parts: chapter 03."""

import dataclasses
import time

import keras
import numpy as np
from keras import ops

from course_lib import experiments
from course_lib.data import number_words
from course_lib.experiments import replays
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig, Seq2SeqLM, teacher_forcing
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay

WHOLE, NO_POSITIONS, NO_MASK, SHORTER = VARIANTS = ("whole", "no positions", "no causal mask", "shorter numbers")


class Unordered(Seq2Seq):
    """A `Seq2Seq` without positions."""

    def embed(self, token_ids, positions=None, training=None):
        """The embeddings times √D.

        Args:
            token_ids: integers (B, T).
            positions: not read.
            training: whether to drop out.

        Returns:
            (B, T, D).
        """
        x = self.token_embedding(token_ids)
        return self.dropout(x * ops.cast(self.config.hidden_dim**0.5, x.dtype), training=training)


class Leaking(Seq2Seq):
    """A `Seq2Seq` whose decoder sees the whole target in training. In a decoding loop there is no future to see."""

    hides_the_future = False


CLASSES = {NO_POSITIONS: Unordered, NO_MASK: Leaking}


@dataclasses.dataclass(frozen=True)
class NumberTranslation:
    """Trains a small `Seq2Seq` to translate numbers from English to German and French, whole and without its parts.

    The variants are `VARIANTS`: the Transformer; the same without positions; the same without the causal mask; and the
    Transformer trained on numbers below `shorter_limit` alone.

    Args:
        data: the assets that it reads: none.
        languages: into which it translates.
        train: how many numbers are drawn for training.
        test: how many for the final figure.
        limit: every number is below it.
        shorter_limit: the limit of the shorter numbers.
        tokenizer_texts: how many sources, and as many targets, the tokenizer learns from.
        vocabulary_size: V.
        num_layers: of the encoder, and of the decoder.
        num_heads: N.
        hidden_dim: D.
        batch_size: B.
        epochs: of training.
        warmup_steps: until the learning rate is at its peak.
        learning_rate: the peak.
        max_new_tokens: of a translation.
        seeds: of weights and order, one run each.
    """

    data: tuple = ()
    languages: tuple = ("German", "French")
    train: int = 16_000
    test: int = 2_000
    limit: int = 1_000_000
    shorter_limit: int = 100_000
    tokenizer_texts: int = 4_000
    vocabulary_size: int = 480
    num_layers: int = 2
    num_heads: int = 4
    hidden_dim: int = 128
    batch_size: int = 128
    epochs: int = 2
    warmup_steps: int = 100
    learning_rate: float = 2e-3
    max_new_tokens: int = 32
    seeds: tuple = (0, 1, 2)

    def run(self):
        """Runs the experiment, or what is left of it.

        Returns:
            A list of dicts, as `trained` returns them.
        """
        return [
            experiments.cached(
                "number-translation", f"{variant}, seed {seed}", lambda v=variant, s=seed: self.trained(v, s)
            )
            for variant in VARIANTS
            for seed in self.seeds
        ]

    def replay(self):
        """Computes a few numbers of the experiment: the losses of three steps of the whole, and of two variants.

        Returns:
            A dict, as `course_lib.experiments.replays.compute` takes it.
        """
        few = dataclasses.replace(
            self, train=300, test=20, tokenizer_texts=300, vocabulary_size=300, batch_size=16, warmup_steps=2
        )
        found = {variant: np.mean(few.splits(variant).train) / self.limit for variant in (WHOLE, SHORTER)}
        tokenizer, (inputs, labels, weights) = few.examples(few.splits(), seed=0)
        for variant in (WHOLE, NO_POSITIONS, NO_MASK):
            keras.utils.set_random_seed(0)
            model = few.compiled(tokenizer, 3, CLASSES.get(variant, Seq2Seq))
            batches = [
                keras.tree.map_structure(lambda array, step=step: array[step : step + 16], (inputs, labels, weights))
                for step in range(0, 3 * 16, 16)
            ]
            found[f"{variant}, losses"] = replays.first_losses(model, batches)
            found[f"{variant}, amplified"] = replays.first_losses(replays.amplify(model), batches[:1])
        return found

    def splits(self, variant=WHOLE):
        """The numbers of a variant.

        Args:
            variant: one of `VARIANTS`.

        Returns:
            `Splits` of lists of integers.
        """
        return number_words.draw(
            self.train, test=self.test, limit=self.shorter_limit if variant == SHORTER else self.limit
        )

    def examples(self, splits, seed=0):
        """What there is to train on.

        Args:
            splits: of `splits`.
            seed: of the order.

        Returns:
            A tokenizer that has learned from a part of it; and inputs, labels and weights, as `teacher_forcing` returns
            them, of all pairs in an order of chance, as many as make whole batches.
        """
        sources, targets = number_words.pairs(splits.train, self.languages)
        order = np.random.default_rng(seed).permutation(len(sources))
        order = order[: len(order) // self.batch_size * self.batch_size]
        sources, targets = [sources[row] for row in order], [targets[row] for row in order]
        texts = sources[: self.tokenizer_texts] + targets[: self.tokenizer_texts]
        tokenizer = BytePairTokenizer.train(texts, self.vocabulary_size)
        return tokenizer, teacher_forcing(tokenizer, sources, targets)

    def compiled(self, tokenizer, steps, kind=Seq2Seq):
        """A new model, ready to be trained.

        Args:
            tokenizer: of `examples`.
            steps: how many there will be.
            kind: `Seq2Seq`, or a subclass.

        Returns:
            A `Seq2SeqLM` on a backbone of this class.
        """
        config = Seq2SeqConfig(
            tokenizer.vocabulary_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=0.0,
            norm_first=True,
        )
        model = Seq2SeqLM(kind(config, tokenizer))
        schedule = WarmupLinearDecay(self.learning_rate, self.warmup_steps, steps)
        optimizer = AdamW(schedule, weight_decay=0.0, global_clipnorm=1.0)
        model.compile(optimizer, loss=CrossEntropy(), jit_compile=False)
        return model

    def trained(self, variant, seed):
        """One run.

        Args:
            variant: one of `VARIANTS`.
            seed: of weights and order.

        Returns:
            A dict with `variant`, `seed`, `seconds` of training; `losses`, the mean loss of each epoch;
            `accuracy`, the share of the test's tokens that are right where the decoder is given those before them;
            `exact`, the share of the test's numbers that are translated without a mistake, a dict by language; and for
            shorter numbers `longer`, the same for numbers between the limits.
        """
        splits = self.splits(variant)
        tokenizer, (inputs, labels, weights) = self.examples(splits, seed)
        keras.utils.set_random_seed(seed)
        steps = self.epochs * len(labels) // self.batch_size
        model = self.compiled(tokenizer, steps, CLASSES.get(variant, Seq2Seq))
        start = time.perf_counter()
        history = model.fit(
            inputs,
            labels,
            sample_weight=weights,
            batch_size=self.batch_size,
            epochs=self.epochs,
            verbose=0,
        )
        result = {"variant": variant, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
        inputs, labels, weights = teacher_forcing(tokenizer, *number_words.pairs(splits.test, self.languages))
        right = model.predict(inputs, batch_size=500, verbose=0).argmax(axis=-1) == labels
        result |= {
            "losses": history.history["loss"],
            "accuracy": float(np.average(right, weights=weights)),
            "exact": self.exact(model, splits.test),
        }
        if variant == SHORTER:
            result["longer"] = self.exact(model, [n for n in self.splits().test if n >= self.shorter_limit])
        return result

    def exact(self, model, chosen):
        """How many numbers a model translates without a mistake.

        Args:
            model: a `Seq2SeqLM` with a tokenizer.
            chosen: integers.

        Returns:
            A dict from each language to a share.
        """
        found = {}
        for language in self.languages:
            sources, targets = number_words.pairs(chosen, [language])
            answers = model.generate(sources, self.max_new_tokens)
            found[language] = float(
                np.mean([answer == target for answer, target in zip(answers, targets, strict=True)])
            )
        return found


EXPERIMENT = NumberTranslation()
