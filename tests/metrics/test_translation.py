"""BLEU and chrF are sacrebleu's, and so is BLEU from counts that can be added up."""

import json

import numpy as np
import pytest

from course_lib.metrics import translation

pytestmark = pytest.mark.one_backend

REFERENCES = ["Close all the open tabs.", "Open the settings of the file browser", "Restart the kernel now, please"] * 5
ANSWERS = ["Close all open tabs.", "Open the settings of the file browser", "Restart it now, please, please"] * 5


def test_scores_are_those_of_sacrebleu():
    from sacrebleu import corpus_bleu, corpus_chrf
    from sacrebleu.metrics import BLEU

    found = translation.bleu_and_chrf(ANSWERS, REFERENCES, resamples=200)
    assert found["bleu"] == corpus_bleu(ANSWERS, [REFERENCES]).score
    assert found["chrf"] == corpus_chrf(ANSWERS, [REFERENCES]).score
    assert found["exact"] == pytest.approx(1 / 3)
    for name in ("bleu", "chrf"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high and high - low > 1
    metric = BLEU()
    score = metric.corpus_score(ANSWERS, [REFERENCES], n_bootstrap=200)
    assert f"μ = {sum(found['bleu_interval']) / 2:.9f} ± {np.ptp(found['bleu_interval']) / 2:.9f}" in score.format(9)
    assert "tok:13a" in found["signatures"][0] and "nc:6" in found["signatures"][1]
    assert translation.bleu_and_chrf(ANSWERS, REFERENCES, resamples=200) == found == json.loads(json.dumps(found))


def test_an_interval_of_nothing_but_zeros():
    found = translation.bleu_and_chrf(["a"] * 3, ["b"] * 3, resamples=10)
    assert found["bleu"] == found["chrf"] == 0 and found["bleu_interval"] == found["chrf_interval"] == [0, 0]


def test_chinese_is_cut_into_characters():
    found = translation.bleu_and_chrf(["关闭所有的标签页"], ["关闭所有标签页"], "zh", resamples=2)
    assert "tok:zh" in found["signatures"][0] and found["bleu"] > 40
    assert translation.bleu_counts(["关闭 JupyterLab"], ["关闭"], "zh")[0, :2].tolist() == [3, 2]


def test_counts_by_hand():
    # "the" is right as often as the reference has it, once
    assert translation.bleu_counts(["the the cat"], ["the cat sat down"]).tolist() == [[3, 4, 2, 1, 0, 0, 3, 2, 1, 0]]


def test_bleu_of_sums_is_sacrebleus():
    from sacrebleu import corpus_bleu

    counts = translation.bleu_counts(ANSWERS, REFERENCES)
    assert counts.shape == (15, 10)
    assert translation.bleu_from_counts(counts.sum(axis=0)) == pytest.approx(corpus_bleu(ANSWERS, [REFERENCES]).score)
    longer = translation.bleu_counts([f"{answer} and more words" for answer in ANSWERS], REFERENCES)
    expected = corpus_bleu([f"{answer} and more words" for answer in ANSWERS], [REFERENCES]).score
    assert translation.bleu_from_counts(np.stack([counts, longer]).sum(axis=1))[1] == pytest.approx(expected)
    assert (
        translation.bleu_from_counts(translation.bleu_counts(["no"], ["yes"])[0]) == 0
        and translation.bleu_from_counts(np.zeros(10)) == 0
    )


def test_paired_resamples_are_of_the_same_sentences():
    rng = np.random.default_rng(0)
    right = translation.bleu_counts(REFERENCES, REFERENCES)
    assert not translation.paired_bootstrap(right, right, resamples=50).any()
    answers = [answer if rng.random() < 0.5 else "Something else" for answer in ANSWERS]
    differences = translation.paired_bootstrap(
        translation.bleu_counts(ANSWERS, REFERENCES), translation.bleu_counts(answers, REFERENCES), 300
    )
    real = translation.bleu_from_counts(
        translation.bleu_counts(ANSWERS, REFERENCES).sum(0)
    ) - translation.bleu_from_counts(translation.bleu_counts(answers, REFERENCES).sum(0))
    assert differences.shape == (300,) and abs(np.median(differences) - real) < 8 and differences.std() > 1
    assert (differences > 0).mean() > 0.95


def test_what_does_not_belong_together_is_refused():
    for function in (translation.bleu_and_chrf, translation.bleu_counts):
        with pytest.raises(ValueError, match="a reference for each answer; got 1 and 0"):
            function(["a"], [])
        with pytest.raises(ValueError, match="got 0 and 0"):
            function([], [])
    with pytest.raises(ValueError, match=r"two arrays \(n, 10\); got \(2, 10\) and \(3, 10\)"):
        translation.paired_bootstrap(np.ones((2, 10)), np.ones((3, 10)))
