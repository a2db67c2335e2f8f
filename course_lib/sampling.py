"""How a language model's next token is chosen: the most likely one, or one drawn from a part of its distribution.

Shapes: B batch, V vocabulary.
"""

import dataclasses
import numbers

import numpy as np
from keras import ops


def distribution(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    r"""The probabilities from which the next token is drawn: $\mathrm{softmax}(\text{logits}/\text{temperature})$, cut.

    The cuts follow each other in the order of the arguments, and what is left shares the whole probability: the `top_k`
    most likely tokens (Fan et al., 2018, https://arxiv.org/abs/1805.04833); the fewest that have `top_p` of the
    probability (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751); those with at least `min_p` times the
    probability of the most likely one (Nguyen et al., 2024, https://arxiv.org/abs/2407.01082). A token that is as
    likely as one that stays, stays.

    Args:
        logits: floats (..., V).
        temperature: above 0; the higher, the more even the probabilities.
        top_k: a number, or None for no such cut.
        top_p: a number in (0, 1], or None.
        min_p: a number in [0, 1], or None.

    Returns:
        float32 (..., V); each row sums to one.
    """
    logits = ops.cast(logits, "float32")
    logits = (logits - ops.max(logits, axis=-1, keepdims=True)) / temperature
    if top_k is not None:
        logits = _cut(logits, ops.ones_like(logits), top_k)
    if top_p is not None:
        logits = _cut(logits, ops.softmax(logits, axis=-1), top_p)
    if min_p is not None:
        logits = ops.where(logits >= ops.log(ops.cast(min_p, "float32")), logits, -float("inf"))
    return ops.softmax(logits, axis=-1)


def _cut(logits, weights, enough):
    """Keeps the fewest highest logits, of which the highest is 0, whose weights are enough.

    The bound is found by halving an interval until no number is left in it: to sort the vocabulary would take XLA on a
    CPU longer than a step of GPT-2.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        is_enough = ops.sum(ops.where(logits >= middle, weights, 0.0), axis=-1, keepdims=True) >= enough
        return ops.where(is_enough, middle, low), ops.where(is_enough, high, middle)

    highest = ops.zeros_like(logits[..., :1])
    low, _ = ops.fori_loop(0, 40, halve, (highest - 128.0, highest + 1.0))  # e⁻¹²⁸ is 0 in float32
    return ops.where(logits >= low, logits, -float("inf"))


def penalize(logits, seen, penalty):
    """Makes tokens that a text has already less likely: a logit above 0 is divided, another multiplied.

    Keskar et al., 2019, https://arxiv.org/abs/1909.05858, section 4.1.

    Args:
        logits: floats (..., V).
        seen: booleans (..., V), true for the tokens that the text has.
        penalty: a number; above 1, repetition is less likely.

    Returns:
        Floats (..., V).
    """
    return ops.where(seen, ops.where(logits > 0, logits / penalty, logits * penalty), logits)


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes the most likely token.

    Args:
        repetition_penalty: as in `penalize`; None for none.

    Raises:
        ValueError: if the penalty is not above 0.
    """

    repetition_penalty: float | None = None

    def __post_init__(self):
        _expect("repetition_penalty", self.repetition_penalty, "above 0", _is_positive)

    @property
    def settings(self):
        """What is set, a dict of float32 scalars: a loop is compiled for its keys, and takes any values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: np.asarray(value, "float32") for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws the token from the model's distribution, as `distribution` cuts it.

    Args:
        temperature: of the softmax.
        top_k: keep so many tokens; None for all.
        top_p: keep so much of the probability; None for all.
        min_p: keep what is at least so many times as likely as the most likely token; None for all.
        repetition_penalty: as in `penalize`; None for none.

    Raises:
        ValueError: if the temperature or the penalty is not above 0, `top_k` is not an integer of 1 or more, `top_p` is
            not in (0, 1], or `min_p` not in [0, 1].

    Example:
        >>> Sampler(temperature=0.7, top_k=50, top_p=0.95)
        >>> TopP(0.9, temperature=0.8)
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
        _expect("top_k", self.top_k, "an integer of 1 or more", lambda value: value >= 1 and value == int(value))
        _expect("top_p", self.top_p, "in (0, 1]", lambda value: _is_positive(value) and value <= 1)
        _expect("min_p", self.min_p, "in [0, 1]", lambda value: 0 <= value <= 1)
        _expect("repetition_penalty", self.repetition_penalty, "above 0", _is_positive)

    settings = Greedy.settings

    def probabilities(self, logits, seen=None):
        """What a token is drawn from.

        Args:
            logits: floats (..., V).
            seen: booleans (..., V), true for the tokens that the text has; needed for a repetition penalty alone.

        Returns:
            float32 (..., V); each row sums to one.
        """
        return _probabilities(ops.convert_to_tensor(logits), seen, self.settings)


def _expect(name, value, expected, is_right):
    if value is not None and not is_right(value):
        raise ValueError(f"Expected {name} {expected}; got {value}.")


def _is_positive(value):
    return np.finfo("float32").tiny <= np.float32(value) < np.inf  # as the loop, which computes in float32, reads it


class TopK(Sampler):
    """Draws from the k most likely tokens.

    Args:
        k: how many.
        **others: of `Sampler`.
    """

    def __init__(self, k, **others):
        super().__init__(top_k=k, **others)


class TopP(Sampler):
    """Draws from the fewest tokens that have the share p of the probability: nucleus sampling.

    Args:
        p: the share.
        **others: of `Sampler`.
    """

    def __init__(self, p, **others):
        super().__init__(top_p=p, **others)


class MinP(Sampler):
    """Draws from the tokens that are at least p times as likely as the most likely one.

    Args:
        p: the factor.
        **others: of `Sampler`.
    """

    def __init__(self, p, **others):
        super().__init__(min_p=p, **others)


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    r"""Keeps the K likeliest beginnings, and looks for the text with the highest $\log p / \text{length}^a$.

    The length is the number of new tokens, the end token included (Wu et al., 2016, https://arxiv.org/abs/1609.08144,
    section 7, in the simpler form that is usual today).

    Args:
        num_beams: K.
        length_penalty: a; 0 prefers short texts, and the higher it is, the longer they get.

    Raises:
        ValueError: if K is not an integer of 1 or more, or a is not finite.
    """

    num_beams: int = 4
    length_penalty: float = 1.0

    def __post_init__(self):
        is_count = lambda value: isinstance(value, numbers.Integral) and value >= 1  # noqa: E731
        _expect("num_beams", self.num_beams, "an integer of 1 or more", is_count)
        _expect("length_penalty", self.length_penalty, "to be a finite number", np.isfinite)

    @property
    def settings(self):
        """What is set, as for `Greedy`, but the number of beams, for which a loop is compiled."""
        return {"length_penalty": np.asarray(self.length_penalty, "float32")}


def read_sampler(sampler):
    """The sampler of a generation.

    Args:
        sampler: a `Greedy`, `Sampler` or `BeamSearch`, or None.

    Returns:
        The same; a `Greedy` for None.

    Raises:
        ValueError: if it is something else.
    """
    sampler = Greedy() if sampler is None else sampler
    if not isinstance(sampler, Greedy | Sampler | BeamSearch):
        raise ValueError(f"Expected a sampler, such as Greedy() or TopP(0.9); got {sampler!r}.")
    return sampler


def _probabilities(logits, seen, settings):
    settings = dict(settings)
    penalty = settings.pop("repetition_penalty", None)
    return distribution(logits if penalty is None else penalize(logits, seen, penalty), **settings)


def choose(logits, uniform, seen, settings):
    """The next token of each row.

    Args:
        logits: floats (B, V).
        uniform: floats (B, 1), drawn evenly from [0, 1); not read where the most likely token is taken.
        seen: booleans (B, V), true for the tokens that a row has; needed for a repetition penalty alone.
        settings: of a `Greedy` or a `Sampler`.

    Returns:
        int32 (B,).
    """
    if "temperature" not in settings:
        if "repetition_penalty" in settings:
            logits = penalize(logits, seen, settings["repetition_penalty"])
        return ops.cast(ops.argmax(logits, axis=-1), "int32")
    probabilities = _probabilities(logits, seen, settings)
    sums = ops.cumsum(probabilities, axis=-1)
    is_above = ops.cast(sums > uniform * sums[:, -1:], "int32")
    return ops.cast(ops.argmax(ops.where(probabilities > 0, is_above, -1), axis=-1), "int32")
