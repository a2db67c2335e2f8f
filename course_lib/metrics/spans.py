"""BIO labels of words and the entities they stand for: conversion, repair, valid decoding, and F1 by entity.

"B-person" marks the first word of a person, "I-person" each further word of it, and "O" a word outside of every entity
(Ramshaw and Marcus, 1995, https://aclanthology.org/W95-0107). A span is a triple: the type, the index of the first
word, and the index after the last word.

Shapes: W words, C labels.
"""

import numpy as np

OUTSIDE = "O"


def bio_to_spans(labels):
    """Turns valid labels into entities.

    Args:
        labels: W strings, "O", "B-type" or "I-type".

    Returns:
        A list of spans (type, start, end), from left to right. The words of each are `words[start:end]`.

    Raises:
        ValueError: if a label has a different form, or an "I-type" does not continue an entity of its type.
            `repair_bio` makes such sequences valid.
    """
    found, before = [], OUTSIDE
    for place, label in enumerate(labels):
        _check(label)
        if not is_valid_transition(before, label):
            raise ValueError(f"Expected {label!r} to go on where an entity of its type is; word {place} is not there.")
        if label.startswith("B-"):
            found.append((label[2:], place, place + 1))
        elif label != OUTSIDE:
            found[-1] = (*found[-1][:2], place + 1)
        before = label
    return found


def spans_to_bio(entities, length):
    """Turns entities into labels, the inverse of `bio_to_spans`.

    Args:
        entities: spans (type, start, end), in any order.
        length: W, the number of words.

    Returns:
        A list of W strings.

    Raises:
        ValueError: if a span is empty or ends after the last word, or two spans overlap.
    """
    labels = [OUTSIDE] * length
    for kind, start, end in entities:
        if not 0 <= start < end <= length:
            raise ValueError(f"Expected 0 <= start < end <= {length}; got the span {(kind, start, end)}.")
        if any(label != OUTSIDE for label in labels[start:end]):
            raise ValueError(f"Expected spans that do not overlap; {(kind, start, end)} overlaps another span.")
        labels[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return labels


def is_valid_transition(before, label):
    """Tells whether one label may follow another. For the first word, `before` is "O".

    Args:
        before: a label.
        label: a label.

    Returns:
        False if `label` is an "I-type" and `before` is not part of an entity of this type, otherwise True.
    """
    return not label.startswith("I-") or before in (f"B-{label[2:]}", label)


def repair_bio(labels):
    """Makes labels valid: turns an "I-type" that cannot follow the label before it into "B-type".

    `conlleval` reads invalid labels this way, and so does `seqeval` by default.

    Args:
        labels: W strings.

    Returns:
        A list of W strings.

    Raises:
        ValueError: if a label does not have the form "O", "B-type" or "I-type".
    """
    result = []
    for label in labels:
        _check(label)
        result.append(label if is_valid_transition(result[-1] if result else OUTSIDE, label) else f"B-{label[2:]}")
    return result


def viterbi_decode(scores, names):
    """Finds the valid sequence of labels with the highest sum of scores, by Viterbi's algorithm.

    Args:
        scores: log-probabilities or logits (W, C).
        names: the C labels.

    Returns:
        A list of W labels.

    Raises:
        ValueError: if the scores are not (W, C) or not all finite, a name is not a valid label, or "O" is not among the
            names.
    """
    scores = np.asarray(scores, "float64")
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(f"Expected scores (W, {len(names)}), one column per label; got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("Expected finite scores; got infinities or NaN.")
    for name in names:
        _check(name)
    if OUTSIDE not in names:
        raise ValueError(f"Expected {OUTSIDE!r} among the labels; got {list(names)}.")
    if not len(scores):
        return []
    allowed = np.array(
        [[0 if is_valid_transition(before, name) else -np.inf for name in names] for before in names]
    )  # (C, C)
    best = allowed[list(names).index(OUTSIDE)] + scores[0]  # for each label, the highest sum of a sequence ending in it
    back = []
    for row in scores[1:]:
        sums = best[:, None] + allowed  # (C, C), [label before, label]
        back.append(sums.argmax(axis=0))
        best = sums.max(axis=0) + row
    path = [int(best.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return [names[index] for index in reversed(path)]


def f1_by_entity(right, predicted):
    """Computes precision, recall and F1 by entity: an entity is found if all its words and its type are right.

    The numbers equal those of `seqeval`. But this function takes spans, not labels, so you can select entities first,
    for example those that do not occur in the training split. It also returns the counts.

    Args:
        right: for each sentence, its true spans.
        predicted: for each sentence, the predicted spans.

    Returns:
        A dict from each type, and from "all", to a dict. It has the counts `right`, `predicted` and `both`;
        `precision`, which is both / predicted; `recall`, which is both / right; and `f1`, their harmonic mean 2 P R /
        (P + R). A ratio whose denominator is 0 is 0.

    Raises:
        ValueError: if the two differ in their number of sentences.
    """
    if len(right) != len(predicted):
        raise ValueError(f"Expected predictions for {len(right)} sentences; got {len(predicted)}.")
    groups = {"right": [], "predicted": [], "both": []}  # the type of each entity
    for ours, theirs in zip(map(set, right), map(set, predicted), strict=True):
        for group, spans in zip(groups.values(), (ours, theirs, ours & theirs), strict=True):
            group += [kind for kind, _, _ in spans]
    result = {}
    for kind in sorted({"all", *groups["right"], *groups["predicted"]}):
        counts = {name: len(kinds) if kind == "all" else kinds.count(kind) for name, kinds in groups.items()}
        both = counts["both"]
        result[kind] = {
            "precision": both / max(counts["predicted"], 1),
            "recall": both / max(counts["right"], 1),
            "f1": 2 * both / max(counts["right"] + counts["predicted"], 1),
        } | counts
    return result


def _check(label):
    if label != OUTSIDE and not (isinstance(label, str) and label[:2] in ("B-", "I-") and label[2:]):
        raise ValueError(f"Expected the labels 'O', 'B-type' and 'I-type'; got {label!r}.")
