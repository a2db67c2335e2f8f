"""The exercises of chapter 05, their solutions, and the mistakes that they must recognise."""

import typing

import numpy as np
from exercise_checks import ExerciseChecks

from course_lib.course.exercises import chapter_05


def mask_with(
    may_be_chosen=np.isin,
    number=lambda available, length: max(1, round(0.15 * available)),
    shares=(0.8, 0.1),
    in_place=False,
    replace=True,
    everywhere=False,
    own_rng=True,
    drawn=lambda rng, regular, size: rng.choice(regular, size),
):
    def mask(token_ids, regular_ids, mask_token_id, rng):
        rng = rng if own_rng else np.random.default_rng()
        places = np.flatnonzero(may_be_chosen(token_ids, regular_ids))
        count = number(len(places), len(token_ids))
        chosen = np.isin(np.arange(len(token_ids)), rng.choice(places, min(count, len(places)), replace=not replace))
        corrupted = token_ids if in_place else token_ids.copy()
        fate, other = rng.random(len(token_ids)), drawn(rng, regular_ids, len(token_ids))
        touched = np.isin(token_ids, regular_ids) if everywhere else chosen
        corrupted[touched & (fate < shares[0])] = mask_token_id
        random = touched & (fate >= shares[0]) & (fate < sum(shares))
        corrupted[random] = other[random]
        return corrupted, chosen

    return mask


def places_chosen(token_ids, regular_ids, mask_token_id, rng):
    corrupted, chosen = mask_with()(token_ids, regular_ids, mask_token_id, rng)
    return corrupted, np.flatnonzero(chosen)


MASKING = {
    "places": (places_chosen, "whether it was chosen"),
    "in place": (mask_with(in_place=True), "Work on a copy"),
    "special ones": (mask_with(may_be_chosen=lambda ids, _: ids >= 0), "whose id is in regular_ids"),
    "of the length": (
        mask_with(number=lambda available, length: max(1, round(0.15 * length))),
        "without special tokens and padding",
    ),
    "none": (mask_with(number=lambda available, length: int(0.15 * available)), "Count the regular tokens"),
    "twice": (mask_with(replace=False), "without replacement"),
    "everywhere": (mask_with(everywhere=True), "chosen positions only"),
    "global": (mask_with(own_rng=False), "nothing from np.random itself"),
    "always hidden": (mask_with(shares=(1.0, 0.0)), "below 0.8"),
    "10 % hidden": (mask_with(shares=(0.1, 0.1)), "below 0.8"),
    "none kept": (mask_with(shares=(0.8, 0.2)), "half stay"),
    "none replaced": (mask_with(shares=(0.8, 0.0)), "half stay"),
    "any id": (mask_with(drawn=lambda rng, regular, size: rng.integers(0, 60, size)), "Draw the replacement"),
    "one for all": (
        mask_with(drawn=lambda rng, regular, size: np.full(size, regular[0])),
        "anew for each token",
    ),
}


def add_up(
    special=True, hide=True, forget=False, combine=np.sum, pick=lambda scores, place, token: scores[place, token]
):
    def pseudo_log_likelihood(token_ids, score, mask_token_id, special_ids):
        row, terms = token_ids.copy(), []
        for place in range(len(token_ids)):
            if special and token_ids[place] in special_ids:
                continue
            row = row if forget else token_ids.copy()
            row[place] = mask_token_id if hide else row[place]
            terms.append(pick(score(row), place, token_ids[place]))
        return combine(terms)

    return pseudo_log_likelihood


PSEUDO = {
    "positive": (add_up(combine=lambda terms: -np.sum(terms)), "without a minus sign"),
    "a list": (add_up(combine=lambda terms: terms), "Add up the logarithms"),
    "not hidden": (add_up(hide=False), "with the mask token in its place"),
    "one after the other": (add_up(forget=True), "a copy of the row of its own"),
    "special ones": (add_up(special=False), "not among special_ids"),
    "mean": (add_up(combine=np.mean), "without dividing"),
    "most probable": (add_up(pick=lambda scores, place, token: scores[place].max()), "that stood there"),
    "place before": (add_up(pick=lambda scores, place, token: scores[place - 1, token]), "At the hidden position"),
}


def perplexity_of(batches):
    losses = np.concatenate([-scores[weights > 0] for scores, weights in batches])
    return np.exp(losses.mean())


def of_all(batches, losses=lambda scores, weights: -scores * weights):
    total = sum(losses(scores, weights).sum() for scores, weights in batches)
    return np.exp(total / sum(weights.sum() for _, weights in batches))


def of_rows(batches):
    return np.exp(
        np.mean(np.concatenate([-(scores * weights).sum(1) / weights.sum(1).clip(1) for scores, weights in batches]))
    )


PERPLEXITY = {
    "a mean": (lambda batches: np.log(perplexity_of(batches)), "The exponential, with base e"),
    "base 2": (lambda batches: 2 ** np.log(perplexity_of(batches)), "with base e"),
    "without weights": (
        lambda batches: np.exp(-np.mean(np.concatenate([scores.ravel() for scores, _ in batches]))),
        "divide by the sum of the weights",
    ),
    "of all positions": (
        lambda batches: np.exp(-np.mean(np.concatenate([(scores * weights).ravel() for scores, weights in batches]))),
        "divide by the sum of the weights",
    ),
    "of rows": (of_rows, "no mean of rows in between"),
    "of batches": (lambda batches: np.mean([perplexity_of([batch]) for batch in batches]), "Keep both sums"),
    "mean of means": (
        lambda batches: np.exp(np.mean([np.log(perplexity_of([batch])) for batch in batches])),
        "Keep both sums",
    ),
    "not a number": (of_all, "use np.where"),
}


class TestChapter05(ExerciseChecks):
    exercises: typing.ClassVar = {
        "masking": (chapter_05.masking, mask_with(), MASKING),
        "pseudo_log_likelihood": (chapter_05.pseudo_log_likelihood, add_up(), PSEUDO),
        "perplexity": (chapter_05.perplexity, perplexity_of, PERPLEXITY),
    }
