r"""Attention maps, and what becomes of them over the layers: rollout, and rollout weighted by gradients.

Shapes: B batch, L layers, N heads, T target (query) length, S source (key) length.
"""

import dataclasses

import numpy as np
from keras import ops

from course_lib.interpretability.questions import last_logits, log_odds
from course_lib.interpretability.recording import backbone_of, gradients, stack_of, tokenized
from course_lib.models.seq2seq import Seq2Seq
from course_lib.models.seq2seq_lm import teacher_forcing


@dataclasses.dataclass(frozen=True)
class AttentionMap:
    """The attention weights of a text, in every layer and head.

    Attributes:
        weights: floats (L, N, T, S). Each row sums to 1.
        queries: the T tokens that attend.
        keys: the S tokens that are attended to.
    """

    weights: np.ndarray
    queries: tuple
    keys: tuple


def attention_maps(model, text, target=None):
    """Computes the attention weights of a text.

    Args:
        model: a `Backbone` or a `Task`, with a tokenizer.
        text: a string; for a `Seq2SeqLM`, the source.
        target: the translation that a `Seq2SeqLM` reads. Defaults to the one that it generates.

    Returns:
        A dict of `AttentionMap`: "attention"; or, for a `Seq2SeqLM`, "encoder", "decoder" and "cross".

    Raises:
        ValueError: if there is no tokenizer, the text is not a string, or it has no tokens or too many.
    """
    if not isinstance(text, str):
        raise ValueError(f"Expected one text, a string; got a {type(text).__name__}.")
    model.build()
    backbone, inputs = backbone_of(model), tokenized(model, [text])
    source = _spelled(backbone.tokenizer, inputs["token_ids"][0])
    if not isinstance(backbone, Seq2Seq):
        weights = _stacked(backbone(inputs, return_attention=True)["attention"])
        return {"attention": AttentionMap(weights, source, source)}
    target = model.generate(text) if target is None else target
    inputs, _, _ = teacher_forcing(backbone.tokenizer, [text], [target])
    outputs = backbone(inputs, return_attention=True)
    target = _spelled(backbone.tokenizer, inputs["decoder_token_ids"][0])
    return {
        "encoder": AttentionMap(_stacked(outputs["encoder_attention"]), source, source),
        "decoder": AttentionMap(_stacked(outputs["attention"]), target, target),
        "cross": AttentionMap(_stacked(outputs["cross_attention"]), target, source),
    }


def attention_rollout(weights, residual=0.5):
    r"""Follows attention through the layers (Abnar and Zuidema, 2020, https://arxiv.org/abs/2005.00928, section 3).

    The heads of a layer are averaged and mixed with the residual connection, $\hat A = (1 - r) A + r I$; the layers are
    multiplied, $\hat A_L \cdots \hat A_1$.

    Args:
        weights: floats (L, N, T, T).
        residual: r, the share of the residual connection. The paper takes one half.

    Returns:
        Floats (T, T). Row t says how much of position t after the last layer comes from each token of the input; it
        sums to 1.

    Raises:
        ValueError: if the weights do not have this shape, or the share is not in [0, 1].
    """
    weights = _square(weights)
    if not 0 <= residual <= 1:
        raise ValueError(f"Expected a share of the residual connection from 0 to 1; got {residual}.")
    flow = np.eye(weights.shape[-1])
    for layer in weights.mean(axis=1):
        flow = ((1 - residual) * layer + residual * np.eye(len(layer))) @ flow
    return flow


def gradient_rollout(weights, weight_gradients):
    r"""Follows attention through the layers, weighted by how much the score depends on it.

    The rule of Chefer et al. (2021, https://arxiv.org/abs/2103.15679, equations 5 and 6) for self-attention: with
    $\bar A$ the mean over heads of the positive part of $\nabla A \odot A$, $R \leftarrow R + \bar A R$.

    Args:
        weights: floats (L, N, T, T).
        weight_gradients: floats (L, N, T, T), the gradients of a score with respect to the weights.

    Returns:
        Floats (T, T), the relevance of each token of the input (columns) for each position after the last layer.

    Raises:
        ValueError: if the shapes are others, or differ.
    """
    weights, weight_gradients = _square(weights), _square(weight_gradients)
    if weights.shape != weight_gradients.shape:
        raise ValueError(f"Expected weights and gradients of one shape; got {weights.shape}, {weight_gradients.shape}.")
    relevance = np.eye(weights.shape[-1])
    for layer in np.maximum(weights * weight_gradients, 0).mean(axis=1):
        relevance = relevance + layer @ relevance
    return relevance


def attention_and_gradients(question, row):
    """Computes the attention weights of a text, and the gradients of its score with respect to them.

    Args:
        question: a `Question` to a model of one stack.
        row: which of its texts.

    Returns:
        The weights and the gradients, each (L, N, T, T).
    """
    length, model = question.lengths[row], question.model
    inputs = {name: array[[row], :length] for name, array in question.inputs.items()}
    target, against = question.targets[[row]], question.against[[row]]

    def function(changes):
        def tap(name, x):
            return x + changes[name] if name in changes else x

        return log_odds(last_logits(model, inputs, tap), target, against, question.is_multi_label)

    names = [f"block_{index}/attention/weights" for index in range(len(stack_of(model)[0].blocks))]
    shape = 1, model.config.num_heads, length, length
    zeros = {name: np.zeros(shape, model.compute_dtype) for name in names}
    _, found = gradients(function, zeros)
    return layers_of_attention(model, inputs), _stacked([found[name] for name in names])


def layers_of_attention(model, inputs):
    """Computes the attention weights of one row of inputs.

    Args:
        model: a `Task` of one stack.
        inputs: what its backbone takes, with B = 1.

    Returns:
        Floats (L, N, T, T).
    """
    return _stacked(backbone_of(model)(inputs, return_attention=True)["attention"])


def _stacked(arrays):
    """Stacks the layers of one text: L × (1, N, T, S) → float64 (L, N, T, S)."""
    return np.stack([ops.convert_to_numpy(ops.cast(array, "float32"))[0] for array in arrays]).astype("float64")


def _spelled(tokenizer, ids):
    if hasattr(tokenizer, "start_token_id"):
        return tuple(tokenizer.vocabulary[index] for index in ids)
    return tuple(tokenizer.decode([int(index)]) for index in ids)


def _square(weights):
    weights = np.asarray(weights, "float64")
    if weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
        raise ValueError(f"Expected attention of shape (L, N, T, T); got {weights.shape}.")
    return weights
