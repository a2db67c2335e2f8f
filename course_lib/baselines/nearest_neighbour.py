"""The nearest known text, by TF-IDF: what a translation memory looks up. It is a baseline for a translator."""

import numpy as np


def nearest(known, texts, ngram_range=(1, 3)):
    """Finds the most similar known text for each text.

    Two texts are compared by the n-grams of characters that they share, weighted by TF-IDF: the similarity is the
    cosine of the two vectors.

    Args:
        known: m strings.
        texts: n strings.
        ngram_range: lengths of the shortest and the longest n-gram.

    Returns:
        Integers (n,), places in `known`. Of several that are equally similar, it is the first.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ngram_range, sublinear_tf=True)
    vectors = vectorizer.fit_transform(known)  # (m, features)
    similarity = (vectorizer.transform(texts) @ vectors.T).toarray()  # (n, m)
    return np.round(similarity, 6).argmax(axis=1)  # rounding errors must not decide between equals
