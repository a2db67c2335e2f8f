"""Beam search: keeps several candidate continuations of each text, and returns the one with the best score.

Shapes: B batch, V vocabulary, K beams, C candidates, E end tokens, S slots for new tokens.
"""

import dataclasses
import math
import numbers

import keras
import numpy as np
from keras import ops

from course_lib.generation.strategy import Strategy, is_any


@dataclasses.dataclass(frozen=True)
class BeamSearch(Strategy, fields_are_arguments=True):
    r"""Keeps the K most likely partial texts, and searches for the text with the highest $\log p / \text{length}^a$.

    The length counts the new tokens and the end token. Wu et al. (2016, https://arxiv.org/abs/1609.08144, section 7)
    penalise the length by $(5 + \text{length})^a / 6^a$; this is the simpler form that is usual today.

    Args:
        num_beams: K.
        length_penalty: a. With 0 the score is the log-probability, which favours short texts. The higher a is, the
            longer the texts.

    Raises:
        ValueError: if K is not an integer of 1 or more, or a is not finite.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    can_stream = False  # until the search is finished, another beam may become the best

    def __post_init__(self):
        if not isinstance(self.num_beams, numbers.Integral) or self.num_beams < 1:
            raise ValueError(f"Expected num_beams to be an integer of 1 or more; got {self.num_beams!r}.")
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"Expected length_penalty to be a finite number; got {self.length_penalty}.")

    @property
    def settings(self):
        """The setting that the compiled loop takes as an argument: the length penalty."""
        return {name: value for name, value in super().settings.items() if name != "num_beams"}

    @property
    def graph_key(self):
        """Key of a compiled loop. Searches with different numbers of beams need different loops."""
        return (*super().graph_key, self.num_beams)

    def start(self, progress, logits):
        """Makes K copies of each text. Only the first copy counts until the beams differ.

        Args:
            progress: as in `Strategy.start`.
            logits: float32 (B, V).

        Returns:
            The progress and the logits (B·K, V). In the progress, `tokens` is (B, K, S), and `state` has B·K rows.
            There are also `scores`, float32 (B, K), the log-probabilities of the beams, highest first; `ended`, int32
            (B, S), the best text that has ended; and `ended_score` (B,), its score.
        """
        beams, (batch_size, slots) = self.num_beams, progress["tokens"].shape
        first_alone = ops.where(ops.arange(beams) == 0, 0.0, -float("inf"))
        return progress | {
            "tokens": ops.zeros((batch_size, beams, slots), "int32"),
            "scores": ops.repeat(first_alone[None], batch_size, axis=0),
            "ended": ops.zeros((batch_size, slots), "int32"),
            "ended_score": ops.full((batch_size,), -float("inf")),
            "state": _map_rows(lambda array: ops.repeat(array, beams, axis=0), progress["state"]),
        }, ops.repeat(logits, beams, axis=0)

    def extend(self, progress, logits, request):
        """Extends every beam by every token, and keeps the K most likely results that have not ended.

        Args:
            progress: as `start` returns it.
            logits: float32 (B·K, V).
            request: as in `Strategy.extend`.

        Returns:
            The new progress. A text is finished when no beam can become better than the best text that has ended.
        """
        step = progress["step"]
        batch_size, beams, slots = progress["tokens"].shape
        vocabulary_size = logits.shape[-1]
        scores = ops.reshape(ops.log_softmax(logits, axis=-1), (batch_size, beams, vocabulary_size))
        scores = ops.reshape(progress["scores"][..., None] + scores, (batch_size, beams * vocabulary_size))
        ends = request["end_token_ids"]  # (E,)
        candidates = min(1 + ends.shape[0], vocabulary_size) * beams  # up to K·E of them may end
        scores, chosen = ops.top_k(scores, candidates)  # (B, C)
        tokens = chosen % vocabulary_size
        rows = ops.arange(batch_size)[:, None] * beams + chosen // vocabulary_size  # (B, C), which of the B·K rows
        texts = ops.take(ops.reshape(progress["tokens"], (-1, slots)), rows, axis=0)  # (B, C, S)
        texts = ops.slice_update(texts, (0, 0, step), tokens[..., None])
        is_end = is_any(tokens, ends)

        normaliser = ops.cast(step + 1, "float32") ** self.length_penalty
        ended_scores = ops.where(is_end, scores / normaliser, -float("inf"))
        best = ops.argmax(ended_scores, axis=1)[:, None]  # (B, 1)
        best_score = ops.take_along_axis(ended_scores, best, axis=1)[:, 0]  # (B,)
        best_text = ops.take_along_axis(texts, best[..., None], axis=1)[:, 0]  # (B, S)
        is_better = best_score > progress["ended_score"]
        ended_score = ops.where(is_better, best_score, progress["ended_score"])

        scores, alive = ops.top_k(ops.where(is_end, -float("inf"), scores), beams)  # (B, K)
        rows = ops.reshape(ops.take_along_axis(rows, alive, axis=1), (-1,))  # (B·K,)
        longest = ops.cast(request["max_new_tokens"], "float32") ** self.length_penalty
        within_reach = scores[:, 0] / ops.maximum(normaliser, longest)  # (B,), a bound, since more tokens add log p < 0
        return progress | {
            "step": step + 1,
            "tokens": ops.take_along_axis(texts, alive[..., None], axis=1),
            "scores": scores,
            "ended": ops.where(is_better[:, None], best_text, progress["ended"]),
            "ended_score": ended_score,
            "finished": ended_score >= within_reach,
            "state": _map_rows(lambda array: ops.take(array, rows, axis=0), progress["state"]),
        }

    def new_tokens(self, progress):
        """Returns the best ended text, or the best beam if the search is unfinished: an int32 array (B, step).

        Args:
            progress: as `start` returns it.
        """
        has_ended = np.asarray(progress["finished"])[:, None]
        tokens = np.where(has_ended, np.asarray(progress["ended"]), np.asarray(progress["tokens"])[:, 0])
        return tokens[:, : int(progress["step"])]


def _map_rows(function, state):
    """Applies a function to every array of a decode state that has rows. Scalars stay as they are."""
    return keras.tree.map_structure(lambda array: function(array) if len(array.shape) else array, state)
