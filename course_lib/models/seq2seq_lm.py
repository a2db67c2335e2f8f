"""The translator: a `Seq2Seq` with its head, trained by teacher forcing, and decoded token by token.

Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.

Shapes: n texts, B batch, S source length, T target length, N heads, D model width, V vocabulary.
"""

import sys

import keras
import numpy as np
from keras import ops

from course_lib.generation.loop import Generator, known_tokens
from course_lib.generation.prompts import is_seen, pad_rows, read_prompts, read_seed
from course_lib.generation.samplers import read_sampler
from course_lib.metrics.perplexity import Perplexity
from course_lib.models.seq2seq import Seq2Seq
from course_lib.models.task import Task
from course_lib.models.text_inputs import as_texts
from course_lib.text.batches import Pairs, by_length, round_up


@keras.saving.register_keras_serializable("course_lib")
class Seq2SeqLM(Task):
    """A translator: a `Seq2Seq` whose head is the transpose of its token embeddings.

    Args:
        backbone: a `Seq2Seq`.
        **kwargs: arguments of `keras.Model`, such as `name` and `dtype`.

    Example:
        >>> model = Seq2SeqLM(Seq2Seq(Seq2SeqConfig(tokenizer.vocabulary_size, 2, 4, 128), tokenizer))
        >>> model.fit(["forty-two", "seven"], ["zweiundvierzig", "sieben"], epochs=100)
        >>> model.generate(["forty-two"])
        ['zweiundvierzig']
    """

    backbone_class = Seq2Seq
    needs_labels = True
    predict_hint = " `generate` translates texts."

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.generator = Generator(self.prefill, self.decode, lambda: self.variables)

    def build_layers(self):
        """Creates every weight."""
        self.backbone.build(dict.fromkeys(self.backbone.input_names, (None, None)))

    def call(self, inputs, tap=None, training=None):
        """Scores each next token of the targets, given the sources and the tokens before it.

        Args:
            inputs: as for `Seq2Seq`.
            tap: as for `Seq2Seq`.
            training: whether to apply dropout.

        Returns:
            Logits (B, T, V). Those at position t score the token at t + 1 of `decoder_token_ids`.
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
        """Returns the next-token loss on the targets, two metrics, and Adam."""
        return {
            "optimizer": keras.optimizers.Adam(1e-3),
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), Perplexity()],
        }

    def examples(self, x, y=None, sample_weight=None, batch_size=None, seed=None):
        """Turns pairs of texts into batches for teacher forcing.

        Args:
            x: n sources, strings.
            y: n targets, strings.
            sample_weight: floats (n,) for the loss. Defaults to 1.
            batch_size: B. Defaults to 32.
            seed: seed for shuffling; each epoch is shuffled differently. Defaults to 0.

        Returns:
            `Pairs`, batches of what `teacher_forcing` returns.

        Raises:
            ValueError: if there is no tokenizer, or there are more or fewer targets than sources.
        """
        self.check_tokenizer()
        inputs, labels, weights = teacher_forcing(self.tokenizer, as_texts(x), as_texts(y))
        if sample_weight is not None:
            weights = weights * np.asarray(sample_weight, "float32")[:, None]
        return Pairs(inputs, labels, weights, batch_size or 32, seed or 0)

    def generate(self, sources, max_new_tokens=50, sampler=None, seed=None, temperature=None):
        """Translates texts. Sources of any lengths share a batch, and each gets the same result as it would alone.

        The loop is compiled at the first call for each number of sources, kind of sampler, source length (rounded up to
        a power of two), and `max_new_tokens` (rounded up to a multiple of 32).

        Args:
            sources: a string or a list of strings; or token ids, or a list of lists of them.
            max_new_tokens: highest number of tokens of a target.
            sampler: a name such as "greedy" (the default) or "beam", a `Sampler`, an instance of your own subclass, or
                a `BeamSearch`.
            seed: an integer of 0 or more. Source i draws as it would alone with the seed `seed` + i. With None, NumPy's
                global generator draws the seed, and `course_lib.reproducible` makes it reproducible.
            temperature: softmax temperature, which replaces the sampler's. If there is no sampler, tokens are drawn at
                random with it.

        Returns:
            A string, or a list of strings for a list of sources. If the sources are token ids, so are the targets.

        Raises:
            ValueError: if a source is empty, or has a token id outside the vocabulary; if `max_new_tokens` is below 1,
                or the seed is negative; or if the model's scores are not finite.
        """
        self.build()
        sampler, vocabulary_size = read_sampler(sampler, temperature), self.config.vocabulary_size
        rows, are_texts, is_single = read_prompts(sources, self.tokenizer, vocabulary_size, sys.maxsize, max_new_tokens)
        (targets,) = self.generator.run(
            pad_rows(rows, sys.maxsize),
            round_up(max_new_tokens, 32),  # few different lengths
            max_new_tokens,
            sampler,
            read_seed(seed),
            [self._end_token_id],
            seen=is_seen([[] for _ in rows], vocabulary_size) if sampler.needs_seen else None,
        )
        answers = [self.tokenizer.decode(target) for target in targets] if are_texts else targets
        return answers[0] if is_single else answers

    def translate(self, sources, max_new_tokens=50, sampler=None, batch_size=100):
        """Translates many texts, in batches of similar length, since a batch takes as long as its longest row.

        Args:
            sources: n strings.
            max_new_tokens: highest number of tokens of a target.
            sampler: as `generate` takes it.
            batch_size: B.

        Returns:
            A list of n strings.
        """
        sources, answers = as_texts(sources), {}
        for places in by_length([len(source) for source in sources], batch_size):
            written = self.generate([sources[place] for place in places], max_new_tokens, sampler)
            answers |= dict(zip(places.tolist(), written, strict=True))
        return [answers[place] for place in range(len(sources))]

    @property
    def _end_token_id(self):
        return (self.tokenizer or self.config).end_token_id

    def prefill(self, inputs, cache_length):
        """Reads sources, padded on the right, for a `course_lib.generation.loop.Generator`.

        Args:
            inputs: a dict of integers (B, S), `token_ids` and `padding_mask`.
            cache_length: number of slots of the cache, the highest number of tokens of a target.

        Returns:
            Logits (B, V) of each target's first token; and the state, a dict: `cache`, `padding_mask` (B, S), and
            `position`, a scalar, the slot of the next token.
        """
        config, batch_size = self.config, inputs["token_ids"].shape[0]
        shape = batch_size, cache_length, config.num_heads, config.hidden_dim // config.num_heads
        zeros = ops.zeros(shape, self.compute_dtype)
        encoded = self.backbone.encode(inputs)["sequence_output"]
        state = {
            "cache": tuple(((zeros, zeros), pair) for pair in self.backbone.decoder.cross_attention_kv(encoded)),
            "padding_mask": ops.convert_to_tensor(inputs["padding_mask"]),
            "position": ops.zeros((), "int32"),
        }
        return self.decode(ops.full((batch_size,), self._end_token_id, "int32"), state)

    def decode(self, token_ids, state):
        """Reads one more target token in each row, for a `course_lib.generation.loop.Generator`.

        Args:
            token_ids: integers (B,), the latest token of each target.
            state: what `prefill` or `decode` returned.

        Returns:
            Logits (B, V) of the next token, and the new state.
        """
        position = state["position"]
        outputs = self.backbone.decode(
            token_ids[:, None],
            source_padding_mask=state["padding_mask"],
            cache=state["cache"],
            position=position,
        )
        return known_tokens(self.score(outputs["sequence_output"][:, 0]), self.tokenizer), state | {
            "cache": outputs["cache"],
            "position": position + 1,
        }


def teacher_forcing(tokenizer, sources, targets):
    """Turns pairs of texts into training arrays. The decoder reads the correct tokens so far, not its own predictions.

    Args:
        tokenizer: a `BytePairTokenizer`, or any tokenizer that is called like one and has `encode` and `end_token_id`.
        sources: n strings.
        targets: n strings.

    Returns:
        The inputs of a `Seq2Seq`, a dict whose `decoder_token_ids` (n, T) are the end token and then the target; the
        labels, int32 (n, T), the target and then the end token; and the weights, float32 (n, T), 0 at padding. All rows
        are padded to the longest.

    Raises:
        ValueError: if there are more or fewer targets than sources, or none.
    """
    if len(sources) != len(targets):
        raise ValueError(f"Expected as many targets as sources, {len(sources)}; got {len(targets)}.")
    read, end = tokenizer(sources), tokenizer.end_token_id
    rows = [tokenizer.encode(target) for target in targets]
    labels = np.full((len(rows), max(map(len, rows)) + 1), end, "int32")
    weights = np.zeros(labels.shape, "float32")
    for index, row in enumerate(rows):
        labels[index, : len(row)] = row
        weights[index, : len(row) + 1] = 1
    before = np.concatenate([np.full((len(rows), 1), end, "int32"), labels[:, :-1]], axis=1)
    inputs = {
        "encoder_token_ids": read["token_ids"],
        "encoder_padding_mask": read["padding_mask"],
        "decoder_token_ids": before,
    }
    return inputs, labels, weights
