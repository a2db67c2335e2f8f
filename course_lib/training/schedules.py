"""Learning rates that rise before they fall. Keras has the cosine with warm-up, but not these two."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course_lib")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak, then falls linearly towards zero, as in the training of BERT.

    Args:
        peak: the highest learning rate.
        warmup_steps: number of the step that reaches the peak, counted from 1.
        total_steps: number of steps. After the last of them, the learning rate is zero.

    Raises:
        ValueError: unless 0 <= `warmup_steps` < `total_steps`.
    """

    def __init__(self, peak, warmup_steps, total_steps):
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(f"Expected 0 <= warmup_steps < total_steps; got {warmup_steps} and {total_steps}.")
        self.peak, self.warmup_steps, self.total_steps = peak, warmup_steps, total_steps

    def __call__(self, step):
        """Computes the learning rate of a step.

        Args:
            step: number of steps before this one, a number or a scalar tensor.

        Returns:
            A float32 scalar tensor.
        """
        step, warmup_steps = ops.cast(step, "float32"), max(self.warmup_steps, 1)
        rising = (step + 1) / warmup_steps  # the first step already moves
        falling = (self.total_steps - step) / (self.total_steps - warmup_steps + 1)
        return self.peak * ops.clip(ops.minimum(rising, falling), 0.0, 1.0)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


@keras.saving.register_keras_serializable("course_lib")
class WarmupInverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    r"""Rises linearly to the peak, then falls as $1 / \sqrt{\text{step}}$ (Vaswani et al., 2017, equation 3).

    Args:
        peak: the highest learning rate. In the paper it is $D^{-1/2}$ `warmup_steps`$^{-1/2}$.
        warmup_steps: number of the step that reaches the peak, counted from 1.

    Raises:
        ValueError: unless `warmup_steps` is positive.
    """

    def __init__(self, peak, warmup_steps):
        if warmup_steps < 1:
            raise ValueError(f"Expected at least one step of warm-up; got {warmup_steps}.")
        self.peak, self.warmup_steps = peak, warmup_steps

    def __call__(self, step):
        """Computes the learning rate of a step.

        Args:
            step: number of steps before this one, a number or a scalar tensor.

        Returns:
            A float32 scalar tensor.
        """
        step = ops.cast(step, "float32") + 1
        return self.peak * ops.minimum(step / self.warmup_steps, ops.sqrt(self.warmup_steps / step))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}
