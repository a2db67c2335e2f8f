"""From text to the token ids that models read. Nothing here knows a model."""

from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.special_tokens import AddedToken
from course_lib.text.word_piece import WordPieceTokenizer

__all__ = ["AddedToken", "BytePairTokenizer", "WordPieceTokenizer"]
