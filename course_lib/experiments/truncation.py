"""Measures what is lost when long reviews are cut, by how much is kept and from which end; for chapter 10."""

import dataclasses
import re

import numpy as np

from course_lib import experiments
from course_lib.data import reviews
from course_lib.experiments import replays
from course_lib.experiments.frozen_features import best_linear
from course_lib.experiments.sentiment_finetuning import FROZEN, TF_IDF, mean_vectors
from course_lib.models.bert import Bert
from course_lib.text.packing import pack_segments

FIRST, LAST, BOTH = ("first", "last", "both ends")
NO_GRADES = "TF-IDF, no grades"
GRADE = re.compile(  # as in "8/10", "8 out of ten", "rating: 8" and "****"
    r"\b\d+(?:\.\d+)?\s*(?:/|out of)\s*(?:100|10|ten|5|five|4)\b|\b(?:grade|rating|score)\s*:?\s*\d+\b|\*{2,}",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Truncation:
    """Classifies IMDb reviews from a part of their tokens: with the frozen encoder, and with TF-IDF.

    A logistic regression reads the encoder's mean vectors, or TF-IDF of the remaining words. Its regularisation is
    chosen on the validation split for each cut. Some reviews name a grade, most of them at their end. So TF-IDF also
    reads reviews from which grades were deleted before they were cut.

    Args:
        data: the assets that it reads.
        cuts: cuts for the encoder: tuples of the tokens kept and the length of the row, `[CLS]` and `[SEP]` included.
        lengths: lengths for TF-IDF, each with all ways to cut, because it is cheap; 0 for whole reviews.
        sizes: sizes of the train, validation and test splits.
        seed: seed of the draw of all three.
        regularisations: values of scikit-learn's C to choose from.
    """

    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2")
    cuts: tuple = ((FIRST, 64), (LAST, 64), (BOTH, 64), (FIRST, 32), (FIRST, 128))
    lengths: tuple = (32, 64, 128, 256, 0)
    sizes: tuple = (600, 300, 600)
    seed: int = 0
    regularisations: tuple = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts with `features`, `kept`, `length` (0 for whole reviews), `regularisation`, and `accuracy` on
            the test split and `wrong`, the places of its reviews that are misclassified; and a last dict with
            `lengths`, the number of tokens of each review of the test split, with `[CLS]` and `[SEP]`, and `graded`,
            the places of those that name a grade.
        """
        results = [
            experiments.cached("truncation", f"{kept} {length}", lambda k=kept, n=length: self.frozen(k, n))
            for kept, length in self.cuts
        ]
        tokenizer, splits = Bert.from_preset(self.data[1]).tokenizer, self.splits()
        texts = [split.texts for split in splits]
        ungraded = [[GRADE.sub(" ", text) for text in part] for part in texts]
        for features, parts in ((TF_IDF, texts), (NO_GRADES, ungraded)):
            tokens = [[tokenizer.encode(text)[1:-1] for text in part] for part in parts]
            for kept in (FIRST, LAST, BOTH):
                for length in self.lengths:
                    if length or kept == FIRST:
                        results.append(self.linear(tokenizer, tokens, splits, kept, length) | {"features": features})
        lengths = [len(tokenizer.encode(text)) for text in texts[2]]
        return [*results, {"lengths": lengths, "graded": places(map(GRADE.search, texts[2]))}]

    def replay(self):
        """Computes a few numbers of the experiment: vectors of two shortened reviews, and TF-IDF of sixty.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        few = dataclasses.replace(self, sizes=(60, 20, 60), regularisations=(0.1, 10.0))
        backbone, splits = Bert.from_preset(self.data[1]), few.splits()
        tokenizer = backbone.tokenizer
        tokens = [[tokenizer.encode(text)[1:-1] for text in split.texts] for split in splits]
        ids = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
        rows = [cut(tokens[0][index], kept, 30) for index in range(2) for kept in (FIRST, LAST, BOTH)]
        return {
            "vectors": replays.projections(mean_vectors(backbone, pack_segments(rows, None, *ids)), len(rows)),
            "linear": [few.linear(tokenizer, tokens, splits, kept, 64)["accuracy"] for kept in (FIRST, LAST, BOTH)],
        }

    def splits(self):
        """Draws the reviews.

        Returns:
            A list of the train, validation and test splits.
        """
        data = reviews.imdb()
        parts = data.train, data.validation, data.test
        return [reviews.few_shot(part, size, self.seed) for part, size in zip(parts, self.sizes, strict=True)]

    def frozen(self, kept, length):
        """Evaluates one cut with the encoder.

        Args:
            kept: "first", "last" or "both ends".
            length: maximum length of a row.

        Returns:
            A dict for the list of `run`.
        """
        backbone, splits = Bert.from_preset(self.data[1]), self.splits()
        tokenizer, features = backbone.tokenizer, []
        ids = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
        for split in splits:
            rows = [cut(tokenizer.encode(text)[1:-1], kept, length - 2) for text in split.texts]
            features.append(mean_vectors(backbone, pack_segments(rows, None, *ids)))
        return self.regressed(FROZEN, features, splits, kept, length)

    def linear(self, tokenizer, tokens, splits, kept, length):
        """Evaluates one cut with TF-IDF.

        Args:
            tokenizer: the encoder's tokenizer.
            tokens: for each split, a list of each review's ids, without `[CLS]` and `[SEP]`.
            splits: the splits from `splits`.
            kept: "first", "last" or "both ends".
            length: maximum length of a row, or 0 for whole reviews.

        Returns:
            A dict for the list of `run`.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [[tokenizer.decode(cut(ids, kept, length - 2) if length else ids) for ids in rows] for rows in tokens]
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[0])
        return self.regressed(TF_IDF, [tfidf.transform(split) for split in texts], splits, kept, length)

    def regressed(self, features, matrices, splits, kept, length):
        """Fits the best logistic regression.

        Args:
            features: "frozen" or "TF-IDF".
            matrices: matrices (n, …) of the three splits.
            splits: the splits from `splits`.
            kept: "first", "last" or "both ends".
            length: maximum length of a row, or 0 for whole reviews.

        Returns:
            A dict for the list of `run`.
        """
        from sklearn.linear_model import LogisticRegression

        labels = [split.labels for split in splits]
        found = best_linear(matrices, labels, self.regularisations)
        model = LogisticRegression(C=found["regularisation"], max_iter=5000).fit(matrices[0], labels[0])
        wrong = places(model.predict(matrices[2]) != labels[2])
        return {"features": features, "kept": kept, "length": length} | found | {"wrong": wrong}


def places(values):
    """Finds the places of the true values of a sequence.

    Args:
        values: any values.

    Returns:
        A list of integers.
    """
    return np.flatnonzero([bool(value) for value in values]).tolist()


def cut(ids, kept, room):
    """Keeps a part of a sequence.

    Args:
        ids: a list.
        kept: "first", "last", or "both ends", with half of the room for each end.
        room: maximum number of ids to keep. A shorter sequence is not cut.

    Returns:
        A list of at most `room` ids, in their order.
    """
    if len(ids) <= room:
        return ids
    head = {FIRST: room, LAST: 0, BOTH: room - room // 2}[kept]
    return ids[:head] + ids[len(ids) - (room - head) :]


EXPERIMENT = Truncation()
