r"""Word vectors from counts of neighbouring words, and their mean over a text. It is a baseline for encoders.

A singular value decomposition reduces the matrix of positive pointwise mutual information to a few hundred numbers per
word. word2vec factorizes almost the same matrix: Levy & Goldberg, 2014,
https://papers.nips.cc/paper/5477-neural-word-embedding-as-implicit-matrix-factorization. Smoothing the contexts' counts
is from Levy, Goldberg & Dagan, 2015, https://aclanthology.org/Q15-1016, section 3.2.

Shapes: n texts, V words, D numbers per word.
"""

import collections
import re

import numpy as np

SMOOTHING = 0.75  # exponent of the contexts' counts, so that rare contexts do not count too much


def split_words(text):
    """Splits a text into its words, in lower case and without punctuation.

    Args:
        text: a string.

    Returns:
        A list of strings.
    """
    return re.findall(r"\w+", text.lower())


class WordVectors:
    """One vector per word. The vector of a text is the mean over its words, divided by its length.

    Args:
        words: V strings.
        vectors: floats (V, D).

    Example:
        >>> word_vectors = WordVectors.learn(texts)
        >>> word_vectors.nearest("good")
        >>> word_vectors.encode(["A dull film.", "The movie bored me."])  # float32 (2, 300)
    """

    def __init__(self, words, vectors):
        self.rows = {word: row for row, word in enumerate(words)}
        self.vectors = np.asarray(vectors, "float32")

    @classmethod
    def learn(cls, texts, dimensions=300, window=5, min_count=10, seed=0):
        """Learns the vectors from texts without labels.

        Args:
            texts: strings.
            dimensions: D.
            window: how many words to the left and to the right of a word count as its neighbours.
            min_count: lowest number of occurrences of a word that gets a vector.
            seed: seed of the decomposition.

        Returns:
            `WordVectors`, the most frequent word first.

        Raises:
            ValueError: if fewer than `dimensions` words occur often enough.
        """
        from sklearn.decomposition import TruncatedSVD

        documents = [split_words(text) for text in texts]
        counts = collections.Counter(word for document in documents for word in document)
        words = [word for word, count in counts.most_common() if count >= min_count]
        if len(words) < dimensions:
            raise ValueError(f"Expected at least {dimensions} words that occur {min_count} times; got {len(words)}.")
        neighbours = count_neighbours(documents, words, window)  # (V, V)
        svd = TruncatedSVD(dimensions, random_state=seed)
        return cls(words, svd.fit_transform(positive_mutual_information(neighbours)))

    def encode(self, texts):
        """Computes the mean of each text's word vectors. Words without a vector do not count.

        Args:
            texts: n strings.

        Returns:
            float32 (n, D), each row of length one. A text without any known word gets zeros.
        """
        vectors = np.zeros((len(texts), self.vectors.shape[1]), "float32")
        for i, text in enumerate(texts):
            rows = [self.rows[word] for word in split_words(text) if word in self.rows]
            if rows:
                vectors[i] = self.vectors[rows].mean(axis=0)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def nearest(self, word, count=5):
        """Finds the words whose vectors have the largest cosines with that of a word.

        Args:
            word: a string.
            count: how many words to return.

        Returns:
            A list of strings, the nearest first.

        Raises:
            ValueError: if the word has no vector.
        """
        if word not in self.rows:
            raise ValueError(f"Expected one of the {len(self.rows)} words that have a vector; got {word!r}.")
        row = self.rows[word]
        lengths = np.maximum(np.linalg.norm(self.vectors, axis=1), 1e-9)
        cosines = self.vectors @ self.vectors[row] / lengths  # but for one factor, which is the same for all
        words = list(self.rows)
        return [words[i] for i in np.argsort(-cosines) if i != row][:count]


def count_neighbours(documents, words, window):
    """Counts how often two words occur near each other.

    Args:
        documents: lists of words. Neighbours are counted within a document.
        words: V strings. Other words keep their place in a document, but are not counted.
        window: highest distance of two neighbours.

    Returns:
        A sparse matrix (V, V), symmetric.
    """
    from scipy import sparse

    row_of = {word: row for row, word in enumerate(words)}
    gap = [-1] * window  # between two documents
    ids = np.array([row for document in documents for row in (*(row_of.get(word, -1) for word in document), *gap)])
    total = sparse.csr_matrix((len(words), len(words)))
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        both = (left >= 0) & (right >= 0)
        pairs = np.ones(both.sum()), (left[both], right[both])
        total = total + sparse.coo_matrix(pairs, shape=total.shape).tocsr()
    return total + total.T


def positive_mutual_information(counts):
    r"""Computes how much more often than by chance two words are neighbours.

    $$\max\left(0,\ \log \frac{P(w, c)}{P(w)\, P_\alpha(c)}\right), \qquad P_\alpha(c) \propto \#(c)^\alpha$$

    Args:
        counts: a sparse matrix (V, V), from `count_neighbours`.

    Returns:
        A sparse matrix (V, V) of floats. Pairs that were never seen keep 0.
    """
    from scipy import sparse

    counts = counts.tocoo()
    of_word = np.bincount(counts.row, counts.data, counts.shape[0])
    of_context = np.bincount(counts.col, counts.data, counts.shape[1]) ** SMOOTHING
    chance = of_word[counts.row] * of_context[counts.col] / of_context.sum()
    information = np.maximum(np.log(counts.data / chance), 0)
    matrix = sparse.csr_matrix((information, (counts.row, counts.col)), shape=counts.shape)
    matrix.eliminate_zeros()
    return matrix
