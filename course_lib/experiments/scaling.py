"""Runs shortened versions of bert-mini's recipe, to estimate what more pre-training would bring; for chapter 07."""

import csv
import dataclasses
import pathlib
import tempfile

from course_lib import experiments
from course_lib.data import corpus
from course_lib.training.pretrain import pretrain
from course_lib.training.recipes import RECIPES


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Runs both stages of bert-mini with a fraction of their steps. The learning rate falls to zero at the end of each.

    Args:
        data: the assets that it reads.
        parts: divisors of the number of steps, with one run for each.
        evaluation_steps: number of held-out batches, the first ones that `bert-mini` itself is evaluated on.
    """

    data: tuple = ("movie-reviews",)
    parts: tuple = (100, 30, 10, 4)
    evaluation_steps: int = 64

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts with `part`, the `tokens` read in both stages, and, on held-out documents, `loss` and
            `accuracy` of masked tokens and `next_sentence_accuracy`.
        """
        return [experiments.cached("scaling", f"1/{part}", lambda part=part: self.trained(part)) for part in self.parts]

    def replay(self):
        """Computes a few numbers of the experiment: both stages of bert-mini, four steps each, on sixty reviews.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        documents, found = corpus.imdb(), {}
        documents = dataclasses.replace(documents, train=documents.train[:60], held_out=documents.held_out[:20])
        with tempfile.TemporaryDirectory() as folder:
            start = None
            for name in ("bert-mini-short", "bert-mini"):
                recipe = dataclasses.replace(
                    RECIPES[name],
                    start=start,
                    vocabulary_size=400,
                    batch_size=8,
                    steps=4,
                    steps_per_checkpoint=4,
                    warmup_steps=2,
                    evaluation_steps=1,
                    jit_compile=False,
                )
                pretrain(recipe, documents, pathlib.Path(folder, name))
                start = str(pathlib.Path(folder, name, "preset"))
                with open(pathlib.Path(folder, name, "log.csv"), encoding="utf-8", newline="") as stream:
                    (found[name],) = csv.DictReader(stream)
                del found[name]["seconds"]
        return found

    def trained(self, part):
        """Pre-trains both stages once.

        Args:
            part: divisor of the number of steps.

        Returns:
            A dict for the list of `run`.
        """
        tokens, documents = 0, corpus.imdb()
        with tempfile.TemporaryDirectory() as folder:
            stages = [pathlib.Path(folder, name) for name in ("bert-mini-short", "bert-mini")]
            for stage, start in zip(stages, (None, str(stages[0] / "preset")), strict=True):
                whole = RECIPES[stage.name]
                steps = whole.steps // part
                recipe = dataclasses.replace(
                    whole,
                    start=start,
                    steps=steps,
                    steps_per_checkpoint=steps,
                    warmup_steps=min(whole.warmup_steps, steps // 8),
                    evaluation_steps=self.evaluation_steps,
                )
                pretrain(recipe, documents, stage)
                with open(stage / "log.csv", encoding="utf-8", newline="") as stream:
                    last = list(csv.DictReader(stream))[-1]
                tokens += int(last["tokens"])
        return {
            "part": part,
            "tokens": tokens,
            "loss": float(last["val_mlm_logits_loss"]),
            "accuracy": float(last["val_mlm_logits_accuracy"]),
            "next_sentence_accuracy": float(last["val_nsp_logits_accuracy"]),
        }


EXPERIMENT = Scaling()
