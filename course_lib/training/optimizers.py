"""The optimizers of pre-training and fine-tuning."""

import keras

_WITHOUT_DECAY = ["bias", "beta", "gamma"]


@keras.saving.register_keras_serializable("course_lib")
class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) without decay on norms and biases.

    On TensorFlow, the gradient of an embedding comes as one row for each token. Keras takes its norm, for clipping,
    before it adds up the rows of the same token, and so clips by another number than on JAX; here they are added first.

    Args:
        *args: what `keras.optimizers.AdamW` takes.
        rates: a factor of the learning rate for each of the variables, as
            `course_lib.training.adaptation.rates_by_depth` gives them; 1 for all if None.
        **kwargs: what `keras.optimizers.AdamW` takes.
    """

    def __init__(self, *args, rates=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.rates = None if rates is None else tuple(rates)
        self.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)

    def apply(self, grads, trainable_variables=None):
        """Takes a step.

        Args:
            grads: a gradient for each variable, or None.
            trainable_variables: the variables, at the first call.

        Raises:
            ValueError: if there are more or fewer variables than rates.
        """
        grads = _added_up(grads)
        if self.rates is None:
            return super().apply(grads, trainable_variables)
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if len(variables) != len(self.rates):
            raise ValueError(f"Expected a variable for each of {len(self.rates)} rates; got {len(variables)}.")
        # Adam takes the scale out of a gradient, so that the step itself has to be scaled, and decay is part of it.
        before = [variable + 0 for variable in variables]  # read now, as a variable itself would not be
        super().apply(grads, trainable_variables)
        for variable, old, rate in zip(variables, before, self.rates, strict=True):
            if rate != 1:
                variable.assign(old + rate * (variable - old))

    def update_step(self, gradient, variable, learning_rate):
        """Moves one variable; TensorFlow does it in one pass over the memory, where Keras's operations take a dozen.

        Args:
            gradient: of the variable's shape.
            variable: the variable.
            learning_rate: a scalar.
        """
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        index, dtype = self._get_variable_index(variable), variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.cast(self.beta_1, dtype) ** step,
            beta2_power=tf.cast(self.beta_2, dtype) ** step,
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"rates": self.rates}


@keras.saving.register_keras_serializable("course_lib")
class Muon(keras.optimizers.Muon):
    """Muon for the kernels of layers, and AdamW for embeddings, biases and norms.

    The step of a kernel is its momentum with all singular values made about equal, so that rare directions are learned
    as fast as common ones (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/), and as large as AdamW's
    would be, so that the same learning rate and decay serve (Liu et al., 2025, https://arxiv.org/abs/2502.16982,
    section 2.2). Gradients are clipped, and weights decay, as by `AdamW`.

    Args:
        *args: what `keras.optimizers.Muon` takes.
        weight_decay: of all weights that decay.
        **kwargs: what `keras.optimizers.Muon` takes.
    """

    def __init__(self, *args, weight_decay=0.004, **kwargs):
        super().__init__(*args, weight_decay=weight_decay, **{"adam_weight_decay": weight_decay} | kwargs)
        self.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)

    def apply(self, grads, trainable_variables=None):
        """Takes a step.

        Args:
            grads: a gradient for each variable, or None.
            trainable_variables: the variables, at the first call.
        """
        return super().apply(_added_up(grads), trainable_variables)


def _added_up(grads):
    if keras.backend.backend() != "tensorflow":
        return grads
    import tensorflow as tf

    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in grads]
