r"""Kneser–Ney, an n-gram model that predicts a token from the few tokens before it. It is a baseline for GPT-2.

This is the interpolated model with three discounts of Chen & Goodman, 1999, https://doi.org/10.1006/csla.1999.0128,
section 3.

Shapes: N order, n tokens, V vocabulary, C contexts.
"""

import numpy as np


class KneserNey:
    r"""Interpolated Kneser–Ney with modified discounts, for n-grams of up to N tokens.

    $$p_k(x \mid h) = \frac{c_k(hx) - D_k(c_k(hx))}{\sum_y c_k(hy)} + \gamma_k(h)\, p_{k-1}(x \mid h'), \qquad
    \gamma_k(h) = \frac{\sum_{y:\, c_k(hy) > 0} D_k(c_k(hy))}{\sum_y c_k(hy)}$$

    Here h is the k - 1 tokens before x, h' the last k - 2 of them, and $p_0 = 1/V$. If h was never seen, $p_k$ is
    $p_{k-1}$. For k = N, $c_k$ counts how often an n-gram occurs. For a shorter n-gram it counts the different tokens
    that occur before it. An n-gram at the beginning of a document has no token before it, so there its occurrences are
    counted. The discount $D_k$ is 0 for a count of 0, and has one value each for counts of 1, of 2, and of 3 or more.

    Each document begins after an end token, which only serves as context, and its own end token is predicted. No n-gram
    crosses from one document into the next.

    Args:
        documents: sequences of token ids to count, without end tokens.
        vocabulary_size: V.
        end_token_id: id of the token that ends a document.
        order: N.
        discounts: floats (N, 3), the discounts of n-grams of 1 to N tokens. Defaults to the paper's estimates, from the
            numbers of n-grams with counts of 1 to 4.

    Raises:
        ValueError: if there are no documents, an id is outside the vocabulary, N ids do not fit into 63 bits, or a
            discount is below 0 or above its count.

    Attributes:
        order: N.
        discounts: floats (N, 3).

    Example:
        >>> model = KneserNey(train, tokenizer.vocabulary_size, tokenizer.end_token_id)
        >>> model.fit(validation)
        >>> nats = sum(loss.sum() for loss in model.losses(held_out))
    """

    def __init__(self, documents, vocabulary_size, end_token_id, order=5, discounts=None):
        self.vocabulary_size, self.end_token_id, self.order = vocabulary_size, end_token_id, order
        self._bits = max(1, (vocabulary_size - 1).bit_length())
        if not (order >= 1 and order * self._bits <= 63):
            raise ValueError(
                f"Expected an order from 1 to {63 // self._bits}, whose ids fit into 63 bits with "
                f"{vocabulary_size} tokens; got {order}."
            )
        grams, places = self._grams(documents)
        self._tables, longer = [], None
        for length, keys in reversed(list(enumerate(grams, start=1))):
            if longer is None:
                keys, counts = np.unique(keys[keys >= 0], return_counts=True)
            else:
                counted = [np.unique(longer & (1 << length * self._bits) - 1, return_counts=True)]
                if length > 1:
                    counted.append(np.unique(keys[places == length - 1], return_counts=True))  # begin a document
                keys, counts = map(np.concatenate, zip(*counted, strict=True))
                keys, counts = keys[by_key := np.argsort(keys)], counts[by_key]
            self._tables.insert(0, _Table(keys, counts, self._bits))
            longer = keys
        if discounts is None:
            discounts = [table.estimated_discounts() for table in self._tables]
        self.discounts = np.array(discounts, "float64")
        if self.discounts.shape != (order, 3) or np.any(self.discounts < 0) or np.any(self.discounts > [1, 2, 3]):
            raise ValueError(f"Expected discounts ({order}, 3), at most 1, 2 and 3; got {self.discounts.tolist()}.")

    def fit(self, documents):
        """Finds the discounts that make held-out documents most likely.

        Args:
            documents: sequences of token ids, other documents than those that were counted.

        Raises:
            ValueError: if there are no documents, or an id is outside the vocabulary.
        """
        from scipy.optimize import minimize

        grams, places = self._grams(documents)
        found = self._look_up([keys[places > 0] for keys in grams])

        def loss(discounts):
            p, slopes = self._mixed(found, discounts.reshape(-1, 3))
            return -np.mean(np.log(p)), -np.mean(slopes / p[:, None, None], axis=0).ravel()

        bounds = [(0.01, count) for _ in range(self.order) for count in (1, 2, 3)]
        start = np.clip(self.discounts.ravel(), *np.transpose(bounds))
        self.discounts = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x.reshape(-1, 3)

    def losses(self, documents):
        r"""Computes the loss on each token: $-\log p$, in nats.

        Args:
            documents: n sequences of token ids.

        Returns:
            A list of n float64 arrays. Each has one entry more than the document has tokens, for its end token.

        Raises:
            ValueError: if there are no documents, or an id is outside the vocabulary.
        """
        grams, places = self._grams(documents)
        p, _ = self._mixed(self._look_up([keys[places > 0] for keys in grams]), self.discounts)
        losses = -np.log(p)
        return np.split(losses, np.cumsum([len(document) + 1 for document in documents])[:-1])

    def probabilities(self, context):
        """Computes the distribution of the next token.

        Args:
            context: token ids, of which only the last N - 1 are used. At the start of a document, begin with the end
                token.

        Returns:
            float64 (V,).
        """
        grams, key = [np.arange(self.vocabulary_size)], 0
        for length in range(1, self.order):
            if length > len(context):
                grams.append(np.full(self.vocabulary_size, -1))
            else:
                key |= int(context[-length]) << (length - 1) * self._bits
                grams.append(key << self._bits | grams[0])
        return self._mixed(self._look_up(grams), self.discounts)[0]

    def _grams(self, documents):
        """Packs the n-grams that end at each token into integers, and finds each token's position in its document.

        Returns:
            A list of N int64 arrays, with -1 where an n-gram would start before its document; and the int64 positions,
            0 for the end token before a document.
        """
        documents = [np.asarray(document, "int64") for document in documents]
        if not documents:
            raise ValueError("Expected at least one document; got none.")
        end = np.array([self.end_token_id])
        tokens = np.concatenate([part for document in documents for part in (end, document, end)])
        if not (tokens.min() >= 0 and tokens.max() < self.vocabulary_size):
            raise ValueError(f"Expected ids from 0 to {self.vocabulary_size - 1}; got {tokens.min()}, {tokens.max()}.")
        places = np.concatenate([np.arange(len(document) + 2) for document in documents])
        grams = [np.where(places > 0, tokens, -1)]
        packed = tokens
        for length in range(1, self.order):
            packed = packed | np.roll(tokens, length) << length * self._bits
            grams.append(np.where(places >= length, packed, -1))
        return grams, places

    def _look_up(self, grams):
        """Looks up the counts of n-grams of each length in its `_Table`. They do not depend on the discounts."""
        return [table.look_up(keys) for table, keys in zip(self._tables, grams, strict=True)]

    def _mixed(self, found, discounts):
        """Computes each last token's probability, (n,), and its derivatives by the discounts, (n, N, 3)."""
        p, slopes = 1 / self.vocabulary_size, np.zeros((len(found[0][0]), self.order, 3))
        for k, ((count, total, kinds), discount) in enumerate(zip(found, discounts, strict=True)):
            own = (np.minimum(count, 3)[:, None] == [1, 2, 3]).astype("float64")  # which of the three the token bears
            total = np.maximum(total, 1)
            gamma = np.where(kinds.any(axis=1), kinds @ discount / total, 1)
            slopes[:, :k] *= gamma[:, None, None]
            slopes[:, k] = (kinds * np.reshape(p, (-1, 1)) - own) / total[:, None]
            p = (count - own @ discount) / total + gamma * p
        return p, slopes


class _Table:
    """Holds the sorted n-grams of one length, with their counts.

    For each context, `totals` is the sum of the counts, and `kinds` is the number of counts that are 1, 2, and 3 or
    more.
    """

    def __init__(self, keys, counts, bits):
        self.keys, self.counts, self.bits = keys, counts, bits
        self.contexts, starts = np.unique(keys >> bits, return_index=True)  # (C,)
        self.totals = np.add.reduceat(counts, starts)
        kinds = [np.add.reduceat((np.minimum(counts, 3) == kind).astype("int64"), starts) for kind in (1, 2, 3)]
        self.kinds = np.stack(kinds, axis=1)  # (C, 3)

    def estimated_discounts(self):
        """Estimates the three discounts as in the paper, or as half the count if that is out of range."""
        once, twice, thrice, four = (np.count_nonzero(self.counts == count) for count in (1, 2, 3, 4))
        ratio = once / max(once + 2 * twice, 1)
        pairs = (once, twice), (twice, thrice), (thrice, four)
        estimates = [count - (count + 1) * ratio * b / max(a, 1) for count, (a, b) in enumerate(pairs, start=1)]
        return [d if 0 < d < count else count / 2 for count, d in enumerate(estimates, start=1)]

    def look_up(self, keys):
        """Looks up counts (n,), and totals (n,) and kinds (n, 3) of the contexts. All are 0 for unseen n-grams."""
        row, is_known = _find(self.keys, keys)
        count = np.where(is_known, self.counts[row], 0)
        row, is_known = _find(self.contexts, keys >> self.bits)
        return count, np.where(is_known, self.totals[row], 0), np.where(is_known[:, None], self.kinds[row], 0)


def _find(ordered, keys):
    """Finds the index of each key among sorted keys, and tells whether the key is known."""
    row = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return row, ordered[row] == keys
