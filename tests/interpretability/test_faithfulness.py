"""Words left out: curves against texts that were cut by hand, and the sanity check's copy."""

import dataclasses

import numpy as np
import pytest
import tiny_models
from explained_models import causal_lm, classifier

from course_lib.interpretability import (
    comprehensiveness,
    deletion_curve,
    insertion_curve,
    occlusion,
    random_attribution,
    shuffled_weights,
    sufficiency,
)


def with_values(attribution, values):
    return dataclasses.replace(attribution, word_values=np.array(values))


def chance(model, text, label):
    return model.predict([text], verbose=0)[0].probabilities[label]


def test_curves_are_the_probabilities_of_shorter_texts():
    model = classifier()
    found = with_values(random_attribution(model, "a b an d", "good"), [0.1, 3, 2, -1])
    cut = [chance(model, text, "good") for text in ("a b an d", "a an d", "a d", "d")]
    np.testing.assert_allclose(deletion_curve(model, found, (0, 0.2, 0.5, 0.75))[0], cut, atol=1e-5)
    kept = [chance(model, text, "good") for text in ("b", "b an", "a b an", "a b an d")]
    np.testing.assert_allclose(insertion_curve(model, found, (0.25, 0.5, 0.75, 1))[0], kept, atol=1e-5)
    np.testing.assert_allclose(
        comprehensiveness(model, found, (0.2, 0.5))[0], np.mean([cut[0] - cut[1], cut[0] - cut[2]]), atol=1e-5
    )
    np.testing.assert_allclose(
        sufficiency(model, found, (0.25, 0.5))[0], np.mean([cut[0] - kept[0], cut[0] - kept[1]]), atol=1e-5
    )


def test_many_texts_share_a_batch():
    model, texts = classifier(), ["a b c", "an", "d e f g"]
    together = deletion_curve(model, occlusion(model, texts, "bad"))
    alone = [deletion_curve(model, occlusion(model, text, "bad"))[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert deletion_curve(causal_lm(), occlusion(causal_lm(), "a b c")).shape == (1, 7)


def test_the_best_word_to_leave_out_beats_the_others():
    model = classifier()
    found = occlusion(model, "a b c d e f")
    best = comprehensiveness(model, found, (1 / 6,))[0]
    for word in range(6):
        other = with_values(found, np.eye(6)[word])
        assert best >= comprehensiveness(model, other, (1 / 6,))[0] - 1e-6


def test_a_copy_with_shuffled_weights_has_the_same_numbers_in_other_places():
    model = classifier()
    before = model.get_weights()
    copy = shuffled_weights(model, seed=3)
    assert copy.tokenizer is model.tokenizer and copy.classes == model.classes
    for old, kept, new in zip(before, model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, kept)
        np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(new, axis=None))
    assert not np.allclose(before[0], copy.get_weights()[0])
    assert occlusion(copy, "a b").words == ("a", "b")


def test_what_cannot_be_measured_is_refused():
    model = classifier()
    with pytest.raises(ValueError, match="at least one attribution"):
        deletion_curve(model, [])
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        insertion_curve(model, occlusion(model, "a"), [1.5])
    other = tiny_models.text_classifier()
    found = dataclasses.replace(occlusion(other, "a b"), target_id=7)
    with pytest.raises(ValueError, match="from 0 to 2; got 7"):
        comprehensiveness(model, found)
