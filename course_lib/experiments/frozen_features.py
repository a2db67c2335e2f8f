"""Measures what frozen features of a pre-trained encoder are worth, by the number of labels; for chapter 00."""

import dataclasses

import keras
import numpy as np

from course_lib.data import reviews
from course_lib.experiments import replays


@dataclasses.dataclass(frozen=True)
class FrozenFeatures:
    """Measures the accuracy of a linear classifier on fixed features, by the number of labels.

    Each kind of features has its own regularisation, chosen on the validation split for each draw and count. The
    features are TF-IDF of words and word pairs, fitted on the labelled texts; and the sentence vectors of the
    pre-trained encoder, and of the same encoder before any training.

    Args:
        data: the assets that it reads: the texts, and the pre-trained encoder.
        seed: seed of the untrained encoder's weights.
        counts: numbers of labelled texts.
        draws: number of random draws of these texts, with seeds 0, 1, 2, …
        regularisations: values of scikit-learn's C to choose from.
    """

    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2")
    seed: int = 0
    counts: tuple = (50, 100, 200, 500, 1000, 2000, 4000, 6930)
    draws: int = 5
    regularisations: tuple = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)

    def replay(self):
        """Computes a few numbers of the experiment: TF-IDF from fifty labels, and four vectors of both encoders.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        from course_lib.models.bert import Bert
        from course_lib.models.sentence_encoder import SentenceEncoder

        data = reviews.rotten_tomatoes()
        labelled = [reviews.few_shot(split, 50, seed=0) for split in (data.train, data.validation)]
        splits = [*labelled, data.test]
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(splits[0].texts)
        features = [tfidf.transform(split.texts) for split in splits]
        trained = SentenceEncoder.from_preset(self.data[1])
        untrained = SentenceEncoder(Bert(trained.backbone.config, trained.backbone.tokenizer))
        texts = splits[0].texts[:4]
        return {
            "TF-IDF": best_linear(features, [split.labels for split in splits], self.regularisations),
            "pre-trained": replays.projections(trained.encode(texts)),
            "untrained": replays.projections(untrained.encode(texts)),
        }

    def run(self):
        """Runs the experiment.

        Returns:
            A list of dicts with `features`, `count`, `draw`, `regularisation` and `accuracy` on the test split.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        from course_lib.models.bert import Bert
        from course_lib.models.sentence_encoder import SentenceEncoder

        keras.utils.set_random_seed(self.seed)
        data = reviews.rotten_tomatoes()
        texts = data.all_texts
        row = {text: index for index, text in enumerate(texts)}
        trained = SentenceEncoder.from_preset(self.data[1])
        untrained = SentenceEncoder(Bert(trained.backbone.config, trained.backbone.tokenizer))
        vectors = {"pre-trained": trained.encode(texts), "untrained": untrained.encode(texts)}

        results = []
        for draw in range(self.draws):
            for count in self.counts:
                labelled = reviews.few_shot(data.train, count, seed=draw)
                splits = labelled, data.validation, data.test
                tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(labelled.texts)
                features = {"TF-IDF": [tfidf.transform(split.texts) for split in splits]}
                for name, matrix in vectors.items():
                    features[name] = [matrix[[row[text] for text in split.texts]] for split in splits]
                for name, matrices in features.items():
                    result = best_linear(matrices, [split.labels for split in splits], self.regularisations)
                    results.append({"features": name, "count": count, "draw": draw} | result)
        return results


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
