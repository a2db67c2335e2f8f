"""What the generation loop requires of a sampler or a beam search: it must extend every text by one token.

Shapes: B batch, V vocabulary, E end tokens, S slots for new tokens.
"""

import copy
import dataclasses

import numpy as np
from keras import ops


def is_any(tokens, ids):
    """Finds the tokens that are one of several ids.

    Args:
        tokens: integers of any shape.
        ids: integers (E,).

    Returns:
        Booleans, in the shape of `tokens`.
    """
    return ops.any(ops.equal(tokens[..., None], ids), axis=-1)


class Strategy:
    """Base class of `Greedy`, `Sampler` and `BeamSearch`.

    The loop is compiled. The fields of the library's own strategies are arguments of the compiled loop, so changing the
    temperature does not compile it again. In your own subclass, attributes are constants of the compiled loop. It is
    compiled once per instance, so make one instance and keep it; later changes to its attributes have no effect.

    Args:
        fields_are_arguments: argument of the class statement: whether the fields of this dataclass are arguments of the
            compiled loop, as float32 scalars. It is not inherited, so each subclass has to set it again.

    Attributes:
        can_stream: whether a chosen token is final, so that a text can be shown while it grows.
    """

    can_stream = True

    def __init_subclass__(cls, fields_are_arguments=False, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._fields_are_arguments = fields_are_arguments

    def choose(self, logits, uniform, seen):
        """Chooses the next token of each text. Override this method in your own subclass.

        It is compiled, so it has to be written in `keras.ops`.

        Args:
            logits: float32 (B, V).
            uniform: float32 (B, 1), random numbers drawn evenly from [0, 1), new ones at each step.
            seen: booleans (B, V), true for the tokens that a text already has, its prompt included; None if they were
                not recorded.

        Returns:
            int32 (B,).
        """
        raise NotImplementedError(f"Expected {type(self).__name__} to have a method choose(logits, uniform, seen).")

    @property
    def settings(self):
        """Arguments of the compiled loop: a dict of float32 scalars. Fields that are None are left out.

        Raises:
            ValueError: if the fields are arguments, and the instance has attributes that are not fields.
        """
        if not self._fields_are_arguments:
            return {}
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if constants := sorted(vars(self).keys() - values.keys()):
            raise ValueError(
                f"Expected every attribute of a {type(self).__name__} to be a field, since fields_are_arguments=True; "
                f"got {constants}. Leave fields_are_arguments out, or declare them in a dataclass."
            )
        return {name: np.asarray(value, "float32") for name, value in values.items() if value is not None}

    @property
    def graph_key(self):
        """Key of a compiled loop: the class and the fields that are set; for your own subclass, the instance."""
        return (type(self), *self.settings) if self._fields_are_arguments else (id(self),)

    @property
    def needs_seen(self):
        """Whether `choose` needs the tokens of a text. Your own subclass may need them, so it always gets them."""
        return "repetition_penalty" in self.settings or not self._fields_are_arguments

    def bind(self, settings):
        """Replaces fields without checking them, since they are tensors in the compiled loop.

        Args:
            settings: a dict of fields.

        Returns:
            A copy with these fields; this instance itself if there are none.
        """
        bound = copy.copy(self) if settings else self
        for name, value in settings.items():
            object.__setattr__(bound, name, value)  # the dataclasses are frozen
        return bound

    def start(self, progress, logits):
        """Prepares the progress for `extend`, after the prompts were read. A beam search makes its beams here.

        Args:
            progress: a dict: `step`, an int32 scalar, counts the new tokens; `tokens`, int32 (B, S), holds them;
                `finished`, booleans (B,), is true for the texts that have ended; `seen`, if given, is what `choose`
                takes; `state` is the model's decode state.
            logits: float32 (B, V).

        Returns:
            The new progress, and the logits that `extend` takes.
        """
        return progress, logits

    def extend(self, progress, logits, request):
        """Extends every text that has not ended by one token.

        Args:
            progress: as in `start`.
            logits: float32 (B, V).
            request: a dict: `max_new_tokens`, an int32 scalar; `end_token_ids`, int32 (E,), the tokens that end a text
                ([-1] for none); `uniform`, float32 (B, S), a random number per text and step.

        Returns:
            The new progress.

        Raises:
            ValueError: if `choose` does not return one token per text.
        """
        step, is_finished, ends = progress["step"], progress["finished"], request["end_token_ids"]
        token = self.choose(logits, ops.take(request["uniform"], step, axis=1)[:, None], progress.get("seen"))
        if tuple(token.shape) != tuple(is_finished.shape):
            raise ValueError(
                f"Expected choose() of {type(self).__name__} to return one token per text, shape "
                f"{tuple(is_finished.shape)}; got shape {tuple(token.shape)}."
            )
        token = ops.where(is_finished, ops.maximum(ends[0], 0), ops.cast(token, "int32"))
        if "seen" in progress:
            is_new = ops.one_hot(token, logits.shape[-1], dtype="bool")
            progress = progress | {"seen": ops.logical_or(progress["seen"], is_new)}
        return progress | {
            "step": step + 1,
            "tokens": ops.slice_update(progress["tokens"], (0, step), token[:, None]),
            "finished": ops.logical_or(is_finished, is_any(token, ends)),
        }

    def new_tokens(self, progress):
        """Returns the new tokens so far, an int32 array (B, step), including anything after an end token.

        Args:
            progress: as in `start`.
        """
        return np.asarray(progress["tokens"])[:, : int(progress["step"])]
