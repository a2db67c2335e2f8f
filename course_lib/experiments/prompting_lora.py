"""Fine-tunes SmolLM2 with adapters to name the sentiment of reviews after a prompt; for chapter 13."""

import dataclasses

import keras
import numpy as np

from course_lib import experiments
from course_lib.data import reviews
from course_lib.experiments.prompting import Prompting, described, margins_of
from course_lib.text.packing import pad
from course_lib.training.adaptation import enable_lora
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay


@dataclasses.dataclass(frozen=True)
class PromptingLora(Prompting):
    """Trains adapters on a few labelled reviews: the label is the word that follows the prompt of `Prompting`.

    Args:
        data: as in `Prompting`.
        form: as in `Prompting`.
        words: as in `Prompting`.
        chat_words: not used.
        nothing: not used.
        shots: not used.
        seeds: seeds of labels, adapters and order.
        held_out: not used.
        labels: number of labels.
        rates: peak learning rates to choose from, by the loss on `validation` labels with the first seed.
        validation: number of labels of the validation split.
        epochs: number of epochs.
        rank: rank of the adapters.
        batch_size: B in training.
    """

    rates: tuple = (1e-4, 3e-4, 1e-3, 3e-3)
    validation: int = 200
    epochs: int = 5
    rank: int = 8
    batch_size: int = 10

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `adapted`: all rates with the first seed, then the other seeds.
        """
        tried = [self.once(self.seeds[0], rate) for rate in self.rates]
        rate = min(tried, key=lambda result: result["chosen_loss"])["rate"]
        return tried + [self.once(seed, rate) for seed in self.seeds[1:]]

    def replay(self):
        """Computes a few numbers of the experiment: the losses of four epochs on four reviews.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        few = reviews.few_shot(reviews.rotten_tomatoes().train, 4, seed=0)
        return {"losses": self.trained(self.model(), few, 0, self.rates[0], epochs=4)}

    def once(self, seed, rate):
        """Fine-tunes the model, unless this is cached.

        Args:
            seed: seed of labels, adapters and order.
            rate: the peak learning rate.

        Returns:
            A dict from `adapted`.
        """
        return experiments.cached("prompting-lora", f"LoRA, seed {seed}, rate {rate}", lambda: self.adapted(seed, rate))

    def adapted(self, seed, rate):
        """Fine-tunes the model on `labels` labels, and classifies the test split by prompts without examples.

        Args:
            seed: seed of labels, adapters and order.
            rate: the peak learning rate.

        Returns:
            A dict with `method`, "LoRA"; `seed`; `rate`; `losses` of the training; `chosen_loss`, the loss on the
            validation split, of the two words; `trained_parameters`; and `accuracy` and `margins`, as in `prompted`.
        """
        lm, data = self.model(), reviews.rotten_tomatoes()
        losses = self.trained(lm, reviews.few_shot(data.train, self.labels, seed), seed, rate, self.epochs)
        validation = reviews.few_shot(data.validation, self.validation, seed=0)
        margins = margins_of(lm, self.prompts(lm, validation.texts), self.words)[0]
        chosen = np.mean(np.logaddexp(0, np.where(validation.labels, -margins, margins)))
        return {
            "method": "LoRA",
            "seed": seed,
            "rate": rate,
            "losses": losses,
            "chosen_loss": float(chosen),
            "trained_parameters": sum(int(np.prod(weight.shape)) for weight in lm.trainable_weights),
            **described(margins_of(lm, self.prompts(lm, data.test.texts), self.words)[0], data.test.labels),
        }

    def trained(self, lm, split, seed, rate, epochs):
        """Trains adapters to give the right word after a prompt.

        Args:
            lm: the `LlamaCausalLM`, which gets the adapters.
            split: texts and labels.
            seed: seed of adapters and order.
            rate: the peak learning rate.
            epochs: number of epochs.

        Returns:
            The loss of each epoch, a list.
        """
        keras.utils.set_random_seed(seed)
        enable_lora(lm.backbone, self.rank)
        words = [lm.tokenizer.encode(names[0]) for names in self.words]
        rows = self.prompts(lm, split.texts)
        before = pad(rows, 0)
        after, weights = np.zeros_like(before["token_ids"]), np.zeros(before["token_ids"].shape, "float32")
        for i, (row, label) in enumerate(zip(rows, split.labels, strict=True)):
            after[i, len(row) - 1], weights[i, len(row) - 1] = words[label][0], 1
        steps = epochs * -(-len(rows) // self.batch_size)
        optimizer = AdamW(WarmupLinearDecay(rate, steps // 10, steps), global_clipnorm=1.0)
        lm.compile(optimizer, loss=lm.default_compile()["loss"], jit_compile=False)
        history = lm.fit(before, after, sample_weight=weights, batch_size=self.batch_size, epochs=epochs, verbose=0)
        return [float(loss) for loss in history.history["loss"]]


EXPERIMENT = PromptingLora()
