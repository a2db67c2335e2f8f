r"""An interpolated n-gram model that predicts a token from its two neighbours: a baseline for a masked language model.

Shapes: n predictions, V vocabulary, K kinds of context, G groups of contexts.
"""

import numpy as np

_GROUPS = np.array([1, 3, 10, 30])  # both neighbours were seen together 0 times, 1 or 2 times, 3 to 9 times, …


class InterpolatedNgram:
    r"""Interpolates relative frequencies, $p(x \mid l, r) = \sum_k w_{gk} \, p_k(x)$ (Jelinek & Mercer, 1980).

    The $p_k$ are the frequencies of x among all tokens, among those to the right of l, among those to the left of r,
    and among those between l and r. The weights depend on the group g, which says how often l and r were seen around a
    token. All weights are equal until `fit` estimates them on held-out tokens.

    Args:
        documents: sequences of token ids to count.
        vocabulary_size: V.

    Raises:
        ValueError: if no document has three tokens or more.

    Attributes:
        weights: floats (G, K). Each row adds up to 1.
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

        def frequencies(context, number):
            """Computes a row of probabilities per context, (number, V), and counts its tokens, (number,)."""
            ones = np.ones(len(token), "float32")
            counts = sparse.csr_matrix((ones, (context, token)), shape=(number, vocabulary_size))
            totals = np.asarray(counts.sum(axis=1)).ravel()
            return sparse.diags_array(1 / np.maximum(totals, 1), format="csr") @ counts, totals

        self._any, _ = frequencies(np.zeros_like(token), 1)
        self._left, _ = frequencies(left, vocabulary_size)
        self._right, _ = frequencies(right, vocabulary_size)
        unseen = len(self._contexts)  # the last row, all zeros
        self._both, self._seen = frequencies(both, unseen + 1)
        self.weights = np.full((len(_GROUPS) + 1, 4), 0.25)

    def _parts(self, left, right):
        """Looks up K matrices of probabilities (n, V), one per kind of context, and the group of each row, (n,)."""
        key = np.asarray(left, "int64") * self.vocabulary_size + right
        row = np.searchsorted(self._contexts, key)
        found = self._contexts[np.minimum(row, len(self._contexts) - 1)] == key
        row = np.where(found, row, len(self._contexts))
        parts = self._any[np.zeros_like(row)], self._left[left], self._right[right], self._both[row]
        return parts, np.searchsorted(_GROUPS, self._seen[row], side="right")

    def fit(self, left, token, right, rounds=30):
        """Finds the weights that make held-out tokens most likely, by expectation–maximisation.

        Args:
            left: ids (n,) of the tokens to the left.
            token: ids (n,) of the held-out tokens.
            right: ids (n,) of the tokens to the right.
            rounds: number of iterations.
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
        """Computes the distribution of the token between two neighbours.

        Args:
            left: ids (n,) of the tokens to the left.
            right: ids (n,) of the tokens to the right.

        Returns:
            float32 (n, V). If a context was never seen, its kind is left out and the others are scaled up.
        """
        parts, group = self._parts(left, right)
        weights = self.weights[group].astype("float32")  # (n, K)
        mixed = sum(part.multiply(weights[:, k, None]).toarray() for k, part in enumerate(parts))
        return mixed / mixed.sum(axis=1, keepdims=True)
