"""Compresses held-out reviews with gzip and xz, with n-gram counts, and with gpt-mini; for chapter 09."""

import dataclasses
import functools
import hashlib
import lzma
import zlib

from course_lib import experiments
from course_lib.baselines.kneser_ney import KneserNey
from course_lib.data import corpus
from course_lib.experiments import replays
from course_lib.metrics.perplexity import bits_per_byte, num_bytes, token_losses
from course_lib.models.gpt2 import GPT2CausalLM
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training import recipes

_XZ = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}  # finds repetitions within 64 MiB
_SEPARATOR = b"\n"  # occurs in no review


@dataclasses.dataclass(frozen=True)
class Compression:
    """Computes the bits that each system needs per UTF-8 byte of the held-out reviews, including where each one ends.

    All systems but one read each review alone. "xz after training text" reads them one after the other, so it can also
    copy from earlier held-out reviews, which is to its advantage. The n-grams are counted over gpt-mini's tokens. Their
    discounts are tuned on a part of the training reviews that is set apart; in the end this part is counted, too.

    Args:
        data: the assets that it reads.
        preset: name of the model.
        vocabulary_size: V of its tokenizer, which is trained on the training reviews.
        orders: orders of the n-gram models. The baseline is the one with the fewest bits on the part set apart.
        apart: one training review in `apart` is set apart, those with the highest SHA-256.
        stride: stride of the model's windows.
    """

    data: tuple = ("movie-reviews", "gpt-mini")
    preset: str = "gpt-mini"
    vocabulary_size: int = 4096
    orders: tuple = (1, 2, 3, 4, 5)
    apart: int = 20
    stride: int = 128

    def run(self):
        """Runs the experiment, except parts that are cached. The model comes last, so the other parts need no weights.

        Returns:
            A list of dicts with `system` and `bits_per_byte`; for the n-grams also `order`, the tuned `discounts`, and
            `apart_bits_per_byte` on the part set apart; for the n-grams and the model also `tokens`, end tokens
            included.

        Raises:
            ValueError: if the model has a different tokenizer, or does not exist.
            OSError: if its preset must be downloaded and no source can be reached.
        """
        results = [experiments.cached("compression", name, make) for name, make in self.compressors().items()]
        for order in self.orders:
            key = f"Kneser-Ney, order {order}"
            results.append(experiments.cached("compression", key, lambda order=order: self.counted(order)))
        weights = (recipes.resolve_start(self.preset) / "model.safetensors").read_bytes()
        key = f"{self.preset} {hashlib.sha256(weights).hexdigest()[:16]}"
        return [*results, experiments.cached("compression", key, self.predicted)]

    def replay(self):
        """Computes a few numbers of the experiment: all systems, on a few reviews.

        Returns:
            A dict for `course_lib.experiments.replays.compute`.
        """
        documents = dataclasses.replace(
            self.documents, train=self.documents.train[:200], held_out=self.documents.held_out[:10]
        )
        few = replays.with_methods(dataclasses.replace(self, vocabulary_size=500), documents=documents)
        model = GPT2CausalLM.from_preset(recipes.resolve_start(self.preset))
        ids = [model.tokenizer.encode(text) for text in documents.held_out[:3]]
        return {
            "systems": [make()["bits_per_byte"] for make in few.compressors().values()],
            "counted": [{name: few.counted(order)[name] for name in ("tokens", "bits_per_byte")} for order in (1, 3)],
            "gpt-mini": bits_per_byte(token_losses(model, ids, self.stride), documents.held_out[:3]),
        }

    @functools.cached_property
    def documents(self):
        """The reviews, `course_lib.data.corpus.Documents`."""
        return corpus.imdb()

    @functools.cached_property
    def tokenizer(self):
        """The `BytePairTokenizer` that gpt-mini's recipe makes."""
        return BytePairTokenizer.train(self.documents.train, self.vocabulary_size)

    @functools.cached_property
    def tokens(self):
        """The training reviews and the held-out reviews, two lists of lists of ids."""
        return tuple(list(map(self.tokenizer.encode, part)) for part in (self.documents.train, self.documents.held_out))

    def compressors(self):
        """Returns a dict from the name of each compression program to a function that computes its result."""

        def system(name, num_bits):
            def make():
                return {"system": name, "bits_per_byte": num_bits() / num_bytes(self.documents.held_out)}

            return make

        train, held_out = ([text.encode() for text in part] for part in (self.documents.train, self.documents.held_out))
        latest = _SEPARATOR.join(train)[-(1 << 15) :]  # gzip finds repetitions within 32 KiB
        systems = {
            "gzip": lambda: sum(gzip_bits(text) for text in held_out),
            "gzip after training text": lambda: sum(gzip_bits(text, latest) for text in held_out),
            "xz": lambda: sum(xz_bits([text], {"dict_size": 1 << 20}) for text in held_out),
            "xz after training text": lambda: xz_bits(train + held_out) - xz_bits(train),
        }
        return {name: system(name, num_bits) for name, num_bits in systems.items()}

    def counted(self, order):
        """Computes the result of one n-gram model.

        Args:
            order: N, the length of the longest n-grams.

        Returns:
            A dict for the list of `run`.
        """
        (train, held_out), counted = self.tokens, len(self.documents.train) * (self.apart - 1) // self.apart
        ids = self.tokenizer.vocabulary_size, self.tokenizer.end_token_id, order
        tuned = KneserNey(train[:counted], *ids)
        tuned.fit(train[counted:])
        losses = KneserNey(train, *ids, tuned.discounts).losses(held_out)
        return {
            "system": "Kneser-Ney",
            "order": order,
            "discounts": tuned.discounts.tolist(),
            "apart_bits_per_byte": bits_per_byte(tuned.losses(train[counted:]), self.documents.train[counted:]),
            "tokens": sum(map(len, losses)),
            "bits_per_byte": bits_per_byte(losses, self.documents.held_out),
        }

    def predicted(self):
        """Computes the result of the model.

        Returns:
            A dict for the list of `run`.

        Raises:
            ValueError: if the model has a different tokenizer.
        """
        model = GPT2CausalLM.from_preset(recipes.resolve_start(self.preset))
        if model.tokenizer.merges != self.tokenizer.merges:
            raise ValueError(f"Expected {self.preset} to have the tokenizer of its recipe; it has another.")
        losses = token_losses(model, self.tokens[1], self.stride)
        return {
            "system": self.preset,
            "tokens": sum(map(len, losses)),
            "bits_per_byte": bits_per_byte(losses, self.documents.held_out),
        }


def gzip_bits(text, before=b""):
    """Counts the bits of a text compressed by gzip's method at level 9, without gzip's header.

    Args:
        text: bytes.
        before: bytes that the decoder knows already. Only the last 32 KiB are used.

    Returns:
        An integer.
    """
    program = zlib.compressobj(level=9, wbits=-15, memLevel=9, zdict=before)
    return 8 * len(program.compress(text) + program.flush())


def xz_bits(texts, settings=()):
    """Counts the bits of joined texts compressed by xz's method at preset 9e, without xz's header.

    Args:
        texts: a list of bytes.
        settings: dict of filter settings that differ from the preset.

    Returns:
        An integer.
    """
    filters = [_XZ | dict(settings)]
    return 8 * len(lzma.compress(_SEPARATOR.join(texts), lzma.FORMAT_RAW, filters=filters))


EXPERIMENT = Compression()
