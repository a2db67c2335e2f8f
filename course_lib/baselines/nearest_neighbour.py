"""Finds the nearest known text by TF-IDF, as a translation memory does. It is a baseline for translation models."""

import numpy as np


def nearest(known, texts, ngram_range=(1, 3)):
    """Finds the most similar known text for each text.

    The similarity of two texts is the cosine of their TF-IDF vectors over n-grams of characters.

    Args:
        known: m strings.
        texts: n strings.
        ngram_range: lengths of the shortest and of the longest n-gram.

    Returns:
        Integers (n,), indices into `known`. Of equally similar texts, the first is returned.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ngram_range, sublinear_tf=True)
    vectors = vectorizer.fit_transform(known)  # (m, features)
    similarity = (vectorizer.transform(texts) @ vectors.T).toarray()  # (n, m)
    return np.round(similarity, 6).argmax(axis=1)  # rounded, so that floating-point errors do not decide a tie
