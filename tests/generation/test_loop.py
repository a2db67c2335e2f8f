"""The compiled loop: greedy, drawn, by beams and by a user's own sampler, each against a plain loop in Python."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from course_lib.generation.loop import Generator
from course_lib.generation.prompts import is_seen
from course_lib.generation.samplers import BeamSearch, Greedy, MinP, Sampler, TopK, TopP, read_sampler

V, END = 4, 3
ENDS = (END,)
ENDS_OF_BOTH_KINDS = pytest.mark.parametrize("ends", [ENDS, (END, 1)])
rng = np.random.default_rng(0)
TABLES = rng.normal(size=(5, V, V)).astype("float32") * 2


class Language:
    """The scores of the next token depend on the last one and on the sum of all: a state that beams must keep apart."""

    def __init__(self, tables=TABLES):
        self.tables = keras.Variable(tables, name="tables")
        self.traced = 0
        self.generator = Generator(self.prefill, self.step, lambda: [self.tables])

    def score(self, token, total):
        return ops.take(ops.reshape(self.tables, (-1, V)), total % 5 * V + token, axis=0)

    def prefill(self, inputs, cache_length):
        self.cache_length = cache_length
        total = ops.sum(inputs["token_ids"], axis=1)
        state = {"total": total, "nested": (ops.cast(total, "float32")[:, None],), "calls": ops.zeros((), "int32")}
        return self.score(inputs["token_ids"][:, -1], total), state

    def step(self, token, state):
        self.traced += 1
        total = state["total"] + token
        state = {"total": total, "nested": (state["nested"][0] + 1,), "calls": state["calls"] + 1}
        return self.score(token, total), state

    def run(self, prompts, max_new_tokens=5, sampler=None, seed=0, ends=ENDS, **kwargs):
        inputs = {"token_ids": np.array(prompts, "int32")}
        return list(self.generator.run(inputs, 8, max_new_tokens, sampler or Greedy(), seed, ends, **kwargs))


LANGUAGE = Language()
PROMPTS = [[0, 1], [2, 2], [1, 0], [0, 0]]


def log_probabilities(tokens, tables=TABLES):
    logits = tables[sum(tokens) % 5, tokens[-1]].astype("float64")
    return logits - np.log(np.exp(logits).sum())


def by_loop(prompt, choose, max_new_tokens=5, ends=ENDS):
    new = []
    while len(new) < max_new_tokens:
        token = choose(log_probabilities(prompt + new), prompt + new, len(new))
        if token in ends:
            break
        new.append(int(token))
    return new


def test_greedy_is_a_plain_loop():
    (rows,) = LANGUAGE.run(PROMPTS)
    assert rows == [by_loop(prompt, lambda scores, *_: scores.argmax()) for prompt in PROMPTS]
    assert len({len(row) for row in rows}) > 1, "some rows end before others"
    (endless,) = LANGUAGE.run(PROMPTS, max_new_tokens=8, ends=())
    assert endless == [by_loop(prompt, lambda scores, *_: scores.argmax(), 8, ()) for prompt in PROMPTS]


def test_draws_are_those_of_a_plain_loop_with_the_same_numbers():
    def expected(prompt, seed, temperature):
        uniform = np.random.default_rng(seed).random(5, "float32")

        def choose(scores, _, place):
            p = np.exp(scores / temperature)
            return np.searchsorted(np.cumsum(p) / p.sum(), uniform[place], side="right")

        return by_loop(prompt, choose)

    for temperature in (0.7, 3.0):
        (rows,) = LANGUAGE.run(PROMPTS, sampler=Sampler(temperature), seed=7)
        assert rows == [expected(prompt, 7 + index, temperature) for index, prompt in enumerate(PROMPTS)]


def test_a_row_draws_the_same_alone_and_by_another_seed_something_else():
    (rows,) = LANGUAGE.run(PROMPTS * 4, sampler=Sampler(2.0), seed=3, ends=())
    for index in (0, 5, 15):
        assert LANGUAGE.run([(PROMPTS * 4)[index]], sampler=Sampler(2.0), seed=3 + index, ends=()) == [[rows[index]]]
    assert len({tuple(rows[index]) for index in (0, 4, 8, 12)}) > 1, "rows with the same prompt differ"
    assert LANGUAGE.run(PROMPTS * 4, sampler=Sampler(2.0), seed=4, ends=()) != [rows]


def test_texts_have_the_probability_that_the_model_gives_them():
    """A chi-square test over all texts of three tokens, at a level of one in 10,000."""
    from scipy import stats

    (rows,) = LANGUAGE.run([PROMPTS[0]] * 3000, max_new_tokens=3, sampler=Sampler(), ends=())
    texts = list(itertools.product(range(V), repeat=3))
    expected = [
        np.exp(sum(log_probabilities(PROMPTS[0] + list(text[:i]))[text[i]] for i in range(3))) for text in texts
    ]
    counts = [sum(tuple(row) == text for row in rows) for text in texts]
    common = np.array(expected) * len(rows) >= 5
    observed, awaited = np.array(counts), np.array(expected) * len(rows)
    observed = [*observed[common], observed[~common].sum()]
    awaited = [*awaited[common], awaited[~common].sum()]
    assert stats.chisquare(observed, awaited).pvalue > 1e-4


def best_of_all(prompt, max_new_tokens, length_penalty, ends):
    """By brute force over all texts that end, or are as long as may be."""
    found = []
    for length in range(1, max_new_tokens + 1):
        for text in itertools.product(range(V), repeat=length):
            if {*ends} & {*text[:-1]} or (text[-1] not in ends and length < max_new_tokens):
                continue
            score = sum(log_probabilities(prompt + list(text[:i]))[text[i]] for i in range(length))
            found.append((score / length**length_penalty, text))
    return [token for token in max(found)[1] if token not in ends]


@ENDS_OF_BOTH_KINDS
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
def test_as_many_beams_as_there_are_texts_find_the_best_of_all(length_penalty, ends):
    (rows,) = LANGUAGE.run(PROMPTS, 4, BeamSearch(64, length_penalty), ends=ends)
    assert rows == [best_of_all(prompt, 4, length_penalty, ends) for prompt in PROMPTS]


def by_beams(prompt, beams, max_new_tokens, length_penalty, ends):
    going, ended = [(0.0, [])], []
    for length in range(1, max_new_tokens + 1):
        options = [
            (score + log_probabilities(prompt + text)[token], [*text, token])
            for score, text in going
            for token in range(V)
        ]
        options = sorted(options, reverse=True)[: (1 + len(ends)) * beams]
        ended += [(score / length**length_penalty, text[:-1]) for score, text in options if text[-1] in ends]
        going = [option for option in options if option[1][-1] not in ends][:beams]
    ended += [(score / max_new_tokens**length_penalty, text) for score, text in going]
    return max(ended)[1]


@ENDS_OF_BOTH_KINDS
@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (2, 0.5), (3, 1.5)])
def test_a_few_beams_are_a_plain_beam_search(beams, length_penalty, ends):
    prompts = [list(prompt) for prompt in itertools.product(range(V), repeat=2)]
    (rows,) = LANGUAGE.run(prompts, 6, BeamSearch(beams, length_penalty), ends=ends)
    assert rows == [by_beams(prompt, beams, 6, length_penalty, ends) for prompt in prompts]
    assert LANGUAGE.run(prompts[5:6], 6, BeamSearch(beams, length_penalty), ends=ends) == [[rows[5]]]


def test_two_beams_find_what_greedy_misses():
    """Token 0 is likelier at first, but what follows 1 is certain."""
    tables = np.full((5, V, V), -20, "float32")
    tables[0, 0, :2] = np.log([0.6, 0.4])
    tables[1, 1, 2] = 0.0
    language = Language(tables)
    for beams, expected in ((1, 0), (2, 1)):
        (rows,) = language.run([[0, 0]], 2, BeamSearch(beams), ends=())
        assert rows[0][0] == expected


@pytest.mark.parametrize(("length_penalty", "ends_at_once", "length"), [(1.0, 0.55, 3), (2.0, 0.7, 3), (-0.5, 0.4, 1)])
def test_a_search_goes_on_while_a_beam_may_become_the_best(length_penalty, ends_at_once, length):
    """The empty text ends first. The other one is certain after its first token, and its score is higher in the end."""
    tables = np.full((5, V, V), -40, "float32")
    tables[0, 0, [END, 1]] = np.log([ends_at_once, 1 - ends_at_once])
    for total in range(1, length):
        tables[total, 1, 1] = 0.0
    tables[length, 1, END] = 0.0
    (rows,) = Language(tables).run([[0, 0]], 8, BeamSearch(2, length_penalty))
    assert rows == [[1] * length]


def test_a_penalty_counts_the_prompt_and_what_was_generated():
    penalty = 3.0

    def choose(scores, tokens, _):
        logits = TABLES[sum(tokens) % 5, tokens[-1]].copy()
        seen = np.isin(np.arange(V), tokens)
        return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits).argmax()

    (rows,) = LANGUAGE.run(PROMPTS, sampler=Greedy(penalty), seen=is_seen(PROMPTS, V), ends=())
    assert rows == [by_loop(prompt, choose, ends=()) for prompt in PROMPTS]
    assert rows != LANGUAGE.run(PROMPTS, ends=())[0]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_in_pieces_the_same(every):
    for sampler in (Greedy(), Sampler(2.0), TopK(2, repetition_penalty=1.5)):
        seen = is_seen(PROMPTS, V) if isinstance(sampler, TopK) else None
        (whole,) = LANGUAGE.run(PROMPTS, 7, sampler, seen=seen)
        pieces = LANGUAGE.run(PROMPTS, 7, sampler, seen=seen, every=every)
        assert pieces[-1] == whole
        for before, after in itertools.pairwise(pieces):
            assert all(row[: len(start)] == start for start, row in zip(before, after, strict=True))
        assert max(map(len, pieces[0])) <= 1 and len(pieces) >= (max(map(len, whole)) - 1) // every


def test_the_last_piece_may_be_shorter():
    pieces = LANGUAGE.run(PROMPTS, 6, ends=(), every=3)
    assert [[len(row) for row in rows] for rows in pieces] == [[1] * 4, [4] * 4, [6] * 4]


def test_rows_that_the_caller_ends():
    is_ended = np.zeros(4, bool)
    inputs, seen_lengths = {"token_ids": np.array(PROMPTS, "int32")}, []
    for rows in LANGUAGE.generator.run(inputs, 8, 8, Greedy(), 0, every=1, stopped=lambda: is_ended):
        seen_lengths.append(len(rows[0]))
        assert all(0 <= token < V for row in rows for token in row), "also what fills a row that has ended"
        is_ended[:] = [len(row) >= limit for row, limit in zip(rows, (2, 5, 1, 3), strict=True)]
    assert seen_lengths[-1] == 5, "the loop ends with the last of them"


def test_weights_may_change_and_few_things_are_compiled_again():
    language = Language()
    first = language.run(PROMPTS)
    traced = language.traced
    language.run(PROMPTS[::-1], max_new_tokens=3, ends=(2,))
    language.run(PROMPTS, max_new_tokens=8, ends=())
    assert language.traced == traced, "new lengths, prompts and end tokens compile nothing"
    language.run(PROMPTS, sampler=TopK(2, temperature=0.5))
    traced = language.traced
    language.run(PROMPTS, sampler=TopK(3, temperature=0.9), seed=4)
    assert language.traced == traced, "nor do other numbers for the same sampler"
    assert language.run(PROMPTS, sampler=TopK(1, temperature=0.5)) == first, "which count all the same"
    language.run(PROMPTS, sampler=BeamSearch(2, 0.5))
    traced = language.traced
    language.run(PROMPTS, sampler=BeamSearch(2, 1.5))
    assert language.traced == traced
    language.run(PROMPTS, sampler=BeamSearch(3, 1.5))
    assert language.traced > traced
    language.tables.assign(-TABLES)
    assert language.run(PROMPTS) != first
    language.tables.assign(TABLES)
    assert language.run(PROMPTS) == first


def test_a_model_may_get_other_variables():
    """As when it is quantized."""
    language = Language()
    first = language.run(PROMPTS)
    language.tables = keras.Variable(-TABLES, name="others")
    assert language.run(PROMPTS) == Language(-TABLES).run(PROMPTS) != first


def test_a_field_that_is_set_in_one_sampler_alone():
    language = Language()
    language.run(PROMPTS, sampler=Sampler(2.0, top_k=1), seed=3, ends=())
    rows = language.run(PROMPTS, sampler=Sampler(2.0), seed=3, ends=())
    assert rows == Language().run(PROMPTS, sampler=Sampler(2.0), seed=3, ends=())


@pytest.mark.parametrize("sampler", [Greedy(), Sampler(), BeamSearch(2)], ids=repr)
def test_scores_that_are_no_numbers_are_an_error(sampler):
    tables = TABLES.copy()
    for value in (np.nan, np.inf, -np.inf):
        tables[3] = value  # which greedy search meets after the first new token
        with pytest.raises(ValueError, match="NaN or infinity"):
            Language(tables).run([[1, 2]], sampler=sampler, ends=())


def test_the_error_says_at_which_token():
    tables = TABLES.copy()
    tables[3] = np.nan
    prompt = [1, 2]  # the sum is 3 at once
    with pytest.raises(ValueError, match=r"\b1\b"):
        Language(tables).run([prompt])
    first = int(TABLES[2, 1].argmax())
    tables = TABLES.copy()
    tables[(2 + first) % 5] = np.nan
    with pytest.raises(ValueError, match=r"\b2\b"):
        Language(tables).run([[1, 1]], ends=())


def test_prefill_gets_the_length_of_the_cache():
    language = Language()
    language.run(PROMPTS)
    assert language.cache_length == 8


# A sampler of one's own


class Without(Greedy):
    """Greedy, but never one token: a class as a user writes it."""

    def __init__(self, token):
        super().__init__()
        self.token = token

    def choose(self, logits, uniform, seen):
        assert seen is None
        return super().choose(ops.where(ops.arange(V) == self.token, -1e9, logits), uniform, seen)


class SecondHalf(Sampler):
    """Draws from the upper half of the interval, by a class without a constructor."""

    def choose(self, logits, uniform, seen):
        return super().choose(logits, (1 + uniform) / 2, seen)


def test_a_sampler_of_ones_own_is_compiled_once_per_instance():
    language, first, second = Language(), Without(2), Without(0)
    for sampler, token in ((first, 2), (second, 0)):
        before = language.traced
        (rows,) = language.run(PROMPTS, sampler=sampler)
        assert language.traced > before, "its attributes are constants"
        others = np.where(np.arange(V) == token, -np.inf, 0)
        assert rows == [by_loop(prompt, lambda scores, *_, add=others: (scores + add).argmax()) for prompt in PROMPTS]
    before, (first_rows,) = language.traced, language.run(PROMPTS, sampler=first)
    assert language.traced == before and first_rows != rows, "equal fields, but two instances"
    assert language.run(PROMPTS, sampler=Greedy()) == LANGUAGE.run(PROMPTS)


def test_a_subclass_of_sampler_keeps_its_fields():
    def expected(prompt, seed):
        uniform = (1 + np.random.default_rng(seed).random(5, "float32")) / 2

        def choose(scores, _, place):
            p = np.exp(scores / 3.0)
            return np.searchsorted(np.cumsum(p) / p.sum(), uniform[place], side="right")

        return by_loop(prompt, choose)

    (rows,) = LANGUAGE.run(PROMPTS, sampler=SecondHalf(3.0), seed=7)
    assert rows == [expected(prompt, 7 + index) for index, prompt in enumerate(PROMPTS)]
    assert rows != LANGUAGE.run(PROMPTS, sampler=Sampler(3.0), seed=7)[0]
    assert LANGUAGE.run(PROMPTS, sampler=read_sampler(SecondHalf(1.0), temperature=3.0), seed=7) == [rows]


def test_a_sampler_of_ones_own_knows_what_a_text_has():
    class Fresh(Greedy):
        def choose(self, logits, uniform, seen):
            return ops.argmax(ops.where(seen, -1e9, logits), axis=-1)  # int64 on TensorFlow

    def choose(scores, tokens, _):
        return np.where(np.isin(np.arange(V), tokens), -1e9, scores).argmax()

    assert Fresh().needs_seen
    (rows,) = LANGUAGE.run(PROMPTS, 2, sampler=Fresh(), seen=is_seen(PROMPTS, V), ends=())
    assert rows == [by_loop(prompt, choose, 2, ()) for prompt in PROMPTS]


def test_a_sampler_that_overrides_probabilities_alone():
    class Uniform(Sampler):
        def probabilities(self, logits, seen=None):
            return ops.ones_like(logits) / V

    (rows,) = LANGUAGE.run(PROMPTS, sampler=Uniform(), seed=7, ends=())
    uniform = [np.random.default_rng(7 + row).random(5, "float32") for row in range(4)]
    assert rows == [(V * row).astype(int).tolist() for row in uniform]


@pytest.mark.parametrize("axis", [0, None])
def test_a_sampler_that_chooses_in_another_shape_is_an_error(axis):
    class Wrong(Greedy):
        def choose(self, logits, uniform, seen):
            return ops.argmax(logits, axis=axis)

    with pytest.raises(ValueError, match="Wrong") as error:
        LANGUAGE.run(PROMPTS[:3], sampler=Wrong())
    assert "(3,)" in str(error.value)


def test_a_class_that_does_not_choose_is_an_error():
    from course_lib.generation.strategy import Strategy

    with pytest.raises(NotImplementedError, match="choose"):
        LANGUAGE.run(PROMPTS, sampler=type("Nothing", (Strategy,), {})())


@pytest.mark.parametrize("name", ["greedy", "random", "top_k", "top_p", "min_p", "beam"])
def test_a_name_gives_what_its_sampler_gives(name):
    sampler = {"random": Sampler(), "top_k": TopK(50), "top_p": TopP(0.9), "min_p": MinP(0.1), "beam": BeamSearch(4)}
    expected = LANGUAGE.run(PROMPTS, sampler=sampler.get(name, Greedy()), seed=5)
    assert LANGUAGE.run(PROMPTS, sampler=read_sampler(name), seed=5) == expected


@pytest.mark.one_backend
def test_what_callers_ask_of_a_sampler():
    assert all(sampler.can_stream for sampler in (Greedy(), TopP(0.9), Without(1))) and not BeamSearch().can_stream
    assert all(sampler.needs_seen for sampler in (Greedy(2.0), TopK(2, repetition_penalty=1.1), Without(1)))
    assert not any(sampler.needs_seen for sampler in (Greedy(), TopK(2), BeamSearch()))
