"""Makes pairs for next-sentence prediction (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1)."""

import re

import numpy as np

# The end of a sentence: a mark, closing quotes and brackets, and white space before what may begin the next sentence.
_BOUNDARY = re.compile(r"""[.!?]["')\]]*(\s+)(?=["'(\[]*[A-Z0-9])""")


def split_sentences(text):
    """Splits a text into sentences, at white space after `.`, `!` or `?` and before a capital letter or a digit.

    Args:
        text: a string.

    Returns:
        A list of strings, none of them empty.
    """
    spaces = [match.span(1) for match in _BOUNDARY.finditer(text)]
    starts, ends = [0, *(end for _, end in spaces)], [*(start for start, _ in spaces), len(text)]
    sentences = (text[start:end].strip() for start, end in zip(starts, ends, strict=True))
    return [sentence for sentence in sentences if sentence]


class SentencePairs:
    """Draws pairs of text parts. In half of the pairs the second part follows the first; in the other half it does not.

    The first part ends, and the second begins, at a boundary between two sentences of a document. Both are as long as
    the row has room. In a false pair the second part comes from another document. It is drawn in the same way as in a
    true pair, so neither part alone tells whether a pair is true.

    Args:
        documents: lists of sentences, which are sequences of token ids. A document of one sentence gives no pairs.
        room: maximum number of tokens in both parts together, without special tokens.

    Raises:
        ValueError: if `room` is below 2, a document has no tokens, or fewer than two documents have a boundary inside.

    Attributes:
        num_boundaries: number of boundaries at which a true pair can meet.
        num_tokens: number of tokens in the documents.
    """

    def __init__(self, documents, room):
        if room < 2:
            raise ValueError(f"Expected room for at least two tokens; got {room}.")
        self.room = room
        ends, spans, begin = [], [], 0
        for number, document in enumerate(documents):
            lengths = [len(sentence) for sentence in document]
            if not sum(lengths):
                raise ValueError(f"Expected documents with a sentence each; document {number} has none.")
            inside = begin + np.cumsum(lengths)
            ends.append(np.unique(inside[(inside > begin) & (inside < inside[-1])]))  # an empty sentence repeats one
            spans += [(begin, inside[-1])] * len(ends[-1])
            begin = inside[-1]
        documents_with_pairs = sum(len(inside) > 0 for inside in ends)
        if documents_with_pairs < 2:
            raise ValueError(
                f"Expected at least two documents of two sentences or more, since false pairs join two; "
                f"got {documents_with_pairs}."
            )
        self._tokens = np.concatenate([np.asarray(sentence, "int32") for doc in documents for sentence in doc])
        self._boundary = np.concatenate(ends)  # (num_boundaries,), indices into _tokens
        self._span = np.array(spans)  # (num_boundaries, 2): where the document around each begins and ends

    @property
    def num_boundaries(self):
        """Number of boundaries at which a true pair can meet."""
        return len(self._boundary)

    @property
    def num_tokens(self):
        """Number of tokens in the documents."""
        return len(self._tokens)

    def counts(self, vocabulary_size):
        """Counts how often each token occurs in the documents.

        Args:
            vocabulary_size: V.

        Returns:
            int64 (V,).
        """
        return np.bincount(self._tokens, minlength=vocabulary_size)

    def draw(self, count, seed, step):
        """Draws pairs. They depend only on the documents, a seed and a step.

        Args:
            count: B, the number of pairs.
            seed: an integer of 0 or more.
            step: an integer of 0 or more. Each step gives different pairs.

        Returns:
            B first parts and B second parts, lists of int32 arrays; and labels, int32 (B,): 0 if the second part
            follows, 1 if it does not, as in Google's checkpoints. B // 2 of them are 1.
        """
        rng = np.random.default_rng((seed, step))
        labels = rng.permutation(np.arange(count) % 2).astype("int32")
        first = rng.integers(self.num_boundaries, size=count)
        second = first.copy()
        wrong = labels == 1
        while wrong.any():  # drawn again until it comes from another document
            second[wrong] = rng.integers(self.num_boundaries, size=wrong.sum())
            wrong = (labels == 1) & (self._span[second, 0] == self._span[first, 0])

        left, middle = self._boundary[first], self._boundary[second]
        before, after = left - self._span[first, 0], self._span[second, 1] - middle
        second_length = np.minimum(after, np.maximum(self.room - self.room // 2, self.room - before))
        first_length = np.minimum(before, self.room - second_length)
        firsts = [self._tokens[end - length : end] for end, length in zip(left, first_length, strict=True)]
        seconds = [self._tokens[start : start + length] for start, length in zip(middle, second_length, strict=True)]
        return firsts, seconds, labels
