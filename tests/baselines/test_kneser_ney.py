"""Kneser–Ney against its definition, computed with dictionaries."""

import collections

import numpy as np
import pytest

from course_lib.baselines.kneser_ney import KneserNey

pytestmark = pytest.mark.one_backend

END, V = 6, 7
RNG = np.random.default_rng(0)
DOCUMENTS = [RNG.choice(5, p=[0.5, 0.2, 0.15, 0.1, 0.05], size=size).tolist() for size in (0, 1, 2, 9, 30, 40, 40)]
OTHERS = [RNG.choice(6, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05], size=30).tolist() for _ in range(4)]


class ByDefinition:
    """The same model from its formula, n-gram by n-gram."""

    def __init__(self, documents, order, discounts):
        self.discounts = discounts
        streams = [(END, *document, END) for document in documents]
        self.counts = []
        for length in range(1, order + 1):
            before = collections.defaultdict(set)
            for number, stream in enumerate(streams):
                for start in range(0 if length > 1 else 1, len(stream) - length + 1):
                    gram = stream[start : start + length]
                    is_counted_whole = length == order or start == 0
                    before[gram].add((number, start) if is_counted_whole else stream[start - 1])
            self.counts.append({gram: len(seen) for gram, seen in before.items()})

    def p(self, context, token, length):
        """p of a token given the `length` - 1 before it."""
        if length == 0:
            return 1 / V
        shorter = self.p(context, token, length - 1)
        if len(context) < length - 1:
            return shorter
        context = tuple(context[len(context) - length + 1 :])
        counts = {gram[-1]: count for gram, count in self.counts[length - 1].items() if gram[:-1] == context}
        if not counts:
            return shorter
        off = {other: self.discounts[length - 1][min(count, 3) - 1] for other, count in counts.items()}
        share = counts.get(token, 0) - off.get(token, 0)
        return (share + sum(off.values()) * shorter) / sum(counts.values())


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_it_is_what_the_definition_says(order):
    model = KneserNey(DOCUMENTS, V, END, order)
    slow = ByDefinition(DOCUMENTS, order, model.discounts)
    losses = model.losses(OTHERS)
    assert [len(loss) for loss in losses] == [31] * 4
    for document, loss in zip(OTHERS, losses, strict=True):
        stream = (END, *document, END)
        expected = [slow.p(stream[:place], stream[place], order) for place in range(1, len(stream))]
        np.testing.assert_allclose(np.exp(-loss), expected, rtol=1e-12)
    for context in ([], [END], [END, 0], [0, 0, 0, 0], [1, 3, 2, 4, 0], [5, 5], [0, 5], [3, END]):
        expected = [slow.p(context, token, order) for token in range(V)]
        np.testing.assert_allclose(model.probabilities(context), expected, rtol=1e-12)
        assert sum(expected) == pytest.approx(1)


def test_by_hand():
    """Counted: 0 1, 0 1 and 2 1, so that 1 follows on two tokens, and 0, 2 and the end on one each."""
    model = KneserNey([[0, 1], [0, 1], [2, 1]], 4, 3, order=2, discounts=[[0.5, 0.75, 1]] * 2)
    shared = (3 * 0.5 + 0.75) / 5 / 4
    np.testing.assert_allclose(model.probabilities([]), np.array([0.1, 0.25, 0.1, 0.1]) + shared)
    after_0 = 1 / 2 * 0.75 * model.probabilities([]) + np.array([0, 1.25 / 2, 0, 0])
    np.testing.assert_allclose(model.probabilities([0]), after_0)
    begins = np.array([1.25, 0, 0.5, 0]) / 3 + 1.25 / 3 * model.probabilities([])
    np.testing.assert_allclose(model.probabilities([3]), begins)


def test_the_discounts_as_the_paper_estimates_them():
    """Five tokens once, two of them twice, one three times, one four times."""
    counts = [1] * 5 + [2] * 2 + [3, 4]
    model = KneserNey([np.repeat(np.arange(9), counts)], 10, 9, order=1)  # the end token is another that occurs once
    share = 6 / (6 + 2 * 2)
    expected = [1 - 2 * share * 2 / 6, 2 - 3 * share * 1 / 2, 3 - 4 * share * 1 / 1]
    np.testing.assert_allclose(model.discounts, [expected])
    np.testing.assert_allclose(KneserNey([[0]], 2, 1, order=1).discounts, [[0.5, 1, 1.5]])  # nothing to tell them from


def test_an_unseen_context_backs_off():
    model = KneserNey(DOCUMENTS, V, END, 3)
    np.testing.assert_array_equal(model.probabilities([5, 5]), model.probabilities([]))
    np.testing.assert_array_equal(model.probabilities([5, 0]), model.probabilities([0]))
    assert np.abs(model.probabilities([0, 0]) - model.probabilities([0])).max() > 0.01


def test_no_n_gram_reaches_into_another_document():
    apart = KneserNey([[0, 1], [2, 3]], V, END, 4)
    np.testing.assert_array_equal(apart.losses([[2, 3]])[0], KneserNey([[2, 3], [0, 1]], V, END, 4).losses([[2, 3]])[0])
    np.testing.assert_array_equal(apart.probabilities([1, END]), apart.probabilities([END]))


def test_fitting_makes_what_was_not_counted_more_likely():
    model = KneserNey(DOCUMENTS, V, END, 4)
    before = np.mean(np.concatenate(model.losses(OTHERS[:3])))
    model.fit(OTHERS[:3])
    assert np.mean(np.concatenate(model.losses(OTHERS[:3]))) < before - 0.01
    assert model.discounts.shape == (4, 3) and np.all(model.discounts <= [1, 2, 3])
    for row, column in np.ndindex(4, 3):  # no other discount is better
        for step in (-0.02, 0.02):
            moved = model.discounts.copy()
            moved[row, column] = np.clip(moved[row, column] + step, 0.01, column + 1)
            other = KneserNey(DOCUMENTS, V, END, 4, moved)
            assert sum(map(np.sum, other.losses(OTHERS[:3]))) > sum(map(np.sum, model.losses(OTHERS[:3]))) - 1e-3
    assert model.probabilities([0, 1, 0]).sum() == pytest.approx(1)
    np.testing.assert_array_equal(KneserNey(DOCUMENTS, V, END, 4, model.discounts).losses(OTHERS), model.losses(OTHERS))


@pytest.mark.parametrize(
    ("documents", "arguments", "said"),
    [
        ([], {}, "at least one document"),
        ([[0, 7]], {}, "from 0 to 6"),
        ([[-1]], {}, "from 0 to 6"),
        ([[0]], {"order": 0}, "from 1 to"),
        ([[0]], {"order": 22}, "from 1 to 21"),
        ([[0]], {"order": 1, "discounts": [[1, 2, 3.5]]}, "at most 1, 2 and 3"),
        ([[0]], {"order": 2, "discounts": [[1, 1, 1]]}, r"\(2, 3\)"),
    ],
)
def test_what_it_refuses(documents, arguments, said):
    with pytest.raises(ValueError, match=said):
        KneserNey(documents, V, END, **arguments)
