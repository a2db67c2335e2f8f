r"""The count model that a masked language model has to beat: a token from its left and right neighbours alone.

Shapes: n predictions, V vocabulary, K kinds of context, G groups of contexts.
"""

import numpy as np

_GROUPS = np.array(
    [1, 3, 10, 30]
)  # a context of both neighbours was seen less than once, 1 or 2 times, 3 to 9 times, …


class NeighbourModel:
    r"""Interpolated counts, $p(x \mid l, r) = \sum_k w_{gk} \, p_k(x)$.

    The $p_k$ are the shares of x among all tokens, among those to the right of l, among those to the left of r, and
    among those between l and r. The weights differ by group g, which says how often l and r were seen around a token;
    `tune` fits them to held-out tokens (Jelinek & Mercer, 1980). Until then they are equal.

    Args:
        documents: sequences of token ids, to count in.
        vocabulary_size: V.

    Raises:
        ValueError: if there is no token with two neighbours.

    Attributes:
        weights: floats (G, K); each row adds up to 1.
    """

    def __init__(self, documents, vocabulary_size):
        from scipy import sparse

        self.vocabulary_size = vocabulary_size
        streams = [np.asarray(document, "int64") for document in documents if len(document) > 2]
        if not streams:
            raise ValueError("Expected documents of three tokens or more; got none.")
        left = np.concatenate([stream[:-2] for stream in streams])
        token = np.concatenate([stream[1:-1] for stream in streams])
        right = np.concatenate([stream[2:] for stream in streams])
        self._contexts, both = np.unique(left * vocabulary_size + right, return_inverse=True)

        def shares(context, number):
            """Rows of probabilities, one a context, (number, V)."""
            ones = np.ones(len(token), "float32")
            counts = sparse.csr_matrix((ones, (context, token)), shape=(number, vocabulary_size))
            totals = np.asarray(counts.sum(axis=1)).ravel()
            return sparse.diags_array(1 / np.maximum(totals, 1), format="csr") @ counts, totals

        self._any, _ = shares(np.zeros_like(token), 1)
        self._left, _ = shares(left, vocabulary_size)
        self._right, _ = shares(right, vocabulary_size)
        unseen = len(self._contexts)  # the last row, all zeros
        self._both, self._seen = shares(both, unseen + 1)
        self.weights = np.full((len(_GROUPS) + 1, 4), 0.25)

    def _parts(self, left, right):
        """The probabilities of each kind of context, matrices (n, V); and the group of each row, int (n,)."""
        key = np.asarray(left, "int64") * self.vocabulary_size + right
        row = np.searchsorted(self._contexts, key)
        found = self._contexts[np.minimum(row, len(self._contexts) - 1)] == key
        row = np.where(found, row, len(self._contexts))
        parts = self._any[np.zeros_like(row)], self._left[left], self._right[right], self._both[row]
        return parts, np.searchsorted(_GROUPS, self._seen[row], side="right")

    def tune(self, left, token, right, rounds=30):
        """Fits the weights to tokens that were not counted, by expectation–maximisation.

        Args:
            left: ids (n,) of the tokens before.
            token: ids (n,).
            right: ids (n,) of the tokens after.
            rounds: how many.
        """
        parts, group = self._parts(left, right)
        here = np.stack([np.asarray(part[np.arange(len(token)), token]).ravel() for part in parts], axis=1)  # (n, K)
        for _ in range(rounds):
            joint = self.weights[group] * here
            joint /= np.maximum(joint.sum(axis=1, keepdims=True), 1e-30)
            for index in range(len(self.weights)):
                if (total := joint[group == index].sum(axis=0)).sum() > 0:
                    self.weights[index] = total / total.sum()

    def probabilities(self, left, right):
        """The distribution of a token between two others.

        Args:
            left: ids (n,) of the tokens before.
            right: ids (n,) of the tokens after.

        Returns:
            float32 (n, V). A context that was never seen has no share of its own, and the rest is scaled up.
        """
        parts, group = self._parts(left, right)
        weights = self.weights[group].astype("float32")  # (n, K)
        mixed = sum(part.multiply(weights[:, k, None]).toarray() for k, part in enumerate(parts))
        return mixed / mixed.sum(axis=1, keepdims=True)
