"""What the same fine-tuning makes of the same encoder without its pre-training: chapter 10's control."""

import dataclasses

from course_lib.experiments.sentiment_finetuning import SentimentFinetuning
from course_lib.models.bert import Bert

UNTRAINED = "untrained"


@dataclasses.dataclass(frozen=True)
class RandomInitControl(SentimentFinetuning):
    """`SentimentFinetuning`, of an encoder whose weights are drawn as BERT's paper begins.

    Its learning rate is the one that `worth` chose, of three, for a smaller untrained BERT on as many labels.

    Args:
        name: of the record.
        runs: as in `SentimentFinetuning`.
        linear: none, since `SentimentFinetuning` has them.
        learning_rates: as in `SentimentFinetuning`.
        initializer_range: standard deviation of the weights.
    """

    name: str = "random-init-control"
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


EXPERIMENT = RandomInitControl()
