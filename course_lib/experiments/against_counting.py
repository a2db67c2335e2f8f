"""Compares gpt-mini with n-gram counts on each held-out review, and on pairs of sentences; for chapter 09."""

import collections
import dataclasses
import itertools

import numpy as np

from course_lib import experiments
from course_lib.baselines.kneser_ney import KneserNey
from course_lib.experiments import replays
from course_lib.experiments.compression import Compression
from course_lib.metrics.perplexity import token_losses
from course_lib.models.gpt2 import GPT2CausalLM
from course_lib.training import recipes

SAME, OTHER = "same number", "other number"  # number of the noun that stands between the subject and its verb
Pair = collections.namedtuple("Pair", "kind, group, right, wrong")


@dataclasses.dataclass(frozen=True)
class AgainstCounting:
    """Computes what each held-out review costs gpt-mini and Kneser–Ney, and which sentence of a pair they prefer.

    Both are the models of the experiment `compression`, which records the sums over all reviews. The sentences of a
    pair differ in their last word.

    In the first kinds of pairs, a verb agrees with its subject or does not. The subject stands right before the verb,
    or a phrase or a clause stands between them and ends with another noun, which has the same number as the subject or
    the other one. In the last two kinds, a fact is completed with its own answer or with the answer to another one.

    Args:
        data: the assets that it reads.
        nouns: pairs of strings, singular and plural.
        verbs: pairs of strings, singular and plural.
        between: pairs of a kind's name and what stands between subject and verb, where "{}" is the other noun.
        capitals: pairs of strings, the country and its capital.
        sums: pairs of strings, the sum and its result.
        preset: name of the model.
        order: N, the length of the longest n-grams.
    """

    data: tuple = ("movie-reviews", "gpt-mini")
    nouns: tuple = (
        ("film", "films"),
        ("actor", "actors"),
        ("story", "stories"),
        ("director", "directors"),
        ("movie", "movies"),
        ("scene", "scenes"),
        ("character", "characters"),
        ("song", "songs"),
        ("book", "books"),
        ("writer", "writers"),
        ("plot", "plots"),
        ("role", "roles"),
    )
    verbs: tuple = (("is", "are"), ("was", "were"), ("has", "have"))
    between: tuple = (("noun between", " in the {}"), ("clause between", " that my sister liked in the {}"))
    capitals: tuple = (
        ("France", "Paris"),
        ("Italy", "Rome"),
        ("Germany", "Berlin"),
        ("Japan", "Tokyo"),
        ("England", "London"),
        ("Spain", "Madrid"),
        ("Russia", "Moscow"),
        ("Ireland", "Dublin"),
        ("Austria", "Vienna"),
        ("Sweden", "Stockholm"),
    )
    sums: tuple = (
        ("one and one", "two"),
        ("one and two", "three"),
        ("two and two", "four"),
        ("two and three", "five"),
        ("three and three", "six"),
        ("three and four", "seven"),
        ("four and four", "eight"),
    )
    preset: str = "gpt-mini"
    order: int = 5

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of two dicts from `scored`, with the counts' `order` in the first.
        """
        parts = {f"Kneser-Ney, order {self.order}": self.counted, self.preset: self.predicted}
        return [experiments.cached("against-counting", name, make) for name, make in parts.items()]

    def replay(self):
        """Computes a few numbers of the experiment, with the counts of 200 reviews and on two reviews.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        small = Compression(vocabulary_size=500)
        documents = dataclasses.replace(
            small.documents, train=small.documents.train[:200], held_out=small.documents.held_out[:2]
        )
        small = replays.with_methods(small, documents=documents)
        ids = small.tokenizer.vocabulary_size, small.tokenizer.end_token_id, 3
        counts = self.scored(KneserNey(small.tokens[0], *ids).losses, small.tokenizer, documents.held_out)
        model = self.model()
        network = self.scored(lambda rows: token_losses(model, rows), model.tokenizer, documents.held_out, every=40)
        return {"counts": counts["margins"][::40] + counts["bits"], "network": network["margins"] + network["bits"]}

    def counted(self):
        """Computes the result of the n-gram model, with the discounts that `compression` has tuned.

        Returns:
            A dict for the list of `run`.
        """
        compression = Compression()
        rows = experiments.load("compression")["results"]
        discounts = next(row["discounts"] for row in rows if row.get("order") == self.order)
        ids = compression.tokenizer.vocabulary_size, compression.tokenizer.end_token_id, self.order
        losses = KneserNey(compression.tokens[0], *ids, discounts).losses
        scored = self.scored(losses, compression.tokenizer, compression.documents.held_out)
        return {"system": "Kneser-Ney", "order": self.order} | scored

    def predicted(self):
        """Computes the result of the model.

        Returns:
            A dict for the list of `run`.
        """
        model = self.model()
        scored = self.scored(lambda rows: token_losses(model, rows), model.tokenizer, Compression().documents.held_out)
        return {"system": self.preset} | scored

    def model(self):
        """Loads the `GPT2CausalLM`."""
        return GPT2CausalLM.from_preset(recipes.resolve_start(self.preset))

    def pairs(self):
        """Makes the pairs.

        Returns:
            A list of `Pair`s of strings: `kind`; `group`, the subject or the fact that pairs share, so they are not
            independent; and the sentences `right` and `wrong`.
        """
        found = []
        followers = [*self.nouns[1:], self.nouns[0]]
        kinds = [("next to it", "", SAME), *((*kind, number) for kind in self.between for number in (SAME, OTHER))]
        for kind, between, number in kinds:
            name = f"{kind}, {number}" if between else kind
            for (subjects, others), verbs in itertools.product(zip(self.nouns, followers, strict=True), self.verbs):
                for plural in (False, True):
                    other = others[plural if number == SAME else not plural]
                    start = f"I think the {subjects[plural]}{between.format(other)}"
                    right, wrong = verbs[plural], verbs[not plural]
                    found.append(Pair(name, subjects[0], f"{start} {right}", f"{start} {wrong}"))
        for kind, facts, form in (
            ("capitals", self.capitals, "The capital of {} is"),
            ("sums", self.sums, "{} make"),
        ):
            for (question, right), (_, wrong) in itertools.permutations(facts, 2):
                start = form.format(question)
                found.append(Pair(kind, question, f"{start} {right}", f"{start} {wrong}"))
        return found

    def scored(self, losses_of, tokenizer, texts, every=1):
        """Scores texts and pairs.

        Args:
            losses_of: a function from lists of token ids to the losses of their tokens and of the end, in nats.
            tokenizer: a `BytePairTokenizer`.
            texts: strings.
            every: 1 to score all pairs, 2 for every second one, and so on.

        Returns:
            A dict with `bits`, what each text costs with its end; and `margins`, for each pair by how many nats the
            right sentence is more likely than the wrong one.
        """
        sentences = [text for pair in self.pairs()[::every] for text in (pair.right, pair.wrong)]
        nats = [float(np.sum(losses[:-1])) for losses in losses_of(list(map(tokenizer.encode, sentences)))]
        bits = [float(np.sum(losses) / np.log(2)) for losses in losses_of(list(map(tokenizer.encode, texts)))]
        return {
            "bits": [round(number, 1) for number in bits],
            "margins": [round(wrong - right, 3) for right, wrong in zip(nats[::2], nats[1::2], strict=True)],
        }


EXPERIMENT = AgainstCounting()
