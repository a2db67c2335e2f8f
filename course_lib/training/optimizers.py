"""AdamW and Muon: Keras's optimizers, with additions for training Transformers.

- `densify`, `sum_over_replicas`: gradients are summed by token, and over devices, before they are clipped.
- `ByVariable`: norms and biases do not decay, and each variable may have its own learning rate.
- `fused_adam_step`: Adam's step in one operation on TensorFlow.
"""

import keras
from keras import ops

WITHOUT_DECAY = ("bias", "beta", "gamma", "scale")  # of norms; Keras calls that of RMSNorm "scale"


def densify(gradients):
    """Turns sparse gradients into dense ones.

    On TensorFlow, the gradient of an embedding has one row per token of the batch. For clipping, Keras takes its norm
    before it adds up the rows of equal tokens, which gives a different norm than on JAX. This function adds them up
    first.

    Args:
        gradients: a list of gradients, some of which may be None.

    Returns:
        A list of tensors, or None in the same places.
    """
    if keras.backend.backend() != "tensorflow":
        return gradients
    import tensorflow as tf

    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]


def sum_over_replicas(gradients):
    """Adds up the gradients over the devices of a `tf.distribute` strategy. Their norm is then that of the whole batch.

    Args:
        gradients: a list of tensors, some of which may be None.

    Returns:
        A list of tensors, or None in the same places. Without a strategy, the gradients themselves.
    """
    if keras.backend.backend() != "tensorflow":
        return gradients
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return gradients
    sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, [part for part in gradients if part is not None]))
    return [None if part is None else next(sums) for part in gradients]


def fused_adam_step(variable, momentum, velocity, gradient, step, learning_rate, beta_1, beta_2, epsilon):
    """Applies Adam's step on TensorFlow in one pass over the memory. Keras's own step takes about a dozen.

    Args:
        variable: a `tf.Variable`. It is updated in place, as are `momentum` and `velocity`.
        momentum: a `tf.Variable` of the same shape, the running mean of the gradient.
        velocity: a `tf.Variable` of the same shape, the running mean of its square.
        gradient: a tensor of the same shape.
        step: number of this step, counted from 1.
        learning_rate: a scalar.
        beta_1: fraction of the momentum that is kept, a number.
        beta_2: fraction of the velocity that is kept, a number.
        epsilon: added to the square root of the velocity, a number.
    """
    import tensorflow as tf

    dtype = variable.dtype
    step = tf.cast(step, dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=tf.cast(beta_1, dtype) ** step,
        beta2_power=tf.cast(beta_2, dtype) ** step,
        lr=tf.cast(learning_rate, dtype),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon,
        grad=tf.cast(gradient, dtype),
    )


class ByVariable:
    """Gives each variable its own weight decay and learning rate. Inherit from it before the Keras optimizer.

    Args:
        *args: arguments of the optimizer.
        lr_multipliers: a factor of the learning rate for each trainable variable, in their order, as
            `course_lib.training.adaptation.layerwise_lr_decay` returns them. Defaults to 1 for all.
        **kwargs: arguments of the optimizer.
    """

    def __init__(self, *args, lr_multipliers=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.lr_multipliers = None if lr_multipliers is None else tuple(lr_multipliers)
        self.exclude_from_weight_decay(var_names=list(WITHOUT_DECAY))

    def build(self, var_list):
        """Creates the optimizer's state.

        Args:
            var_list: the trainable variables.

        Raises:
            ValueError: if the number of variables differs from the number of multipliers.
        """
        if self.lr_multipliers is not None and len(self.lr_multipliers) != len(var_list):
            raise ValueError(
                f"Expected a variable for each of {len(self.lr_multipliers)} lr_multipliers; got {len(var_list)}."
            )
        super().build(var_list)

    def apply(self, grads, trainable_variables=None):
        """Takes a step.

        Args:
            grads: a list with a gradient, or None, for each variable.
            trainable_variables: the variables. Needed only if the optimizer is not built yet.
        """
        return super().apply(sum_over_replicas(densify(grads)), trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Applies weight decay and the gradient step to one variable, both at its own learning rate.

        Args:
            gradient: the gradient, in the variable's shape.
            variable: the variable, or on TensorFlow its `tf.Variable`.
            learning_rate: the learning rate before the variable's multiplier, a scalar.
        """
        index = self._get_variable_index(variable)
        if self.lr_multipliers is not None:
            learning_rate = learning_rate * self.lr_multipliers[index]
        decay = self.weight_decay_of(self._trainable_variables[index])  # TensorFlow's own variable has no path
        if decay:
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * ops.cast(decay, variable.dtype) * rate)
        super().update_step(gradient, variable, learning_rate)

    def weight_decay_of(self, variable):
        """Returns the weight decay of one variable, 0 if it has none.

        Args:
            variable: one of the trainable variables, a Keras variable.
        """
        return self.weight_decay or 0 if self._use_weight_decay(variable) else 0

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Does nothing: `apply` has added them up. Keras does it here, on TensorFlow, after it has clipped them."""
        return grads_and_vars

    def _apply_weight_decay(self, variables):
        """Does nothing: `update_step` applies the decay. Keras would decay all variables here at the same rate."""

    def _get_current_learning_rate(self):
        """Asks a schedule for the rate of the present step. Keras counts batches, even if several make a step."""
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"lr_multipliers": self.lr_multipliers}


class _FusedAdam(keras.optimizers.AdamW):
    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        settings = self.beta_1, self.beta_2, self.epsilon
        fused_adam_step(variable, momentum, velocity, gradient, self.iterations + 1, learning_rate, *settings)


@keras.saving.register_keras_serializable("course_lib")
class AdamW(ByVariable, _FusedAdam):
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) without decay of norms and biases.

    Args:
        *args: arguments of `keras.optimizers.AdamW`.
        lr_multipliers: a factor of the learning rate for each trainable variable. Defaults to 1 for all.
        **kwargs: arguments of `keras.optimizers.AdamW`.
    """


@keras.saving.register_keras_serializable("course_lib")
class Muon(ByVariable, keras.optimizers.Muon):
    """Muon for the kernels of layers, and AdamW for embeddings, biases and norms. Norms and biases do not decay.

    A kernel's step is its momentum with all singular values made about equal, so that rare directions are learned as
    fast as common ones (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/). It is scaled to the size of
    AdamW's step, so the same learning rate and decay suit both (Liu et al., 2025, https://arxiv.org/abs/2502.16982,
    section 2.2).

    Args:
        *args: arguments of `keras.optimizers.Muon`.
        weight_decay: decay of all weights except norms and biases.
        lr_multipliers: a factor of the learning rate for each trainable variable. Defaults to 1 for all.
        **kwargs: arguments of `keras.optimizers.Muon`.
    """

    def __init__(self, *args, weight_decay=0.004, **kwargs):
        super().__init__(*args, weight_decay=weight_decay, **{"adam_weight_decay": weight_decay} | kwargs)

    def weight_decay_of(self, variable):
        """Returns the weight decay of one variable, 0 if it has none.

        Args:
            variable: one of the trainable variables, a Keras variable.
        """
        if self._should_use_adamw(variable) and self._use_weight_decay(variable):
            return self.adam_weight_decay or 0
        return super().weight_decay_of(variable)
