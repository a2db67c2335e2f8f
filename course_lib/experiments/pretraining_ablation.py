"""Measures what pre-training is worth, by fine-tuning on tasks that were fixed in advance; for chapter 07."""

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
    """Fine-tunes an untrained BERT, the same BERT after a tenth and all of its pre-training, and a larger one.

    Each model has one learning rate for reviews and one for tags. They are chosen with the first seed, by the lowest
    validation loss on 1,000 labels of Rotten Tomatoes and on WNUT. Each run keeps the epoch with the lowest validation
    loss. All backbones are fine-tuned with dropout, except on attention weights, however they were pre-trained. The
    baseline is TF-IDF with logistic regression.

    Args:
        data: the assets that it reads.
        tasks: tuples of the task's name, the number of labels (0 for all), the maximum length of a row, and the maximum
            number of epochs.
        models: names of presets, "untrained", and "TF-IDF".
        costly: models that run only the first tasks, with the number of tasks.
        learning_rates: for each model, the learning rates to choose from.
        seeds: seeds of the labels drawn, the new weights and the order of the rows.
        batch_size: B.
        patience: fine-tuning ends when the validation loss has not fallen for this many epochs.
        dropout: dropout of the backbone and the head.
        initializer_range: standard deviation of untrained weights.
        regularisations: values of scikit-learn's C to choose from.
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
        """Runs the experiment, except parts that are cached.

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
            A dict for `course_lib.experiments.replays.compute`.
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
        """Fine-tunes a model with the learning rate that was chosen with the first seed.

        Args:
            model: a key of `learning_rates`.
            task: one of `tasks`.
            seed: one of `seeds`.

        Returns:
            A dict for the list of `run`.
        """

        def once(task, seed, rate):
            key = f"{model}, {task[0]}, {task[1]} labels, seed {seed}, learning rate {rate}"
            return experiments.cached("pretraining-ablation", key, lambda: self.fine_tuned(model, task, seed, rate))

        guide = task if task[0] == "WNUT" else self.tasks[0]
        tried = [once(guide, self.seeds[0], rate) for rate in dict(self.learning_rates)[model]]
        return once(task, seed, min(tried, key=lambda result: result["validation_loss"])["setting"])

    def fine_tuned(self, model, task, seed, rate):
        """Fine-tunes and evaluates a model once.

        Args:
            model: a key of `learning_rates`.
            task: one of `tasks`.
            seed: seed of labels, weights and order.
            rate: the peak learning rate.

        Returns:
            A dict for the list of `run`.
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
        """Makes a `Bert` with dropout, with the weights of a preset or with the random initial weights of BERT's paper.

        The initial weights of bert-mini's recipe, which attend to neighbours, only help pre-training. An untrained
        model learns less from them in fine-tuning than from the paper's initial weights.

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
        """Reads the splits of a task.

        Args:
            name: name of the task.
            count: number of labels in the train split, or 0 for all.
            seed: seed of the draw.

        Returns:
            The train split, the validation split (for reviews 500 texts), and the test split.
        """
        if name == "WNUT":
            data = wnut.tweets()
            return data.train, data.validation, data.test
        data = reviews.imdb() if name == "IMDb" else reviews.rotten_tomatoes()
        train = reviews.few_shot(data.train, count, seed) if count else data.train
        return train, reviews.few_shot(data.validation, 500, seed=0), data.test

    def tagged(self, tokenizer, split, length, labels):
        """Turns tagged sentences into arrays.

        Args:
            tokenizer: a `WordPieceTokenizer`.
            split: a `course_lib.data.wnut.Split`.
            length: maximum length of a row.
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
        """Runs TF-IDF with logistic regression on the same labels.

        Args:
            task: one of `tasks`.
            seed: seed of the labels.

        Returns:
            A dict for the list of `run`.
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
    """Computes F1 by entity: an entity is found if all its words and its type are right.

    Args:
        best: ids of the predicted labels, (n, W).
        weights: (n, W), 0 for words that were cut off. They count as "O".
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
