"""Trains a small Transformer to translate numbers in words, with all its parts and without some; for chapter 03."""

import dataclasses
import time

import keras
import numpy as np
from keras import ops

from course_lib import assets, experiments
from course_lib.data import number_words
from course_lib.experiments import replays
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM, teacher_forcing
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay

WHOLE, NO_POSITIONS, NO_MASK, SHORTER = VARIANTS = ("whole", "no positions", "no causal mask", "shorter numbers")
PRESET = "number-translator"  # the asset that the whole Transformer with the first seed becomes


class Unordered(Seq2Seq):
    """A `Seq2Seq` without position information."""

    def embed(self, token_ids, positions=None, training=None):
        """Looks up the embeddings, and multiplies them by √D.

        Args:
            token_ids: integers (B, T).
            positions: not used.
            training: whether to apply dropout.

        Returns:
            (B, T, D).
        """
        x = self.token_embedding(token_ids)
        return self.dropout(x * ops.cast(self.config.hidden_dim**0.5, x.dtype), training=training)


class Leaking(Seq2Seq):
    """A `Seq2Seq` whose decoder sees the whole target in training. When it generates, later tokens do not exist yet."""

    hides_the_future = False


CLASSES = {NO_POSITIONS: Unordered, NO_MASK: Leaking}


@dataclasses.dataclass(frozen=True)
class NumberTranslation:
    """Trains a small `Seq2Seq` to translate numbers from English to German and French, with all parts and without some.

    The variants are `VARIANTS`: the Transformer; the same without positions; the same without the causal mask; and the
    Transformer trained only on numbers below `shorter_limit`. The whole Transformer with the first seed is saved.

    Args:
        data: the assets that it reads, none.
        languages: the languages to translate into.
        train: number of numbers drawn for training.
        test: number of test numbers.
        limit: upper limit; every number is below it.
        shorter_limit: the limit of the shorter numbers.
        tokenizer_texts: number of sources, and of targets, that the tokenizer is trained on.
        vocabulary_size: V.
        num_layers: number of layers of the encoder, and of the decoder.
        num_heads: N.
        hidden_dim: D.
        batch_size: B.
        epochs: number of training epochs.
        warmup_steps: number of steps until the learning rate reaches its peak.
        learning_rate: the peak learning rate.
        max_new_tokens: maximum length of a translation.
        seeds: seeds of weights and order, with one run for each.
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
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `trained`.
        """
        return [
            experiments.cached(
                "number-translation", f"{variant}, seed {seed}", lambda v=variant, s=seed: self.trained(v, s)
            )
            for variant in VARIANTS
            for seed in self.seeds
        ]

    def replay(self):
        """Computes a few numbers of the experiment.

        These are the losses of three steps of the whole Transformer and of two variants, and the mean of the training
        numbers.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
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
        """Draws the numbers of a variant.

        Args:
            variant: one of `VARIANTS`.

        Returns:
            `Splits` of lists of integers.
        """
        return number_words.draw(
            self.train, test=self.test, limit=self.shorter_limit if variant == SHORTER else self.limit
        )

    def examples(self, splits, seed=0):
        """Makes the tokenizer and the training examples.

        Args:
            splits: `Splits` from `splits`.
            seed: seed of the order.

        Returns:
            A tokenizer trained on a part of the pairs; and the inputs, labels and weights from `teacher_forcing` of all
            pairs, shuffled and cut to whole batches.
        """
        sources, targets = number_words.pairs(splits.train, self.languages)
        order = np.random.default_rng(seed).permutation(len(sources))
        order = order[: len(order) // self.batch_size * self.batch_size]
        sources, targets = [sources[row] for row in order], [targets[row] for row in order]
        texts = sources[: self.tokenizer_texts] + targets[: self.tokenizer_texts]
        tokenizer = BytePairTokenizer.train(texts, self.vocabulary_size)
        return tokenizer, teacher_forcing(tokenizer, sources, targets)

    def compiled(self, tokenizer, steps, kind=Seq2Seq):
        """Makes and compiles a new model.

        Args:
            tokenizer: the tokenizer from `examples`.
            steps: number of training steps, for the schedule.
            kind: `Seq2Seq`, or a subclass.

        Returns:
            A `Seq2SeqLM` with a backbone of class `kind`.
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
        """Trains and evaluates one model.

        Args:
            variant: one of `VARIANTS`.
            seed: seed of weights and order.

        Returns:
            A dict with `variant`, `seed` and `seconds` of training; `losses`, the mean loss of each epoch; `accuracy`,
            the fraction of test tokens that are predicted right with teacher forcing; `exact`, a dict from each
            language to the fraction of test numbers that are translated without a mistake; and for shorter numbers
            `longer`, the same for test numbers of at least `shorter_limit`.
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
        if (variant, seed) == (WHOLE, self.seeds[0]):
            model.save_to_preset(assets.data_folder() / "weights" / PRESET, "float16")
        if variant == SHORTER:
            result["longer"] = self.exact(model, [n for n in self.splits().test if n >= self.shorter_limit])
        return result

    def exact(self, model, chosen):
        """Computes the fraction of numbers that a model translates without a mistake.

        Args:
            model: a `Seq2SeqLM` with a tokenizer.
            chosen: integers.

        Returns:
            A dict from each language to a fraction.
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
