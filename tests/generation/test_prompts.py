"""From prompts to token ids, and from token ids that come one by one to text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.generation.prompts import GrowingText, is_seen, pad_rows, read_prompts, read_seed
from course_lib.text.byte_pair import BytePairTokenizer

pytestmark = pytest.mark.one_backend

TEXT = "naïve 狗🐕 ☕ x\ufffdyé end"
TOKENIZER = BytePairTokenizer.train([""" the cat sat on the mat """], 258)
IDS = TOKENIZER.encode(TEXT)


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


def test_the_first_stop_string_to_be_complete_ends_a_text():
    for stop, expected in ((("c", "b c d"), "a b "), (("b c", "c"), "a "), (("d", "e"), "a b c ")):
        for step in (1, 3, 7):
            text, content = GrowingText("".join, stop), "a b c d e"
            for end in range(step, len(content) + step, step):
                text.update(list(content[:end]))
            assert (text.text, text.is_stopped) == (expected, True)


def test_prompts_are_strings_or_ids_one_or_many():
    read = lambda prompts, limit=20: read_prompts(prompts, TOKENIZER, 258, limit, 5)  # noqa: E731
    ids = TOKENIZER.encode("the cat")
    assert read("the cat") == ([ids], True, True)
    assert read(["the cat", "a"]) == ([ids, TOKENIZER.encode("a")], True, False)
    assert read([3, 4]) == read(np.array([3, 4])) == ([[3, 4]], False, True)
    assert read([[3, 4], [5]]) == ([[3, 4], [5]], False, False)
    assert read(("the cat",), len(ids) + 5) == ([ids], True, False)


class Column:
    """What we read of a column of pandas, which is indexed by labels and not by places."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __getitem__(self, label):
        raise KeyError(label)


def test_prompts_come_in_any_container():
    import tensorflow as tf

    texts, ids = ["the cat", "a"], [[3, 4], [5, 6]]
    for container in (tuple, np.array, Column, tf.constant, lambda texts: [text.encode() for text in texts]):
        rows = [TOKENIZER.encode(text) for text in texts]
        assert read_prompts(container(texts), TOKENIZER, 258, 20, 5) == (rows, True, False)
    assert read_prompts("é".encode(), TOKENIZER, 258, 20, 5) == ([TOKENIZER.encode("é")], True, True)
    for container in (tuple, np.array, Column, tf.constant):
        assert read_prompts(container(ids), None, 258, 20, 5) == (ids, False, False)
    assert read_prompts(Column([3, 4]), None, 258, 20, 5) == ([[3, 4]], False, True)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (([], TOKENIZER, 20, 5), ["none"]),
        (("", TOKENIZER, 20, 5, "So there."), ["prompt 0", "So there."]),
        ((["a", ""], TOKENIZER, 20, 5), ["prompt 1"]),
        (([[1], []], None, 20, 5), ["prompt 1"]),
        (([[1], [1] * 16], None, 20, 5), ["5 new tokens", "20 positions", "prompt 1", "16 tokens"]),
        (("a", TOKENIZER, 20, 20), ["20 new tokens", "20 positions", "prompt 0"]),
        (("a", TOKENIZER, 20, 0), ["max_new_tokens", "got 0"]),
        (("a", TOKENIZER, 20, 2.0), ["max_new_tokens", "2.0"]),
        (("a", None, 20, 5), ["no tokenizer"]),
        ((["a", [1]], TOKENIZER, 20, 5), ["both"]),
        (([[1, 258]], TOKENIZER, 20, 5), ["258"]),
        (([[1, 2.5]], TOKENIZER, 20, 5), ["float"]),
        ((None, TOKENIZER, 20, 5), ["None"]),
        ((3, TOKENIZER, 20, 5), ["got 3"]),
        (([None], TOKENIZER, 20, 5), ["None"]),
    ],
)
def test_prompts_that_cannot_be_are_refused(arguments, facts):
    with pytest.raises(ValueError, match="Expected") as error:
        read_prompts(*arguments[:2], 258, *arguments[2:])
    assert all(fact in str(error.value) for fact in facts)


def test_a_prompt_may_fill_the_model():
    rows, *_ = read_prompts([[1] * 15], None, 258, 20, 5)
    assert rows == [[1] * 15]


def test_seeds():
    assert read_seed(0) == 0 and read_seed(np.int64(3)) == 3
    np.random.seed(1)
    drawn = [read_seed(None) for _ in range(8)]
    np.random.seed(1)
    assert drawn == [read_seed(None) for _ in range(8)] and len(set(drawn)) == 8 and max(drawn) > 2**20
    for wrong in (-1, 1.0, "1"):
        with pytest.raises(ValueError, match="seed") as error:
            read_seed(wrong)
        assert repr(wrong) in str(error.value)


def test_seen_tokens():
    assert is_seen([[1, 3, 3], []], 4).tolist() == [[False, True, False, True], [False] * 4]


def test_lengths_come_in_few_sizes():
    for lengths, expected in (((1, 3), 16), ((16,), 16), ((17, 2), 32), ((40,), 50)):
        batch = pad_rows([list(range(1, length + 1)) for length in lengths], 50)
        assert {array.shape for array in batch.values()} == {(len(lengths), expected)}
        assert batch["padding_mask"].sum(axis=1).tolist() == list(lengths)
        assert np.all((batch["token_ids"] > 0) == batch["padding_mask"])
