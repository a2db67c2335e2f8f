"""Trains the BERT of `mlm-bayes-loss` from random attention heads: the control for its start (chapters 05 and 06)."""

import dataclasses

import keras

from course_lib import assets, experiments
from course_lib.experiments import replays
from course_lib.experiments.mlm_bayes_loss import FROM_SCRATCH, MlmBayesLoss
from course_lib.models.bert import Bert
from course_lib.models.bert_pretrainer import BertPretrainer


@dataclasses.dataclass(frozen=True)
class RandomHeads(MlmBayesLoss):
    """`MlmBayesLoss` with the random initial weights of a new `Bert`, in place of heads that look at neighbours.

    Args:
        tasks: the tasks of `MlmBayesLoss` to run.
    """

    tasks: tuple = ("[MASK]", FROM_SCRATCH)

    def run(self):
        """Runs the experiment.

        Returns:
            A list of dicts as `MlmBayesLoss.run` returns it.
        """
        return [
            row
            for task in self.tasks
            for seed in self.seeds
            for row in experiments.cached(
                "random-heads", f"{task}, seed {seed}", lambda t=task, s=seed: self.train(t, s)
            )
        ]

    def replay(self):
        """Computes the losses of five steps of each task.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        few = dataclasses.replace(self, steps=5, warmup_steps=2)
        return {
            task: replays.first_losses(few.model(task, seed=0), (self.batch(task, 16, 0, step) for step in range(5)))
            for task in self.tasks
        }

    def model(self, task, seed):
        """Makes a new model, and compiles it for a task.

        Args:
            task: one of `tasks`.
            seed: seed of its weights.

        Returns:
            A `BertPretrainer`.
        """
        model = super().model(task, seed)
        keras.utils.set_random_seed(seed)
        random = BertPretrainer(Bert(model.backbone.config))
        random.build()
        model.set_weights(random.get_weights())
        return model

    def weights(self, seed):
        """Returns the path of the weights after training on `[MASK]`.

        Args:
            seed: seed of the run.

        Returns:
            A path.
        """
        return assets.cache_folder() / "experiments" / f"random-heads-mask-{self.steps}-{seed}.safetensors"


EXPERIMENT = RandomHeads()
