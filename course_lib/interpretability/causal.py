r"""Interventions: what changes in the answer if something inside the model is changed?

Each is a tap on the model's own `call` (`course_lib.layers.taps`). A new intervention is a new function of a name and
an activation.

Shapes: n texts, B batch, L layers, N heads, T length, H width of one head, D model width, V vocabulary.
"""

import dataclasses

import numpy as np
from keras import ops

from course_lib.interpretability.questions import Question, log_odds
from course_lib.interpretability.recording import check_layer, record, stack_of
from course_lib.models.causal_lm import CausalLM

PARTS = {
    "residual": "",
    "attention": "/attention",
    "feed_forward": "/feed_forward",
    "heads": "/attention/heads",
    "cross_heads": "/cross_attention/heads",
}


def ablate(model, heads=(), layers=(), how="zero", inputs=None, seed=0, stack=None):
    """Makes a tap that removes what heads, or whole attention layers, contribute.

    Args:
        model: the model.
        heads: pairs of a layer and a head.
        layers: layers whose attention is removed with all its heads.
        how: "zero" puts zeros in place of what a head computes; "mean", its mean over all real positions of `inputs`,
            which leaves what it always adds; "resample", what it computes at a position of `inputs` drawn at random.
        inputs: what the model takes, for "mean" and "resample": texts like those that are asked about.
        seed: an integer, for "resample".
        stack: "encoder" or "decoder", in a `Seq2Seq`.

    Returns:
        A function, for the argument `tap` of the model.

    Raises:
        ValueError: if there is no such layer or head, nothing is to be removed, the way is unknown, or it needs inputs.

    Example:
        >>> lm(inputs, tap=ablate(lm, heads=[(3, 5)]))
    """
    if how not in ("zero", "mean", "resample"):
        raise ValueError(f"Expected how to be 'zero', 'mean' or 'resample'; got {how!r}.")
    if how != "zero" and inputs is None:
        raise ValueError(f"Expected inputs of other texts for how={how!r}; got none.")
    for layer, head in (*heads, *((layer, None) for layer in layers)):
        check_layer(model, layer, head, stack)
    prefix, num_heads = stack_of(model, stack)[1], model.config.num_heads
    removed = {}
    for layer, head in (*heads, *((layer, head) for layer in layers for head in range(num_heads))):
        removed.setdefault(f"{prefix}block_{layer}/attention/heads", set()).add(head)
    if not removed:
        raise ValueError("Expected heads or layers to remove; got none.")
    pools = {}
    if how != "zero":
        for name, x in record(model, inputs, list(removed)).items():  # (B, T, N, H)
            mask = next((array for key, array in inputs.items() if key.endswith("padding_mask")), None)
            keep = np.ones(x.shape[:2], bool) if mask is None or prefix == "decoder/" else np.asarray(mask, bool)
            pools[name] = np.random.default_rng(seed).permutation(x[keep])  # (m, N, H)

    def tap(name, x):
        if name not in removed:
            return x
        if how == "zero":
            other = ops.zeros_like(x)
        elif how == "mean":
            other = ops.convert_to_tensor(pools[name].mean(axis=0), x.dtype)  # (N, H)
        else:
            rows, length = ops.shape(x)[:2]
            drawn = ops.reshape(ops.arange(rows * length) % len(pools[name]), (rows, length))
            other = ops.take(ops.convert_to_tensor(pools[name], x.dtype), drawn, axis=0)
        is_removed = np.isin(np.arange(x.shape[2]), list(removed[name]))[:, None]  # (N, 1)
        return ops.where(is_removed, other, x)

    return tap


@dataclasses.dataclass(frozen=True)
class Patching:
    """What patching found.

    Attributes:
        effects: floats (L + 1, T) for "residual", (L, T) for "attention" and "feed_forward", (L, N) for "heads" and
            "cross_heads". 0 is the score of the corrupted text, and 1 that of the clean one.
        tokens: the T tokens of the clean text, and
        corrupted_tokens: those of the corrupted text.
        clean: the score of the clean text, and
        corrupted: that of the corrupted one.
    """

    effects: np.ndarray
    tokens: tuple
    corrupted_tokens: tuple
    clean: float
    corrupted: float


def activation_patching(
    model, clean, corrupted, target=None, against=None, part="residual", start="", stack=None, batch_size=64
):
    """Runs a corrupted text with one activation at a time taken from the clean text, and measures what it restores.

    Denoising patching, as in Meng et al. (2022, https://arxiv.org/abs/2202.05262) and Zhang and Nanda (2023,
    https://arxiv.org/abs/2309.16042). The texts need the same number of tokens, and should differ in what is asked for
    alone.

    Args:
        model: a `TextClassifier`, a `CausalLM` or a `Seq2SeqLM`.
        clean: a string, the text of which the target is right.
        corrupted: a string that differs from it.
        target: the answer to the clean text, as `Question.ask` takes it. Defaults to what the model answers.
        against: the answer to the corrupted text. Defaults to what the model answers to it.
        part: "residual", "attention" or "feed_forward", at each position; or "heads", at all positions of the text, and
            "cross_heads", those of cross-attention in the decoder.
        start: for a `Seq2SeqLM`, the beginning of the translation.
        stack: "encoder", the default, or "decoder", in a `Seq2SeqLM`.
        batch_size: B.

    Returns:
        A `Patching`.

    Raises:
        ValueError: as `Question.ask` says; if the texts differ in their number of tokens, or the answers to both are
            the same; or if there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"Expected a part of {sorted(PARTS)}; got {part!r}.")
    answers = [
        given if given is not None else int(Question.ask(model, text, start=start).targets[0])
        for text, given in ((clean, target), (corrupted, against))
    ]
    question = Question.ask(model, [clean, corrupted], answers[0], answers[1], start)
    if question.lengths[0] != question.lengths[1]:
        raise ValueError(
            f"Expected texts of one number of tokens; got {question.lengths.tolist()}: {question.tokens[0]} and "
            f"{question.tokens[1]}."
        )
    by_head = part.endswith("heads")
    blocks, prefix = stack_of(model, "decoder" if part == "cross_heads" else stack)
    names = [f"{prefix}block_{index}{PARTS[part]}" for index in range(len(blocks.blocks))]
    if part == "residual":
        names = [f"{prefix}embeddings", *names]
    ((_, inputs),) = question.batches([0])
    stored = record(model, inputs, names)  # each (1, T, ...)
    high, low = question.scores()
    variants = model.config.num_heads if by_head else stored[names[0]].shape[1]
    effects = np.zeros((len(names), variants))
    for layer, name in enumerate(names):
        for first in range(0, variants, batch_size):
            chosen = np.arange(first, min(first + batch_size, variants))
            tap = _replace(name, stored[name], chosen, axis=2 if by_head else 1)
            effects[layer, chosen] = question.scores(np.ones(len(chosen), int), tap=tap, batch_size=batch_size)
    if not by_head and prefix != "decoder/":
        effects = effects[:, : question.lengths[0]]  # batches round up
    effects = (effects - low) / (high - low)
    return Patching(effects, tuple(question.tokens[0]), tuple(question.tokens[1]), float(high), float(low))


def _replace(name, stored, chosen, axis):
    """Makes a tap: in row b of a batch, place `chosen[b]` of the axis comes from `stored`, (1, T, ...)."""
    size = stored.shape[axis]
    shape = [len(chosen)] + [size if index == axis else 1 for index in range(1, stored.ndim)]
    is_patched = (np.arange(size) == chosen[:, None]).reshape(shape)

    def tap(other, x):
        return ops.where(is_patched, ops.convert_to_tensor(stored, x.dtype), x) if other == name else x

    return tap


def logit_lens(lm, text, target=None, against=None):
    """Reads the next token off every layer: the final norm and the head, applied to the residual stream.

    nostalgebraist, 2020, "interpreting GPT: the logit lens". Early layers need not write in the terms that the head
    reads, so a low score there does not show that the answer is not yet known.

    Args:
        lm: a `CausalLM` with a norm after the last block.
        text: a string.
        target: the next token, as `Question.ask` takes it.
        against: an alternative, as `Question.ask` takes it.

    Returns:
        The scores, log-odds of the target after the embeddings and after each block, floats (L + 1,); and the token
        that each of them finds most probable, L + 1 strings.

    Raises:
        ValueError: as `Question.ask` says, or if the model is of another kind.
    """
    question, states = _final_stream(lm, text, target, against)
    logits = lm.score(lm.backbone.decoder.norm(np.stack(states)))  # (L + 1, V)
    pair = (np.repeat(each, len(states)) for each in (question.targets, question.against))
    best = ops.convert_to_numpy(logits)[:, : lm.tokenizer.vocabulary_size].argmax(axis=1)
    return ops.convert_to_numpy(log_odds(logits, *pair)), [lm.tokenizer.decode([int(index)]) for index in best]


def direct_logit_attribution(lm, text, target, against):
    r"""Splits the difference of two logits into what each part of the model adds to it.

    The residual stream is a sum, and with the scale of the final norm held at its value, so are the logits (Elhage et
    al., 2021, https://transformer-circuits.pub/2021/framework). It counts direct effects alone: what a head does
    through later layers goes to their account.

    Args:
        lm: a `CausalLM` with a norm after the last block.
        text: a string.
        target: the next token, as `Question.ask` takes it.
        against: the other token.

    Returns:
        A dict of floats in logits: "embeddings" (), "heads" (L, N), "attention_bias" (L,), "feed_forward" (L,) and
        "norm_bias" (). They sum to the difference of the logits.

    Raises:
        ValueError: as `Question.ask` says, or if the model is of another kind.
    """
    question, states = _final_stream(lm, text, target, against)
    norm, last = lm.backbone.decoder.norm, states[-1].astype("float32")
    target, against = int(question.targets[0]), int(question.against[0])
    centre = hasattr(norm, "beta")  # a layer norm, and not an RMS norm
    spread = last - last.mean() if centre else last
    scale = ops.convert_to_numpy(norm.gamma if centre else norm.scale) / np.sqrt(np.mean(spread**2) + norm.epsilon)

    def direct(parts):  # (..., D) → (...,)
        parts = parts - parts.mean(axis=-1, keepdims=True) if centre else parts
        return _difference(lm, parts * scale, target, against)

    names = ("attention/heads", "feed_forward")
    found = record(lm, _inputs(question), lambda name: name.split("/", 1)[-1] in names)
    heads, biases, forward = [], [], []
    for index, block in enumerate(lm.backbone.decoder.blocks):
        forward.append(direct(found[f"block_{index}/feed_forward"][0, -1]))
        values, output = found[f"block_{index}/attention/heads"][0, -1], block.attention.output_projection  # (N, H)
        alone = (np.eye(len(values))[:, :, None] * values).reshape(len(values), -1)  # (N, N·H), one head each
        none = ops.convert_to_numpy(output(np.zeros_like(alone[:1], "float32")))
        heads.append(direct(ops.convert_to_numpy(output(alone.astype("float32"))) - none))
        biases.append(direct(none[0]))
    return {
        "embeddings": direct(states[0]),
        "heads": np.stack(heads),
        "attention_bias": np.stack(biases),
        "feed_forward": np.stack(forward),
        "norm_bias": _difference(lm, ops.convert_to_numpy(norm.beta), target, against) if centre else np.float32(0),
    }


def induction_scores(lm, length=50, rows=4, seed=0):
    """Finds induction heads: how much each head attends to the token after the last occurrence of the current one.

    Rows of random tokens are repeated once. A head that looks up what came next the first time has a score near 1
    (Olsson et al., 2022, https://arxiv.org/abs/2209.11895).

    Args:
        lm: a `CausalLM`.
        length: number of random tokens, which are then repeated.
        rows: number of rows to average over.
        seed: an integer.

    Returns:
        The scores, floats (L, N), and the token ids (rows, 2 · length).

    Raises:
        ValueError: if the model is of another kind, or the tokens do not fit.
    """
    if not isinstance(lm, CausalLM):
        raise ValueError(f"Expected a CausalLM; got a {type(lm).__name__}.")
    if not 2 <= 2 * length <= lm.config.max_sequence_length:
        raise ValueError(f"Expected a length from 1 to {lm.config.max_sequence_length // 2}; got {length}.")
    lm.build()
    size = lm.config.vocabulary_size if lm.tokenizer is None else lm.tokenizer.vocabulary_size
    half = np.random.default_rng(seed).integers(size, size=(rows, length))
    ids = np.concatenate([half, half], axis=1).astype("int32")
    scores = []
    places = np.arange(length, 2 * length)

    def tap(name, x):
        if name.endswith("attention/weights"):  # (B, N, T, T)
            weights = ops.convert_to_numpy(x)
            scores.append(weights[:, :, places, places - length + 1].mean(axis=(0, 2)))
        return x

    lm.backbone(ids, tap=tap)
    return np.stack(scores), ids


def _final_stream(lm, text, target, against):
    """Returns the question, and the residual stream at the last position after each layer: L + 1 arrays (D,)."""
    if not isinstance(lm, CausalLM) or lm.backbone.decoder.norm is None:
        raise ValueError(
            f"Expected a CausalLM that normalises before each sublayer and after the last, such as GPT-2 or Llama; got "
            f"a {type(lm).__name__}. Elsewhere the residual stream is no sum."
        )
    question = Question.ask(lm, text, target, against)
    states = lm.backbone(_inputs(question), return_hidden_states=True)["hidden_states"]
    return question, [ops.convert_to_numpy(state)[0, -1] for state in states]


def _inputs(question):
    return {name: array[:1] for name, array in question.inputs.items()}


def _difference(lm, x, target, against):
    """Applies the head to vectors (..., D): the logit of the target minus the other, (...,)."""
    logits = ops.convert_to_numpy(lm.score(np.reshape(x, (-1, x.shape[-1])).astype("float32")))
    return (logits[:, target] - logits[:, against]).reshape(x.shape[:-1])
