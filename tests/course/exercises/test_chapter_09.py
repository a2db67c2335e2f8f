"""The exercises of chapter 09, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks, softmax, unsafe_softmax

from course_lib.course.exercises import chapter_09


def next_token_terms(logits, token_ids, shift=True):
    """What each prediction costs, (B, T - 1)."""
    log = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log, labels = (log[:, :-1], token_ids[:, 1:]) if shift else (log, token_ids)
    return -np.take_along_axis(log, labels[..., None], axis=-1)[..., 0]


def next_token_loss(logits, token_ids, padding_mask):
    return np.mean(next_token_terms(logits, token_ids)[padding_mask[:, 1:] == 1])


def backwards(logits, token_ids, padding_mask):
    return next_token_loss(logits[:, ::-1], token_ids[:, ::-1], padding_mask[:, ::-1])


def rolled(logits, token_ids, padding_mask):
    return np.mean(next_token_terms(logits, np.roll(token_ids, -1, axis=1), shift=False))


def mean_of_rows(logits, token_ids, padding_mask):
    terms, counts = next_token_terms(logits, token_ids), padding_mask[:, 1:]
    return np.mean((terms * counts).sum(axis=1) / counts.sum(axis=1))


def unsafe_next_token_loss(logits, token_ids, padding_mask):
    return next_token_loss(np.log(unsafe_softmax(logits)), token_ids, padding_mask)


NEXT_TOKEN_LOSS = {
    "a loss each": (lambda z, ids, mask: next_token_terms(z, ids), "The mean over all predictions"),
    "sum": (lambda z, ids, mask: next_token_terms(z, ids).sum(), "The mean over all predictions"),
    "bits": (lambda z, ids, mask: next_token_loss(z, ids, mask) / np.log(2), "natural logarithms"),
    "no shift": (
        lambda z, ids, mask: next_token_terms(z, ids, shift=False)[mask == 1].mean(),
        "not the one at t",
    ),
    "backwards": (backwards, "T - 1 predictions"),
    "rolled": (rolled, "T - 1 predictions"),
    "no mask": (lambda z, ids, mask: next_token_terms(z, ids).mean(), "shift the mask"),
    "mask not shifted": (
        lambda z, ids, mask: next_token_terms(z, ids)[mask[:, :-1] == 1].mean(),
        "shift the mask",
    ),
    "of rows": (mean_of_rows, "no mean of rows in between"),
    "of all positions": (
        lambda z, ids, mask: (next_token_terms(z, ids) * mask[:, 1:]).mean(),
        "divide by the number of predictions",
    ),
    "overflow": (unsafe_next_token_loss, "np.logaddexp.reduce"),
}


def top_p_with(
    is_kept=lambda before, after, p: before < p,
    share=lambda kept: kept / kept.sum(),
    order=lambda probabilities: np.argsort(-probabilities, kind="stable"),
    put_back=True,
):
    def top_p(probabilities, p):
        places = order(probabilities)
        likely = probabilities[places]
        after = np.cumsum(likely)
        found = share(np.where(is_kept(after - likely, after, p), likely, 0))
        return found[np.argsort(places)] if put_back else found

    return top_p


NUCLEUS = {
    "not divided": (top_p_with(share=lambda kept: kept), "divide what is left by its sum"),
    "stops before": (top_p_with(lambda before, after, p: after <= p), "the one that reaches p belongs"),
    "likely enough": (top_p_with(lambda before, after, p: after - before >= 1 - p), "the one that reaches p belongs"),
    "one too many": (top_p_with(lambda before, after, p: before <= p), "where it is p, it is enough"),
    "softmax": (
        top_p_with(share=lambda kept: np.where(kept > 0, np.exp(kept), 0) / np.exp(kept[kept > 0]).sum()),
        "no second softmax",
    ),
    "equal shares": (top_p_with(share=lambda kept: (kept > 0) / np.sum(kept > 0)), "no equal shares"),
    "sorted": (top_p_with(put_back=False), "put each result back"),
    "as they come": (top_p_with(order=lambda probabilities: np.arange(len(probabilities))), "np.argsort"),
    "always two": (top_p_with(lambda before, after, p: np.arange(len(after)) < 2), "depends on the distribution"),
}


def cached_step_with(write=0, read=1, scale=True, in_place=False, lengthen=False, both=True):
    def step(x, w_query, w_key, w_value, keys, values, position):
        if not in_place:
            keys, values = keys.copy(), values.copy()
        keys[:, position + write] = x @ w_key
        if both:
            values[:, position + write] = x @ w_value
        seen = slice(0, None if read is None else position + read)
        scores = np.einsum("bh,bsh->bs", x @ w_query, keys[:, seen])
        weights = softmax(scores / np.sqrt(keys.shape[-1]) if scale else scores)
        if lengthen:
            keys, values = (np.concatenate([array, array[:, :1]], axis=1) for array in (keys, values))
        return np.einsum("bs,bsh->bh", weights, values[:, seen]), keys, values

    return step


CACHED_STEP = {
    "lengthened": (cached_step_with(lengthen=True), "keep their S slots"),
    "in place": (cached_step_with(in_place=True), "Write into copies"),
    "one late": (cached_step_with(write=1), "becomes x @ w_key"),
    "one early": (cached_step_with(write=-1), "becomes x @ w_key"),
    "keys only": (cached_step_with(both=False), "becomes x @ w_value"),
    "all slots": (cached_step_with(read=None), "nothing has been written behind them"),
    "without itself": (cached_step_with(read=0), "attends to itself"),
    "no scale": (cached_step_with(scale=False), "√H"),
}


class TestChapter09(ExerciseChecks):
    exercises: typing.ClassVar = {
        "next_token_loss": (chapter_09.next_token_loss, next_token_loss, NEXT_TOKEN_LOSS),
        "nucleus": (chapter_09.nucleus, top_p_with(), NUCLEUS),
        "cached_step": (chapter_09.cached_step, cached_step_with(), CACHED_STEP),
    }
