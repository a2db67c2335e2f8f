r"""Compares translations with references: BLEU and chrF by `sacrebleu`, with intervals, and a test of two systems.

Shapes: n sentences.
"""

import json

import numpy as np

ORDER = 4  # BLEU counts sequences of one to four words


def bleu_and_chrf(answers, references, tokenize="13a", resamples=1000):
    """Computes BLEU (Papineni et al., 2002, https://aclanthology.org/P02-1040) and chrF (Popović, 2015, W15-3049).

    `sacrebleu` computes both, and the interval of each (Koehn, 2004, https://aclanthology.org/W04-3250).

    Args:
        answers: n strings, the translations.
        references: n strings, the right translations.
        tokenize: name of the tokenizer by which sacrebleu splits texts into words for BLEU: "zh" for Chinese, "13a" for
            European languages.
        resamples: number of bootstrap samples of the sentences, for the intervals.

    Returns:
        A dict: `bleu` and `chrf`, from 0 to 100; `bleu_interval` and `chrf_interval`, each two numbers, the mean of the
        resamples minus and plus half the width of the range of their middle 95 %; `exact`, the fraction of answers that
        equal their references; and `signatures`, two strings that record sacrebleu's settings.

    Raises:
        ValueError: if the numbers of answers and references differ, or both are 0.
    """
    from sacrebleu.metrics import BLEU, CHRF

    _check(answers, references)
    found = {"exact": float(np.mean([answer == ref for answer, ref in zip(answers, references, strict=True)]))}
    signatures = []
    for name, metric in (("bleu", BLEU(tokenize=tokenize)), ("chrf", CHRF())):
        score = metric.corpus_score(answers, [references], n_bootstrap=resamples)
        signature = str(metric.get_signature())
        reported = json.loads(score.format(width=12, signature=signature, is_json=True))
        middle, half = (reported.get(f"confidence_{key}", 0.0) for key in ("mean", "var"))  # absent if all are 0
        found |= {name: score.score, f"{name}_interval": [middle - half, middle + half]}
        signatures.append(signature)
    return found | {"signatures": signatures}


def bleu_counts(answers, references, tokenize="13a"):
    """Computes the counts behind BLEU for each sentence. The BLEU of a text depends only on the sums of these counts.

    Args:
        answers: n strings.
        references: n strings.
        tokenize: as in `bleu_and_chrf`.

    Returns:
        Integers (n, 10): the number of words in the answer and in the reference; the number of sequences of 1, 2, 3 and
        4 words in the answer that also occur in the reference, each counted at most as often as it occurs there; and
        the number of all sequences of 1, 2, 3 and 4 words in the answer.

    Raises:
        ValueError: if the numbers of answers and references differ, or both are 0.
    """
    from sacrebleu.metrics import BLEU

    _check(answers, references)
    metric = BLEU(tokenize=tokenize, effective_order=True)
    rows = []
    for answer, reference in zip(answers, references, strict=True):
        score = metric.sentence_score(answer, [reference])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows)


def bleu_from_counts(sums):
    r"""Computes BLEU: $100 \min(1, e^{1 - r/c}) (p_1 p_2 p_3 p_4)^{1/4}$ (Papineni et al., 2002, section 2.3).

    Here c and r are the total lengths of the answers and of the references, and $p_n$ is the fraction of the answers'
    sequences of n words that also occur in the references.

    Args:
        sums: numbers (..., 10), the counts from `bleu_counts`, summed over sentences.

    Returns:
        Floats (...), from 0 to 100. BLEU is 0 if no sequence of four words is right.
    """
    sums = np.asarray(sums, "float64")
    length, wanted = sums[..., 0], sums[..., 1]
    right, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    with np.errstate(divide="ignore"):
        precisions = np.mean(np.log(right / np.maximum(total, 1)), axis=-1)
        return 100 * np.exp(precisions + np.minimum(0, 1 - wanted / np.maximum(length, 1e-9)))


def paired_bootstrap(first, second, resamples=1000, seed=12345):
    """Computes the difference in BLEU between two systems, on bootstrap samples of the sentences.

    Koehn, 2004, https://aclanthology.org/W04-3250, section 4. `sacrebleu.significance.PairedTest` does the same, but
    returns a p-value. The differences returned here also give an interval for the size of the advantage.

    Args:
        first: integers (n, 10), the counts from `bleu_counts` for one system.
        second: the same for the other system, on the same sentences.
        resamples: R, the number of bootstrap samples.
        seed: seed of the random samples.

    Returns:
        Floats (R,), the first system's BLEU minus the second's.

    Raises:
        ValueError: if the two differ in shape, or are not (n, 10).
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.shape[1:] != (2 + 2 * ORDER,):
        raise ValueError(f"Expected two arrays (n, {2 + 2 * ORDER}); got {first.shape} and {second.shape}.")
    n = len(first)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)  # (R, n), how often each occurs
    return bleu_from_counts(times @ first) - bleu_from_counts(times @ second)


def _check(answers, references):
    if len(answers) != len(references) or not answers:
        raise ValueError(f"Expected a reference for each answer; got {len(answers)} and {len(references)}.")
