"""Labels of words and the entities that they stand for: BIO labels, valid sequences of them, and F1 by entity.

"B-person" says that a person begins at a word, "I-person" that it goes on there, and "O" that the word is outside of
every entity (Ramshaw and Marcus, 1995, https://aclanthology.org/W95-0107). A span is a triple: its type, the place of
its first word, and the place after its last word.

Shapes: W words, C labels.
"""

import numpy as np

OUTSIDE = "O"


def bio_to_spans(labels):
    """Finds the entities that valid labels stand for.

    Args:
        labels: W strings, "O", "B-type" or "I-type".

    Returns:
        A list of spans (type, start, end), from left to right. The words of each are `words[start:end]`.

    Raises:
        ValueError: if a label is none of these, or an entity goes on where none of its type began. `repair_bio` makes
            such labels valid.
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
    """Makes the labels that stand for entities: the inverse of `bio_to_spans`.

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
            raise ValueError(f"Expected spans that do not overlap; got {(kind, start, end)} over another.")
        labels[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return labels


def is_valid_transition(before, label):
    """Tells whether one label may follow another. The first word's label must be able to follow "O".

    Args:
        before: a label.
        label: a label.

    Returns:
        True, unless `label` continues an entity that `before` is not part of.
    """
    return not label.startswith("I-") or before in (f"B-{label[2:]}", label)


def repair_bio(labels):
    """Makes labels valid: an "I-type" that may not follow the label before it becomes "B-type".

    `conlleval` reads invalid labels this way, and so does `seqeval` by default.

    Args:
        labels: W strings.

    Returns:
        A list of W strings.

    Raises:
        ValueError: if one is no label.
    """
    result = []
    for label in labels:
        _check(label)
        result.append(label if is_valid_transition(result[-1] if result else OUTSIDE, label) else f"B-{label[2:]}")
    return result


def viterbi_decode(scores, names):
    """Finds the valid labels with the highest sum of scores, by Viterbi's algorithm.

    Args:
        scores: log-probabilities or logits (W, C).
        names: the C labels.

    Returns:
        A list of W labels.

    Raises:
        ValueError: if the scores are not (W, C), one is not finite, a name is no label, or "O" is not among them.
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
    best = allowed[list(names).index(OUTSIDE)] + scores[0]  # for each label, the best sum of a sequence that ends in it
    back = []
    for row in scores[1:]:
        sums = best[:, None] + allowed  # (C, C), from the label before to the next
        back.append(sums.argmax(axis=0))
        best = sums.max(axis=0) + row
    path = [int(best.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return [names[index] for index in reversed(path)]


def f1_by_entity(right, predicted):
    """Computes precision, recall and F1 by entity: an entity counts as found if its words and its type are all right.

    The numbers are those of `seqeval`. It takes spans, where `seqeval` takes labels, so that entities can be selected
    first, such as those that the training split does not have; and it also returns the counts.

    Args:
        right: for each sentence, its spans.
        predicted: for each sentence, the predicted spans.

    Returns:
        A dict from each type, and from "all", to a dict with the counts `right`, `predicted` and `both`; `precision`,
        which is both / predicted; `recall`, which is both / right; and `f1`, their harmonic mean 2 P R / (P + R). A
        ratio whose denominator is 0 is 0.

    Raises:
        ValueError: if there are more or fewer sentences in one than in the other.
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
