"""Cross-entropy over a vocabulary or over classes, from logits: the loss of pre-training and of fine-tuning.

Shapes: V vocabulary, or the number of classes.
"""

import keras
from keras import ops

from course_lib.metrics.perplexity import without_label


def cross_entropy(labels, logits, label_smoothing=0.0):
    r"""Computes $-\sum_v q_v \log p_v$ with $p$ the softmax of the logits, in nats.

    With a smoothing of ε, the target q gives the label 1 - ε, and shares ε evenly among all V (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567, section 7). Without it, this is $-\log p_{label}$.

    It is computed in float32 as $\log\sum_v e^{z_v - m} - \sum_v q_v (z_v - m)$ with $m = \max_v z_v$. The backward
    pass computes the probabilities again from the logits, so no float32 array of V per prediction is kept in between.

    Args:
        labels: integers (...), from 0 to V - 1. Any other label gives NaN.
        logits: floats (..., V).
        label_smoothing: ε.

    Returns:
        float32 (...).
    """
    labels, num_classes = ops.cast(labels, "int32"), logits.shape[-1]
    is_valid = ops.logical_and(labels >= 0, labels < num_classes)
    places = ops.expand_dims(ops.clip(labels, 0, num_classes - 1), -1)  # (..., 1)

    @ops.custom_gradient
    def loss_of(logits):
        z = ops.cast(logits, "float32")
        highest = ops.max(z, axis=-1, keepdims=True)  # (..., 1)
        log_sum = ops.log(ops.sum(ops.exp(z - highest), axis=-1, keepdims=True))
        target = (1 - label_smoothing) * (ops.take_along_axis(z, places, axis=-1) - highest)
        if label_smoothing:
            target = target + label_smoothing * (ops.mean(z, axis=-1, keepdims=True) - highest)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            p = ops.exp(ops.cast(logits, "float32") - (highest + log_sum))
            is_label = ops.equal(ops.arange(num_classes, dtype="int32"), places)  # (..., V)
            difference = ops.where(is_label, p - (1 - label_smoothing), p)
            if label_smoothing:
                difference = difference - label_smoothing / num_classes
            return ops.cast(difference * ops.expand_dims(upstream, -1), logits.dtype)

        return ops.squeeze(log_sum - target, -1), gradient

    return ops.where(is_valid, loss_of(ops.convert_to_tensor(logits)), float("nan"))


def _share_of_replica(weight):
    """Relates the weight of the predictions on this device to the mean over the devices of a `tf.distribute` strategy.

    Keras averages the devices' losses evenly. Multiplied by this, the mean is over all predictions of the batch.
    """
    if keras.backend.backend() != "tensorflow":
        return 1.0
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return 1.0
    mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, weight)
    return tf.math.divide_no_nan(weight, mean)


@keras.saving.register_keras_serializable("course_lib")
class CrossEntropy(keras.losses.Loss):
    """Averages `cross_entropy` over the predictions that have weight. Where every weight is 0, the loss is 0.

    It takes logits of any dtype, and computes in float32. Give a prediction that has no label the weight 0 and any
    label from 0 to V - 1, or the label `ignore_class`.

    Args:
        label_smoothing: ε, in [0, 1).
        ignore_class: label of predictions that do not count, such as -100 in `transformers`. By default all count.
        name: of the loss.
        **kwargs: arguments of `keras.losses.Loss`.

    Raises:
        ValueError: if ε is not in [0, 1).

    Example:
        >>> model.compile("adam", loss=CrossEntropy(label_smoothing=0.1))
    """

    def __init__(self, label_smoothing=0.0, ignore_class=None, name="cross_entropy", **kwargs):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"Expected label_smoothing in [0, 1); got {label_smoothing}.")
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Computes the mean loss.

        Args:
            y_true: integers (...) or (..., 1), the labels.
            y_pred: floats (..., V), the logits.
            sample_weight: floats (...) for the predictions, or with fewer axes, such as one per row. Defaults to 1.

        Returns:
            A scalar, or what the loss's `reduction` says.
        """
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if self.ignore_class is not None:
            y_true, sample_weight = without_label(y_true, sample_weight, self.ignore_class)
        if sample_weight is None:
            return super().__call__(y_true, y_pred)
        weights = ops.cast(sample_weight, "float32")
        missing = len(y_pred.shape) - 1 - len(weights.shape)
        weights = ops.reshape(weights, (*ops.shape(weights), *(1,) * missing)) * ops.ones_like(
            y_pred[..., 0], "float32"
        )
        loss = super().__call__(y_true, y_pred, weights)
        return loss * _share_of_replica(ops.sum(weights)) if self.reduction == "mean_with_sample_weight" else loss

    def call(self, y_true, y_pred):
        """Computes the loss of each prediction.

        Args:
            y_true: integers (...), the labels.
            y_pred: floats (..., V), the logits.

        Returns:
            Floats (...).
        """
        return cross_entropy(y_true, y_pred, self.label_smoothing)

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"label_smoothing": self.label_smoothing, "ignore_class": self.ignore_class}
