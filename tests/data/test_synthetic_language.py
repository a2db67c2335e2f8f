"""The artificial language: every exact quantity equals its sum over everything that could have been."""

import itertools

import numpy as np
import pytest

from course_lib import WordPieceTokenizer
from course_lib.data.synthetic_language import FIRST_WORD, MASK, ArtificialLanguage, entropy
from course_lib.text.masking import Masking

pytestmark = pytest.mark.one_backend

T = 5  # words a row, where all texts are enumerated
WORDS = np.arange(FIRST_WORD, FIRST_WORD + 3)
RULES = {  # how the chosen are shown: [MASK], a random word, the word itself
    "masks alone": {"mask_fraction": 1, "random_fraction": 0},
    "all three": {"mask_fraction": 0.4, "random_fraction": 0.3},
    "no random words": {"mask_fraction": 0.5, "random_fraction": 0},
    "no masks": {"mask_fraction": 0, "random_fraction": 0.6},
}


@pytest.fixture(scope="module")
def small():
    return ArtificialLanguage.draw(num_words=3, num_topics=2, near=1, far=1, taste=1, seed=1)


@pytest.fixture(scope="module")
def language():
    return ArtificialLanguage.draw()


def masking_of(language, **settings):
    tokenizer = WordPieceTokenizer(language.vocabulary)
    return Masking.of(tokenizer, **settings)


def probability(language, words):
    """Of a piece of text: a sum over its topic and the unknown word before it."""
    total = 0
    for table, pairs in zip(language.transitions, language.pairs, strict=True):
        for first in range(language.num_words):
            path = pairs[first, words[0]]
            for a, b, c in zip((first, *words), words, words[1:], strict=False):
                path *= table[a, b, c]
            total += path
    return total


def texts(language, length=T):
    """Every text of a length, and how likely it is."""
    every = np.array(list(itertools.product(range(language.num_words), repeat=length)))
    return every, np.array([probability(language, words) for words in every])


def pairs_of_parts(language):
    """As `texts`, with the probabilities when the second part follows, and when it is from another document."""
    every, follows = texts(language)
    middle = T // 2
    apart = [probability(language, words[:middle]) * probability(language, words[middle:]) for words in every]
    return every, follows, np.array(apart)


def likelihood(shown, every, count, masking, chosen=None):
    """Of what a row shows, for each text: a mean over all sets of `count` chosen words, all those with `chosen`."""
    num_words = len(masking.regular_ids)
    kept = 1 - masking.mask_fraction - masking.random_fraction
    same = shown == every
    if_chosen = np.where(shown < 0, masking.mask_fraction, masking.random_fraction / num_words + kept * same)
    total = 0
    for subset in itertools.combinations(range(every.shape[1]), count):
        if chosen is None or chosen in subset:
            total = total + np.prod(np.where(np.isin(range(every.shape[1]), subset), if_chosen, same), axis=1)
    return total


def words_shown(inputs):
    words = inputs["token_ids"][inputs["token_ids"] >= MASK].reshape(len(inputs["token_ids"]), -1)
    return np.where(words == MASK, -1, words - FIRST_WORD)


# The language


def test_the_pairs_are_stationary_and_texts_are_drawn_from_them(small):
    for table, pairs in zip(small.transitions, small.pairs, strict=True):
        np.testing.assert_allclose(np.einsum("ab,abc->bc", pairs, table), pairs, atol=1e-12)
    np.testing.assert_allclose(small.pairs.sum(axis=(1, 2)), 1 / 2)
    every, probabilities = texts(small)
    assert probabilities.sum() == pytest.approx(1)
    drawn = small.documents(20_000, T, seed=0) - FIRST_WORD
    counted = np.bincount(np.ravel_multi_index(drawn.T, (3,) * T), minlength=len(every))
    deviations = (counted - 20_000 * probabilities) / np.sqrt(20_000 * probabilities * (1 - probabilities))
    assert np.abs(deviations).max() < 4.5 and 0.8 < np.mean(deviations**2) < 1.2


def test_texts_depend_on_the_seed_alone(language):
    one, same, other = (language.documents(3, 40, seed) for seed in ((7, 0), (7, 0), (7, 1)))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert one.dtype == np.int32 and one.min() >= FIRST_WORD
    assert np.array_equal(ArtificialLanguage.draw(seed=3).transitions, ArtificialLanguage.draw(seed=3).transitions)
    assert not np.allclose(ArtificialLanguage.draw(seed=3).transitions, ArtificialLanguage.draw(seed=4).transitions)


def test_rows_are_those_of_a_tokenizer(language):
    tokenizer = WordPieceTokenizer(language.vocabulary)
    first, second, labels = language.sentence_pairs(4, 7, seed=0)
    assert first.shape == (4, 3) and second.shape == (4, 4) and sorted(labels) == [0, 0, 1, 1]
    parts = [[tokenizer.decode(ids) for ids in part] for part in (first, second)]
    for rows, expected in [
        (language.rows(first), tokenizer(parts[0])),
        (language.rows(first, second), tokenizer(*parts)),
    ]:
        assert all(np.array_equal(rows[name], expected[name]) for name in expected)


def test_true_pairs_follow_and_false_ones_are_independent(small):
    every, follows, apart = pairs_of_parts(small)
    first, second, labels = small.sentence_pairs(20_000, T, seed=0)
    index = np.ravel_multi_index((np.concatenate([first, second], axis=1) - FIRST_WORD).T, (3,) * T)
    for label, probabilities in enumerate((follows, apart)):
        expected = 10_000 * probabilities
        counted = np.bincount(index[labels == label], minlength=len(every))
        assert 0.8 < np.mean((counted - expected) ** 2 / expected) < 1.2


# What is exact, against enumeration


@pytest.mark.parametrize("rule", RULES)
def test_word_posterior(small, rule):
    masking = masking_of(small, rate=0.4, positions=3, **RULES[rule])
    every, probabilities = texts(small)
    inputs, _, weights = masking(small.rows(small.documents(40, T, seed=0)), seed=0, step=0)
    exact = small.word_posterior(inputs, weights, masking)
    assert exact.shape == (40, 3, small.num_words + FIRST_WORD) and weights.sum() == 80
    for row, shown in enumerate(words_shown(inputs)):
        for slot, position in enumerate(inputs["mask_positions"][row] - 1):
            if not weights[row, slot]:
                assert not exact[row, slot].any()
                continue
            joint = probabilities * likelihood(shown, every, 2, masking, chosen=position)
            expected = np.bincount(every[:, position], joint, 3) / joint.sum()
            np.testing.assert_allclose(exact[row, slot, FIRST_WORD:], expected, atol=1e-12)
            assert not exact[row, slot, :FIRST_WORD].any()


@pytest.mark.parametrize("rule", RULES)
def test_posteriors_of_pairs(small, rule):
    masking = masking_of(small, rate=0.4, positions=2, **RULES[rule])
    every, follows, apart = pairs_of_parts(small)
    first, second, _ = small.sentence_pairs(40, T, seed=0)
    inputs, _, weights = masking(small.rows(first, second), seed=0, step=0)
    words, follow = (method(inputs, weights, masking) for method in (small.word_posterior, small.next_posterior))
    for row, shown in enumerate(words_shown(inputs)):
        seen = likelihood(shown, every, 2, masking)
        assert follow[row] == pytest.approx(follows @ seen / ((follows + apart) @ seen), abs=1e-12)
        for slot, position in enumerate(inputs["mask_positions"][row]):
            position -= 1 if position <= T // 2 else 2
            joint = (follows + apart) * likelihood(shown, every, 2, masking, chosen=position)
            expected = np.bincount(every[:, position], joint, 3) / joint.sum()
            np.testing.assert_allclose(words[row, slot, FIRST_WORD:], expected, atol=1e-12)


def test_next_posterior_of_whole_parts(small):
    every, follows, apart = pairs_of_parts(small)
    exact = small.next_posterior(small.rows(every[:, : T // 2] + FIRST_WORD, every[:, T // 2 :] + FIRST_WORD))
    np.testing.assert_allclose(exact, follows / (follows + apart), atol=1e-12)


def test_next_word(small):
    every, probabilities = texts(small)
    exact = small.next_word(every + FIRST_WORD)
    for t in range(T):
        seen = np.ravel_multi_index(every[:, :t].T, (3,) * t) if t else np.zeros(len(every), int)
        joint = np.zeros((3**t, 3))
        np.add.at(joint, (seen, every[:, t]), probabilities)
        np.testing.assert_allclose(
            exact[:, t, FIRST_WORD:], (joint / joint.sum(axis=1, keepdims=True))[seen], atol=1e-12
        )
    assert not exact[..., :FIRST_WORD].any()


def test_closed_forms(small):
    every, probabilities = texts(small, 3)
    one = np.bincount(every[:, 1], probabilities)
    around = np.bincount(3 * every[:, 0] + every[:, 2], probabilities)
    assert small.unigram_loss == pytest.approx(entropy(one))
    assert small.neighbour_loss == pytest.approx(entropy(probabilities) - entropy(around))
    documents = small.documents(2000, 60, seed=0)
    late = entropy(small.next_word(documents))[:, -10:].mean(axis=1)
    assert abs(late.mean() - small.entropy_rate) < 4 * late.std() / np.sqrt(len(late)) + 1e-3
    whole = entropy(texts(small)[1])
    assert T * small.entropy_rate < whole < T * small.entropy_rate + np.log(2)


def test_entropy():
    assert entropy(np.array([[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])) == pytest.approx([np.log(2), 0, 0])


# What is exact, against draws


def standard_errors(differences):
    """How many standard errors the mean of independent numbers is away from zero."""
    return differences.mean() / (differences.std() / np.sqrt(len(differences)))


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("rule", [{}, RULES["masks alone"]])
def test_the_exact_loss_on_draws_is_the_entropy(language, rule, pairs):
    masking = masking_of(language, positions=5, **rule)
    first, second, follows = language.sentence_pairs(1500, 32, seed=1)
    rows = language.rows(first, second) if pairs else language.rows(language.documents(1500, 32, seed=1))
    inputs, labels, weights = masking(rows, seed=0, step=0)
    exact = language.word_posterior(inputs, weights, masking)
    loss = -np.log(np.take_along_axis(exact, labels[..., None], axis=-1))[..., 0]
    assert abs(standard_errors((loss - entropy(exact)).mean(axis=1))) < 3.5
    if pairs:
        follow = language.next_posterior(inputs, weights, masking)
        assert abs(standard_errors((follows == 0) - follow)) < 3.5
        sure = np.abs(follow - 0.5) > 0.4
        assert abs(standard_errors(((follows == 0) - follow)[sure])) < 3.5 and 300 < sure.sum() < 1200


def test_the_rule_that_is_left_out_shows(language):
    """Whoever takes corrupted words at face value, or forgets that the asked position was chosen, loses."""
    masking = masking_of(language, positions=5)
    inputs, labels, weights = masking(language.rows(language.documents(1500, 32, seed=2)), seed=0, step=0)
    exact = language.word_posterior(inputs, weights, masking)
    other = language.word_posterior(inputs, weights, masking_of(language, positions=5, random_fraction=0.19))
    right, wrong = (
        -np.log(np.take_along_axis(p, labels[..., None], axis=-1)).mean(axis=(1, 2)) for p in (exact, other)
    )
    assert standard_errors(wrong - right) > 3


def test_the_language_is_neither_a_table_nor_a_boundary(language):
    """What DESIGN asks of it: unigrams at least twice the floor, the best table of neighbours 1.15 times it."""
    masking = masking_of(language, positions=5, **RULES["masks alone"])
    inputs, _, weights = masking(language.rows(language.documents(2000, 32, seed=3)), seed=0, step=0)
    floor = entropy(language.word_posterior(inputs, weights, masking)).mean()
    assert language.unigram_loss > 2 * floor and language.neighbour_loss > 1.15 * floor
    first, second, _ = language.sentence_pairs(2000, 32, seed=3)
    whole = language.next_posterior(language.rows(first, second))
    boundary = language.next_posterior(language.rows(first[:, -2:], second[:, :2]))
    best, alone = (np.maximum(p, 1 - p).mean() for p in (whole, boundary))
    assert best > 0.85 and alone < best - 0.1


def test_long_rows_do_not_underflow(language):
    first, second, _ = language.sentence_pairs(2, 1000, seed=0)
    masking = masking_of(language, positions=150)
    inputs, _, weights = masking(language.rows(first, second), seed=0, step=0)
    exact = language.word_posterior(inputs, weights, masking)
    np.testing.assert_allclose(exact.sum(axis=-1), weights)
    assert np.isfinite(language.next_posterior(inputs, weights, masking)).all()
    assert np.isfinite(language.next_word(language.documents(2, 1000, seed=0))).all()


# Bad input


def test_bad_transitions():
    with pytest.raises(ValueError, match=r"shape \(K, W, W, W\).*; got \(2, 3, 3\)"):
        ArtificialLanguage(np.full((2, 3, 3), 1 / 3))
    with pytest.raises(ValueError, match="W at most 52; got"):
        ArtificialLanguage(np.full((1, 53, 53, 53), 1 / 53))
    with pytest.raises(ValueError, match="sum to one"):
        ArtificialLanguage(np.full((2, 3, 3, 3), 1 / 2))
    with pytest.raises(ValueError, match="above zero"):
        ArtificialLanguage(np.tile([0.0, 0.5, 0.5], (2, 3, 3, 1)))


def test_rows_that_cannot_be(small):
    rows = small.rows(small.documents(2, T, seed=0))
    with pytest.raises(ValueError, match="two segments; got one"):
        small.next_posterior(rows)
    with pytest.raises(ValueError, match="ids of words, 5 to 7"):
        small.next_word(rows["token_ids"])
    asked = {**rows, "mask_positions": np.array([[1], [2]])}
    with pytest.raises(ValueError, match="1 to 1 fewer"):
        small.word_posterior(asked)
    masked = {**asked, "token_ids": np.where(np.arange(T + 2) == 1, MASK, rows["token_ids"])}
    with pytest.raises(ValueError, match=r"Expected \[MASK\] at each of the predictions"):
        small.word_posterior(masked)
    with pytest.raises(ValueError, match="-1 to -1 fewer"):
        small.word_posterior(masked, np.zeros((2, 1)))
    other = {**masked, "token_ids": masked["token_ids"] + (masked["token_ids"] > MASK)}
    with pytest.raises(ValueError, match="words of this language"):
        small.word_posterior({**other, "token_ids": other["token_ids"] + 2 * (other["token_ids"] > MASK)})
    shorter = np.where(np.arange(T + 2) == T, np.array([[0], [MASK]]), masked["token_ids"])
    with pytest.raises(ValueError, match="one layout"):
        small.word_posterior({**masked, "token_ids": shorter})
