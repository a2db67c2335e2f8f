"""How near translations come to references: BLEU and chrF by `sacrebleu`, and what chance has to do with it.

Shapes: n sentences.
"""

import numpy as np

ORDER = 4  # BLEU counts sequences of one word to four


def scores(answers, references, tokenize="13a", resamples=1000):
    """BLEU (Papineni et al., 2002, https://aclanthology.org/P02-1040) and chrF (Popović, 2015, W15-3049), by sacrebleu.

    Args:
        answers: n strings, the translations.
        references: n strings, what they should be.
        tokenize: how sacrebleu cuts them into words for BLEU: "zh" for Chinese, "13a" for European languages.
        resamples: of the sentences, for the intervals.

    Returns:
        A dict: `bleu` and `chrf`, from 0 to 100; `bleu_interval` and `chrf_interval`, each two numbers: the mean of the
        resamples, less and plus half the width of what the middle 95 % of them span, which is how sacrebleu reports
        it (Koehn, 2004, https://aclanthology.org/W04-3250); `exact`, the share of answers that are their references;
        and `signatures`, two strings that say how it was counted.

    Raises:
        ValueError: if there are more or fewer answers than references, or none.
    """
    from sacrebleu.metrics import BLEU, CHRF

    _check(answers, references)
    found = {"exact": float(np.mean([answer == ref for answer, ref in zip(answers, references, strict=True)]))}
    signatures = []
    for name, metric in (("bleu", BLEU(tokenize=tokenize)), ("chrf", CHRF())):
        score = metric.corpus_score(answers, [references], n_bootstrap=resamples)
        middle, half = float(score._mean), float(score._ci)
        found |= {name: score.score, f"{name}_interval": [middle - half, middle + half]}
        signatures.append(str(metric.get_signature()))
    return found | {"signatures": signatures}


def counts(answers, references, tokenize="13a"):
    """All that BLEU needs to know of each sentence. Sums over sentences are all that it needs to know of a text.

    Args:
        answers: n strings.
        references: n strings.
        tokenize: as in `scores`.

    Returns:
        Integers (n, 10): the words of the answer and of the reference; how many sequences of one to four words of the
        answer are right, each counted at most as often as the reference has it; and how many there are.

    Raises:
        ValueError: if there are more or fewer answers than references, or none.
    """
    from sacrebleu.metrics import BLEU

    _check(answers, references)
    metric = BLEU(tokenize=tokenize, effective_order=True)
    rows = []
    for answer, reference in zip(answers, references, strict=True):
        score = metric.sentence_score(answer, [reference])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows)


def bleu(sums):
    r"""BLEU from counts: $100 \min(1, e^{1 - r/c}) (p_1 p_2 p_3 p_4)^{1/4}$ (Papineni et al., 2002, section 2.3).

    Here c and r are the lengths of the answers and of the references, and $p_n$ is the share of the answers' sequences
    of n words that are right.

    Args:
        sums: numbers (..., 10), as `counts` gives them, added up over sentences.

    Returns:
        Floats (...), from 0 to 100; 0 where no sequence of four words is right.
    """
    sums = np.asarray(sums, "float64")
    length, wanted = sums[..., 0], sums[..., 1]
    right, there = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    with np.errstate(divide="ignore"):
        precisions = np.mean(np.log(right / np.maximum(there, 1)), axis=-1)
        return 100 * np.exp(precisions + np.minimum(0, 1 - wanted / np.maximum(length, 1e-9)))


def paired_bootstrap(first, second, resamples=1000, seed=12345):
    """How much more BLEU one system has than another, on resamples of the sentences, the same ones for both.

    Koehn, 2004, https://aclanthology.org/W04-3250, section 4.

    Args:
        first: of a system, integers (n, 10), as `counts` gives them.
        second: of the other, on the same sentences.
        resamples: how many, R.
        seed: of the resamples.

    Returns:
        Floats (R,), the first system's BLEU minus the second's.

    Raises:
        ValueError: if the two are of different sentences.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.shape[1:] != (2 + 2 * ORDER,):
        raise ValueError(f"Expected two arrays (n, {2 + 2 * ORDER}); got {first.shape} and {second.shape}.")
    times = np.random.default_rng(seed).multinomial(
        len(first), np.full(len(first), 1 / len(first)), resamples
    )  # (R, n)
    return bleu(times @ first) - bleu(times @ second)


def _check(answers, references):
    if len(answers) != len(references) or not answers:
        raise ValueError(f"Expected a reference for each answer; got {len(answers)} and {len(references)}.")
