"""Checks for chapter 08, Using BERT."""

import numpy as np
from keras import ops

from course_lib.course.exercises import Exercise, Property, close
from course_lib.text import WordPieceTokenizer

_HIDDEN = np.array([[[1, 0], [3, 2], [9, 9]], [[2, 2], [4, 6], [6, 1]]], "float32")
_MASK = np.array([[1, 1, 0], [1, 1, 1]], "int32")
_ROWS = np.eye(6, dtype="float32")[[3, 0, 5, 1, 4, 2]]
_TOKENIZER = WordPieceTokenizer(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "token", "##ize", "##r", "##s", "work", "."]
)


def _mean(answer, mask):
    return ops.convert_to_numpy(answer(ops.convert_to_tensor(_HIDDEN), ops.convert_to_tensor(mask)))


def _raises_value_error(answer, *arguments):
    try:
        answer(*arguments)
    except ValueError:
        return True
    return False


mean_of_tokens = Exercise(
    Property(
        "the result has shape (B, D)",
        lambda answer: _mean(answer, _MASK).shape == (2, 2),
        "Sum over the tokens, axis 1, and over no other axis.",
    ),
    Property(
        "a row without padding gives the plain mean",
        lambda answer: close(_mean(answer, _MASK)[1], [4, 3]),
        "Divide the sum by the number of tokens.",
    ),
    Property(
        "padding does not enter the sum",
        lambda answer: close(_mean(answer, _MASK)[0], [2, 1]) or close(_mean(answer, _MASK)[0] * 3, [4, 2]),
        "Multiply the hidden states by the mask, given a third axis of length 1, before you sum.",
    ),
    Property(
        "padding does not enter the count",
        lambda answer: close(_mean(answer, _MASK)[0], [2, 1]),
        "Divide by the sum of the mask, not by T.",
    ),
    Property(
        "a row of nothing but padding gives zeros",
        lambda answer: close(_mean(answer, np.zeros_like(_MASK)), np.zeros((2, 2))),
        "0 / 0 is not a number: divide by at least 1, with ops.maximum.",
    ),
)

nearest = Exercise(
    Property(
        "as many indices come back as were asked for",
        lambda answer: len(answer(_ROWS[2], _ROWS, 3)) == 3,
        "Cut the result to `count` entries.",
    ),
    Property(
        "the nearest comes first",
        lambda answer: answer(np.float32([0, 0.1, 0, 0.3, 0, 0.9]), _ROWS, 3)[0] == 2,
        "Sort by falling score; np.argsort sorts by rising values.",
    ),
    Property(
        "all are in order",
        lambda answer: list(answer(np.float32([0, 0.1, 0, 0.3, 0, 0.9]), _ROWS, 3)) == [2, 0, 3],
        "np.argpartition puts the largest few in front in no order: sort those few.",
    ),
    Property(
        "all vectors can be asked for",
        lambda answer: list(answer(np.float32([0.5, 0.4, 0.3, 0.6, 0.2, 0.1]), _ROWS, 6)) == [0, 1, 3, 5, 4, 2],
        "np.argpartition takes the position of the last wanted entry, which is count - 1.",
    ),
)

positions_of = Exercise(
    Property(
        "a word of one piece is found, [CLS] being position 0",
        lambda answer: list(answer("cat", "the cat work", _TOKENIZER)) == [2],
        "tokenize leaves [CLS] out: add 1 to positions in its result.",
    ),
    Property(
        "a word of several pieces gives all of them",
        lambda answer: list(answer("tokenizers", "the tokenizers work.", _TOKENIZER)) == [2, 3, 4, 5],
        "Compare as many pieces as the tokenized word has.",
    ),
    Property(
        "capitals do not matter",
        lambda answer: list(answer("Cat", "The CAT.", _TOKENIZER)) == [2],
        "Tokenize the word as well, and compare pieces with pieces.",
    ),
    Property(
        "the beginning of a longer word is not the word",
        lambda answer: list(answer("token", "tokenizers token", _TOKENIZER)) == [5],
        "The piece after the last one must not begin with ##.",
    ),
    Property(
        "a word that does not occur is a ValueError",
        lambda answer: _raises_value_error(answer, "cat", "the tokenizers work", _TOKENIZER),
        "Raise ValueError after the loop.",
    ),
)
