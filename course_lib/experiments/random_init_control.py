"""Fine-tunes the same encoder in the same way, but without its pre-training: the control for chapter 10."""

import dataclasses

from course_lib.experiments.sentiment_finetuning import SentimentFinetuning
from course_lib.models.bert import Bert

UNTRAINED = "untrained"


@dataclasses.dataclass(frozen=True)
class RandomInitControl(SentimentFinetuning):
    """`SentimentFinetuning` of an encoder with the random initial weights of BERT's paper.

    The learning rate is the one of three that `pretraining-ablation` chose for a smaller untrained BERT with as many
    labels.

    Args:
        name: name of the record.
        runs: as in `SentimentFinetuning`.
        linear: none; their results are in the record of `SentimentFinetuning`.
        learning_rates: as in `SentimentFinetuning`.
        initializer_range: standard deviation of the weights.
    """

    name: str = "random-init-control"
    runs: tuple = ((UNTRAINED, 1000, 3),)
    linear: tuple = ()
    learning_rates: tuple = ((UNTRAINED, (1e-4,)),)
    initializer_range: float = 0.02

    def backbone(self):
        """Makes a new encoder.

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
