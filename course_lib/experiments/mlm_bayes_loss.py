"""Compares a small BERT with the lowest possible loss, on the artificial language; for chapters 05 and 06."""

import dataclasses
import functools
import time

import keras
import numpy as np
from safetensors.numpy import load_file, save_file

from course_lib import assets, experiments
from course_lib.data.synthetic_language import FIRST_WORD, MASK, ArtificialLanguage, entropy
from course_lib.experiments import replays
from course_lib.models.bert import Bert, BertConfig
from course_lib.models.bert_pretrainer import BertPretrainer
from course_lib.text.masking import Masking
from course_lib.training import initialization
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.pretrain import Batches
from course_lib.training.schedules import WarmupLinearDecay

RULES = {"[MASK]": (1.0, 0.0), "80/10/10": (0.8, 0.1)}  # fractions of chosen words that are masked and replaced
NEXT = "next sentence"
FROM_SCRATCH = "next sentence, from scratch"
TASKS = (*RULES, NEXT, FROM_SCRATCH)


@dataclasses.dataclass(frozen=True)
class MlmBayesLoss:
    """Trains a small BERT on fresh documents of the artificial language, and compares it with the exact posteriors.

    The tasks are `TASKS`: to predict masked words, under each rule of `RULES`; and to predict the next sentence, with a
    model that has already learned to fill in `[MASK]`, and from scratch.

    Args:
        data: the assets that it reads, none.
        num_words: T, words per row.
        num_layers: number of layers of the encoder.
        num_heads: number of heads of the encoder.
        hidden_dim: D.
        batch_size: B.
        steps: number of training steps.
        warmup_steps: number of steps until the learning rate reaches its peak.
        learning_rate: the peak learning rate.
        evaluations: number of comparisons in a run.
        held_out: number of rows for the comparison, the same rows each time.
        seeds: seeds of weights and batches, with one run for each.
    """

    data: tuple = ()
    num_words: int = 32
    num_layers: int = 2
    num_heads: int = 4
    hidden_dim: int = 64
    batch_size: int = 128
    steps: int = 4000
    warmup_steps: int = 200
    learning_rate: float = 3e-3
    evaluations: int = 20
    held_out: int = 2000
    seeds: tuple = (0, 1, 2)

    def run(self):
        """Runs the experiment.

        Returns:
            A list of dicts with `task`, `seed`, `step`, `seconds` of training so far, and the entries that `compare`
            returns.
        """
        return [
            row
            for task in TASKS
            for seed in self.seeds
            for row in experiments.cached(
                "mlm-bayes-loss", f"{task}, seed {seed}", lambda t=task, s=seed: self.train(t, s)
            )
        ]

    def replay(self):
        """Computes a few numbers of the experiment.

        These are the losses of five steps of each task that starts from scratch, and a comparison with the exact
        posteriors on fifty rows.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        few, found = dataclasses.replace(self, steps=5, warmup_steps=2), {}
        for task in (*RULES, FROM_SCRATCH):  # `NEXT` starts from weights that only a full run has saved
            held_out, model = self.batch(task, 50, seed=2**20, step=0), few.model(task, seed=0)
            losses = replays.first_losses(model, (self.batch(task, 16, 0, step) for step in range(few.steps)))
            found[task] = {"losses": losses}
            exact = self.exact(task, held_out)
            found[task] |= compare(predict(model, held_out[0]), held_out, exact)
            found[task]["amplified"] = compare(predict(replays.amplify(model), held_out[0]), held_out, exact)["loss"]
        return found

    @functools.cached_property
    def language(self):
        """The `ArtificialLanguage` of the course."""
        return ArtificialLanguage.draw()

    def masking(self, task):
        """Makes the `Masking` of a task.

        Args:
            task: a key of `RULES`.

        Returns:
            A `Masking`.
        """
        mask, random = RULES[task]
        ids = np.arange(FIRST_WORD, FIRST_WORD + self.language.num_words)
        return Masking(MASK, ids, positions=round(0.15 * self.num_words), mask_fraction=mask, random_fraction=random)

    def batch(self, task, count, seed, step):
        """Draws fresh rows for a task.

        Args:
            task: one of `TASKS`.
            count: B.
            seed: an integer.
            step: an integer.

        Returns:
            Inputs, labels and sample weights, dicts for `fit`.
        """
        if task not in RULES:
            first, second, labels = self.language.sentence_pairs(count, self.num_words, (seed, step))
            inputs = self.language.rows(first, second)
            return inputs, {"nsp_logits": labels}, {"nsp_logits": np.ones(count, "float32")}
        rows = self.language.rows(self.language.documents(count, self.num_words, (seed, step)))
        inputs, labels, weights = self.masking(task)(rows, seed, step)
        return inputs, {"mlm_logits": labels}, {"mlm_logits": weights}

    def model(self, task, seed):
        """Makes a new model, and compiles it for a task.

        Args:
            task: one of `TASKS`.
            seed: seed of its weights.

        Returns:
            A `BertPretrainer`.
        """
        keras.utils.set_random_seed(seed)
        config = BertConfig(
            vocabulary_size=len(self.language.vocabulary),
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            intermediate_dim=4 * self.hidden_dim,
            max_sequence_length=self.num_words + 3,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_range=0.05,
        )
        model = BertPretrainer(Bert(config))
        model.build()
        initialization.relative_position_initialization(model.backbone)
        if task == NEXT:
            model.set_weights([array for _, array in sorted(load_file(self.weights(seed)).items())])
        schedule = WarmupLinearDecay(self.learning_rate, self.warmup_steps, self.steps)
        output = "mlm_logits" if task in RULES else "nsp_logits"
        head = model.masked_lm
        unused = [model.next_sentence, model.backbone.pooler] if task in RULES else [head.dense, head.norm, head.bias]
        for part in unused:  # no loss depends on them
            part.trainable = False
        optimizer = AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
        model.compile(optimizer, loss={output: CrossEntropy()}, jit_compile=False)
        return model

    def weights(self, seed):
        """Returns the path of the weights after training on `[MASK]`. The file exists if this was run here.

        Args:
            seed: seed of the run.

        Returns:
            A path.
        """
        return assets.cache_folder() / "experiments" / f"floors-mask-{self.steps}-{seed}.safetensors"

    def train(self, task, seed):
        """Trains one model.

        Args:
            task: one of `TASKS`.
            seed: seed of its weights and batches.

        Returns:
            A list of dicts, one per comparison.
        """
        model, held_out = self.model(task, seed), self.batch(task, self.held_out, seed=2**20, step=0)
        model.jit_compile = True
        exact = self.exact(task, held_out)
        rows, spent, part = [], 0.0, self.steps // self.evaluations
        for step in range(0, part * self.evaluations, part):
            start = time.perf_counter()
            batches = Batches(lambda s: self.batch(task, self.batch_size, seed, s), first=step, steps=part)
            model.fit(batches, shuffle=False, verbose=0)
            spent += time.perf_counter() - start
            row = {"task": task, "seed": seed, "step": step + part, "seconds": round(spent, 1)}
            rows.append(row | compare(predict(model, held_out[0]), held_out, exact))
        if task == "[MASK]":
            self.weights(seed).parent.mkdir(parents=True, exist_ok=True)
            weights = {f"{index:03d}": np.asarray(weight) for index, weight in enumerate(model.get_weights())}
            save_file(weights, self.weights(seed))
        return rows

    def exact(self, task, batch):
        """Computes the exact posterior of a batch.

        Args:
            task: one of `TASKS`.
            batch: inputs, labels and weights from `batch`.

        Returns:
            Floats (B, P, V) for the masked words; or (B, 1, 2), the probabilities that the second part follows and that
            it does not.
        """
        inputs, _, weights = batch
        if task not in RULES:
            follows = self.language.next_posterior(inputs)
            return np.stack([follows, 1 - follows], axis=-1)[:, None]
        return self.language.word_posterior(inputs, weights["mlm_logits"], self.masking(task))


def predict(model, inputs):
    """Computes a model's distributions, in the shape of `MlmBayesLoss.exact`.

    Args:
        model: a `BertPretrainer`.
        inputs: the dict of its inputs.

    Returns:
        Floats (B, P, V) if the inputs have `mask_positions`, otherwise (B, 1, 2).
    """
    logits = model.predict(inputs, batch_size=250, verbose=0)
    logits = logits["mlm_logits"] if "mask_positions" in inputs else logits["nsp_logits"][:, None]
    return np.exp(logits - np.logaddexp.reduce(logits.astype("float64"), axis=-1, keepdims=True))


def compare(predicted, batch, exact):
    """Compares predictions with the exact distributions, in nats per prediction.

    Args:
        predicted: floats (B, P, V).
        batch: inputs, targets and weights.
        exact: floats (B, P, V).

    Returns:
        A dict: `loss` and `accuracy` of the predictions; `exact_loss` and `exact_accuracy` of the exact posterior on
        the same labels; `standard_error` of the difference between the two losses, over rows; `floor`, the mean entropy
        of the exact posterior; and `kl`, the mean Kullback–Leibler divergence of the predictions from it.
    """
    (labels,), (weights,) = batch[1].values(), batch[2].values()
    labels, weights = labels.reshape(len(labels), -1), weights.reshape(len(weights), -1)  # (B, P)
    share = weights / weights.sum()

    def loss(probabilities):
        return -np.log(
            np.take_along_axis(probabilities, labels[..., None], axis=-1)[..., 0],
            where=weights > 0,
            out=np.zeros(labels.shape),
        )

    def accuracy(probabilities):
        return float(np.sum(share * (probabilities.argmax(axis=-1) == labels)))

    losses, exact_losses = loss(predicted), loss(exact)
    difference = len(labels) * np.sum(share * (losses - exact_losses), axis=1)  # (B,); its mean is the difference
    logarithm = np.log(predicted, where=exact > 0, out=np.zeros(exact.shape))
    return {
        "loss": float(np.sum(share * losses)),
        "exact_loss": float(np.sum(share * exact_losses)),
        "standard_error": float(difference.std(ddof=1) / len(labels) ** 0.5),
        "accuracy": accuracy(predicted),
        "exact_accuracy": accuracy(exact),
        "floor": float(np.sum(share * entropy(exact))),
        "kl": float(np.sum(share * (-np.sum(exact * logarithm, axis=-1) - entropy(exact)))),
    }


EXPERIMENT = MlmBayesLoss()
