r"""What is asked of a model: texts, and one number per text that says how strongly the model decides for a target.

The number is the log-odds of the target, $\log p - \log(1 - p)$: of a class for a `TextClassifier`, of the next token
for a language model. Against a named alternative, it is the difference of the two logits. Unlike a probability, it does
not saturate.

Shapes: n texts, B batch, T length, C classes or tokens.
"""

import dataclasses
import itertools
import re

import numpy as np
from keras import ops

from course_lib.interpretability.recording import compiled, tokenized
from course_lib.models.causal_lm import CausalLM
from course_lib.models.classifiers import TextClassifier
from course_lib.models.pooling import pool
from course_lib.models.seq2seq_lm import Seq2SeqLM
from course_lib.models.text_inputs import as_texts
from course_lib.text.batches import by_length, round_up, widened


@dataclasses.dataclass(frozen=True)
class Question:
    """Texts, what a model reads of them, and the target whose score is asked for.

    Attributes:
        model: a `TextClassifier`, a `CausalLM` or a `Seq2SeqLM`.
        texts: the n texts.
        inputs: dict of integers (n, T), what the model reads.
        targets: integers (n,), a class or a token for each text.
        against: integers (n,), the alternative of each text, or -1 for everything else.
        tokens: the tokens of each text, n lists of strings.
        words: the words of each text, n lists of strings.
        word_ids: n integer arrays; the word to which each token belongs, or -1 for special tokens.
    """

    model: object
    texts: list
    inputs: dict
    targets: np.ndarray
    against: np.ndarray
    tokens: list
    words: list
    word_ids: list

    @classmethod
    def ask(cls, model, texts, target=None, against=None, start=""):
        """Reads texts and targets.

        Args:
            model: a `TextClassifier`, a `CausalLM` or a `Seq2SeqLM`.
            texts: n strings; or one.
            target: the class, a name or an index; for a language model, the next token, a string or an id; or a list
                with one per text. Defaults to what the model finds most probable.
            against: an alternative of the same kind, or a list of them. Defaults to everything but the target.
            start: for a `Seq2SeqLM`, the beginning of the translation after which the next token is scored.

        Returns:
            A `Question`.

        Raises:
            ValueError: if the model is of another kind or has no tokenizer, a text is empty or too long, or a target
                does not exist, or is not one token.
        """
        texts = as_texts(texts)
        if not isinstance(model, TextClassifier | CausalLM | Seq2SeqLM):
            raise ValueError(
                f"Expected a TextClassifier, a CausalLM or a Seq2SeqLM, which score a class or the next token; got a "
                f"{type(model).__name__}."
            )
        model.build()
        source = model.examples(texts).inputs if isinstance(model, TextClassifier) else tokenized(model, texts)
        inputs = source
        if isinstance(model, Seq2SeqLM):
            tokenizer = model.tokenizer
            before = [tokenizer.end_token_id, *tokenizer.encode(start)] if start else [tokenizer.end_token_id]
            inputs = {f"encoder_{name}": array for name, array in source.items()}
            inputs["decoder_token_ids"] = np.tile(np.array(before, "int32"), (len(texts), 1))
        spelled = [_spell(model.tokenizer, text, row) for text, row in zip(texts, _real(source), strict=True)]
        columns = map(list, zip(*spelled, strict=True))
        question = cls(model, texts, inputs, None, np.full(len(texts), -1, "int32"), *columns)
        targets = question.logits().argmax(axis=1) if target is None else _indices(model, target, len(texts))
        changes = {"targets": targets.astype("int32")}
        if against is not None:
            changes["against"] = _indices(model, against, len(texts))
            if (changes["against"] == targets).any():
                raise ValueError("Expected an alternative that differs from the target; got the same.")
        return dataclasses.replace(question, **changes)

    @property
    def ids_name(self):
        """The name of the input that holds the tokens of the texts."""
        return "encoder_token_ids" if "encoder_token_ids" in self.inputs else "token_ids"

    @property
    def mask_name(self):
        """The name of the input that says which of them are real."""
        return self.ids_name.replace("token_ids", "padding_mask")

    @property
    def lengths(self):
        """The number of tokens of each text, integers (n,)."""
        return self.inputs[self.mask_name].sum(axis=1)

    def name_of(self, target):
        """Returns the name of a class, or the text of a token.

        Args:
            target: an integer.
        """
        if isinstance(self.model, TextClassifier):
            return self.model.classes[target]
        return self.model.tokenizer.decode([int(target)])

    def batches(self, rows, batch_size=64):
        """Cuts rows into batches of similar length.

        Args:
            rows: integers, texts of this question, each any number of times.
            batch_size: B.

        Yields:
            Pairs: the places of a batch in `rows`, and its inputs, cut to the longest row.
        """
        rows = np.asarray(rows)
        for places in by_length(self.lengths[rows], batch_size):
            chosen = rows[places]
            width = round_up(self.lengths[chosen].max())
            if limit := getattr(self.model.config, "max_sequence_length", None):
                width = min(width, limit)
            yield (
                places,
                {
                    name: array[chosen] if name == "decoder_token_ids" else widened(array[chosen], width)
                    for name, array in self.inputs.items()
                },
            )

    def scores(self, rows=None, masks=None, tap=None, batch_size=64):
        """Scores texts, or variants of them with tokens left out.

        A token is left out by `padding_mask`, which takes it out of attention and closes the gap in the positions: the
        model computes what it would for a text without it.

        Args:
            rows: integers (m,), the text of each variant. Defaults to all texts.
            masks: booleans (m, T), the tokens that each variant keeps. Defaults to all.
            tap: a tap, as the model takes it.
            batch_size: B.

        Returns:
            Floats (m,).
        """
        rows = np.arange(len(self.texts)) if rows is None else np.asarray(rows)
        targets, against = self.targets[rows], self.against[rows]

        def function(inputs, targets, against):
            return log_odds(last_logits(self.model, inputs, tap), targets, against, self.is_multi_label)

        return self._run(function, rows, (targets, against), masks, batch_size)

    def logits(self, rows=None, masks=None, tap=None, batch_size=64):
        """Computes the logits of texts, or of variants of them, as `scores` takes them.

        Args:
            rows: as `scores` takes them.
            masks: as `scores` takes them.
            tap: as `scores` takes it.
            batch_size: B.

        Returns:
            Floats (m, C).
        """
        rows = np.arange(len(self.texts)) if rows is None else np.asarray(rows)
        return self._run(lambda inputs: last_logits(self.model, inputs, tap), rows, (), masks, batch_size)

    def _run(self, function, rows, columns, masks, batch_size):
        batches = list(self.batches(rows, batch_size))
        function = compiled(function, self.model, len(batches))
        found = [None] * len(rows)
        for places, inputs in batches:
            if masks is not None:
                name = self.mask_name
                inputs = inputs | {name: inputs[name] * widened(masks[places], inputs[name].shape[1])}
            values = ops.convert_to_numpy(function(inputs, *(column[places] for column in columns)))
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return np.array(found)

    @property
    def is_multi_label(self):
        """Whether each class has a probability of its own."""
        return getattr(self.model, "multi_label", False)


def last_logits(model, inputs, tap=None):
    """Computes the logits of the classes, or of the token after a text.

    Args:
        model: a `TextClassifier`, a `CausalLM` or a `Seq2SeqLM`.
        inputs: what the model takes.
        tap: a tap, as the model takes it.

    Returns:
        Floats (B, C).
    """
    if isinstance(model, TextClassifier):
        return model(inputs, tap=tap)
    encoded = model.backbone(inputs, tap=tap)
    return model.score(pool(encoded, inputs.get("padding_mask"), "last"))


def log_odds(logits, targets, against, is_multi_label=False):
    """Computes the log-odds of targets.

    Args:
        logits: floats (B, C).
        targets: integers (B,).
        against: integers (B,), the alternatives, or -1 for everything but the target.
        is_multi_label: whether each class has a probability of its own, so its logit is its log-odds already.

    Returns:
        Floats (B,), at least float32.
    """
    logits = ops.cast(logits, "float32")
    target = ops.take_along_axis(logits, ops.convert_to_tensor(targets)[:, None], axis=1)[:, 0]
    if is_multi_label:
        return target
    is_target = ops.arange(logits.shape[1]) == ops.convert_to_tensor(targets)[:, None]
    others = ops.logsumexp(ops.where(is_target, -1e30, logits), axis=1)
    against = ops.convert_to_tensor(against)
    other = ops.take_along_axis(logits, ops.maximum(against, 0)[:, None], axis=1)[:, 0]
    return target - ops.where(against < 0, others, other)


def _indices(model, target, n):
    """Reads targets: integers (n,)."""
    targets = list(target) if isinstance(target, list | tuple | np.ndarray) else [target] * n
    if len(targets) != n:
        raise ValueError(f"Expected one target, or one for each of {n} texts; got {len(targets)}.")
    is_classifier = isinstance(model, TextClassifier)
    size = len(model.classes) if is_classifier else model.tokenizer.vocabulary_size
    found = []
    for each in targets:
        if isinstance(each, str) and is_classifier:
            if each not in model.classes:
                raise ValueError(f"Expected a class of {list(model.classes)}; got {each!r}.")
            each = model.classes.index(each)
        elif isinstance(each, str):
            ids = model.tokenizer.encode(each)
            if len(ids) != 1:
                pieces = [model.tokenizer.decode([index]) for index in ids]
                raise ValueError(f"Expected a target that is one token; {each!r} is {len(ids)}: {pieces}.")
            (each,) = ids
        if not isinstance(each, int | np.integer) or not 0 <= each < size:
            raise ValueError(f"Expected a target from 0 to {size - 1}; got {each!r}.")
        found.append(int(each))
    return np.array(found, "int32")


def _real(inputs):
    """Yields the ids of the real tokens of each row."""
    for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True):
        yield ids[mask.astype(bool)].tolist()


def _spell(tokenizer, text, ids):
    """Spells a text: its tokens, its words, and the word of each token, -1 for special tokens.

    Words end at white space. Where the tokenizer's pieces of the words are not those of the text, as with an added
    token that holds a space, each piece is a word.
    """
    has_edges = hasattr(tokenizer, "start_token_id")  # [CLS] and [SEP]
    inner = slice(1, -1) if has_edges else slice(None)
    pieces = [tokenizer.vocabulary[index] if has_edges else tokenizer.decode([index]) for index in ids]
    words = re.findall(r"\s*\S+", text)
    if words and (rest := text[sum(map(len, words)) :]):
        words[-1] += rest  # white space at the end
    of_words = [tokenizer.encode(word)[inner] for word in words]
    word_ids = np.repeat(np.arange(len(words)), [len(each) for each in of_words])[: len(ids[inner])]
    if [*itertools.chain.from_iterable(of_words)][: len(ids[inner])] != ids[inner]:
        words, word_ids = pieces[inner], np.arange(len(ids[inner]))
    words = [word.strip() for word in words[: word_ids.max(initial=-1) + 1]]
    if has_edges:
        word_ids = np.concatenate([[-1], word_ids, [-1]])
    return pieces, words, word_ids.astype("int32")
