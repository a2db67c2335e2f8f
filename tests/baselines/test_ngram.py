"""The interpolated n-gram model, by hand; and that fitting does what it says."""

import numpy as np
import pytest

from course_lib.baselines.ngram import InterpolatedNgram

pytestmark = pytest.mark.one_backend


def test_shares_by_hand():
    """Counted: 0 1 2, 1 2 3 and 0 3 2, so that 1 and 3 stand between 0 and 2, and 2 between 1 and 3."""
    model = InterpolatedNgram([[0, 1, 2, 3], [0, 3, 2], [7, 7]], vocabulary_size=8)
    p = model.probabilities([0, 1, 5], [2, 3, 6])
    assert p.shape == (3, 8) and p.dtype == "float32"
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    third = 1 / 3
    np.testing.assert_allclose(p[0, :4], [0, (third + 3 * 0.5) / 4, third / 4, (third + 3 * 0.5) / 4], rtol=1e-6)
    np.testing.assert_allclose(p[1, :4], [0, third / 4, (third + 3) / 4, third / 4], rtol=1e-6)
    np.testing.assert_allclose(p[2, :4], [0, third, third, third], rtol=1e-6)  # neighbours never seen


def test_fitting_raises_the_probability_of_what_was_held_out():
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(12, 0.3), size=12)

    def document():
        tokens = [0]
        for _ in range(200):
            tokens.append(rng.choice(12, p=chain[tokens[-1]]))
        return np.array(tokens)

    model = InterpolatedNgram([document() for _ in range(10)], vocabulary_size=12)
    tuning, test = document(), document()

    def loss():
        p = model.probabilities(test[:-2], test[2:])
        return -np.mean(np.log(p[np.arange(len(p)), test[1:-1]] + 1e-9))

    before = loss()
    model.fit(tuning[:-2], tuning[1:-1], tuning[2:])
    assert loss() < before - 0.1
    np.testing.assert_allclose(model.weights.sum(axis=1), 1)
    exact = chain[test[:-2]] * chain[:, test[2:]].T  # what the chain itself says
    exact /= exact.sum(axis=1, keepdims=True)
    assert loss() > -np.mean(np.log(exact[np.arange(len(exact)), test[1:-1]]))


@pytest.mark.parametrize(("seen", "group"), [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2), (10, 3), (29, 3), (30, 4)])
def test_the_weights_are_those_of_how_often_the_neighbours_were_seen(seen, group):
    """Those of one group are set apart, and then are the only ones that fitting in this group changes."""
    model = InterpolatedNgram([[0, 1, 2]] * seen + [[0, 3, 4], [5, 1, 2]], vocabulary_size=6)
    model.weights[:] = [1, 0, 0, 0]
    model.weights[group] = [0, 0, 1, 0]  # to the left of 2 stands nothing but 1
    assert model.probabilities([0], [2])[0, 1] == 1
    model.weights[:] = 0.25
    model.fit([0], [1], [2])
    assert np.all(model.weights == 0.25, axis=1).tolist() == [row != group for row in range(5)]


def test_documents_without_a_token_between_two():
    with pytest.raises(ValueError, match="three tokens or more"):
        InterpolatedNgram([[1, 2], []], vocabulary_size=8)
