"""Compares LoRA and full fine-tuning with the same epochs and wide grids of learning rates; for chapter 10."""

import dataclasses
import time

import keras
import numpy as np

from course_lib import assets, experiments
from course_lib.data import reviews
from course_lib.experiments.sentiment_finetuning import FULL, LORA, SentimentFinetuning
from course_lib.models.classifiers import TextClassifier
from course_lib.training.adaptation import enable_lora
from course_lib.training.finetuning import fine_tune, logits_of
from course_lib.training.peft import save_lora

PRESET = "sentiment-lora"  # the asset that the adapters trained with all labels become


@dataclasses.dataclass(frozen=True)
class LoraBudget(SentimentFinetuning):
    """`SentimentFinetuning` of adapters and of the whole encoder on the same labels, with the same number of epochs.

    The train split is `labels` texts, drawn with the seed of the run. The runs ask for all of it, so they keep margins.
    At the end, adapters are trained with all labels, at the rate chosen for LoRA, and saved.

    Args:
        name: name of the record.
        runs: as in `SentimentFinetuning`.
        linear: none.
        learning_rates: as in `SentimentFinetuning`.
        guide: 0, for all labels of the train split.
        validation: as in `SentimentFinetuning`.
        labels: number of labels of the train split.
        shipped_epochs: maximum number of epochs of the adapters that are saved.
    """

    name: str = "lora-budget"
    runs: tuple = ((LORA, 0, 6), (FULL, 0, 6))
    linear: tuple = ()
    learning_rates: tuple = ((LORA, (1e-3, 3e-3, 1e-2, 3e-2)), (FULL, (3e-5, 1e-4, 3e-4)))
    guide: int = 0
    validation: int = 500
    labels: int = 1000
    shipped_epochs: int = 3

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts: from `fine_tuned`, those of the grids of learning rates with the first seed before the
            others; and the one from `shipped`.
        """
        results = []
        for method, count, epochs in self.runs:
            rates = dict(self.learning_rates)[method]
            results += [self.once(method, count, epochs, self.seeds[0], rate) for rate in rates]
            results += [self.chosen(method, count, epochs, seed) for seed in self.seeds[1:]]
        tried = [result for result in results if (result["method"], result["seed"]) == (LORA, self.seeds[0])]
        rate = min(tried, key=lambda result: result["chosen_loss"])["setting"]
        return [*results, experiments.cached(self.name, PRESET, lambda: self.shipped(rate))]

    def once(self, method, count, epochs, seed, rate):
        """Fine-tunes a model with one learning rate, unless this is cached.

        Args:
            method: a key of `learning_rates`.
            count: number of labels, or 0 for all of the train split.
            epochs: maximum number of epochs.
            seed: one of `seeds`.
            rate: the peak learning rate.

        Returns:
            A dict from `fine_tuned`.
        """
        key = f"{method}, {count} labels, seed {seed}, learning rate {rate}"  # as in `chosen`
        return experiments.cached(self.name, key, lambda: self.fine_tuned(method, count, epochs, seed, rate))

    def splits(self, count, seed):
        """Reads the splits, and draws the labels of the train split.

        Args:
            count: number of labels, or 0 for `labels`.
            seed: seed of the draw.

        Returns:
            The train, the validation and the test split.
        """
        return super().splits(count or self.labels, seed)

    def shipped(self, rate):
        """Trains adapters with all labels of Rotten Tomatoes, and saves them and the head.

        The epoch is chosen by the loss on the whole validation split.

        Args:
            rate: the peak learning rate.

        Returns:
            A dict with `method`, `count`, `seed`, `setting` (the learning rate), `losses` (the validation loss of each
            epoch), `trained_parameters`, `seconds` and `processor_seconds` of training, and `accuracy` and `margins` on
            the test split, as in `fine_tuned`.
        """
        data, seed = reviews.rotten_tomatoes(), self.seeds[0]
        keras.utils.set_random_seed(seed)
        model = TextClassifier(
            self.backbone(), ["negative", "positive"], dropout=self.dropout, max_length=self.max_length
        )
        enable_lora(model.backbone, self.rank)
        model.build()
        start = time.perf_counter(), time.process_time()
        train, validation = ((split.texts, split.labels) for split in (data.train, data.validation))
        losses = fine_tune(
            model, train, validation, rate, self.shipped_epochs, batch_size=self.batch_size, seed=seed, verbose=0
        )
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        save_lora(model, assets.data_folder() / "weights" / PRESET)
        test = model.examples(data.test.texts, data.test.labels, batch_size=128)
        margins = np.diff(logits_of(model, test).astype("float64"))[:, 0]  # (n,)
        return {
            "method": LORA,
            "count": len(data.train),
            "seed": seed,
            "setting": rate,
            "losses": losses,
            "trained_parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
            "seconds": round(seconds[0], 1),
            "processor_seconds": round(seconds[1], 1),
            "accuracy": float(np.mean((margins > 0) == data.test.labels)),
            "margins": margins.round(3).tolist(),
        }


EXPERIMENT = LoraBudget()
