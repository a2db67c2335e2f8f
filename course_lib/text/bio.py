"""Labels of words and the spans that they stand for: BIO, its valid sequences, and F1 by entity.

"B-person" says that a person begins at a word, "I-person" that it goes on there, and "O" that the word is outside of
every entity (Ramshaw and Marcus, 1995, https://aclanthology.org/W95-0107). A span is a triple: its type, its first
word, and the word after its last.

Shapes: W words, C labels.
"""

import collections

import numpy as np

OUTSIDE = "O"


def spans(labels):
    """The entities that labels stand for, read as strictly as they are valid.

    Args:
        labels: W strings, "O", "B-type" or "I-type".

    Returns:
        A list of triples (type, start, end), in their order; the words are `words[start:end]`.

    Raises:
        ValueError: if a label is none of these, or an entity goes on where none of its type began.
    """
    found, before = [], OUTSIDE
    for place, label in enumerate(labels):
        _check(label)
        if not may_follow(before, label):
            raise ValueError(f"Expected {label!r} to go on where an entity of its type is; word {place} is not there.")
        if label.startswith("B-"):
            found.append((label[2:], place, place + 1))
        elif label != OUTSIDE:
            found[-1] = (*found[-1][:2], place + 1)
        before = label
    return found


def labels_of(entities, length):
    """The labels that stand for entities: the inverse of `spans`.

    Args:
        entities: triples (type, start, end), in any order.
        length: W, the number of words.

    Returns:
        A list of W strings.

    Raises:
        ValueError: if a span is empty or goes beyond the words, or two overlap.
    """
    labels = [OUTSIDE] * length
    for kind, start, end in entities:
        if not 0 <= start < end <= length:
            raise ValueError(f"Expected 0 <= start < end <= {length}; got the span {(kind, start, end)}.")
        if any(label != OUTSIDE for label in labels[start:end]):
            raise ValueError(f"Expected spans that do not overlap; got {(kind, start, end)} over another.")
        labels[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return labels


def may_follow(before, label):
    """Whether one label may stand behind another; "O" stands before the first word.

    Args:
        before: a label.
        label: a label.

    Returns:
        True, unless `label` goes on with an entity that `before` is no part of.
    """
    return not label.startswith("I-") or before in (f"B-{label[2:]}", label)


def mended(labels):
    """Labels in which an entity begins where it would go on without having begun.

    This is how `conlleval`, and `seqeval` unless told otherwise, read what is not valid.

    Args:
        labels: W strings.

    Returns:
        A list of W strings: an "I-type" that may not follow what is before it has become "B-type".

    Raises:
        ValueError: if one is no label.
    """
    result = []
    for label in labels:
        _check(label)
        result.append(label if may_follow(result[-1] if result else OUTSIDE, label) else f"B-{label[2:]}")
    return result


def best_valid(scores, names):
    """The valid labels with the highest sum of scores, by Viterbi's algorithm.

    Args:
        scores: log-probabilities or logits (W, C).
        names: the C labels.

    Returns:
        W names.

    Raises:
        ValueError: if the scores are not (W, C), one is not finite, a name is no label, or "O" is not among them.
    """
    scores = np.asarray(scores, "float64")
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(f"Expected scores (W, {len(names)}), a column for each label; got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("Expected finite scores; got infinities or NaN.")
    for name in names:
        _check(name)
    if OUTSIDE not in names:
        raise ValueError(f"Expected {OUTSIDE!r} among the labels; got {list(names)}.")
    if not len(scores):
        return []
    allowed = np.array([[0 if may_follow(before, name) else -np.inf for name in names] for before in names])  # (C, C)
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
    """How many entities were found: one counts if its words and its type are all right.

    Args:
        right: for each sentence, its spans.
        predicted: for each sentence, spans.

    Returns:
        A dict from each type, and from "all", to a dict with `precision`, the share of what was predicted that is
        right; `recall`, the share of what is right that was predicted; `f1`, their harmonic mean 2 P R / (P + R); and
        the counts `right`, `predicted` and `both`. A share of nothing is 0.

    Raises:
        ValueError: if there are not as many sentences in one as in the other.
    """
    if len(right) != len(predicted):
        raise ValueError(f"Expected predictions for {len(right)} sentences; got {len(predicted)}.")
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for ours, theirs in zip(map(set, right), map(set, predicted), strict=True):
        for place, group in enumerate((ours, theirs, ours & theirs)):
            for kind, *_ in group:
                counts[kind][place] += 1
                counts["all"][place] += 1
    counts["all"][0] += 0  # there, even if there is no entity
    return {kind: _shares(*counts[kind]) for kind in sorted(counts)}


def _shares(right, predicted, both):
    return {
        "precision": both / max(predicted, 1),
        "recall": both / max(right, 1),
        "f1": 2 * both / max(right + predicted, 1),
        "right": right,
        "predicted": predicted,
        "both": both,
    }


def _check(label):
    if label != OUTSIDE and not (isinstance(label, str) and label[:2] in ("B-", "I-") and label[2:]):
        raise ValueError(f"Expected the labels 'O', 'B-type' and 'I-type'; got {label!r}.")
