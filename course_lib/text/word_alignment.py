"""Packs sentences that are already split into words, for tasks with one label per word.

Shapes: B rows, T length, W words per row.
"""

import numpy as np

from course_lib.text.packing import pack_segments


def pack_words(tokenizer, sentences, max_length=None):
    """Makes rows `[CLS] pieces of the words [SEP]`, in BERT's terms, and records where each word begins.

    A word for which the tokenizer returns no piece, such as a lone control character, becomes the unknown token, so its
    label has a position.

    Args:
        tokenizer: a `WordPieceTokenizer` or a `RobertaTokenizer`.
        sentences: B sequences of strings, the words.
        max_length: maximum T. The first word that does not fit, and all words after it, are dropped. By default nothing
            is dropped.

    Returns:
        The tokenizer's dict, int32 (B, T), and `word_positions`, int32 (B, W): the position of each word's first piece,
        or 0 if the row has fewer than W words or the word was dropped.

    Raises:
        ValueError: if there are no sentences, or one is a string.
    """
    rows, positions = [], []
    for sentence in sentences:
        if isinstance(sentence, str):
            raise ValueError(f"Expected sequences of words; got the string {sentence[:40]!r}.")
        ids, starts = [], []
        for word in sentence:
            pieces = tokenizer.word_pieces(word) or [tokenizer.unknown_token_id]
            if max_length is not None and len(ids) + len(pieces) > max_length - 2:
                break
            starts.append(1 + len(ids))
            ids += pieces
        rows.append(ids)
        positions.append(starts)
    batch = pack_segments(rows, None, tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id)
    width = max(1, *map(len, sentences))
    padded = [starts + [0] * (width - len(starts)) for starts in positions]
    return {**batch, "word_positions": np.array(padded, "int32")}
