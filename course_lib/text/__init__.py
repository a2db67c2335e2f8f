"""Turns text into the token ids that models read. No module here imports a model."""

from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.text.chat_tokenizer import ChatTokenizer
from course_lib.text.roberta import RobertaTokenizer
from course_lib.text.special_tokens import AddedToken
from course_lib.text.word_piece import WordPieceTokenizer

__all__ = ["AddedToken", "BytePairTokenizer", "ChatTokenizer", "RobertaTokenizer", "WordPieceTokenizer"]
