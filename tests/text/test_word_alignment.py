"""Words as rows: where each begins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import WordPieceTokenizer
from course_lib.text.word_alignment import pack_words

pytestmark = pytest.mark.one_backend

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "@"]
TOKENIZER = WordPieceTokenizer(PIECES)


def test_by_hand():
    batch = pack_words(TOKENIZER, [["ab", "@b", "a"], ["\u200b", "c"], []])
    assert batch["token_ids"].tolist() == [[2, 5, 8, 9, 6, 5, 3], [2, 1, 1, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0]]
    assert batch["word_positions"].tolist() == [[1, 3, 5], [1, 2, 0], [0, 0, 0]]
    assert batch["padding_mask"].sum(axis=1).tolist() == [7, 4, 2]
    assert {array.dtype for array in batch.values()} == {np.dtype("int32")}


def test_a_word_that_ends_beyond_the_row_is_cut_off_whole():
    batch = pack_words(TOKENIZER, [["a", "bab", "a"]], max_length=5)
    assert batch["token_ids"].tolist() == [[2, 5, 3]] and batch["word_positions"].tolist() == [[1, 0, 0]]
    assert pack_words(TOKENIZER, [["a", "bab", "a"]], max_length=6)["word_positions"].tolist() == [[1, 2, 0]]


@given(st.lists(st.lists(st.text("ab@", min_size=1, max_size=6), max_size=6), min_size=1, max_size=4))
def test_the_pieces_from_one_word_to_the_next_are_the_word(sentences):
    batch = pack_words(TOKENIZER, sentences)
    for row, starts, sentence in zip(batch["token_ids"], batch["word_positions"], sentences, strict=True):
        ends = [*starts[1 : len(sentence)], int(np.flatnonzero(row == TOKENIZER.end_token_id)[0])]
        assert np.all(starts[len(sentence) :] == 0)
        for word, start, end in zip(sentence, starts, ends, strict=False):
            assert row[start:end].tolist() == TOKENIZER.encode(word)[1:-1]


@pytest.mark.parametrize(("sentences", "message"), [(["a b"], "sequences of words"), ([], "at least one row")])
def test_what_is_no_list_of_sentences(sentences, message):
    with pytest.raises(ValueError, match=message):
        pack_words(TOKENIZER, sentences)
