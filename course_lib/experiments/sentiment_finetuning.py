"""Fine-tunes an encoder for sentiment, as a whole or in parts, with different numbers of labels; for chapter 10."""

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
    """Fine-tunes an encoder on Rotten Tomatoes, as a whole and with low-rank adapters, on few labels up to all.

    Each method has its own learning rate, chosen with the first seed on `guide` labels, by the lowest validation loss.
    The rate of the whole encoder was chosen in this way in `pretraining-ablation`, which also has its runs on 1,000
    labels. Each run keeps the epoch with the lowest validation loss. The baselines are logistic regressions on the
    frozen encoder's mean vectors and on TF-IDF. Each chooses its regularisation in each run, also by the validation
    loss.

    Args:
        name: name of the record.
        data: the assets that it reads.
        runs: runs of the methods that train the encoder or adapters, the most important first: tuples of the method,
            the number of labels (0 for all), and the maximum number of epochs.
        linear: the methods that do not.
        counts: numbers of labels for the methods in `linear`, 0 for all.
        learning_rates: for each method, the learning rates to choose from.
        guide: number of labels with which a learning rate is chosen.
        validation: number of labels of the validation split by which learning rate and epoch are chosen.
        seeds: seeds of the labels drawn, the new weights and the order of the rows.
        batch_size: B.
        max_length: maximum length of a row, in tokens.
        dropout: dropout of the backbone and the head.
        rank: rank of the adapters.
        regularisations: values of scikit-learn's C to choose from.
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
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts from `fine_tuned` and `regressed`.
        """
        results = [self.chosen(*run, seed) for run in self.runs for seed in self.seeds]
        for method in self.linear:
            results += experiments.cached(self.name, method, functools.partial(self.regressed, method))
        return results

    def replay(self):
        """Computes a few numbers of the experiment: an epoch of each method in `runs` on 24 texts.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
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
        """Fine-tunes a model with the learning rate that was chosen with the first seed.

        Args:
            method: a key of `learning_rates`.
            count: number of labels, or 0 for all.
            epochs: maximum number of epochs.
            seed: one of `seeds`.

        Returns:
            A dict from `fine_tuned`.
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
        """Fine-tunes and evaluates a model once.

        Args:
            method: a key of `learning_rates`.
            count: number of labels, or 0 for all.
            epochs: maximum number of epochs.
            seed: seed of labels, weights and order.
            rate: the peak learning rate.

        Returns:
            A dict with `method`, `count`, `seed`, `setting` (the learning rate), `chosen_loss` (the loss by which rate
            and epoch are chosen), `trained_parameters`, `seconds` and `processor_seconds` of training, and `accuracy`
            and `loss` on the test split, `validation_accuracy` and `validation_loss`. With all labels also `margins`
            and `validation_margins`: the logit of the positive class minus that of the negative, from which the
            probabilities follow.
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
        """Makes a new copy of the encoder, with dropout on its outputs and none on its attention weights.

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
        """Turns texts into inputs for a backbone.

        Args:
            backbone: a `Bert`.
            texts: strings.

        Returns:
            The tokenizer's dict.
        """
        return backbone.tokenizer(texts, max_length=self.max_length)

    def splits(self, count, seed):
        """Reads the splits, and draws the labels of the train split.

        Args:
            count: number of labels in the train split, or 0 for all.
            seed: seed of the draw.

        Returns:
            The train, the validation and the test split.
        """
        data = reviews.rotten_tomatoes()
        return reviews.few_shot(data.train, count, seed) if count else data.train, data.validation, data.test

    def regressed(self, method):
        """Runs a method with fixed features, for all counts and seeds.

        Args:
            method: "frozen" or "TF-IDF".

        Returns:
            A list of dicts with `method`, `count`, `seed`, `setting` (C), `trained_parameters`, `processor_seconds` (of
            all regularisations tried, and of encoding the labelled texts), and `accuracy` on the test split.
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
    """Computes the mean token vector of each text, the features that a classifier reads.

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
