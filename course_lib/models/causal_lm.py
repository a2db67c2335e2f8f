"""A language model on a decoder: it scores the next token, and continues texts.

Shapes: n texts, B batch, T length, S slots of the cache, D model width, V vocabulary.
"""

import keras
import numpy as np
from keras import ops

from course_lib.generation.loop import Generator, known_tokens
from course_lib.generation.prompts import GrowingText, is_seen, pad_rows, read_prompts, read_seed
from course_lib.generation.samplers import read_sampler
from course_lib.metrics.perplexity import Perplexity
from course_lib.models.task import Task
from course_lib.models.text_inputs import as_texts
from course_lib.text.batches import Examples, round_up
from course_lib.text.packing import pad


class CausalLM(Task):
    """The language model on a backbone that reads tokens from left to right, such as `GPT2`.

    A subclass sets `backbone_class`. The backbone needs a `token_embedding`, whose transpose is the head; an
    `empty_cache`; and a `call` that takes `cache` and `position`.

    Args:
        backbone: the decoder.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.
    """

    prompt_hint = ""
    predict_hint = " `generate` continues texts; `course_lib.metrics.perplexity` measures how well they are predicted."

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.generator = Generator(self.prefill, self.decode, lambda: self.variables)

    def build_layers(self):
        """Creates every weight."""
        self.backbone.build((None, None))

    def call(self, inputs, tap=None, training=None):
        """Scores the next token at each position.

        Args:
            inputs: the tokenizer's dict, as for the backbone, or the token ids alone.
            tap: a function that sees and may replace activations; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            Logits (B, T, V). Those at position t score the token at t + 1.
        """
        return self.score(self.backbone(inputs, tap=tap, training=training)["sequence_output"])

    def score(self, x):
        """Applies the head.

        Args:
            x: floats (..., D), from `sequence_output`.

        Returns:
            Logits (..., V).
        """
        return self.backbone.token_embedding(x, reverse=True)

    def default_compile(self):
        """Returns the next-token loss (Radford et al., 2018, equation 1), two metrics, and Adam."""
        return {
            "optimizer": keras.optimizers.Adam(2e-5),
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()],
        }

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns texts into batches: at each position, the label is the token that follows.

        If the model has an end token, every text begins and ends with it. Texts are cut to the model's length.

        Args:
            x: n strings.
            y: must be None, since the labels are the tokens of the texts themselves.
            sample_weight: floats (n,) for the loss. Defaults to 1.
            batch_size: B. Defaults to 32.
            seed: seed for shuffling; each epoch is shuffled differently. Without one, texts are sorted by length.

        Returns:
            `Examples`, batches of `token_ids` and `padding_mask` (B, T), labels (B, T) and weights (B, T).

        Raises:
            ValueError: if there is no tokenizer, `y` is given, or a text has fewer than two tokens.
        """
        if y is not None:
            raise ValueError("Expected texts alone: a language model's labels are the tokens that follow; got labels.")
        self.check_tokenizer()
        texts, end = as_texts(x), self.config.end_token_id
        edge = [end] if end >= 0 else []
        rows = [(edge + self.tokenizer.encode(text) + edge)[: self.config.max_sequence_length + 1] for text in texts]
        short = [index for index, row in enumerate(rows) if len(row) < 2]
        if short:
            raise ValueError(f"Expected texts of at least two tokens; those at {short[:5]} have fewer.")
        before, after = pad([row[:-1] for row in rows], 0), pad([row[1:] for row in rows], 0)
        weights = after["padding_mask"].astype("float32")  # (n, T)
        if sample_weight is not None:
            weights *= np.asarray(sample_weight, "float32")[:, None]
        return Examples(before, after["token_ids"], weights, batch_size or 32, seed, per_token=True)

    def generate(
        self,
        prompts,
        max_new_tokens=50,
        sampler=None,
        seed=None,
        stop=(),
        stream=False,
        ignore_end=False,
        temperature=None,
    ):
        """Continues texts. Prompts of any lengths share a batch, and each gets the same result as it would alone.

        The loop is compiled at the first call for each number of prompts, kind of sampler, prompt length (rounded up to
        a power of two), and cache length (the sum of this length and `max_new_tokens`, rounded up to a multiple of 64).

        Args:
            prompts: a string or a list of strings; or token ids, or a list of lists of them.
            max_new_tokens: highest number of new tokens.
            sampler: a name such as "greedy" (the default) or "top_p", a `Sampler` such as `TopP(0.9)`, an instance of
                your own subclass, or a `BeamSearch`.
            seed: an integer of 0 or more. Prompt i draws as it would alone with the seed `seed` + i. With None, NumPy's
                global generator draws the seed, and `course_lib.reproducible` makes it reproducible.
            stop: a string or several. A text ends before the first of them that occurs. Each may span any number of
                tokens.
            stream: whether to return the pieces of one text as they are generated.
            ignore_end: whether a text continues after an end token.
            temperature: softmax temperature, which replaces the sampler's. If there is no sampler, tokens are drawn at
                random with it.

        Returns:
            The continuation without the prompt: a string, or a list of strings for a list of prompts. If the prompts
            are token ids, so are the continuations. With `stream`, an iterator over strings, which together make up the
            continuation.

        Raises:
            ValueError: if a prompt is empty, has a token id outside the vocabulary, or leaves no room for
                `max_new_tokens` in the model; if `max_new_tokens` is below 1, a stop string is empty or comes with
                token ids, or the seed is negative; if several prompts, token ids or beams are to be streamed; or if the
                model's scores are not finite.

        Example:
            >>> lm.generate("Once upon a time", max_new_tokens=40, sampler=TopP(0.9, temperature=0.8), seed=0)
        """
        self.build()
        config, sampler = self.config, read_sampler(sampler, temperature)
        rows, are_texts, is_single = read_prompts(
            prompts,
            self.tokenizer,
            config.vocabulary_size,
            config.max_sequence_length,
            max_new_tokens,
            self.prompt_hint,
        )
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(stop) or (stop and not are_texts):
            raise ValueError(f"Expected non-empty strings to stop at, and prompts that are text; got {stop}.")
        if stream and not (is_single and are_texts and sampler.can_stream):
            raise ValueError("Expected one prompt, a string, and a sampler without beams for a stream; got others.")
        batch = pad_rows(rows, config.max_sequence_length)
        texts = [GrowingText(self._continuation_of(row), stop) for row in rows] if are_texts else []
        looks = bool(stop) and sampler.can_stream  # until the search is finished, another beam may become the best
        runs = self.generator.run(
            batch,
            round_up(batch["token_ids"].shape[1] + max_new_tokens, 64),  # few different lengths
            max_new_tokens,
            sampler,
            read_seed(seed),
            () if ignore_end else self._end_token_ids,
            seen=is_seen(rows, config.vocabulary_size) if sampler.needs_seen else None,
            every=1 if stream else 8 if looks else None,
            stopped=(lambda: np.array([text.is_stopped for text in texts])) if looks else None,
        )
        if stream:
            return texts[0].stream(runs)
        for new in runs:
            for text, ids in zip(texts, new, strict=False):
                text.update(ids)
        answers = [text.text for text in texts] if are_texts else new
        return answers[0] if is_single else answers

    @property
    def _end_token_ids(self):
        ids, stops = [(self.tokenizer or self.config).end_token_id], getattr(self.config, "stop_token_ids", ())
        if stops:
            ids += [self.config.end_token_id, *stops]
        return [end for end in dict.fromkeys(ids) if end is not None and end >= 0]

    def _continuation_of(self, prompt):
        """Returns a function from new token ids to the text that they add to the prompt."""
        start = len(self.tokenizer.decode(prompt))
        return lambda ids: self.tokenizer.decode(prompt + ids)[start:]

    def prefill(self, inputs, cache_length):
        """Reads prompts, padded on the right, for a `course_lib.generation.loop.Generator`.

        Args:
            inputs: a dict of integers (B, T), `token_ids` and `padding_mask`.
            cache_length: S, at least T.

        Returns:
            Logits (B, V) of each row's next token; and the state, a dict: `cache` with S slots, `padding_mask` (B, S),
            and `position`, a scalar, the slot of the next token.
        """
        batch_size, length = inputs["token_ids"].shape
        outputs = self.backbone(inputs, cache=self.backbone.empty_cache(batch_size, length))
        last = ops.sum(inputs["padding_mask"], axis=1)[:, None, None] - 1  # (B, 1, 1)
        x = ops.take_along_axis(outputs["sequence_output"], last, axis=1)[:, 0]  # (B, D)
        room = (0, cache_length - length)
        return known_tokens(self.score(x), self.tokenizer), {
            "cache": keras.tree.map_structure(
                lambda array: ops.pad(array, ((0, 0), room, (0, 0), (0, 0))), outputs["cache"]
            ),
            "padding_mask": ops.pad(inputs["padding_mask"], ((0, 0), room)),
            "position": ops.full((), length, "int32"),
        }

    def decode(self, token_ids, state):
        """Reads one more token in each row, for a `course_lib.generation.loop.Generator`.

        Args:
            token_ids: integers (B,).
            state: what `prefill` or `decode` returned.

        Returns:
            Logits (B, V) of the next token, and the new state.
        """
        position, padding_mask = state["position"], state["padding_mask"]
        padding_mask = ops.where(ops.arange(padding_mask.shape[1]) == position, 1, padding_mask)
        inputs = {"token_ids": token_ids[:, None], "padding_mask": padding_mask}
        outputs = self.backbone(inputs, cache=state["cache"], position=position)
        state = {"cache": outputs["cache"], "padding_mask": padding_mask, "position": position + 1}
        return known_tokens(self.score(outputs["sequence_output"][:, 0]), self.tokenizer), state
