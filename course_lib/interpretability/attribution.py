r"""Attribution: how much each word of a text contributed to what the model decided.

Every method takes the same arguments and returns the same objects, so that methods can be compared, with
`random_attribution` as the control. Gradients are taken with respect to the embeddings, what the first block reads.

Shapes: n texts, B batch, T length, D model width, W words.
"""

import dataclasses
import functools
import warnings

import keras
import numpy as np
from keras import ops

from course_lib.interpretability.attention import (
    attention_and_gradients,
    attention_rollout,
    gradient_rollout,
    layers_of_attention,
)
from course_lib.interpretability.questions import Question, last_logits, log_odds
from course_lib.interpretability.recording import compiled, gradients, record, stack_of
from course_lib.models.classifiers import TextClassifier
from course_lib.models.seq2seq_lm import Seq2SeqLM
from course_lib.text.batches import widened


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What a method says about a text.

    Attributes:
        text: the text.
        target: the name of the class or the token whose score is explained.
        target_id: its index.
        tokens: its T tokens.
        values: floats (T,), the share of each token in the score. Positive speaks for the target.
        words: its W words, at white space.
        word_values: floats (W,), the sum over each word's tokens. Special tokens belong to no word.
        word_ids: integers (T,), the word of each token, or -1.
        score: the score, log-odds of the target.
        error: for integrated gradients, by how much the values miss the difference of the scores; otherwise None.
    """

    text: str
    target: str
    target_id: int
    tokens: tuple
    values: np.ndarray
    words: tuple
    word_values: np.ndarray
    word_ids: np.ndarray
    score: float
    error: float | None = None


def gradient_x_input(model, texts, target=None, against=None, batch_size=64):
    r"""Attributes by the gradient times the embedding, $\sum_d x_d\,\partial s/\partial x_d$ for each token.

    It is the first-order estimate of what is lost if the embedding becomes zero (Shrikumar et al., 2016,
    https://arxiv.org/abs/1605.01713).

    Args:
        model: as `Question.ask` takes it.
        texts: as `Question.ask` takes them.
        target: as `Question.ask` takes it.
        against: as `Question.ask` takes it.
        batch_size: B.

    Returns:
        A list with an `Attribution` per text; for a string, one `Attribution`.

    Raises:
        ValueError: as `Question.ask` says.
    """
    question = Question.ask(model, texts, target, against)
    batches = list(question.batches(np.arange(len(question.texts)), batch_size))
    of_batch = compiled(_attributed_by_gradient(question), model, len(batches))
    values, scores = _room(question), np.zeros(len(question.texts))
    for places, inputs in batches:
        x = _embeddings(model, inputs)
        zeros, whole = np.zeros_like(x), np.ones(len(places), "float32")
        found = of_batch(inputs, x, zeros, whole, question.targets[places], question.against[places])
        scores[places] = ops.convert_to_numpy(found[0])
        values[places, : x.shape[1]] = ops.convert_to_numpy(found[1])
    return _answers(question, texts, values, scores)


def integrated_gradients(
    model, texts, target=None, against=None, steps=None, tolerance=0.02, max_steps=256, baseline=None, batch_size=64
):
    r"""Attributes by gradients on the way from a baseline to the text.

    With x the embeddings of the text and x' those of the baseline, token t gets
    $\sum_d (x_d - x'_d) \int_0^1 \partial s / \partial x_d\,(x' + \alpha (x - x'))\,d\alpha$ (Sundararajan et al.,
    2017, https://arxiv.org/abs/1703.01365, equation 1). The values sum to $s(x) - s(x')$ (completeness). The integral
    is computed at Gauss–Legendre nodes, and their number is doubled, from 8 on, until the sum is right.

    Args:
        model: as `Question.ask` takes it.
        texts: as `Question.ask` takes them.
        target: as `Question.ask` takes it.
        against: as `Question.ask` takes it.
        steps: a number of nodes, in place of the tolerance.
        tolerance: largest error of the sum, as a share of $|s(x) - s(x')|$, or of 1 if that is smaller.
        max_steps: the largest number of nodes. A warning names the error of a text that needs more.
        baseline: the token that stands in for every token but the special ones. Defaults to "[MASK]", or to the
            tokenizer's end token.
        batch_size: B, of the gradients that are computed at a time.

    Returns:
        A list with an `Attribution` per text; for a string, one `Attribution`.

    Raises:
        ValueError: as `Question.ask` says; or if the baseline is not a token of the vocabulary, or there are no steps.
    """
    question = Question.ask(model, texts, target, against)
    if (steps if steps is not None else max_steps) < 1:
        raise ValueError(f"Expected at least one step; got steps={steps}, max_steps={max_steps}.")
    n, token_id = len(question.texts), _baseline_id(model.tokenizer, baseline)
    of_batch = compiled(_attributed_by_gradient(question), model, -(-n // batch_size) * (steps or 32))
    scores, before = question.scores(), dataclasses.replace(question, inputs=_emptied(question, token_id)).scores()
    values, errors = _room(question), np.full(n, np.inf)
    left, count = np.arange(n), steps or min(8, max_steps)
    while True:
        for rows, found in _integrated(question, left, token_id, count, of_batch, batch_size):
            values[rows, : found.shape[1]] = found
        errors[left] = np.abs(values[left].sum(axis=1) - (scores - before)[left])
        allowed = tolerance * np.maximum(1, np.abs(scores - before))
        left = left[errors[left] > allowed[left]]
        if not len(left) or steps or count >= max_steps:
            break
        count = min(2 * count, max_steps)
    if len(left) and not steps:
        worst = left[np.argmax(errors[left])]
        warnings.warn(
            f"Integrated gradients did not converge in {count} steps for {len(left)} of {n} texts: the values of text "
            f"{worst} miss the difference of the scores, {scores[worst] - before[worst]:.3g}, by {errors[worst]:.2g}. "
            f"Raise max_steps, or the tolerance.",
            stacklevel=2,
        )
    return _answers(question, texts, values, scores, errors)


def occlusion(model, texts, target=None, against=None, batch_size=64):
    """Attributes by leaving out one word at a time: the score of the text minus the score without the word.

    Args:
        model: as `Question.ask` takes it.
        texts: as `Question.ask` takes them.
        target: as `Question.ask` takes it.
        against: as `Question.ask` takes it.
        batch_size: B.

    Returns:
        A list with an `Attribution` per text; for a string, one `Attribution`. A word's tokens share its value equally.

    Raises:
        ValueError: as `Question.ask` says.
    """
    question = Question.ask(model, texts, target, against)
    scores, values, width = question.scores(batch_size=batch_size), _room(question), question.lengths.max()
    places = [(row, word) for row, words in enumerate(question.words) for word in range(len(words))]
    masks = np.ones((len(places), width), "int32")
    for mask, (row, word) in zip(masks, places, strict=True):
        mask[: len(question.word_ids[row])] = question.word_ids[row] != word
    without = question.scores([row for row, _ in places], masks, batch_size=batch_size)
    for (row, _), mask, score in zip(places, masks, without, strict=True):
        values[row, :width][mask == 0] = (scores[row] - score) / max((mask == 0).sum(), 1)
    return _answers(question, texts, values, scores)


def attention_attribution(model, texts, target=None, against=None, how="rollout"):
    """Attributes by attention: how much the vector that the head reads attends to each token.

    Args:
        model: a `TextClassifier` or a `CausalLM`.
        texts: as `Question.ask` takes them.
        target: as `Question.ask` takes it. Attention and rollout do not depend on it.
        against: as `Question.ask` takes it.
        how: "last" for the last layer, averaged over heads; "rollout"; or "gradient" for `gradient_rollout`.

    Returns:
        A list with an `Attribution` per text; for a string, one `Attribution`. No value is negative.

    Raises:
        ValueError: as `Question.ask` says; or if the model is a `Seq2SeqLM`, or there is no such way.
    """
    if how not in ("last", "rollout", "gradient"):
        raise ValueError(f"Expected how to be 'last', 'rollout' or 'gradient'; got {how!r}.")
    if isinstance(model, Seq2SeqLM):
        raise ValueError("Expected a model of one stack; got a Seq2SeqLM. attention_maps shows its three kinds.")
    question = Question.ask(model, texts, target, against)
    values = _room(question)
    for row, length in enumerate(question.lengths):
        inputs = {name: array[[row], :length] for name, array in question.inputs.items()}
        if how == "gradient":
            flow = gradient_rollout(*attention_and_gradients(question, row))
        else:
            weights = layers_of_attention(model, inputs)
            flow = attention_rollout(weights) if how == "rollout" else weights[-1].mean(axis=0)
        pooling = model.pooling if isinstance(model, TextClassifier) else "last"
        values[row, :length] = {"first": flow[0], "pooled": flow[0], "last": flow[-1]}.get(pooling, flow.mean(axis=0))
    return _answers(question, texts, values, question.scores())


def random_attribution(model, texts, target=None, against=None, seed=0):
    """Draws values from a normal distribution: the control for every method.

    Args:
        model: as `Question.ask` takes it.
        texts: as `Question.ask` takes them.
        target: as `Question.ask` takes it.
        against: as `Question.ask` takes it.
        seed: an integer.

    Returns:
        A list with an `Attribution` per text; for a string, one `Attribution`.

    Raises:
        ValueError: as `Question.ask` says.
    """
    question = Question.ask(model, texts, target, against)
    values = np.random.default_rng(seed).normal(size=_room(question).shape)
    return _answers(question, texts, values, question.scores())


def _attributed_by_gradient(question):
    """Returns a function that computes scores (B,) and the products of gradient and difference, summed over D: (B, T).

    The gradient is taken at `x0 + alpha (x - x0)`.
    """
    name = stack_of(question.model)[1] + "embeddings"

    def function(inputs, x, x0, alphas, targets, against):
        x, x0 = ops.convert_to_tensor(x), ops.convert_to_tensor(x0)
        between = x0 + ops.cast(alphas, x.dtype)[:, None, None] * (x - x0)

        def score(between):
            logits = last_logits(question.model, inputs, lambda each, y: between if each == name else y)
            return log_odds(logits, targets, against, question.is_multi_label)

        scores, found = gradients(score, between)
        return scores, ops.sum(ops.cast((x - x0) * found, "float32"), axis=-1)

    return function


def _embeddings(model, inputs):
    """Computes what the first block reads: (B, T, D)."""
    name = stack_of(model)[1] + "embeddings"
    return record(model, inputs, name)[name]


def _baseline_id(tokenizer, baseline):
    if baseline is None:
        return getattr(tokenizer, "mask_token_id", getattr(tokenizer, "special_token_id", None))
    if baseline not in tokenizer.vocabulary:
        raise ValueError(f"Expected a baseline that is a token of the vocabulary; got {baseline!r}.")
    return list(tokenizer.vocabulary).index(baseline)


def _emptied(question, token_id):
    """Replaces every token that belongs to a word by the baseline. Returns the inputs."""
    ids = question.inputs[question.ids_name].copy()
    for row, word_ids in zip(ids, question.word_ids, strict=True):
        row[: len(word_ids)][word_ids >= 0] = token_id
    return question.inputs | {question.ids_name: ids}


def _integrated(question, left, token_id, count, of_batch, batch_size):
    """Computes the integrals of some texts with `count` nodes. Yields the texts of a batch (B,) and values (B, T)."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    nodes, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    baselines = _emptied(question, token_id)[question.ids_name]
    for places, inputs in question.batches(left, batch_size):
        rows, ids = left[places], inputs[question.ids_name]
        empty = inputs | {question.ids_name: widened(baselines[rows], ids.shape[1])}
        x, x0 = _embeddings(question.model, inputs), _embeddings(question.model, empty)
        total, at_a_time = np.zeros(ids.shape), max(1, batch_size // len(rows))
        for start in range(0, count, at_a_time):
            some = nodes[start : start + at_a_time].astype("float32")
            repeated = [inputs, x, x0, question.targets[rows], question.against[rows]]
            repeated = keras.tree.map_structure(functools.partial(np.repeat, repeats=len(some), axis=0), repeated)
            found = ops.convert_to_numpy(of_batch(*repeated[:3], np.tile(some, len(rows)), *repeated[3:])[1])
            of_nodes = found.reshape(len(rows), len(some), -1).astype("float64")
            total += np.einsum("bat,a->bt", of_nodes, weights[start : start + at_a_time])
        yield rows, total


def _room(question):
    return np.zeros((len(question.texts), question.inputs[question.ids_name].shape[1] + 8))  # batches round up by 8


def _answers(question, texts, values, scores, errors=None):
    found = []
    for row, (text, tokens, words, word_ids) in enumerate(
        zip(question.texts, question.tokens, question.words, question.word_ids, strict=True)
    ):
        target = int(question.targets[row])
        of_tokens, is_word = values[row, : len(tokens)], word_ids >= 0
        of_words = np.bincount(word_ids[is_word], weights=of_tokens[is_word], minlength=len(words))
        error = None if errors is None else float(errors[row])
        found.append(
            Attribution(
                text,
                question.name_of(target),
                target,
                tuple(tokens),
                of_tokens,
                tuple(words),
                of_words,
                word_ids,
                float(scores[row]),
                error,
            )
        )
    return found[0] if isinstance(texts, str) else found
