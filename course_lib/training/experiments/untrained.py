"""What the same fine-tuning makes of the same encoder without its pre-training: chapter 10's control."""

import dataclasses

from course_lib.bert import Bert
from course_lib.training.experiments.classes import Classes

UNTRAINED = "untrained"


@dataclasses.dataclass(frozen=True)
class Untrained(Classes):
    """`Classes`, of an encoder whose weights are drawn as BERT's paper begins.

    Its learning rate is the one that `worth` chose, of three, for a smaller untrained BERT on as many labels.

    Args:
        name: of the record.
        runs: as in `Classes`.
        linear: none, since `Classes` has them.
        learning_rates: as in `Classes`.
        initializer_range: standard deviation of the weights.
    """

    name: str = "untrained"
    runs: tuple = ((UNTRAINED, 1000, 3),)
    linear: tuple = ()
    learning_rates: tuple = ((UNTRAINED, (1e-4,)),)
    initializer_range: float = 0.02

    def backbone(self):
        """A new encoder.

        Returns:
            A `Bert`.
        """
        trained = super().backbone()
        backbone = Bert(
            dataclasses.replace(trained.config, initializer_range=self.initializer_range), trained.tokenizer
        )
        backbone.build()
        return backbone


EXPERIMENT = Untrained()
