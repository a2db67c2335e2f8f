"""What pre-training minimises and reports, as Keras losses and metrics.

Shapes: B batch, P predictions a row, V vocabulary.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course_lib")
class CrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    r"""The mean of $-\log p(\text{right token})$ over the predictions that have weight, in nats.

    Logits of any dtype; the loss is taken in float32. Where every weight is 0, so is the loss. With a smoothing of ε,
    the right token counts 1 - ε, and ε is shared evenly by all V (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567, section 7).

    Args:
        name: of the loss.
        label_smoothing: ε.
        **kwargs: what every Keras loss takes.

    Raises:
        ValueError: if ε is not in [0, 1).
    """

    def __init__(self, name="cross_entropy", label_smoothing=0.0, **kwargs):
        super().__init__(from_logits=True, name=name, **{"reduction": "mean_with_sample_weight", **kwargs})
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"Expected label_smoothing in [0, 1); got {label_smoothing}.")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each prediction.

        Args:
            y_true: integers (...), the right tokens.
            y_pred: floats (..., V), logits.

        Returns:
            Floats (...).
        """
        loss = super().call(y_true, y_pred)
        if self.label_smoothing:
            of_all = -ops.mean(ops.log_softmax(y_pred, axis=-1), axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * of_all
        return loss

    def get_config(self):
        """The arguments of the constructor."""
        return keras.losses.Loss.get_config(self) | {"label_smoothing": self.label_smoothing}


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


def causal():
    r"""What `compile` needs to train a `GPT2CausalLM`: the loss of the next token, and metrics.

    The target is a dict with `logits`, int (B, T): at each position of a row the token that follows it. Equation:
    $L = -\frac{1}{T} \sum_t \log p(x_{t+1} \mid x_1, \ldots, x_t)$ (Radford et al., 2018,
    https://openai.com/index/language-unsupervised/, equation 1).

    Returns:
        A dict, for `model.compile(optimizer, **causal())`.
    """
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()]
    return {"loss": {"logits": CrossEntropy(name="next_token")}, "weighted_metrics": {"logits": metrics}}


def seq2seq(label_smoothing=0.1):
    """What `compile` needs to train a `Seq2Seq`: the loss of the next token of the target, and metrics.

    The target is a dict with `logits`, int (B, T), and so are the sample weights, 0 where a row is padded:
    `course_lib.seq2seq.teacher_forcing` makes both.

    Args:
        label_smoothing: as in `CrossEntropy`; 0.1 in the paper (Vaswani et al., 2017, section 5.4). The metrics are
            without it.

    Returns:
        A dict, for `model.compile(optimizer, **seq2seq())`.
    """
    loss = CrossEntropy(name="next_token", label_smoothing=label_smoothing)
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()]
    return {"loss": {"logits": loss}, "weighted_metrics": {"logits": metrics}}
