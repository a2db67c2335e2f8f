"""Samplers: each is its formula, sorted and cut in NumPy, and its draws have that distribution."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import ops
from layer_checks import same, to_numpy

from course_lib.generation.samplers import (
    BeamSearch,
    Greedy,
    MinP,
    Sampler,
    TopK,
    TopP,
    distribution,
    penalize,
    read_sampler,
)

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(4, 50)).astype("float32") * 3


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def reference(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """One row, by sorting, in float64; a token as likely as the last that stays, stays."""
    p = softmax(np.asarray(logits, "float64") / temperature)
    if top_k is not None:
        p = np.where(p >= np.sort(p)[::-1][min(top_k, len(p)) - 1], p, 0)
        p /= p.sum()
    if top_p is not None:
        order = np.argsort(-p, kind="stable")
        kept = np.count_nonzero(np.cumsum(p[order]) < top_p * (1 - 1e-9)) + 1
        p = np.where(p >= p[order[min(kept, len(p)) - 1]], p, 0)
        p /= p.sum()
    if min_p is not None:
        p = np.where(p >= min_p * p.max(), p, 0)
    return p / p.sum()


CUTS = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.1},
    {"top_p": 0.9},
    {"top_p": 1.0},
    {"min_p": 0.0},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"temperature": 1.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1},
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_each_distribution_is_its_formula(cuts):
    expected = np.stack([reference(row, **cuts) for row in LOGITS])
    outputs = to_numpy(distribution(LOGITS, **cuts))
    same(outputs, expected, tolerance=2e-6)
    assert np.array_equal(outputs > 1e-12, expected > 1e-12), "the same tokens are cut"
    same(Sampler(**cuts).probabilities(LOGITS), outputs, tolerance=1e-6)


def test_by_hand():
    """Probabilities of 1/2, 1/4, 1/8, 1/8."""
    logits = np.log([[0.5, 0.25, 0.125, 0.125]]).astype("float32")
    for sampler, expected in (
        (Sampler(), [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
        (Sampler(0.5), np.array([16, 4, 1, 1]) / 22),
        (TopK(2), [2 / 3, 1 / 3, 0, 0]),
        (TopK(3), [1 / 2, 1 / 4, 1 / 8, 1 / 8]),  # two are third
        (TopP(0.6), [2 / 3, 1 / 3, 0, 0]),
        (TopP(0.4), [1, 0, 0, 0]),
        (MinP(0.4), [2 / 3, 1 / 3, 0, 0]),
        (TopP(0.6, top_k=1), [1, 0, 0, 0]),
        (TopP(0.6, temperature=1e6), [1 / 4] * 4),  # three would be enough, but two are third
    ):
        same(sampler.probabilities(logits), np.array([expected]), tolerance=2e-4)
        assert np.array_equal(to_numpy(sampler.probabilities(logits))[0] == 0, np.array(expected) == 0)


@settings(max_examples=30)
@given(arrays.arrays("int32", 30, elements=st.integers(-200, 200)), st.integers(1, 30), st.floats(0.01, 1))
def test_cuts_keep_the_fewest_that_are_enough(numbers, k, p):
    logits = (numbers / 4).astype("float32")
    for sampler in (TopK(k), TopP(p)):
        probabilities, full = to_numpy(sampler.probabilities(logits)), softmax(logits.astype("float64"))
        kept = probabilities > 0
        assert np.isclose(probabilities.sum(), 1, atol=1e-5)
        lowest = logits[kept].min()
        assert not kept[logits < lowest].any() and np.count_nonzero(kept) >= 1
        without_lowest = kept & (logits > lowest)  # is not enough, or there is nothing to take away
        if sampler.top_k:
            assert np.count_nonzero(without_lowest) < k
            assert np.count_nonzero(kept) >= min(k, np.count_nonzero(logits > logits.max() - 80))
        else:
            assert full[without_lowest].sum() < p + 1e-5 and full[kept].sum() > p - 1e-5


def test_a_vocabulary_as_large_as_that_of_gpt2():
    logits = np.random.default_rng(1).normal(size=50257).astype("float32")
    for cuts in ({"top_k": 40}, {"top_p": 0.9}):
        expected = reference(logits, **cuts)
        outputs = to_numpy(distribution(logits, **cuts))
        assert abs(np.count_nonzero(outputs) - np.count_nonzero(expected)) <= 5  # sums of 50,000 numbers in float32
        same(outputs, expected, tolerance=1e-6)


def test_extreme_logits():
    logits = np.array([[0.0, 1e4, -1e4, 9999.0], [-np.inf, 0.0, -np.inf, 0.0]], "float32")
    for sampler in (Sampler(), Sampler(1e-6), Sampler(1e6), TopK(2), TopP(0.99), MinP(0.1)):
        probabilities = to_numpy(sampler.probabilities(logits))
        assert np.isfinite(probabilities).all() and np.allclose(probabilities.sum(-1), 1)
        assert np.all(probabilities[1] == [0, 0.5, 0, 0.5])


def test_a_repetition_is_made_less_likely():
    logits = np.array([[2.0, -2.0, 2.0, -2.0]], "float32")
    seen = np.array([[True, True, False, False]])
    same(penalize(logits, seen, 2.0), np.array([[1.0, -4.0, 2.0, -2.0]]))
    same(Sampler(repetition_penalty=2.0).probabilities(logits, seen), softmax(np.array([[1.0, -4, 2, -2]])))
    same(Sampler(repetition_penalty=1.0).probabilities(logits, seen), Sampler().probabilities(logits))
    for penalty, expected in ((None, 0), (2.0, 2), (0.9, 0)):
        token = Greedy(penalty).choose(ops.convert_to_tensor(logits), None, seen)
        assert ops.convert_to_numpy(token).tolist() == [expected]


@pytest.mark.parametrize("sampler", [Greedy(2.0), Sampler(repetition_penalty=2.0)], ids=["Greedy", "Sampler"])
def test_a_penalty_needs_to_know_what_was_seen(sampler):
    with pytest.raises(ValueError, match="seen"):
        sampler.choose(ops.ones((1, 4)), ops.zeros((1, 1)), None)


def draw(sampler, logits, uniform, seen=None):
    logits = np.repeat(logits[None], len(uniform), axis=0)
    tokens = sampler.choose(ops.convert_to_tensor(logits), ops.convert_to_tensor(uniform[:, None]), seen)
    assert keras.backend.standardize_dtype(tokens.dtype) == "int32"
    return ops.convert_to_numpy(tokens)


@pytest.mark.parametrize(
    "sampler", [Sampler(), Sampler(0.5), TopK(5), TopP(0.7), MinP(0.2), TopP(0.8, temperature=2.0, top_k=10)], ids=repr
)
def test_draws_have_that_distribution(sampler):
    """A chi-square test over the tokens that are not too rare, at a level of one in 10,000."""
    from scipy import stats

    expected = reference(
        LOGITS[0],
        **{name: float(value) for name, value in sampler.settings.items() if name != "top_k"}
        | ({"top_k": sampler.top_k} if sampler.top_k else {}),
    )
    uniform = np.random.default_rng(2).random(4000, "float32")
    counts = np.bincount(draw(sampler, LOGITS[0], uniform), minlength=50)
    assert counts[expected == 0].sum() == 0
    common = expected * len(uniform) >= 5
    observed = [*counts[common], counts[~common].sum()]
    awaited = [*(expected[common] * len(uniform)), expected[~common].sum() * len(uniform)]
    if awaited[-1] == 0:
        observed, awaited = observed[:-1], awaited[:-1]
    assert stats.chisquare(observed, np.array(awaited) * sum(observed) / sum(awaited)).pvalue > 1e-4


def test_the_ends_of_the_unit_interval_draw_tokens_that_are_left():
    logits = np.array([-np.inf, 0.0, 1.0, -np.inf], "float32")
    edges = np.array([0.0, 0.999, np.nextafter(np.float32(1), np.float32(0))], "float32")
    for sampler in (Sampler(), TopK(2), TopP(1.0)):
        assert draw(sampler, logits, edges).tolist() == [1, 2, 2]


def test_sums_that_are_rounded_draw_no_token_that_was_cut():
    logits = np.array([-np.inf, 0.0, 1.0, -np.inf], "float32")
    assert draw(Sampler(), logits, np.ones(1, "float32"))[0] in (1, 2), "even for a number that was rounded to 1"
    for size in range(3, 400, 28):  # some of these sums of V equal probabilities are below 1
        below_one = np.nextafter(np.float32(1), np.float32(0), dtype="float32")
        assert draw(Sampler(), np.zeros(size, "float32"), np.array([below_one]))[0] > size // 2


def test_a_number_on_the_boundary_draws_the_token_above_it():
    assert draw(Sampler(), np.zeros(4, "float32"), np.array([0, 0.25, 0.5, 0.75], "float32")).tolist() == [0, 1, 2, 3]


def test_greedy_takes_the_first_of_the_most_likely():
    logits = np.array([[0.0, 3.0, 3.0], [-1.0, -2.0, -3.0]], "float32")
    tokens = Greedy().choose(ops.convert_to_tensor(logits), None, None)
    assert ops.convert_to_numpy(tokens).tolist() == [1, 0] and keras.backend.standardize_dtype(tokens.dtype) == "int32"


@pytest.mark.one_backend
def test_samplers_are_values():
    assert TopP(0.9, temperature=0.8) == TopP(0.9, temperature=0.8) != TopP(0.9)
    assert "top_p=0.9" in repr(TopP(0.9)) and repr(TopP(0.9)).startswith("TopP(")
    assert Sampler(top_k=3, min_p=0.1).settings.keys() == {"temperature", "top_k", "min_p"}
    assert Greedy().settings == {} and BeamSearch(3).num_beams == 3


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda: Sampler(temperature=0), ["temperature", "above 0", "got 0", "Greedy()"]),
        (lambda: TopP(0.9, temperature=-1), ["temperature", "-1"]),
        (lambda: Sampler(float("nan")), ["temperature", "nan"]),
        (lambda: Sampler(float("inf")), ["temperature", "inf"]),
        (lambda: Sampler(1e-60), ["temperature", "1e-60"]),
        (lambda: Sampler(None), ["temperature", "None"]),
        (lambda: TopP(0), ["top_p", "(0, 1]", "got 0"]),
        (lambda: TopP(1.01), ["top_p", "1.01"]),
        (lambda: TopP(float("nan")), ["top_p", "nan"]),
        (lambda: TopK(0), ["top_k", "1 or more", "got 0"]),
        (lambda: TopK(2.5), ["top_k", "integer", "2.5"]),
        (lambda: MinP(-0.1), ["min_p", "[0, 1]", "-0.1"]),
        (lambda: MinP(1.1), ["min_p", "1.1"]),
        (lambda: Greedy(0), ["repetition_penalty", "above 0", "got 0"]),
        (lambda: Sampler(repetition_penalty=-1), ["repetition_penalty", "-1"]),
        (lambda: TopP(1e-50), ["top_p", "1e-50"]),
        (lambda: Sampler(1e-40), ["temperature", "1e-40"]),
        (lambda: Greedy(1e-50), ["repetition_penalty", "1e-50"]),
        (lambda: BeamSearch(2.0), ["num_beams", "integer", "2.0"]),
        (lambda: BeamSearch(0), ["num_beams", "1 or more", "got 0"]),
        (lambda: BeamSearch(length_penalty=float("inf")), ["length_penalty", "finite", "inf"]),
        (lambda: read_sampler("nucleus"), ["nucleus", '"greedy"', '"top_p"', '"beam"', "TopP(0.9)", "subclass"]),
        (lambda: read_sampler(Greedy), ["Greedy", '"greedy"']),
        (lambda: read_sampler(lambda logits: 0), ["subclass of Sampler"]),
        (lambda: read_sampler(0.7), ["got 0.7"]),
        (lambda: read_sampler(["greedy"]), ["['greedy']"]),
        (lambda: read_sampler("greedy", temperature=0.7), ["temperature", "Greedy", "0.7", '"random"']),
        (lambda: read_sampler(Greedy(1.1), temperature=0.7), ["temperature", "Greedy", "0.7"]),
        (lambda: read_sampler(BeamSearch(), temperature=0.7), ["temperature", "BeamSearch", "0.7"]),
        (lambda: read_sampler("beam", temperature=1), ["temperature", "BeamSearch", "got 1"]),
        (lambda: read_sampler(temperature=0), ["temperature", "above 0", "got 0", "Greedy()"]),
        (lambda: read_sampler(TopP(0.9), temperature=-2), ["temperature", "-2"]),
    ],
)
def test_what_cannot_be_is_refused(make, facts):
    with pytest.raises(ValueError, match="Expected") as error:
        make()
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.one_backend
def test_the_bounds_are_allowed():
    assert (TopK(1).top_k, TopP(1.0).top_p, MinP(0).min_p, MinP(1.0).min_p) == (1, 1.0, 0, 1.0)
    assert (BeamSearch(1).num_beams, BeamSearch(length_penalty=-1).length_penalty) == (1, -1)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("sampler", "temperature", "expected"),
    [
        (None, None, Greedy()),
        (None, 0.7, Sampler(0.7)),
        ("greedy", None, Greedy()),
        ("random", None, Sampler(1.0)),
        ("random", 0.7, Sampler(0.7)),
        ("top_k", None, TopK(50)),
        ("top_p", None, TopP(0.9)),
        ("top_p", 2, TopP(0.9, temperature=2)),
        ("min_p", None, MinP(0.1)),
        ("beam", None, BeamSearch(4, 1.0)),
        (TopP(0.8, top_k=3, temperature=2.0), 0.5, TopP(0.8, top_k=3, temperature=0.5)),
        (Sampler(2.0, min_p=0.1, repetition_penalty=1.2), 1, Sampler(1, min_p=0.1, repetition_penalty=1.2)),
    ],
)
def test_samplers_by_name_and_with_a_temperature(sampler, temperature, expected):
    given = repr(sampler)
    found = read_sampler(sampler, temperature)
    assert found == expected and type(found) is type(expected) and repr(sampler) == given


@pytest.mark.one_backend
def test_an_instance_is_taken_as_it_is():
    class Own(Sampler):
        def __init__(self, tokens):
            super().__init__(top_k=3)
            self.tokens = tokens

    for sampler in (Greedy(1.2), TopP(0.9), BeamSearch(2), own := Own([1, 2])):
        assert read_sampler(sampler) is sampler
    warmer = read_sampler(own, temperature=2.0)
    assert type(warmer) is Own and (warmer.tokens, warmer.top_k, warmer.temperature) == ([1, 2], 3, 2.0)
    assert own.temperature == 1.0


@pytest.mark.one_backend
def test_a_subclass_whose_attributes_are_no_fields_does_not_share_a_loop():
    class Careless(Sampler, fields_are_arguments=True):
        def __init__(self, p):
            super().__init__()
            object.__setattr__(self, "p", p)

    with pytest.raises(ValueError, match=r"Careless to be a field.*\['p'\]"):
        _ = Careless(0.1).graph_key

    class Careful(Sampler):
        def __init__(self, p):
            super().__init__()
            object.__setattr__(self, "p", p)

    first, second = Careful(0.1), Careful(0.2)
    assert first.graph_key != second.graph_key
