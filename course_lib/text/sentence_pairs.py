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

    The first part ends, and the second begins, at a boundary between two sentences of a document. Each part is as long
    as its document allows, up to half of the room. In a false pair the second part comes from another document and is
    as long as the part that would follow. First parts, second parts and pairs of lengths have the same distribution in
    both kinds, so neither part alone, nor both lengths together, tell whether a pair is true. A boundary whose second
    part is as long as none of another document is never drawn.

    Args:
        documents: lists of sentences, which are sequences of token ids. A document of one sentence gives no pairs.
        room: maximum number of tokens in both parts together, without special tokens. If it is odd, the first part may
            be one token longer than the second.

    Raises:
        ValueError: if `room` is below 2, a document has no tokens, or no two documents give second parts of the same
            length.

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
        boundary, span = np.concatenate(ends), np.array(spans)  # indices into _tokens: (n,) and (n, 2)
        lengths = np.minimum(span[:, 1] - boundary, room // 2)
        order = np.argsort(lengths, kind="stable")  # boundaries with second parts of the same length form a group
        _, begins, sizes = np.unique(lengths[order], return_index=True, return_counts=True)
        documents_of = [
            np.unique(span[order[start : start + size], 0]) for start, size in zip(begins, sizes, strict=True)
        ]
        shared = np.repeat([len(numbers) > 1 for numbers in documents_of], sizes)
        if not shared.any():
            raise ValueError(
                f"Expected two documents whose second parts have the same length, so that the length does not tell "
                f"false pairs from true ones; got {documents_with_pairs} documents, all too short and of different "
                f"lengths. Use more documents, longer ones, or a smaller room than {room}."
            )
        kept = order[shared]
        self._boundary, self._span, self._second_length = boundary[kept], span[kept], lengths[kept]
        self._group = np.searchsorted(self._second_length, [self._second_length, self._second_length + 1]).T  # (n, 2)

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
        first = second = np.zeros(count, int)
        wrong = np.ones(count, bool)
        while wrong.any():  # both are drawn again until they are of two documents, so neither is favoured
            first = np.where(wrong, rng.integers(self.num_boundaries, size=count), first)
            second = np.where(wrong, rng.integers(*self._group[first].T), second)
            wrong = self._span[second, 0] == self._span[first, 0]
        second = np.where(labels == 1, second, first)  # true pairs are drawn at the same boundaries as false ones

        left, middle = self._boundary[first], self._boundary[second]
        first_length = np.minimum(left - self._span[first, 0], self.room - self.room // 2)
        second_length = self._second_length[second]
        firsts = [self._tokens[end - length : end] for end, length in zip(left, first_length, strict=True)]
        seconds = [self._tokens[start : start + length] for start, length in zip(middle, second_length, strict=True)]
        return firsts, seconds, labels
