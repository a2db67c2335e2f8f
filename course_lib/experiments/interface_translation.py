"""Trains a small Transformer to translate JupyterLab's interface, and measures what each part adds; for chapter 12."""

import dataclasses
import functools
import time

import keras
import numpy as np

from course_lib import assets, experiments
from course_lib.data import jupyterlab_translations
from course_lib.experiments import replays
from course_lib.generation.samplers import BeamSearch, Greedy
from course_lib.metrics.translation import bleu_and_chrf
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.seq2seq_lm import Seq2SeqLM, teacher_forcing
from course_lib.text.batches import Pairs
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupInverseSquareRoot
from course_lib.training.weight_averaging import CheckpointAveraging

WHOLE, LEAKING, NO_SMOOTHING, NO_DROPOUT = VARIANTS = ("whole", "leaking", "no smoothing", "no dropout")


@dataclasses.dataclass(frozen=True)
class InterfaceTranslation:
    """Trains a small `Seq2Seq` to translate JupyterLab's interface from English to Chinese and French, with controls.

    The variants are `VARIANTS`: the whole recipe; the same with copies of texts, also of test texts, left in the
    training data; the recipe without label smoothing; and the recipe without dropout. Each run chooses how long to
    train: the length with the highest chrF on the validation split, averaged over the languages. For this choice the
    mean of the last checkpoints translates greedily.

    Args:
        data: the assets that it reads.
        languages: the languages to translate into.
        longest: maximum number of characters of the English text.
        test: number of test texts.
        validation: number of validation texts.
        vocabulary_size: V.
        num_layers: number of layers of the encoder, and of the decoder.
        num_heads: N.
        hidden_dim: D.
        dropout: dropout of the whole recipe.
        label_smoothing: label smoothing of the whole recipe.
        batch_size: B.
        lengths: lengths of training to choose from, in epochs.
        checkpoints: number of last epochs whose weights are averaged.
        warmup_steps: number of steps until the learning rate reaches its peak.
        learning_rate: the peak learning rate.
        num_beams: number of beams of the beam search.
        max_new_tokens: maximum length of a translation.
        resamples: number of bootstrap samples for the intervals.
        seeds: seeds of weights and order, with one run for each.
        preset: name below `data/weights` under which the averaged weights of the whole recipe with the first seed are
            kept.
    """

    data: tuple = ("jupyterlab-chinese", "jupyterlab-french")
    languages: tuple = ("Chinese", "French")
    longest: int = 60
    test: int = 400
    validation: int = 200
    vocabulary_size: int = 1200
    num_layers: int = 2
    num_heads: int = 4
    hidden_dim: int = 96
    dropout: float = 0.2
    label_smoothing: float = 0.1
    batch_size: int = 32
    lengths: tuple = (12, 24, 48)
    checkpoints: int = 5
    warmup_steps: int = 400
    learning_rate: float = 3e-3
    num_beams: int = 4
    max_new_tokens: int = 64
    resamples: int = 1000
    seeds: tuple = (0, 1, 2)
    preset: str = "seq2seq-mini"

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `trained`.
        """
        return [
            experiments.cached(
                "interface-translation", f"{variant}, seed {seed}", lambda v=variant, s=seed: self.trained(v, s)
            )
            for variant in VARIANTS
            for seed in self.seeds
        ]

    def replay(self):
        """Computes a few numbers of the experiment.

        These are the losses of two short epochs, a mean of checkpoints, and scores of the first tokens of translations
        by the kept weights.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        keras.utils.set_random_seed(0)
        few, kept = dataclasses.replace(self, warmup_steps=2, max_new_tokens=8), CheckpointAveraging(2)
        pairs = self.batches(self.splits.train[:6], seed=0)
        model = few.compiled()
        losses = model.fit(pairs, epochs=2, callbacks=[kept], verbose=0).history["loss"]
        weights = Seq2SeqLM.from_preset(assets.data_folder() / "weights" / self.preset).get_weights()
        tests = self.splits.test[:12]
        written = {
            "greedy": few.answers(tests, weights, Greedy()),
            "beam": few.answers(tests, weights, BeamSearch(self.num_beams)),
        }
        return {
            "losses": losses,
            "mean": replays.projections(kept.mean()[0]),
            "copies": len(self.copies),
            "written": {
                way: {
                    name: bleu_and_chrf(
                        answers[name], references, jupyterlab_translations.TOKENIZERS[name], resamples=2
                    )["chrf"]
                    for name, references in self.references(tests).items()
                }
                for way, answers in written.items()
            },
        }

    @functools.cached_property
    def splits(self):
        """The texts, `Splits` of lists of `course_lib.data.jupyterlab_translations.Text`."""
        return jupyterlab_translations.jupyterlab(self.longest, self.test, self.validation)

    @functools.cached_property
    def copies(self):
        """Texts that occur elsewhere in the interface and have the same key as a text in a split."""
        there = {text.place for part in vars(self.splits).values() for text in part}
        return [
            text
            for text in jupyterlab_translations.texts()
            if len(text.english) <= self.longest and text.place not in there
        ]

    @functools.cached_property
    def tokenizer(self):
        """A `BytePairTokenizer` trained on the training split only."""
        sources, targets = jupyterlab_translations.pairs(self.splits.train, self.languages)
        return BytePairTokenizer.train(sources + targets, self.vocabulary_size)

    @functools.cached_property
    def writer(self):
        """A `Seq2SeqLM` that translates with any model's weights, so its decoding loop is compiled only once."""
        model = self.model()
        model.build()
        return model

    def model(self, variant=WHOLE):
        """Makes a new model.

        Args:
            variant: one of `VARIANTS`.

        Returns:
            A `Seq2SeqLM`.
        """
        config = Seq2SeqConfig(
            self.tokenizer.vocabulary_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            dropout=0.0 if variant == NO_DROPOUT else self.dropout,
            norm_first=True,
        )
        return Seq2SeqLM(Seq2Seq(config, self.tokenizer))

    def compiled(self, variant=WHOLE):
        """Makes and compiles a new model.

        Args:
            variant: one of `VARIANTS`.

        Returns:
            A `Seq2SeqLM`.
        """
        model = self.model(variant)
        schedule = WarmupInverseSquareRoot(self.learning_rate, self.warmup_steps)
        optimizer = AdamW(schedule, weight_decay=0.0, beta_2=0.98, global_clipnorm=1.0)
        smoothing = 0.0 if variant == NO_SMOOTHING else self.label_smoothing
        model.compile(optimizer, CrossEntropy(label_smoothing=smoothing), jit_compile=False)  # metrics take their time
        return model

    def pairs(self, variant=WHOLE, seed=0):
        """Makes the training batches of a variant.

        Args:
            variant: one of `VARIANTS`.
            seed: seed of the order.

        Returns:
            `Pairs`.
        """
        texts = self.splits.train + (self.copies if variant == LEAKING else [])
        return self.batches(texts, seed)

    def batches(self, texts, seed):
        """Makes batches of texts and their translations.

        Args:
            texts: n `Text`.
            seed: seed of the order.

        Returns:
            `Pairs`.
        """
        arrays = teacher_forcing(self.tokenizer, *jupyterlab_translations.pairs(texts, self.languages))
        return Pairs(*arrays, self.batch_size, seed)

    def trained(self, variant, seed):
        """Trains and evaluates one model.

        Args:
            variant: one of `VARIANTS`.
            seed: seed of weights and order.

        Returns:
            A dict with `variant`, `seed` and `seconds` of training; `losses`, the mean loss of each epoch;
            `validation`, a dict from each length of training to its mean chrF; `epochs`, the chosen length; and `test`,
            a dict from each way of translating to the result of `compared`. All variants translate with the mean of the
            last checkpoints and beam search. The whole recipe also translates with the last checkpoint, and with both
            greedily.
        """
        keras.utils.set_random_seed(seed)
        model, pairs, kept = self.compiled(variant), self.pairs(variant, seed), CheckpointAveraging(self.checkpoints)
        losses, seconds, validation, weights = [], 0.0, {}, {}
        for before, length in zip((0, *self.lengths), self.lengths, strict=False):
            start = time.perf_counter()
            history = model.fit(pairs, epochs=length, initial_epoch=before, callbacks=[kept], verbose=0)
            seconds += time.perf_counter() - start
            losses += history.history["loss"]
            weights[length] = {"mean": kept.mean(), "last": kept.checkpoints[-1]}
            answers = self.answers(self.splits.validation, weights[length]["mean"], Greedy())
            references = self.references(self.splits.validation)
            validation[length] = float(
                np.mean(
                    [bleu_and_chrf(answers[name], references[name], resamples=2)["chrf"] for name in self.languages]
                )
            )
        chosen = max(validation, key=validation.get)
        beam = BeamSearch(self.num_beams)
        ways = {"mean, beam": ("mean", beam)}
        if variant == WHOLE:
            ways |= {
                "mean, greedy": ("mean", Greedy()),
                "last, beam": ("last", beam),
                "last, greedy": ("last", Greedy()),
            }
        test = {
            way: self.compared(self.answers(self.splits.test, weights[chosen][kind], sampler))
            for way, (kind, sampler) in ways.items()
        }
        if (variant, seed) == (WHOLE, self.seeds[0]):
            self.writer.set_weights(weights[chosen]["mean"])
            self.writer.save_to_preset(assets.data_folder() / "weights" / self.preset, "float16")
        return {
            "variant": variant,
            "seed": seed,
            "seconds": round(seconds, 1),
            "losses": losses,
            "validation": {str(length): score for length, score in validation.items()},
            "epochs": chosen,
            "test": test,
        }

    def answers(self, texts, weights, sampler):
        """Translates texts into all languages.

        Args:
            texts: n `Text`.
            weights: the weights of a model.
            sampler: as in `Seq2SeqLM.translate`.

        Returns:
            A dict from each language to n strings.
        """
        self.writer.set_weights(weights)
        sources = jupyterlab_translations.pairs(texts, self.languages)[0]
        written = self.writer.translate(sources, self.max_new_tokens, sampler)
        return {name: written[i * len(texts) : (i + 1) * len(texts)] for i, name in enumerate(self.languages)}

    def references(self, texts):
        """Collects the reference translations.

        Args:
            texts: n `Text`.

        Returns:
            A dict from each language to n strings.
        """
        return {name: [text[name] for text in texts] for name in self.languages}

    def compared(self, answers):
        """Compares translations of the test split with the references.

        Args:
            answers: a dict from each language to as many strings as there are test texts.

        Returns:
            A dict from each language to a dict of scores from `course_lib.metrics.translation.bleu_and_chrf`. It also
            contains two dicts `copied` and `alone`: the scores, without intervals, of test texts with and without
            copies.
        """
        copied = {text.key for text in self.copies}
        places = {
            "copied": [place for place, text in enumerate(self.splits.test) if text.key in copied],
            "alone": [place for place, text in enumerate(self.splits.test) if text.key not in copied],
        }
        found = {}
        for name, references in self.references(self.splits.test).items():
            tokenize = jupyterlab_translations.TOKENIZERS[name]
            found[name] = bleu_and_chrf(answers[name], references, tokenize, self.resamples)
            for part, chosen in places.items():
                score = bleu_and_chrf([answers[name][i] for i in chosen], [references[i] for i in chosen], tokenize, 2)
                found[name][part] = {key: score[key] for key in ("bleu", "chrf", "exact")} | {"texts": len(chosen)}
        return found


EXPERIMENT = InterfaceTranslation()
