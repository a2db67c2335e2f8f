"""An artificial language whose exact probabilities are known, and so is the lowest loss that any model can reach.

A document has a hidden topic; each word depends on the topic and on the two words before it. A document is a piece of
an endless text, so its first words follow the same distribution as any others. Every prediction of pre-training then
has an exact answer, computed by the forward–backward algorithm (Rabiner, 1989, https://doi.org/10.1109/5.18626, section
III) over the topic and the last two words.

Shapes: B rows, T words per row (without special tokens), P predictions per row, K topics, W words, V = W + 5
vocabulary.
"""

import dataclasses
import functools
import string

import numpy as np

from course_lib.data.forward_backward import Shown, forward, forward_backward
from course_lib.text.packing import pack_segments
from course_lib.text.word_piece import SPECIAL_TOKENS

PAD, _, CLS, SEP, MASK = range(len(SPECIAL_TOKENS))
FIRST_WORD = len(SPECIAL_TOKENS)  # the words' ids follow those of the special tokens
_ROWS = 256  # number of rows computed at once, to bound the memory


@dataclasses.dataclass(frozen=True, eq=False)
class ArtificialLanguage:
    """Draws random texts to train and test on, and computes the exact distribution of any word in them.

    Attributes:
        transitions: floats (K, W, W, W), at [z, a, b, c] the probability that word c follows words a, b under topic z.
            All are above zero. The topics are equally likely.

    Raises:
        ValueError: if the transitions do not have this shape with W at most 52, are not all above zero, or do not sum
            to one.

    Example:
        >>> language = ArtificialLanguage.draw()
        >>> inputs, labels, weights = masking(language.rows(language.documents(1000, 32, seed=0)), seed=0, step=0)
        >>> floor = entropy(language.word_posterior(inputs, weights, masking)).mean()
    """

    transitions: np.ndarray

    def __post_init__(self):
        shape = np.shape(self.transitions)
        if len(shape) != 4 or not shape[1] == shape[2] == shape[3] <= len(string.ascii_letters):
            raise ValueError(f"Expected transitions of shape (K, W, W, W), with W at most 52; got {shape}.")
        if not (np.min(self.transitions) > 0 and np.allclose(np.sum(self.transitions, axis=-1), 1)):
            raise ValueError("Expected transitions above zero that sum to one over the last axis.")

    @classmethod
    def draw(cls, num_words=8, num_topics=3, near=1.7, far=1.0, taste=1.0, seed=2):
        """Draws a language. The defaults give the language of the course.

        The logarithm of a transition is, up to a constant, a sum of three normally distributed terms: one for the pair
        b, c; one for the pair a, c; and one for c under the topic.

        Args:
            num_words: W, at most 52.
            num_topics: K.
            near: standard deviation of the first term, the effect of the word before.
            far: standard deviation of the second, the effect of the word before that.
            taste: standard deviation of the third, the effect of the topic.
            seed: an integer.

        Returns:
            An `ArtificialLanguage`.
        """
        rng = np.random.default_rng(seed)
        logits = near * rng.normal(size=(1, 1, num_words, num_words))
        logits = logits + far * rng.normal(size=(1, num_words, 1, num_words))
        logits = logits + taste * rng.normal(size=(num_topics, 1, 1, num_words))
        powers = np.exp(logits)
        return cls(powers / powers.sum(axis=-1, keepdims=True))

    @property
    def num_topics(self):
        """K, the number of topics."""
        return self.transitions.shape[0]

    @property
    def num_words(self):
        """W, the number of words."""
        return self.transitions.shape[1]

    @property
    def vocabulary(self):
        """The vocabulary of a `WordPieceTokenizer`: the special tokens, and one letter for each word."""
        return (*SPECIAL_TOKENS, *string.ascii_letters[: self.num_words])

    @functools.cached_property
    def pairs(self):
        """Floats (K, W, W): the joint probability of a topic z and two neighbouring words a, b anywhere in a text.

        This is the stationary distribution, to which the words converge however a text begins.
        """
        size = self.num_words**2
        found = []
        for table in self.transitions:
            step = np.einsum("abc,bd->abdc", table, np.eye(self.num_words)).reshape(size, size)  # (a b) → (b c)
            equations = np.concatenate([step.T - np.eye(size), np.ones((1, size))])  # it stays, and sums to one
            found.append(np.linalg.lstsq(equations, np.eye(size + 1)[size], rcond=None)[0])
        pairs = np.maximum(found, 0).reshape(self.num_topics, self.num_words, self.num_words)
        return pairs / pairs.sum()

    # Texts

    def documents(self, count, length, seed):
        """Draws documents.

        Args:
            count: number of documents.
            length: T.
            seed: anything that `numpy.random.default_rng` takes, such as an integer or a pair (seed, step).

        Returns:
            Token ids, int32 (count, T), without special tokens.
        """
        rng = np.random.default_rng(seed)
        state = _draw(np.cumsum(self.pairs), rng.random(count))
        topic, before, word = np.unravel_index(state, self.pairs.shape)
        cumulative = np.cumsum(self.transitions, axis=-1)
        words = np.empty((count, length), "int32")
        for t in range(length):
            words[:, t] = word
            before, word = word, _draw(cumulative[topic, before, word], rng.random(count))
        return words + FIRST_WORD

    def sentence_pairs(self, count, length, seed):
        """Draws pairs of parts. Half of the second parts follow the first, and half come from another document.

        Args:
            count: B.
            length: T, number of words in both parts together. The first part has T // 2.
            seed: anything that `numpy.random.default_rng` takes.

        Returns:
            First parts (B, T // 2) and second parts (B, T - T // 2), int32 token ids; and labels, int32 (B,): 0 if the
            second part follows, 1 if it does not, as in `BertPretrainer` and Google's checkpoints. B // 2 of them are
            1.
        """
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(count) % 2).astype("int32")
        whole, other = self.documents(count, length, rng), self.documents(count, length, rng)
        middle = length // 2
        return whole[:, :middle], np.where(labels[:, None] == 1, other, whole)[:, middle:], labels

    def rows(self, first, second=None):
        """Makes rows for a BERT from documents, or from pairs of parts.

        Args:
            first: token ids (B, T).
            second: token ids (B, T'), or None.

        Returns:
            The tokenizer's dict, int32 (B, T + 2) or (B, T + T' + 3): `[CLS] first [SEP]`, or
            `[CLS] first [SEP] second [SEP]`.
        """
        return pack_segments(first, second, CLS, SEP, PAD)

    # Closed forms, in nats per word

    @functools.cached_property
    def unigram_loss(self):
        """The lowest loss of a model that knows how frequent each word is, but sees no context."""
        return float(entropy(self.pairs.sum(axis=(0, 1))))

    @functools.cached_property
    def neighbour_loss(self):
        """The lowest loss of a table of both neighbours: the entropy of a word given its left and right neighbour."""
        triples = np.einsum("zab,zabc->abc", self.pairs, self.transitions)
        around = triples.sum(axis=1)  # (left, right)
        return float(entropy(triples.ravel()) - entropy(around.ravel()))

    @functools.cached_property
    def entropy_rate(self):
        """The entropy of the next word in a long text, whose earlier words have revealed the topic.

        The entropy of a document of T words is higher than T times this value: it also contains the information about
        the topic, at most log K, and the first two words have less context than later ones.
        """
        return float(np.sum(self.pairs * entropy(self.transitions)))

    # Posteriors

    def next_word(self, documents):
        """Computes the exact distribution of each word given those before it: the best causal language model.

        Args:
            documents: token ids (B, T), without special tokens.

        Returns:
            Floats (B, T, V), at [b, t] the distribution of word t of document b.

        Raises:
            ValueError: if an id is not the id of a word.
        """
        words = np.asarray(documents) - FIRST_WORD
        if words.size and not (words.min() >= 0 and words.max() < self.num_words):
            raise ValueError(f"Expected ids of words, {FIRST_WORD} to {FIRST_WORD + self.num_words - 1}; got others.")
        found = np.zeros((*words.shape, FIRST_WORD + self.num_words))
        for start in range(0, len(words), _ROWS):
            part = slice(start, start + _ROWS)
            states, _ = forward(self.transitions, self.pairs, Shown(words[part], self.num_words, 0))
            for t, state in enumerate(states):
                found[part, t, FIRST_WORD:] = state[0].sum(axis=(0, 3)).T
        return found / found.sum(axis=-1, keepdims=True)

    def word_posterior(self, inputs, weights=None, masking=None):
        r"""Computes the exact distribution of the words at the chosen positions: the best masked language model.

        The row shows y, and position i is known to be chosen because the loss asks for it. If chosen words always
        become `[MASK]`, the answer is the posterior $P(x_i \mid y)$ given the visible words. If a chosen word may also
        be replaced or kept, any visible word may be a chosen one. A model does not know which ones; it knows only that
        k words were chosen, and that all sets of k are equally likely. Therefore

        $$P(x_i \mid y, i\text{ chosen}) \propto \sum_{S \ni i,\, |S| = k}\ \sum_{x_j,\, j \ne i} P(x)
        \prod_{j \in S} r(y_j \mid x_j) \prod_{j \notin S} [y_j = x_j],$$

        where $r(y \mid x)$ is the probability that a chosen x is shown as y: `mask_fraction` if y is `[MASK]`,
        otherwise `random_fraction` / W, plus the remaining fraction if y = x. The recursion computes the sum over S:
        its state counts the visible words so far that are chosen. In the whole row these are k minus the number of
        `[MASK]`.

        In rows of two segments, the second follows the first with probability 1/2, and otherwise belongs to another
        document. The posterior takes both cases into account.

        Args:
            inputs: dict that `Masking` returns, with the corrupted `token_ids`, `segment_ids`, and `mask_positions`
                (B, P). All rows must have the same layout.
            weights: (B, P), 1 for a prediction and 0 for none, as `Masking` returns them. None stands for all 1.
            masking: the `Masking`, for its fractions; None if chosen words always become `[MASK]`.

        Returns:
            Floats (B, P, V). They are zero for special tokens, and for all tokens where the weight is zero.

        Raises:
            ValueError: if the rows differ in layout, or could not result from this masking.
        """
        words, start = self._unpack(inputs)
        positions = np.asarray(inputs["mask_positions"])
        asked = np.ones(positions.shape, bool) if weights is None else np.asarray(weights) > 0
        hidden = self._hidden(words, asked.sum(axis=1), masking)
        segment = np.take_along_axis(np.asarray(inputs["segment_ids"]), positions, axis=1)
        places = np.where(asked, positions - 1 - segment, 0)  # without [CLS] and, in a second segment, a [SEP]
        if not np.all((words[np.arange(len(words))[:, None], places] < 0) | (hidden[:, None] > 0) | ~asked):
            raise ValueError("Expected [MASK] at each of the predictions; a row shows a word at one of them.")

        found = np.zeros((*positions.shape, FIRST_WORD + self.num_words))
        for rows in _alike(hidden):
            shown = Shown(words[rows], self.num_words, hidden[rows[0]], masking)
            weight = forward_backward(self.transitions, self.pairs, shown, start)  # (rows, T, W)
            found[rows, :, FIRST_WORD:] = np.take_along_axis(weight, places[rows][..., None], axis=1)
        found *= asked[..., None]
        total = found.sum(axis=-1, keepdims=True)
        return np.divide(found, total, out=found, where=total > 0)

    def next_posterior(self, inputs, weights=None, masking=None):
        """Computes the exact probability that the second segment follows the first: the best next-sentence prediction.

        Args:
            inputs: dict with `token_ids` and `segment_ids`. Each row has two segments, and all rows have the same
                layout. They may be masked.
            weights: (B, P) as `Masking` returns them; their sum is the number of chosen words in each row. With None,
                the chosen words are those shown as `[MASK]`.
            masking: the `Masking`, for its fractions; None if chosen words always become `[MASK]`.

        Returns:
            Floats (B,), assuming that half of all second segments follow.

        Raises:
            ValueError: if the rows differ in layout, have one segment, or could not result from this masking.
        """
        words, start = self._unpack(inputs)
        if start is None:
            raise ValueError("Expected rows of two segments; got one.")
        chosen = np.sum(words < 0, axis=1) if weights is None else np.sum(np.asarray(weights) > 0, axis=1)
        hidden = self._hidden(words, chosen, masking)
        found = np.empty(len(words))
        for rows in _alike(hidden):
            shown = Shown(words[rows], self.num_words, hidden[rows[0]], masking)
            follows, other = (forward(self.transitions, self.pairs, shown, start, share)[1] for share in (1.0, 0.0))
            found[rows] = 1 / (1 + np.exp(np.clip(other - follows, -700, 700)))
        return found

    def _unpack(self, inputs):
        """Turns rows into words (B, T), -1 for `[MASK]`, and finds where the second segment begins, or None."""
        token_ids, segment_ids = np.asarray(inputs["token_ids"]), np.asarray(inputs["segment_ids"])
        special = (token_ids < FIRST_WORD) & (token_ids != MASK)
        layout = special[0]
        if (
            np.any(special != layout)
            or np.any(segment_ids != segment_ids[0])
            or token_ids.max() >= FIRST_WORD + self.num_words
        ):
            raise ValueError("Expected rows of one layout, with the words of this language; got others.")
        second = np.flatnonzero(segment_ids[0][~layout])
        words = np.where(token_ids == MASK, -1, token_ids - FIRST_WORD)[:, ~layout]
        return words, second[0] if len(second) else None

    def _hidden(self, words, chosen, masking):
        """Counts the chosen words of each row that are not shown as `[MASK]`, (B,)."""
        hidden = chosen - np.sum(words < 0, axis=1)
        if hidden.min() < 0 or (hidden.max() > 0 and (masking is None or masking.mask_fraction == 1)):
            raise ValueError(
                f"Expected one [MASK] for each chosen word of a row, or fewer if the masking also shows words; got "
                f"{hidden.min()} to {hidden.max()} fewer."
            )
        return hidden


def entropy(probabilities):
    """Computes the entropy of distributions: the expected loss of a model that predicts exactly these.

    Args:
        probabilities: floats (..., V) that sum to one over the last axis. If they are all zero, the entropy is zero.

    Returns:
        Floats (...), in nats.
    """
    return -np.sum(probabilities * np.log(np.where(probabilities > 0, probabilities, 1)), axis=-1)


def _draw(cumulative, uniform):
    """Returns the index of each draw: the first whose cumulative probability exceeds the uniform number."""
    if cumulative.ndim == 1:
        index = np.searchsorted(cumulative, uniform, side="right")
    else:
        index = np.sum(cumulative <= uniform[:, None], axis=-1)
    return np.minimum(index, cumulative.shape[-1] - 1)


def _alike(counts):
    """Yields groups of at most `_ROWS` row indices. All rows of a group have the same count."""
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        yield from (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))
