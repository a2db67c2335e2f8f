"""The optimizer of pre-training and fine-tuning."""

import keras


@keras.saving.register_keras_serializable("course_lib")
class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) without decay on norms and biases.

    On TensorFlow, the gradient of an embedding comes as one row for each token. Keras takes its norm, for clipping,
    before it adds up the rows of the same token, and so clips by another number than on JAX; here they are added first.

    Args:
        *args: what `keras.optimizers.AdamW` takes.
        **kwargs: likewise.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])

    def apply(self, grads, trainable_variables=None):
        """Takes a step.

        Args:
            grads: a gradient for each variable, or None.
            trainable_variables: the variables, at the first call.
        """
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            grads = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in grads]
        super().apply(grads, trainable_variables)
