"""Generation: one compiled loop that extends texts token by token. A model only has to provide two functions.

`prefill` reads the prompts. `step` reads one more token per text. Both return the logits of the next token and the
model's decode state, such as a cache of keys and values.

Shapes: B batch, V vocabulary, S slots of the cache.
"""

import functools
import itertools

import keras
import numpy as np
from keras import ops


class Compiled:
    """Compiles a function to a graph of the backend. The Keras variables that it reads may change between calls.

    Args:
        function: the function. It takes arrays in any structure, and is compiled once per combination of shapes and
            dtypes.
        variables: a function that returns the list of variables that `function` reads.
        jit_compile: whether TensorFlow compiles it with XLA. JAX always does.
        any_shape: whether TensorFlow makes one graph for all shapes from the second one on.
    """

    def __init__(self, function, variables, jit_compile, any_shape=False):
        self.function = function
        self.variables = variables
        self.jit_compile = jit_compile
        self.any_shape = any_shape
        self.compiled_for = None

    def __call__(self, *arguments):
        """Calls the compiled function.

        Args:
            *arguments: arguments of the function.

        Returns:
            What the function returns.
        """
        variables = self.variables()
        identities = [id(variable) for variable in variables]
        if self.compiled_for != identities:  # quantizing a model replaces its variables
            self.compiled_for, self.graph = identities, self._graph()
        if _is_jax():
            arguments = ([variable.value for variable in variables], *arguments)
        return self.graph(*arguments)

    def _graph(self):
        if not _is_jax():
            import tensorflow as tf

            return tf.function(
                self.function, jit_compile=self.jit_compile, autograph=False, reduce_retracing=self.any_shape
            )
        import jax

        def stateless(values, *arguments):  # otherwise the variables would become constants
            with keras.StatelessScope(state_mapping=list(zip(self.variables(), values, strict=True))):
                return self.function(*arguments)

        return jax.jit(stateless)


def _is_jax():
    return keras.backend.backend() == "jax"


class Generator:
    """Extends the texts of a batch with a model's `prefill` and `step`.

    Args:
        prefill: a function of the inputs, arrays whose first axis is B, and of `cache_length`, the integer S. It reads
            the prompts, and returns the logits (B, V) of each text's next token and the decode state: any structure of
            scalars and of arrays whose first axis is B.
        step: a function of the chosen tokens (B,) and of the decode state. It returns the logits (B, V) that follow
            these tokens and the new decode state, whose shapes are the same as before.
        variables: a function that returns the list of Keras variables that `prefill` and `step` read.
    """

    def __init__(self, prefill, step, variables):
        self.prefill, self.step, self.variables = prefill, step, variables
        self.graphs = {}

    def run(
        self,
        inputs,
        cache_length,
        max_new_tokens,
        sampler,
        seed,
        end_token_ids=(),
        seen=None,
        every=None,
        stopped=None,
    ):
        """Generates tokens. The loop is compiled once per combination of B, S, prompt length and kind of sampler.

        Text i draws with the seed `seed` + i, so it does not depend on the other texts.

        Args:
            inputs: what `prefill` takes.
            cache_length: S, which is passed to `prefill`; at least `max_new_tokens`.
            max_new_tokens: highest number of new tokens per text.
            sampler: an instance, as `course_lib.generation.samplers.read_sampler` returns it.
            seed: an integer of 0 or more.
            end_token_ids: the tokens that end a text, a sequence of integers.
            seen: booleans (B, V), true for the tokens of each prompt, for a sampler that `needs_seen`.
            every: number of tokens between yields. By default it yields only once, at the end.
            stopped: a function that returns booleans (B,), true for texts that end now. It is called after each yield.

        Yields:
            The new tokens so far, without the end token: one list of integers per text.

        Raises:
            ValueError: if the model returns logits that are not finite.
        """
        prefill, decode = self._compiled(sampler)
        uniform = np.zeros((len(keras.tree.flatten(inputs)[0]), cache_length), "float32")
        for row in range(len(uniform)):
            uniform[row, :max_new_tokens] = np.random.default_rng(seed + row).random(max_new_tokens, "float32")
        request = {
            "max_new_tokens": np.asarray(max_new_tokens, "int32"),
            "end_token_ids": np.array(list(end_token_ids) or [-1], "int32"),
            "uniform": uniform,  # (B, S)
            "settings": sampler.settings,
        }
        progress = prefill(inputs, seen, request)
        while True:
            step = int(progress["step"])
            if not progress["is_finite"]:
                raise ValueError(
                    f"Expected finite logits; the model returned NaN or infinity for new token {step}. Check its "
                    f"weights, or load it with another dtype."
                )
            finished = np.asarray(progress["finished"])
            if every is not None or step >= max_new_tokens or finished.all():
                yield _until_end(sampler.new_tokens(progress), {*end_token_ids})
                finished = finished if stopped is None else finished | stopped()
            if step >= max_new_tokens or finished.all():
                return
            until = max_new_tokens if every is None else min(step + every, max_new_tokens)
            progress = decode(progress | {"finished": finished}, np.asarray(until, "int32"), request)

    def _compiled(self, sampler):
        """Returns `_prefill` and `_decode`, compiled for a kind of sampler."""
        if sampler.graph_key not in self.graphs:
            # Reading a prompt is a few large matrix products, which XLA does not make faster.
            prefill = Compiled(functools.partial(self._prefill, sampler), self.variables, jit_compile=False)
            decode = Compiled(functools.partial(self._decode, sampler), self.variables, jit_compile=True)
            self.graphs[sampler.graph_key] = prefill, decode
        return self.graphs[sampler.graph_key]

    def _prefill(self, sampler, inputs, seen, request):
        """Reads the prompts, and chooses the first token of each text."""
        logits, state = self.prefill(inputs, request["uniform"].shape[1])
        batch_size, slots = request["uniform"].shape
        progress = {
            "step": ops.zeros((), "int32"),
            "tokens": ops.zeros((batch_size, slots), "int32"),
            "finished": ops.zeros((batch_size,), "bool"),
            "is_finite": ops.ones((), "bool"),
            "state": state,
        }
        if seen is not None:
            progress["seen"] = ops.convert_to_tensor(seen)
        progress, logits = sampler.start(progress, logits)
        return _extend(sampler, progress, logits, request)

    def _decode(self, sampler, progress, until, request):
        """Chooses tokens until there are `until` of them, or all texts have ended."""

        def is_unfinished(progress):
            return (progress["step"] < until) & progress["is_finite"] & ~ops.all(progress["finished"])

        def extend(progress):
            last = ops.take(progress["tokens"], progress["step"] - 1, axis=-1)  # (B,), or (B, K) with K beams
            logits, state = self.step(ops.reshape(last, (-1,)), progress["state"])
            return _extend(sampler, progress | {"state": state}, logits, request)

        return ops.while_loop(is_unfinished, extend, progress)


def _extend(sampler, progress, logits, request):
    """Lets the sampler choose the next tokens, with the settings of this request."""
    logits = ops.cast(logits, "float32")
    is_finite = ops.all(ops.isfinite(ops.logsumexp(logits, axis=-1)))
    return sampler.bind(request["settings"]).extend(progress | {"is_finite": is_finite}, logits, request)


def _until_end(tokens, ends):
    """Cuts each row before its first end token. Returns lists."""
    return [[*itertools.takewhile(lambda token: token not in ends, row)] for row in tokens.tolist()]


def known_tokens(logits, tokenizer):
    """Gives minus infinity to the ids that a tokenizer does not have.

    A table of embeddings may have more rows than there are tokens: GPT-2's is often padded to a multiple of 64.

    Args:
        logits: floats (B, V).
        tokenizer: the tokenizer, or None if all ids are known.

    Returns:
        Floats (B, V).
    """
    num_ids = logits.shape[-1]
    if tokenizer is None or tokenizer.vocabulary_size >= num_ids:
        return logits
    return ops.where(ops.arange(num_ids) < tokenizer.vocabulary_size, logits, -float("inf"))
