"""Finds named entities in tweets with a fine-tuned BERT and with baselines; for chapter 11."""

import dataclasses
import itertools
import time

import keras

from course_lib import experiments
from course_lib.baselines.taggers import CRFTagger, DictionaryTagger
from course_lib.data import wnut
from course_lib.experiments import replays
from course_lib.metrics import spans
from course_lib.models.bert import Bert
from course_lib.models.classifiers import TokenClassifier
from course_lib.training.finetuning import fine_tune, logits_of


@dataclasses.dataclass(frozen=True)
class NamedEntities:
    """Fine-tunes MiniLM on tagged tweets, and compares it with a dictionary and conditional random fields.

    Each model uses the setting with the highest F1 on the validation split. For MiniLM these are the learning rate,
    chosen with the first seed, and the epoch, chosen in each run. MiniLM does not see capitals, so there are two random
    fields: one that sees capitals and one that does not.

    Args:
        data: the assets that it reads.
        preset: name of the encoder.
        learning_rates: learning rates to choose from.
        epochs: maximum number of epochs of fine-tuning.
        batch_size: B.
        max_length: T.
        dropout: dropout of the head.
        seeds: seeds of the head's weights, dropout and order.
        l1: values of the random fields' `l1` to choose from.
        l2: values of the random fields' `l2` to choose from.
        shares: values of the dictionary's `fraction` to choose from.
    """

    data: tuple = ("wnut-2016", "all-MiniLM-L6-v2")
    preset: str = "all-MiniLM-L6-v2"
    learning_rates: tuple = (1e-4, 2e-4, 3e-4)
    epochs: int = 5
    batch_size: int = 16
    max_length: int = 64
    dropout: float = 0.1
    seeds: tuple = (0, 1, 2)
    l1: tuple = (0.0, 0.1)
    l2: tuple = (0.001, 0.01, 0.1, 1.0)
    shares: tuple = (0.0, 0.25, 0.5, 0.75, 1.0)

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts with `model`, `seed` (None for the baselines) and `setting`; `validation` and `test`, from
            `scores`; `predicted`, a string for each tweet of the test split, whose letters are the labels ("a" for the
            first of `label_names`); `tried`, each setting with its validation F1; and `seconds`.
        """
        return [
            *(experiments.cached("named-entities", name, make) for name, make in self.baselines().items()),
            *(self.chosen(seed) for seed in self.seeds),
        ]

    def replay(self):
        """Computes a few numbers of the experiment: an epoch of MiniLM on 24 tweets, and two
        baselines on 200.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        keras.utils.set_random_seed(0)
        data = wnut.tweets()
        few, held_out, more, others = (
            dataclasses.replace(data.train, words=data.train.words[chosen], labels=data.train.labels[chosen])
            for chosen in (slice(24), slice(24, 28), slice(200), slice(200, 300))
        )
        model = TokenClassifier(Bert.from_preset(self.preset), data.label_names, self.dropout, self.max_length)
        train, validation = (
            model.examples(split.words, split.labels, batch_size=8, seed=order)
            for split, order in ((few, 0), (held_out, None))
        )
        found = {
            "losses": fine_tune(model, train, validation, self.learning_rates[0], 1),
            "MiniLM": scores(held_out, decode(model, held_out), few)["accuracy"],
            "logits": replays.projections(logits_of(model, validation)),
        }
        for name, tagger in (
            ("dictionary", DictionaryTagger(more.words, more.labels, lowercase=True, fraction=self.shares[1])),
            ("CRF", CRFTagger(more.words, more.labels, l1=self.l1[1], l2=self.l2[1])),
        ):
            scored = scores(others, tagger(others.words), more)
            found[name] = [scored["accuracy"], *(scored[part]["f1"] for part in ("all", "seen", "unseen"))]
        return found

    def baselines(self):
        """Lists the baselines.

        Returns:
            A dict from each name to a function without arguments that computes a dict for the list of `run`.
        """
        settings = [{"l1": l1, "l2": l2} for l1, l2 in itertools.product(self.l1, self.l2)]
        words = [{"lowercase": lower, "fraction": share} for lower in (False, True) for share in self.shares]
        return {
            "nothing": lambda: self.tuned("nothing", Nothing, [{}]),
            "dictionary": lambda: self.tuned("dictionary", DictionaryTagger, words),
            "CRF": lambda: self.tuned("CRF", CRFTagger, settings),
            "CRF, no capitals": lambda: self.tuned(
                "CRF, no capitals", CRFTagger, [setting | {"lowercase": True} for setting in settings]
            ),
        }

    def tuned(self, model, make, settings):
        """Tries all settings of a baseline, and keeps the one with the highest validation F1.

        Args:
            model: name of the baseline.
            make: function that makes a tagger from sentences, labels and a setting.
            settings: settings to choose from, dicts of further arguments.

        Returns:
            A dict for the list of `run`.
        """
        data, start, tried = wnut.tweets(), time.perf_counter(), []
        for setting in settings:
            tagger = make(data.train.words, data.train.labels, **setting)
            found = [tagger(split.words) for split in (data.validation, data.test)]
            tried.append(self.result(model, None, setting, *found))
        best = max(tried, key=lambda result: result["validation"]["all"]["f1"])
        f1s = [[result["setting"], result["validation"]["all"]["f1"]] for result in tried]
        return best | {"tried": f1s, "seconds": round(time.perf_counter() - start, 1)}

    def chosen(self, seed):
        """Fine-tunes MiniLM with the learning rate that was chosen with the first seed.

        Args:
            seed: one of `seeds`.

        Returns:
            A dict for the list of `run`.
        """

        def once(seed, rate):
            key = f"MiniLM, seed {seed}, learning rate {rate}"
            return experiments.cached("named-entities", key, lambda: self.fine_tuned(seed, rate))

        tried = [once(self.seeds[0], rate) for rate in self.learning_rates]
        best = max(tried, key=lambda result: result["validation"]["all"]["f1"])["setting"]["learning_rate"]
        f1s = [[result["setting"], result["validation"]["all"]["f1"]] for result in tried]
        return once(seed, best) | {"tried": f1s}

    def fine_tuned(self, seed, rate):
        """Fine-tunes and evaluates MiniLM once.

        Args:
            seed: seed of the head's weights, dropout and order.
            rate: the peak learning rate.

        Returns:
            A dict for the list of `run`, without `tried` but with `validation_f1s`, one for each epoch.
        """
        keras.utils.set_random_seed(seed)
        data, start = wnut.tweets(), time.perf_counter()
        model = TokenClassifier(Bert.from_preset(self.preset), data.label_names, self.dropout, self.max_length)
        train = model.examples(data.train.words, data.train.labels, batch_size=self.batch_size, seed=seed)
        validation = model.examples(data.validation.words, data.validation.labels, batch_size=64)

        def f1():
            return scores(data.validation, decode(model, data.validation), data.train)["all"]["f1"]

        f1s = fine_tune(model, train, validation, rate, self.epochs, score=f1)
        found = [decode(model, split) for split in (data.validation, data.test)]
        result = self.result("MiniLM", seed, {"learning_rate": rate}, *found)
        return result | {"validation_f1s": f1s, "seconds": round(time.perf_counter() - start, 1)}

    def result(self, model, seed, setting, validation, test):
        """Makes the result of a run.

        Args:
            model: name of the model.
            seed: seed of the run, or None.
            setting: a dict.
            validation: the predicted labels, for each tweet of the validation split one per word.
            test: the same for the test split.

        Returns:
            A dict for the list of `run`, without `tried` and `seconds`.
        """
        data, names = wnut.tweets(), wnut.tweets().label_names
        return {
            "model": model,
            "seed": seed,
            "setting": setting,
            "validation": scores(data.validation, validation, data.train),
            "test": scores(data.test, test, data.train),
            "predicted": ["".join(chr(ord("a") + names.index(name)) for name in labels) for labels in test],
        }


class Nothing:
    """A baseline that finds no entities.

    Args:
        sentences: not used.
        labels: not used.
    """

    def __init__(self, sentences, labels):
        del sentences, labels

    def __call__(self, sentences):
        """Labels sentences.

        Args:
            sentences: sequences of words.

        Returns:
            For each sentence, a list with an "O" for each word.
        """
        return [[spans.OUTSIDE] * len(words) for words in sentences]


def decode(model, split):
    """Predicts the best valid labels of each sentence.

    Args:
        model: a `TokenClassifier`.
        split: a `course_lib.data.wnut.Split`.

    Returns:
        For each sentence, a list with a label for each word. Words that were cut off get "O".
    """
    examples = model.examples(split.words, batch_size=64)
    found = []
    for words, logits, weights in zip(split.words, logits_of(model, examples), examples.weights, strict=True):
        labels = spans.viterbi_decode(logits[weights > 0], model.labels)
        found.append(labels + [spans.OUTSIDE] * (len(words) - len(labels)))
    return found


def scores(split, predicted, train):
    """Computes F1 by entity, and the fraction of words with the right label.

    Args:
        split: a `course_lib.data.wnut.Split`.
        predicted: for each sentence, a label for each word.
        train: the training split. An entity counts as seen if it occurs there, ignoring capitals.

    Returns:
        The dict from `course_lib.metrics.spans.f1_by_entity`, with additional entries "seen", "unseen" and "accuracy".
    """
    known = {form for group in forms(train, map(spans.bio_to_spans, train.labels)) for form in group}
    right, found = [list(map(spans.bio_to_spans, labels)) for labels in (split.labels, predicted)]
    result = spans.f1_by_entity(right, found)
    for name, is_seen in (("seen", True), ("unseen", False)):
        kept = [
            [
                [span for span, form in zip(of_one, of_form, strict=True) if (form in known) == is_seen]
                for of_one, of_form in zip(group, forms(split, group), strict=True)
            ]
            for group in (right, found)
        ]
        result[name] = spans.f1_by_entity(*kept)["all"]
    pairs = zip(itertools.chain(*split.labels), itertools.chain(*predicted), strict=True)
    equal = [ours == theirs for ours, theirs in pairs]
    return result | {"accuracy": sum(equal) / len(equal)}


def forms(split, found):
    """Joins the words of each span, in lower case.

    Args:
        split: a `course_lib.data.wnut.Split`.
        found: for each sentence, its spans.

    Returns:
        For each sentence, a list of strings.
    """
    return [
        [" ".join(words[start:end]).lower() for _, start, end in group]
        for words, group in zip(split.words, found, strict=True)
    ]


EXPERIMENT = NamedEntities()
