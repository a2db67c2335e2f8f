r"""Faithfulness: does the model's score follow what an attribution says?

Words are left out in the order of their attributed value. A faithful attribution finds the words without which the
probability falls (comprehensiveness, deletion), and those that suffice for it (sufficiency, insertion). Compare with
`random_attribution`, and with the attributions of a model with shuffled weights.

Shapes: n texts, F fractions.
"""

import math

import keras
import numpy as np

from course_lib.interpretability.questions import Question

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
BINS = (0.1, 0.2, 0.5)


def deletion_curve(model, attributions, fractions=FRACTIONS):
    """Computes the probability of the target as the words with the highest values are left out.

    Args:
        model: the model that was explained.
        attributions: n `Attribution`, or one.
        fractions: F shares of a text's words, rounded up to whole words.

    Returns:
        Floats (n, F). A faithful attribution makes the curve fall early.

    Raises:
        ValueError: if there are no attributions, a fraction is not in [0, 1], or a target is unknown to the model.
    """
    return _curve(model, attributions, fractions, keeps_top=False)


def insertion_curve(model, attributions, fractions=FRACTIONS):
    """Computes the probability of the target when only the words with the highest values are kept.

    Args:
        model: the model that was explained.
        attributions: n `Attribution`, or one.
        fractions: F shares of a text's words, rounded up to whole words.

    Returns:
        Floats (n, F). A faithful attribution makes the curve rise early.

    Raises:
        ValueError: as `deletion_curve` says.
    """
    return _curve(model, attributions, fractions, keeps_top=True)


def comprehensiveness(model, attributions, fractions=BINS):
    """Computes how much probability the target loses without its most important words.

    Averaged over the fractions, as in ERASER (DeYoung et al., 2020, https://arxiv.org/abs/1911.03429, section 4.2).

    Args:
        model: the model that was explained.
        attributions: n `Attribution`, or one.
        fractions: the shares of the words that are left out.

    Returns:
        Floats (n,). Higher is more faithful.

    Raises:
        ValueError: as `deletion_curve` says.
    """
    found = deletion_curve(model, attributions, (0.0, *fractions))
    return (found[:, :1] - found[:, 1:]).mean(axis=1)


def sufficiency(model, attributions, fractions=BINS):
    """Computes how much probability the target loses if only its most important words are kept.

    Averaged over the fractions, as in ERASER (DeYoung et al., 2020, https://arxiv.org/abs/1911.03429, section 4.2).

    Args:
        model: the model that was explained.
        attributions: n `Attribution`, or one.
        fractions: the shares of the words that are kept.

    Returns:
        Floats (n,). Lower is more faithful.

    Raises:
        ValueError: as `deletion_curve` says.
    """
    found = insertion_curve(model, attributions, (*fractions, 1.0))
    return (found[:, -1:] - found[:, :-1]).mean(axis=1)


def shuffled_weights(model, seed=0):
    """Copies a model and shuffles the entries of each of its weights: the model randomization test.

    An attribution that looks the same for the copy says nothing about what the model has learned (Adebayo et al., 2018,
    https://arxiv.org/abs/1810.03292).

    Args:
        model: a `Task` or a `Backbone`.
        seed: an integer.

    Returns:
        A model of the same class, with the same tokenizer. Scales and biases keep their distribution, too.

    Raises:
        ValueError: if the copy has other weights than the model, such as without LoRA.
    """
    model.build()
    copy = type(model).from_config(model.get_config())
    getattr(copy, "backbone", copy).tokenizer = getattr(model, "backbone", model).tokenizer
    copy.build()
    weights, rng = model.get_weights(), np.random.default_rng(seed)
    if [weight.shape for weight in weights] != [weight.shape for weight in copy.get_weights()]:
        raise ValueError("Expected a model whose config describes its weights; this one has others. Merge LoRA first.")
    copy.set_weights([rng.permutation(weight.ravel()).reshape(weight.shape) for weight in weights])
    return copy


def _curve(model, attributions, fractions, keeps_top):
    attributions = list(attributions) if isinstance(attributions, list | tuple) else [attributions]
    if not attributions:
        raise ValueError("Expected at least one attribution; got none.")
    if not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"Expected fractions from 0 to 1; got {fractions}.")
    question = Question.ask(model, [each.text for each in attributions], [each.target_id for each in attributions])
    rows = np.repeat(np.arange(len(attributions)), len(fractions))
    masks = np.ones((len(rows), question.lengths.max()), "int32")
    for mask, row, fraction in zip(masks, rows, list(fractions) * len(attributions), strict=True):
        found = attributions[row]
        top = np.argsort(-found.word_values, kind="stable")[: math.ceil(round(fraction * len(found.words), 6))]
        is_top = np.isin(found.word_ids, top)
        left_out = ~is_top & (found.word_ids >= 0) if keeps_top else is_top
        mask[: len(left_out)] = ~left_out
    scores = question.scores(rows, masks).reshape(len(attributions), len(fractions))
    return keras.ops.convert_to_numpy(keras.ops.sigmoid(scores.astype("float64")))
