"""What pre-training minimises and reports, as Keras losses and metrics.

Shapes: B batch, P predictions a row, V vocabulary.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course_lib")
class CrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    r"""The mean of $-\log p(\text{right token})$ over the predictions that have weight, in nats.

    Logits of any dtype; the loss is taken in float32. Where every weight is 0, so is the loss.

    Args:
        name: of the loss.
        **kwargs: what every Keras loss takes.
    """

    def __init__(self, name="cross_entropy", **kwargs):
        super().__init__(from_logits=True, name=name, **{"reduction": "mean_with_sample_weight", **kwargs})

    def get_config(self):
        """The arguments of the constructor."""
        return keras.losses.Loss.get_config(self)


@keras.saving.register_keras_serializable("course_lib")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    r"""$e^{\text{cross-entropy}}$: among how many equally likely tokens a guess would be as hard.

    Args:
        name: of the metric.
        **kwargs: what every Keras metric takes.
    """

    def __init__(self, name="perplexity", **kwargs):
        super().__init__(from_logits=True, name=name, **kwargs)

    def result(self):
        """The perplexity of all that was seen since the last reset, a scalar."""
        return ops.exp(super().result())

    def get_config(self):
        """The arguments of the constructor."""
        return {"name": self.name, "dtype": self.dtype}


def pretraining(next_sentence=True):
    """What `compile` needs to train a `BertPretrainer`: the losses of both objectives, which add up, and metrics.

    The targets are a dict with `mlm_logits`, int (B, P), the tokens that were masked, and `nsp_logits`, int (B,), 0 if
    the second segment follows and 1 if it does not; the sample weights one with `mlm_logits`, (B, P), 0 where a row has
    fewer predictions than P, and `nsp_logits`, (B,). Equation: $L = L_{MLM} + L_{NSP}$ (Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805, appendix A.2).

    Args:
        next_sentence: whether there is a next-sentence head.

    Returns:
        A dict, for `model.compile(optimizer, **pretraining())`.
    """
    loss = {"mlm_logits": CrossEntropy(name="mlm")}
    metrics = {"mlm_logits": [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()]}
    if next_sentence:
        loss["nsp_logits"] = CrossEntropy(name="nsp")
        metrics["nsp_logits"] = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    return {"loss": loss, "weighted_metrics": metrics}
