"""The loop over a step function: greedy, drawn and by beams, each against a plain loop; and texts while they grow."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from course_lib.generation import Generator
from course_lib.sampling import BeamSearch, Greedy, Sampler, TopK
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.prompts import GrowingText, is_seen, pad_rows, read_prompts

V, END = 4, 3
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

    def prefill(self, inputs, places):
        total = ops.sum(inputs["token_ids"], axis=1)
        memory = {"total": total, "nested": (ops.cast(total, "float32")[:, None],), "calls": ops.zeros((), "int32")}
        return self.score(inputs["token_ids"][:, -1], total), memory

    def step(self, token, memory):
        self.traced += 1
        total = memory["total"] + token
        memory = {"total": total, "nested": (memory["nested"][0] + 1,), "calls": memory["calls"] + 1}
        return self.score(token, total), memory

    def run(self, prompts, max_new_tokens=5, sampler=None, seed=0, end=END, **kwargs):
        inputs = {"token_ids": np.array(prompts, "int32")}
        return list(self.generator.run(inputs, 8, max_new_tokens, sampler or Greedy(), seed, end, **kwargs))


LANGUAGE = Language()
PROMPTS = [[0, 1], [2, 2], [1, 0], [0, 0]]


def log_probabilities(tokens, tables=TABLES):
    logits = tables[sum(tokens) % 5, tokens[-1]].astype("float64")
    return logits - np.log(np.exp(logits).sum())


def by_loop(prompt, choose, max_new_tokens=5, end=END):
    new = []
    while len(new) < max_new_tokens:
        token = choose(log_probabilities(prompt + new), prompt + new, len(new))
        if token == end:
            break
        new.append(int(token))
    return new


def test_greedy_is_a_plain_loop():
    (rows,) = LANGUAGE.run(PROMPTS)
    assert rows == [by_loop(prompt, lambda scores, *_: scores.argmax()) for prompt in PROMPTS]
    assert len({len(row) for row in rows}) > 1, "some rows end before others"
    (endless,) = LANGUAGE.run(PROMPTS, max_new_tokens=8, end=None)
    assert endless == [by_loop(prompt, lambda scores, *_: scores.argmax(), 8, None) for prompt in PROMPTS]


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
    (rows,) = LANGUAGE.run(PROMPTS * 4, sampler=Sampler(2.0), seed=3, end=None)
    for index in (0, 5, 15):
        assert LANGUAGE.run([(PROMPTS * 4)[index]], sampler=Sampler(2.0), seed=3 + index, end=None) == [[rows[index]]]
    assert len({tuple(rows[index]) for index in (0, 4, 8, 12)}) > 1, "rows with the same prompt differ"
    assert LANGUAGE.run(PROMPTS * 4, sampler=Sampler(2.0), seed=4, end=None) != [rows]


def test_texts_have_the_probability_that_the_model_gives_them():
    """A chi-square test over all texts of three tokens, at a level of one in 10,000."""
    from scipy import stats

    (rows,) = LANGUAGE.run([PROMPTS[0]] * 3000, max_new_tokens=3, sampler=Sampler(), end=None)
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


def best_of_all(prompt, max_new_tokens, length_penalty):
    """By brute force over all texts that end, or are as long as may be."""
    found = []
    for length in range(1, max_new_tokens + 1):
        for text in itertools.product(range(V), repeat=length):
            if END in text[:-1] or (text[-1] != END and length < max_new_tokens):
                continue
            score = sum(log_probabilities(prompt + list(text[:i]))[text[i]] for i in range(length))
            found.append((score / length**length_penalty, text))
    return [token for token in max(found)[1] if token != END]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
def test_as_many_beams_as_there_are_texts_find_the_best_of_all(length_penalty):
    (rows,) = LANGUAGE.run(PROMPTS, 4, BeamSearch(64, length_penalty))
    assert rows == [best_of_all(prompt, 4, length_penalty) for prompt in PROMPTS]


def by_beams(prompt, beams, max_new_tokens, length_penalty):
    going, ended = [(0.0, [])], []
    for length in range(1, max_new_tokens + 1):
        options = [
            (score + log_probabilities(prompt + text)[token], [*text, token])
            for score, text in going
            for token in range(V)
        ]
        options = sorted(options, reverse=True)[: 2 * beams]
        ended += [(score / length**length_penalty, text[:-1]) for score, text in options if text[-1] == END]
        going = [option for option in options if option[1][-1] != END][:beams]
    ended += [(score / max_new_tokens**length_penalty, text) for score, text in going]
    return max(ended)[1]


@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (2, 0.5), (3, 1.5)])
def test_a_few_beams_are_a_plain_beam_search(beams, length_penalty):
    prompts = [list(prompt) for prompt in itertools.product(range(V), repeat=2)]
    (rows,) = LANGUAGE.run(prompts, 6, BeamSearch(beams, length_penalty))
    assert rows == [by_beams(prompt, beams, 6, length_penalty) for prompt in prompts]
    assert LANGUAGE.run(prompts[5:6], 6, BeamSearch(beams, length_penalty)) == [[rows[5]]]


def test_two_beams_find_what_greedy_misses():
    """Token 0 is likelier at first, but what follows 1 is certain."""
    tables = np.full((5, V, V), -20, "float32")
    tables[0, 0, :2] = np.log([0.6, 0.4])
    tables[1, 1, 2] = 0.0
    language = Language(tables)
    for beams, expected in ((1, 0), (2, 1)):
        (rows,) = language.run([[0, 0]], 2, BeamSearch(beams), end=None)
        assert rows[0][0] == expected


def test_a_penalty_counts_the_prompt_and_what_was_generated():
    penalty = 3.0

    def choose(scores, tokens, _):
        logits = TABLES[sum(tokens) % 5, tokens[-1]].copy()
        seen = np.isin(np.arange(V), tokens)
        return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits).argmax()

    (rows,) = LANGUAGE.run(PROMPTS, sampler=Greedy(penalty), seen=is_seen(PROMPTS, V), end=None)
    assert rows == [by_loop(prompt, choose, end=None) for prompt in PROMPTS]
    assert rows != LANGUAGE.run(PROMPTS, end=None)[0]


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


def test_rows_that_the_caller_ends():
    is_ended = np.zeros(4, bool)
    inputs, seen_lengths = {"token_ids": np.array(PROMPTS, "int32")}, []
    for rows in LANGUAGE.generator.run(inputs, 8, 8, Greedy(), 0, None, every=1, stopped=lambda: is_ended):
        seen_lengths.append(len(rows[0]))
        is_ended[:] = [len(row) >= limit for row, limit in zip(rows, (2, 5, 1, 3), strict=True)]
    assert seen_lengths[-1] == 5, "the loop ends with the last of them"


def test_weights_may_change_and_few_things_are_compiled_again():
    language = Language()
    first = language.run(PROMPTS)
    traced = language.traced
    language.run(PROMPTS[::-1], max_new_tokens=3, end=2)
    language.run(PROMPTS, max_new_tokens=8, end=None)
    assert language.traced == traced, "new lengths, prompts and end tokens compile nothing"
    language.run(PROMPTS, sampler=TopK(2, temperature=0.5))
    traced = language.traced
    language.run(PROMPTS, sampler=TopK(3, temperature=0.9), seed=4)
    assert language.traced == traced, "nor do other numbers for the same sampler"
    language.tables.assign(-TABLES)
    assert language.run(PROMPTS) != first
    language.tables.assign(TABLES)
    assert language.run(PROMPTS) == first


@pytest.mark.parametrize("sampler", [Greedy(), Sampler(), BeamSearch(2)], ids=repr)
def test_scores_that_are_no_numbers_are_an_error(sampler):
    tables = TABLES.copy()
    for value in (np.nan, np.inf, -np.inf):
        tables[3] = value  # which greedy search meets after the first new token
        with pytest.raises(ValueError, match=r"finite numbers; it gave NaN or infinity for new token \d"):
            Language(tables).run([[1, 2]], sampler=sampler, end=None)


# Texts

TEXT = "naïve 狗🐕 ☕ x\ufffdyé end"
TOKENIZER = BytePairTokenizer.train([""" the cat sat on the mat """], 258)
IDS = TOKENIZER.encode(TEXT)


@pytest.mark.one_backend
@settings(max_examples=50)
@given(
    st.lists(st.integers(0, len(IDS)), max_size=12),
    st.sampled_from([(), ("☕",), ("nd", "é e"), ("zz",), ("xx", "狗🐕 z")]),
)
def test_a_stream_is_the_text_and_never_shows_half_a_character(cuts, stop):
    whole = GrowingText(TOKENIZER.decode, stop)
    whole.update(IDS)
    runs = [[IDS[:cut]] for cut in [*sorted(cuts), len(IDS)]]
    pieces = list(GrowingText(TOKENIZER.decode, stop).stream(runs))
    assert "".join(pieces) == whole.text == TEXT[: min([TEXT.find(s) for s in stop if s in TEXT], default=None)]
    assert all(pieces) and "".join(pieces).count("\ufffd") == whole.text.count("\ufffd")


@pytest.mark.one_backend
def test_a_piece_is_shown_as_soon_as_it_is_settled():
    text = GrowingText(lambda ids: bytes(ids).decode(errors="replace"), stop=("STOP",))
    shown = []
    content = "aé☕ SToST".encode()
    for end in range(1, len(content) + 1):
        text.update(list(content[:end]))
        shown.append(text.new())
    assert shown == ["a", "", "é", "", "", "☕", " ", "", "", "STo", "", ""]
    assert text.new(is_last=True) == "ST" and not text.is_stopped
    text.update(list(content + b"OP and more"))
    assert text.is_stopped and text.text == "aé☕ STo"


@pytest.mark.one_backend
def test_the_first_stop_string_to_be_complete_ends_a_text():
    for stop, expected in ((("c", "b c d"), "a b "), (("b c", "c"), "a "), (("d", "e"), "a b c ")):
        for step in (1, 3, 7):
            text, content = GrowingText("".join, stop), "a b c d e"
            for end in range(step, len(content) + step, step):
                text.update(list(content[:end]))
            assert (text.text, text.is_stopped) == (expected, True)


@pytest.mark.one_backend
def test_prompts_are_strings_or_ids_one_or_many():
    read = lambda prompts, limit=20: read_prompts(prompts, TOKENIZER, 258, limit, 5)  # noqa: E731
    ids = TOKENIZER.encode("the cat")
    assert read("the cat") == ([ids], True, True)
    assert read(["the cat", "a"]) == ([ids, TOKENIZER.encode("a")], True, False)
    assert read([3, 4]) == read(np.array([3, 4])) == ([[3, 4]], False, True)
    assert read([[3, 4], [5]]) == ([[3, 4], [5]], False, False)
    assert read(("the cat",), len(ids) + 5) == ([ids], True, False)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], TOKENIZER, 20, 5), r"at least one prompt; got none"),
        (("", TOKENIZER, 20, 5, "So there."), r"at least one token; prompt 0 has none\. So there\."),
        ((["a", ""], TOKENIZER, 20, 5), r"at least one token; prompt 1 has none"),
        (([[1], []], None, 20, 5), r"at least one token; prompt 1 has none"),
        (([[1], [1] * 16], None, 20, 5), r"5 new tokens within the model's 20 positions; prompt 1 has 16 tokens"),
        (("a", TOKENIZER, 20, 20), r"20 new tokens within the model's 20 positions"),
        (("a", TOKENIZER, 20, 0), r"max_new_tokens to be an integer of 1 or more; got 0"),
        (("a", TOKENIZER, 20, 2.0), r"max_new_tokens .*got 2.0"),
        (("a", None, 20, 5), r"token ids, since this model has no tokenizer; got a string"),
        ((["a", [1]], TOKENIZER, 20, 5), r"all strings or all token ids; got both"),
    ],
)
def test_prompts_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(*arguments[:2], 258, *arguments[2:])


@pytest.mark.one_backend
def test_lengths_come_in_few_sizes():
    for lengths, expected in (((1, 3), 16), ((16,), 16), ((17, 2), 32), ((40,), 50)):
        batch = pad_rows([list(range(1, length + 1)) for length in lengths], 50)
        assert {array.shape for array in batch.values()} == {(len(lengths), expected)}
        assert batch["padding_mask"].sum(axis=1).tolist() == list(lengths)
        assert np.all((batch["token_ids"] > 0) == batch["padding_mask"])
