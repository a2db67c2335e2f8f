"""Continues rows of tokens by one compiled loop, over a step function: it knows no model.

A step function takes the last token of each row and a state, such as a model's cache, to the scores of the next token
and the new state. Shapes: B batch, V vocabulary, S places for tokens, K beams.
"""

import functools

import keras
import numpy as np
from keras import ops

from course_lib._quiet import silent_start
from course_lib.sampling import choose


class Compiled:
    """A function as one graph of the backend. What it reads of Keras's variables may change between calls.

    Args:
        function: of arrays in any structure, of which only shapes and dtypes are known when it is compiled.
        variables: a function that returns the variables which `function` reads.
        jit_compile: whether XLA compiles it on TensorFlow, too; on JAX it always does.
    """

    def __init__(self, function, variables, jit_compile):
        self.function, self.variables, self.jit_compile = function, variables, jit_compile
        self.compiled_for = None

    def __call__(self, *arguments):
        """Calls the function.

        Args:
            *arguments: the function's.

        Returns:
            What the function returns.
        """
        variables = self.variables()
        arguments = ([variable.value for variable in variables], *arguments) if _is_jax() else arguments
        identities = [id(variable) for variable in variables]
        if self.compiled_for == identities:
            return self.graph(*arguments)
        self.compiled_for, self.graph = identities, self._graph()  # a quantized model, for one, has other variables
        with silent_start():  # XLA announces itself on descriptor 2
            return self.graph(*arguments)

    def _graph(self):
        if not _is_jax():
            import tensorflow as tf

            return tf.function(self.function, jit_compile=self.jit_compile, autograph=False)
        import jax

        def stateless(values, *arguments):  # a variable that is not handed over would become a constant
            with keras.StatelessScope(state_mapping=list(zip(self.variables(), values, strict=True))):
                return self.function(*arguments)

        return jax.jit(stateless)


def _is_jax():
    return keras.backend.backend() == "jax"


class Generator:
    """Continues the rows of a batch, by a compiled loop over a step function.

    Args:
        prefill: reads prompts: from arrays with B as their first axis, and S, to the logits (B, V) of each row's next
            token and a state: arrays in any structure, with B as their first axis, or scalars.
        step: from the tokens (B,) that were chosen and a state to the logits (B, V) after them and the new state.
        variables: a function that returns the Keras variables which both read.
    """

    def __init__(self, prefill, step, variables):
        self.prefill, self.step, self.variables = prefill, step, variables
        self.graphs = {}

    def _graphs(self, beams):
        """The compiled functions for so many beams, 0 for none: to begin, and to go on."""
        if beams not in self.graphs:
            # A prompt is read once, in large products of matrices, and those XLA does not make faster.
            begin = Compiled(functools.partial(self._begin, beams), self.variables, jit_compile=False)
            go_on = Compiled(functools.partial(self._go_on, beams), self.variables, jit_compile=True)
            self.graphs[beams] = begin, go_on
        return self.graphs[beams]

    def run(
        self, inputs, places, max_new_tokens, sampler, seed, end_token_id=None, seen=None, every=None, stopped=None
    ):
        """Generates. Each combination of B, S and the kind of sampler is compiled once.

        Row i draws by the seed `seed` + i, whatever the other rows are.

        Args:
            inputs: what `prefill` reads.
            places: S, handed to `prefill`, at least `max_new_tokens`.
            max_new_tokens: how many tokens there may be.
            sampler: a `Greedy`, `Sampler` or `BeamSearch`.
            seed: an integer of 0 or more.
            end_token_id: the token that ends a row, or None.
            seen: booleans (B, V), true for the tokens that a prompt has; needed for a repetition penalty alone.
            every: yield after so many tokens; only when all is done if None.
            stopped: a function that returns booleans (B,), true for rows that are to end, asked after each yield.

        Yields:
            The new tokens so far, without the end token: a list of integers for each row.

        Raises:
            ValueError: if the model's scores are not finite.
        """
        begin, go_on = self._graphs(getattr(sampler, "num_beams", 0))
        uniform = np.zeros((len(keras.tree.flatten(inputs)[0]), places), "float32")
        for row in range(len(uniform)):
            uniform[row, :max_new_tokens] = np.random.default_rng(seed + row).random(max_new_tokens, "float32")
        end = np.asarray(-1 if end_token_id is None else end_token_id, "int32")
        common = (np.asarray(max_new_tokens, "int32"), uniform, sampler.settings, end)
        state = begin(inputs, seen, *common)
        while True:
            step = int(state["step"])
            if not state["is_sound"]:
                raise ValueError(
                    f"Expected the model to give finite numbers; it gave NaN or infinity for new token {step}. See to "
                    f"its weights, or load it with another dtype."
                )
            finished = np.asarray(state["finished"])
            if every is not None or step == max_new_tokens or finished.all():
                yield _rows(state, end)
                finished = finished if stopped is None else finished | stopped()
            if step == max_new_tokens or finished.all():
                return
            until = max_new_tokens if every is None else min(step + every, max_new_tokens)
            state = go_on(state | {"finished": finished}, np.asarray(until, "int32"), *common)

    def _begin(self, beams, inputs, seen, max_new_tokens, uniform, settings, end):
        """Reads the prompts, and chooses the first token of each row."""
        logits, memory = self.prefill(inputs, uniform.shape[1])
        state = {
            "step": ops.zeros((), "int32"),
            "tokens": ops.zeros(uniform.shape, "int32"),  # (B, S)
            "finished": ops.zeros(uniform.shape[:1], "bool"),
            "is_sound": ops.ones((), "bool"),
            "memory": memory,
        }
        if seen is not None:
            state["seen"] = ops.convert_to_tensor(seen)
        if beams:
            logits, state = ops.repeat(logits, beams, axis=0), _as_beams(state, beams)
        return _extend(beams, state, logits, max_new_tokens, uniform, settings, end)

    def _go_on(self, beams, state, until, max_new_tokens, uniform, settings, end):
        """Chooses tokens until there are so many, or all rows have ended."""

        def is_unfinished(state):
            return (state["step"] < until) & state["is_sound"] & ~ops.all(state["finished"])

        def extend(state):
            last = ops.take(state["tokens"], state["step"] - 1, axis=-1)  # (B,) or (B, K)
            logits, memory = self.step(ops.reshape(last, (-1,)), state["memory"])
            state = state | {"memory": memory}
            return _extend(beams, state, logits, max_new_tokens, uniform, settings, end)

        return ops.while_loop(is_unfinished, extend, state)


def _extend(beams, state, logits, max_new_tokens, uniform, settings, end):
    """The state with one more token, chosen by logits (B, V) or (B·K, V)."""
    logits = ops.cast(logits, "float32")
    state = state | {"is_sound": state["is_sound"] & ops.all(ops.isfinite(ops.logsumexp(logits, axis=-1)))}
    if beams:
        return _extend_beams(state, logits, max_new_tokens, settings["length_penalty"], end)
    step, is_finished = state["step"], state["finished"]
    token = choose(logits, ops.take(uniform, step, axis=1)[:, None], state.get("seen"), settings)  # (B,)
    token = ops.where(is_finished, ops.maximum(end, 0), token)
    if "seen" in state:
        state["seen"] = ops.logical_or(state["seen"], ops.one_hot(token, logits.shape[-1], dtype="bool"))
    return state | {
        "step": step + 1,
        "tokens": ops.slice_update(state["tokens"], (0, step), token[:, None]),
        "finished": ops.logical_or(is_finished, ops.equal(token, end)),
    }


def _as_beams(state, beams):
    """K copies of each row, of which only the first counts until they differ; and the best text that has ended."""
    batch_size, places = state["tokens"].shape
    first_alone = ops.where(ops.arange(beams) == 0, 0.0, -float("inf"))
    return state | {
        "tokens": ops.zeros((batch_size, beams, places), "int32"),
        "scores": ops.repeat(first_alone[None], batch_size, axis=0),  # (B, K), log-probabilities, the highest first
        "ended": ops.zeros((batch_size, places), "int32"),
        "ended_score": ops.full((batch_size,), -float("inf")),
        "memory": keras.tree.map_structure(
            lambda array: ops.repeat(array, beams, axis=0) if len(array.shape) else array, state["memory"]
        ),
    }


def _extend_beams(state, logits, max_new_tokens, length_penalty, end):
    """The K likeliest of all continuations of the K beams, those aside that have ended."""
    step, length = state["step"], ops.cast(state["step"] + 1, "float32")
    batch_size, beams, places = state["tokens"].shape
    vocabulary_size = logits.shape[-1]
    scores = ops.reshape(ops.log_softmax(logits, axis=-1), (batch_size, beams, vocabulary_size))
    scores = ops.reshape(state["scores"][..., None] + scores, (batch_size, beams * vocabulary_size))
    scores, chosen = ops.top_k(scores, min(2, vocabulary_size) * beams)  # (B, 2K): K of them may end, so that K go on
    tokens = chosen % vocabulary_size
    rows = ops.arange(batch_size)[:, None] * beams + chosen // vocabulary_size  # of the beams, as B·K rows
    texts = ops.take(ops.reshape(state["tokens"], (-1, places)), rows, axis=0)  # (B, 2K, S)
    texts = ops.slice_update(texts, (0, 0, step), tokens[..., None])

    ended_scores = ops.where(ops.equal(tokens, end), scores / length**length_penalty, -float("inf"))
    best = ops.argmax(ended_scores, axis=1)[:, None]  # (B, 1)
    best_score = ops.take_along_axis(ended_scores, best, axis=1)[:, 0]
    best_text = ops.take_along_axis(texts, best[..., None], axis=1)[:, 0]
    is_better = best_score > state["ended_score"]
    ended_score = ops.where(is_better, best_score, state["ended_score"])

    scores, alive = ops.top_k(ops.where(ops.equal(tokens, end), -float("inf"), scores), beams)  # (B, K)
    rows = ops.reshape(ops.take_along_axis(rows, alive, axis=1), (-1,))
    longest = ops.cast(max_new_tokens, "float32")
    within_reach = scores[:, 0] / ops.maximum(length**length_penalty, longest**length_penalty)
    return state | {
        "step": step + 1,
        "tokens": ops.take_along_axis(texts, alive[..., None], axis=1),
        "scores": scores,
        "ended": ops.where(is_better[:, None], best_text, state["ended"]),
        "ended_score": ended_score,
        "finished": ended_score >= within_reach,
        "memory": keras.tree.map_structure(
            lambda array: ops.take(array, rows, axis=0) if len(array.shape) else array, state["memory"]
        ),
    }


def _rows(state, end):
    """The new tokens of each row, without the end token and what may stand behind it."""
    tokens = np.asarray(state["tokens"])[..., : int(state["step"])]
    if "ended" in state:
        ended = np.asarray(state["ended"])[:, : tokens.shape[-1]]
        tokens = np.where(np.asarray(state["finished"])[:, None], ended, tokens[:, 0])
    return [row[: row.index(end)] if end in row else row for row in tokens.tolist()]
