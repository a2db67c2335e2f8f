"""Sentences that are words already, as rows of a batch: for tasks that ask for a label of each word.

Shapes: B rows, T length, W words a row.
"""

import numpy as np

from course_lib.text.packing import pack_segments


def pack_words(tokenizer, sentences, max_length=None):
    """`[CLS] pieces of the words [SEP]`, and where each word begins.

    A word of which the tokenizer leaves nothing, such as a lone control character, becomes the unknown token, so that
    there is a place for its label.

    Args:
        tokenizer: a `WordPieceTokenizer`.
        sentences: B sequences of words, which are strings.
        max_length: T at most; words that end beyond it are cut off, the last ones first. Nothing is cut if None.

    Returns:
        The tokenizer's dict, int32 (B, T), with `word_positions` in addition, int32 (B, W): the first piece of each
        word, and 0 where a row has fewer words than W or a word was cut off.

    Raises:
        ValueError: if there is no sentence, or one is a string.
    """
    rows, positions = [], []
    for sentence in sentences:
        if isinstance(sentence, str):
            raise ValueError(f"Expected sequences of words; got the string {sentence[:40]!r}.")
        ids, starts = [], []
        for word in sentence:
            pieces = tokenizer.encode(word)[1:-1] or [tokenizer.unknown_token_id]
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
