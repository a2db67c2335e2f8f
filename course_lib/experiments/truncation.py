"""What is lost where long reviews are cut, by how much is kept and from which end: chapter 10."""

import dataclasses

from course_lib import experiments
from course_lib.data import reviews
from course_lib.experiments import replays
from course_lib.experiments.frozen_features import best_linear
from course_lib.experiments.sentiment_finetuning import FROZEN, TF_IDF, mean_vectors
from course_lib.models.bert import Bert
from course_lib.text.packing import pack_segments

FIRST, LAST, BOTH = ("first", "last", "both ends")


@dataclasses.dataclass(frozen=True)
class Truncation:
    """Classifies IMDb reviews of which a part of the tokens is kept: by the frozen encoder, and by TF-IDF.

    A logistic regression reads the encoder's mean vectors, or TF-IDF of the words that are left; its regularisation is
    chosen on the validation split for each cut.

    Args:
        data: the assets that it reads.
        cuts: of each which tokens are kept, and how long the row is, with `[CLS]` and `[SEP]`.
        lengths: those of TF-IDF, which is cheap, for all ways to cut; 0 for whole reviews.
        sizes: of the train, validation and test splits.
        seed: of the draw of all three.
        regularisations: scikit-learn's C, to choose from.
    """

    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2")
    cuts: tuple = ((FIRST, 64), (LAST, 64), (BOTH, 64), (FIRST, 32), (FIRST, 128))
    lengths: tuple = (32, 64, 128, 256, 0)
    sizes: tuple = (600, 300, 600)
    seed: int = 0
    regularisations: tuple = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)

    def run(self):
        """Runs the experiment, or what is left of it.

        Returns:
            A list of dicts with `features`, `kept`, `length` (0 for whole reviews), `regularisation`, and `accuracy` on
            the test split; and a last one with `lengths`, how many tokens each review of the test split has.
        """
        results = [
            experiments.cached("truncation", f"{kept} {length}", lambda k=kept, n=length: self.frozen(k, n))
            for kept, length in self.cuts
        ]
        tokenizer, splits = Bert.from_preset(self.data[1]).tokenizer, self.splits()
        tokens = [[tokenizer.encode(text)[1:-1] for text in split.texts] for split in splits]
        for kept in (FIRST, LAST, BOTH):
            for length in self.lengths:
                if length or kept == FIRST:
                    results.append(self.linear(tokenizer, tokens, splits, kept, length))
        return [*results, {"lengths": [len(ids) + 2 for ids in tokens[2]]}]

    def replay(self):
        """Computes a few numbers of the experiment: vectors of two reviews that were cut, and TF-IDF of sixty.

        Returns:
            A dict, as `course_lib.experiments.replays.compute` takes it.
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
        """Reviews.

        Returns:
            The train, validation and test split.
        """
        data = reviews.imdb()
        parts = data.train, data.validation, data.test
        return [reviews.few_shot(part, size, self.seed) for part, size in zip(parts, self.sizes, strict=True)]

    def frozen(self, kept, length):
        """One cut, for the encoder.

        Args:
            kept: "first", "last" or "both ends".
            length: of the longest row.

        Returns:
            A dict, as `run` returns them.
        """
        backbone, splits = Bert.from_preset(self.data[1]), self.splits()
        tokenizer, features = backbone.tokenizer, []
        ids = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
        for split in splits:
            rows = [cut(tokenizer.encode(text)[1:-1], kept, length - 2) for text in split.texts]
            features.append(mean_vectors(backbone, pack_segments(rows, None, *ids)))
        return self.regressed(FROZEN, features, splits, kept, length)

    def linear(self, tokenizer, tokens, splits, kept, length):
        """One cut, for TF-IDF.

        Args:
            tokenizer: of the encoder.
            tokens: of each split a list of each review's ids, without `[CLS]` and `[SEP]`.
            splits: of `splits`.
            kept: "first", "last" or "both ends".
            length: of the longest row, or 0 for whole reviews.

        Returns:
            A dict, as `run` returns them.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [[tokenizer.decode(cut(ids, kept, length - 2) if length else ids) for ids in rows] for rows in tokens]
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[0])
        return self.regressed(TF_IDF, [tfidf.transform(split) for split in texts], splits, kept, length)

    def regressed(self, features, matrices, splits, kept, length):
        """The best logistic regression.

        Args:
            features: "frozen" or "TF-IDF".
            matrices: (n, …), of the three splits.
            splits: of `splits`.
            kept: "first", "last" or "both ends".
            length: of the longest row, or 0 for whole reviews.

        Returns:
            A dict, as `run` returns them.
        """
        found = best_linear(matrices, [split.labels for split in splits], self.regularisations)
        return {"features": features, "kept": kept, "length": length} | found


def cut(ids, kept, room):
    """A part of a sequence.

    Args:
        ids: a list.
        kept: "first", "last", or "both ends", half of the room for each.
        room: how many may stay; a shorter sequence stays whole.

    Returns:
        A list of at most `room` ids, in their order.
    """
    if len(ids) <= room:
        return ids
    head = {FIRST: room, LAST: 0, BOTH: room - room // 2}[kept]
    return ids[:head] + ids[len(ids) - (room - head) :]


EXPERIMENT = Truncation()
