"""The optimizer of pre-training and fine-tuning."""

import keras


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
        self.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])

    def apply(self, grads, trainable_variables=None):
        """Takes a step.

        Args:
            grads: a gradient for each variable, or None.
            trainable_variables: the variables, at the first call.

        Raises:
            ValueError: if there are more or fewer variables than rates.
        """
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            grads = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in grads]
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

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {"rates": self.rates}
