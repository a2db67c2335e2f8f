"""How an encoder becomes a classifier of sentiment, what of it has to learn, and from how many labels: chapter 10."""

import dataclasses
import functools
import time

import keras
import numpy as np
from keras import ops

from course_lib import experiments
from course_lib.data import reviews
from course_lib.experiments import replays
from course_lib.experiments.frozen_features import best_linear
from course_lib.models.bert import Bert
from course_lib.models.classifiers import TextClassifier
from course_lib.models.sentence_encoder import pool
from course_lib.text.batches import Examples
from course_lib.training.adaptation import enable_lora
from course_lib.training.finetuning import fine_tune, logits_of

FULL, LORA, FROZEN, TF_IDF = METHODS = ("full", "LoRA", "frozen", "TF-IDF")


@dataclasses.dataclass(frozen=True)
class SentimentFinetuning:
    """Fine-tunes an encoder on Rotten Tomatoes, whole and by low-rank adapters, from few labels to all of them.

    Each method has its own learning rate: the one with the lowest validation loss with the first seed, on as many
    labels as `guide` says; that of the whole encoder was so chosen in `worth`, which also has its runs on 1,000 labels.
    How long a method learns is chosen in each run, as the epoch with the lowest validation loss.
    Beside them stand the frozen encoder, whose mean vectors a logistic regression reads, and TF-IDF with another; both
    have their own regularisation, chosen in each run likewise.

    Args:
        name: of the record.
        data: the assets that it reads.
        runs: of the methods that train the encoder or a part of it: which, how many labels (0 for all), and how many
            epochs at most; what matters most comes first.
        linear: those that do not.
        counts: their numbers of labels, 0 for all.
        learning_rates: to choose from, for each method.
        guide: how many labels the choice of a learning rate has.
        validation: how many labels of the validation split the choices of it and of the epoch have.
        seeds: of the labels drawn, the new weights and the order of the rows.
        batch_size: B.
        max_length: of a row, in tokens.
        dropout: of the backbone and the head.
        rank: of the adapters.
        regularisations: scikit-learn's C, to choose from.
    """

    name: str = "sentiment-finetuning"
    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2")
    runs: tuple = ((FULL, 0, 1), (LORA, 1000, 3), (FULL, 200, 4), (FULL, 50, 8))
    linear: tuple = (FROZEN, TF_IDF)
    counts: tuple = (50, 200, 1000, 3000, 0)
    learning_rates: tuple = ((FULL, (1e-4,)), (LORA, (1e-3, 3e-3)))
    guide: int = 1000
    validation: int = 200
    seeds: tuple = (0, 1, 2)
    batch_size: int = 32
    max_length: int = 64
    dropout: float = 0.1
    rank: int = 8
    regularisations: tuple = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)

    def run(self):
        """Runs the experiment, or what is left of it.

        Returns:
            A list of dicts, as `fine_tuned` and `regressed` return them.
        """
        results = [self.chosen(*run, seed) for run in self.runs for seed in self.seeds]
        for method in self.linear:
            results += experiments.cached(self.name, method, functools.partial(self.regressed, method))
        return results

    def replay(self):
        """Computes a few numbers of the experiment: an epoch of each method on 24 texts.

        Returns:
            A dict, as `course_lib.experiments.replays.compute` takes it.
        """

        def few(count, seed):
            train, validation, _ = SentimentFinetuning.splits(self, count, seed)
            return [reviews.few_shot(split, size, seed=0) for split, size in ((train, 24), (validation, 4))]

        found = {}
        for method in dict.fromkeys(run[0] for run in self.runs):
            keras.utils.set_random_seed(0)
            model = TextClassifier(self.backbone(), ["negative", "positive"], dropout=self.dropout)
            if method == LORA:
                enable_lora(model.backbone, self.rank)
            model.build()
            train, validation = (
                Examples(self.tokenized(model.backbone, split.texts), split.labels, None, 8, order)
                for split, order in zip(few(1000, 0), (0, None), strict=True)
            )
            found[method] = {
                "losses": fine_tune(model, train, validation, dict(self.learning_rates)[method][0], 1),
                "logits": replays.projections(logits_of(model, validation)),
            }
        return found

    def chosen(self, method, count, epochs, seed):
        """One run, with the learning rate that the first seed chooses.

        Args:
            method: a key of `learning_rates`.
            count: how many labels; all if 0.
            epochs: at most.
            seed: one of `seeds`.

        Returns:
            A dict, as `fine_tuned` returns it.
        """

        def once(count, epochs, seed, rate):
            key = f"{method}, {count} labels, seed {seed}, learning rate {rate}"
            return experiments.cached(self.name, key, lambda: self.fine_tuned(method, count, epochs, seed, rate))

        rates = dict(self.learning_rates)[method]
        if len(rates) > 1:
            (guide,) = (run for run in self.runs if run[:2] == (method, self.guide))
            tried = [once(*guide[1:], self.seeds[0], rate) for rate in rates]
            rates = [min(tried, key=lambda result: result["chosen_loss"])["setting"]]
        return once(count, epochs, seed, rates[0])

    def fine_tuned(self, method, count, epochs, seed, rate):
        """One run.

        Args:
            method: a key of `learning_rates`.
            count: how many labels; all if 0.
            epochs: at most.
            seed: of labels, weights and order.
            rate: the peak of the learning rate.

        Returns:
            A dict with `method`, `count`, `seed`, `setting` (the learning rate), `chosen_loss` (by which rate and
            epoch are chosen), `trained_parameters`, `seconds` and `processor_seconds` of training, and `accuracy` and
            `loss` on the test split, `validation_accuracy` and `validation_loss`. With all labels also `margins` and
            `validation_margins`, the logit of the positive class minus that of the negative, of which the probabilities
            are made.
        """
        keras.utils.set_random_seed(seed)
        model = TextClassifier(self.backbone(), ["negative", "positive"], dropout=self.dropout)
        if method == LORA:
            enable_lora(model.backbone, self.rank)
        model.build()
        splits = self.splits(count, seed)
        few = reviews.few_shot(splits[1], self.validation, seed=0)
        train, validation, test, choice = (
            Examples(self.tokenized(model.backbone, split.texts), split.labels, None, size, order)
            for split, size, order in (
                (splits[0], self.batch_size, seed),
                *((part, 128, None) for part in (*splits[1:], few)),
            )
        )
        start = time.perf_counter(), time.process_time()
        losses = fine_tune(model, train, choice, rate, epochs)
        result = {
            "method": method,
            "count": len(splits[0]),
            "seed": seed,
            "setting": rate,
            "chosen_loss": min(losses),
            "trained_parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
            "seconds": round(time.perf_counter() - start[0], 1),
            "processor_seconds": round(time.process_time() - start[1], 1),
        }
        for prefix, examples in (("", test), ("validation_", validation)):
            margins = np.diff(logits_of(model, examples).astype("float64"))[:, 0]  # (n,)
            result[f"{prefix}accuracy"] = float(np.mean((margins > 0) == examples.labels))
            result[f"{prefix}loss"] = float(np.mean(np.logaddexp(0, np.where(examples.labels, -margins, margins))))
            if not count:
                result[f"{prefix}margins"] = margins.round(3).tolist()
        return result

    def backbone(self):
        """A new copy of the encoder, with dropout of its outputs and none of its attention weights.

        Returns:
            A `Bert`.
        """
        trained = Bert.from_preset(self.data[1])
        config = dataclasses.replace(trained.config, dropout=self.dropout, attention_dropout=0.0)
        backbone = Bert(config, trained.tokenizer)
        backbone.build()
        backbone.set_weights(trained.get_weights())
        return backbone

    def tokenized(self, backbone, texts):
        """Texts as a backbone takes them.

        Args:
            backbone: a `Bert`.
            texts: strings.

        Returns:
            The tokenizer's dict.
        """
        return backbone.tokenizer(texts, max_length=self.max_length)

    def splits(self, count, seed):
        """The splits, with as many labels as wanted.

        Args:
            count: how many the train split has; all if 0.
            seed: of the draw.

        Returns:
            The train, the validation and the test split.
        """
        data = reviews.rotten_tomatoes()
        return reviews.few_shot(data.train, count, seed) if count else data.train, data.validation, data.test

    def regressed(self, method):
        """All runs of a method whose features do not learn.

        Args:
            method: "frozen" or "TF-IDF".

        Returns:
            A list of dicts with `method`, `count`, `seed`, `setting` (C), `trained_parameters`, `processor_seconds`
            (those of all that were tried, and of encoding the labelled texts), and `accuracy` on the test split.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        data, results = reviews.rotten_tomatoes(), []
        start = time.process_time()
        row = {text: index for index, text in enumerate(data.all_texts)}
        if method == FROZEN:
            backbone = self.backbone()
            vectors = mean_vectors(backbone, self.tokenized(backbone, data.all_texts))
        encoding = (time.process_time() - start) / len(row)  # of one text
        for count in self.counts:
            for seed in self.seeds:
                splits = self.splits(count, seed)
                start = time.process_time()
                if method == FROZEN:
                    features = [vectors[[row[text] for text in split.texts]] for split in splits]
                else:
                    tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(splits[0].texts)
                    features = [tfidf.transform(split.texts) for split in splits]
                found = best_linear(features, [split.labels for split in splits], self.regularisations)
                result = {"method": method, "count": len(splits[0]), "seed": seed, "setting": found["regularisation"]}
                result["trained_parameters"] = features[0].shape[1] + 1
                seconds = time.process_time() - start + encoding * len(splits[0])
                results.append(result | {"processor_seconds": round(seconds, 1), "accuracy": found["accuracy"]})
        return results


def mean_vectors(backbone, inputs):
    """The vectors that a classifier reads before it is trained.

    Args:
        backbone: a `Bert`.
        inputs: the tokenizer's dict, of n texts.

    Returns:
        Floats (n, D): of each text the mean over its tokens.
    """
    examples, parts = Examples(inputs, np.zeros(len(inputs["padding_mask"]), "int32"), batch_size=64), []
    for index in range(examples.num_batches):
        batch = examples[index][0]
        parts.append(ops.convert_to_numpy(pool(backbone(batch), batch["padding_mask"], "mean")))
    return examples.in_order(np.concatenate(parts))


EXPERIMENT = SentimentFinetuning()
