"""Samplers: how the next token is chosen from a model's logits.

Shapes: B batch, V vocabulary.
"""

import dataclasses

import numpy as np
from keras import ops

from course_lib.generation.beam_search import BeamSearch
from course_lib.generation.strategy import Strategy


def distribution(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    r"""Computes $\mathrm{softmax}(\text{logits}/\text{temperature})$ and cuts off unlikely tokens.

    The cuts are applied one after the other, and the remaining probabilities are scaled to sum to one. `top_k` keeps
    the k most likely tokens (Fan et al., 2018, https://arxiv.org/abs/1805.04833, section 5.4). `top_p` keeps the
    smallest number of tokens whose probabilities sum to at least p (Holtzman et al., 2020,
    https://arxiv.org/abs/1904.09751, section 3.1). `min_p` keeps the tokens with at least p times the probability of
    the most likely one (Nguyen et al., 2024, https://arxiv.org/abs/2407.01082, section 3). Tokens that tie with the
    least likely token kept are kept too.

    Args:
        logits: floats (..., V).
        temperature: above 0. A higher one makes the probabilities more even.
        top_k: an integer of 1 or more, or None for no such cut.
        top_p: in (0, 1], or None.
        min_p: in [0, 1], or None.

    Returns:
        Probabilities, float32 (..., V).
    """
    logits = ops.cast(logits, "float32")
    logits = (logits - ops.max(logits, axis=-1, keepdims=True)) / temperature
    if top_k is not None:
        logits = _keep_highest(logits, ops.ones_like(logits), top_k)
    if top_p is not None:
        logits = _keep_highest(logits, ops.softmax(logits, axis=-1), top_p)
    if min_p is not None:
        logits = ops.where(logits >= ops.log(ops.cast(min_p, "float32")), logits, -float("inf"))
    return ops.softmax(logits, axis=-1)


def penalize(logits, seen, penalty):
    """Makes the tokens that a text already has less likely: divides positive logits, and multiplies the others.

    Keskar et al. (2019, https://arxiv.org/abs/1909.05858, section 4.1) divide all of them, which would make a token
    with a negative logit more likely.

    Args:
        logits: floats (..., V).
        seen: booleans (..., V), true for the tokens that the text has.
        penalty: above 1 to make repetition less likely.

    Returns:
        Floats (..., V).
    """
    return ops.where(seen, ops.where(logits > 0, logits / penalty, logits * penalty), logits)


@dataclasses.dataclass(frozen=True)
class Greedy(Strategy, fields_are_arguments=True):
    """Chooses the most likely token. If several tie, it takes the first of them.

    Args:
        repetition_penalty: as in `penalize`, or None.

    Raises:
        ValueError: if the penalty is not above 0.
    """

    repetition_penalty: float | None = None

    def __post_init__(self):
        _check(self, "repetition_penalty", "above 0", _is_positive)

    def choose(self, logits, uniform, seen):
        """Chooses the most likely token of each text.

        Args:
            logits: floats (B, V).
            uniform: not read.
            seen: booleans (B, V), read only for a repetition penalty.

        Returns:
            int32 (B,).

        Raises:
            ValueError: if there is a repetition penalty, and `seen` is None.
        """
        return ops.cast(ops.argmax(_penalized(logits, seen, self.repetition_penalty), axis=-1), "int32")


@dataclasses.dataclass(frozen=True)
class Sampler(Strategy, fields_are_arguments=True):
    """Draws the next token at random from the model's distribution, after the cuts of `distribution`.

    To write your own sampler, subclass this class or `Greedy`, and override `choose`.

    Args:
        temperature: divides the logits.
        top_k: keep the k most likely tokens, or None.
        top_p: keep the fewest tokens whose probabilities sum to at least this, or None.
        min_p: keep the tokens with at least this fraction of the highest probability, or None.
        repetition_penalty: as in `penalize`, or None.

    Raises:
        ValueError: if the temperature or the penalty is not above 0, `top_k` is not an integer of 1 or more, `top_p` is
            not in (0, 1], or `min_p` not in [0, 1].

    Example:
        >>> class WithoutDigits(Sampler):
        ...     def choose(self, logits, uniform, seen):
        ...         return super().choose(ops.where(IS_DIGIT, -float("inf"), logits), uniform, seen)  # IS_DIGIT: (V,)
        >>> lm.generate("It was the year", sampler=WithoutDigits(temperature=0.8, top_p=0.95))
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self):
        if self.temperature is None or not _is_positive(self.temperature):
            raise ValueError(
                f"Expected a temperature above 0; got {self.temperature}. Greedy() takes the most likely token."
            )
        _check(self, "top_k", "an integer of 1 or more", lambda value: value >= 1 and value == int(value))
        _check(self, "top_p", "in (0, 1]", lambda value: _is_positive(value) and value <= 1)
        _check(self, "min_p", "in [0, 1]", lambda value: 0 <= value <= 1)
        _check(self, "repetition_penalty", "above 0", _is_positive)

    def probabilities(self, logits, seen=None):
        """Computes the distribution that `choose` draws from.

        Args:
            logits: floats (..., V).
            seen: booleans (..., V), true for the tokens that the text has. Read only for a repetition penalty.

        Returns:
            float32 (..., V). Each row sums to one.

        Raises:
            ValueError: if there is a repetition penalty, and `seen` is None.
        """
        logits = _penalized(ops.convert_to_tensor(logits), seen, self.repetition_penalty)
        return distribution(logits, self.temperature, self.top_k, self.top_p, self.min_p)

    def choose(self, logits, uniform, seen):
        """Draws a token for each text: the first whose cumulative probability exceeds the random number.

        Args:
            logits: floats (B, V).
            uniform: floats (B, 1), random numbers in [0, 1).
            seen: as for `probabilities`.

        Returns:
            int32 (B,).

        Raises:
            ValueError: if there is a repetition penalty, and `seen` is None.
        """
        probabilities = self.probabilities(logits, seen)
        sums = ops.cumsum(probabilities, axis=-1)
        is_above = ops.cast(sums > uniform * sums[:, -1:], "int32")  # rounded sums need not end in 1
        return ops.cast(ops.argmax(ops.where(probabilities > 0, is_above, -1), axis=-1), "int32")


class TopK(Sampler, fields_are_arguments=True):
    """Draws from the k most likely tokens.

    Args:
        k: number of tokens to draw from.
        **kwargs: arguments of `Sampler`.
    """

    def __init__(self, k, **kwargs):
        super().__init__(top_k=k, **kwargs)


class TopP(Sampler, fields_are_arguments=True):
    """Draws from the fewest tokens whose probabilities sum to at least p (nucleus sampling).

    Args:
        p: the sum that they have to reach.
        **kwargs: arguments of `Sampler`.
    """

    def __init__(self, p, **kwargs):
        super().__init__(top_p=p, **kwargs)


class MinP(Sampler, fields_are_arguments=True):
    """Draws from the tokens with at least p times the probability of the most likely one.

    Args:
        p: the factor.
        **kwargs: arguments of `Sampler`.
    """

    def __init__(self, p, **kwargs):
        super().__init__(min_p=p, **kwargs)


_BY_NAME = {
    "greedy": Greedy,
    "random": Sampler,
    "top_k": lambda: TopK(50),
    "top_p": lambda: TopP(0.9),
    "min_p": lambda: MinP(0.1),
    "beam": BeamSearch,
}


def read_sampler(sampler=None, temperature=None):
    """Makes the sampler that the arguments of `generate` describe.

    Args:
        sampler: a name: "greedy", "random", "top_k" (50), "top_p" (0.9), "min_p" (0.1) or "beam" (4 beams); or an
            instance of `Greedy`, `Sampler`, one of their subclasses, or `BeamSearch`. Defaults to `Greedy()`, and with
            a temperature to `Sampler()`.
        temperature: replaces the sampler's. This makes a copy, so a sampler of your own is compiled anew at each call.

    Returns:
        An instance.

    Raises:
        ValueError: if there is no such sampler, it has no temperature to replace, or the temperature is not above 0.
    """
    if sampler is None:
        sampler = "greedy" if temperature is None else "random"
    chosen = _BY_NAME[sampler]() if isinstance(sampler, str) and sampler in _BY_NAME else sampler
    if not isinstance(chosen, Strategy):
        names = ", ".join(f'"{name}"' for name in _BY_NAME)
        raise ValueError(
            f"Expected a sampler: {names}, or an instance, such as TopP(0.9), Sampler(temperature=0.8), BeamSearch(4) "
            f"or your own subclass of Sampler; got {sampler!r}."
        )
    if temperature is None:
        return chosen
    if not isinstance(chosen, Sampler):
        raise ValueError(
            f"Expected no temperature with {type(chosen).__name__}, which draws nothing at random; got {temperature}. "
            f'Use sampler="random" or another Sampler, or leave the temperature out.'
        )
    chosen = chosen.bind({"temperature": temperature})
    chosen.__post_init__()
    return chosen


def _keep_highest(logits, weights, enough):
    """Keeps the fewest highest logits whose weights sum to at least `enough`. The highest logit must be 0.

    It finds the threshold by bisection: on a CPU, XLA takes longer to sort a vocabulary than to run a step of GPT-2.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        is_enough = ops.sum(ops.where(logits >= middle, weights, 0.0), axis=-1, keepdims=True) >= enough
        return ops.where(is_enough, middle, low), ops.where(is_enough, high, middle)

    highest = ops.zeros_like(logits[..., :1])
    low, _ = ops.fori_loop(0, 40, halve, (highest - 128.0, highest + 1.0))  # e⁻¹²⁸ is 0 in float32
    return ops.where(logits >= low, logits, -float("inf"))


def _penalized(logits, seen, penalty):
    if penalty is None:
        return logits
    if seen is None:
        raise ValueError("Expected `seen`, the tokens that each text has, for a repetition penalty; got None.")
    return penalize(logits, seen, penalty)


def _check(sampler, name, expected, is_right):
    value = getattr(sampler, name)
    if value is not None and not is_right(value):
        raise ValueError(f"Expected {name} to be {expected}; got {value}.")


def _is_positive(value):
    return np.finfo("float32").tiny <= np.float32(value) < np.inf  # the loop computes in float32
