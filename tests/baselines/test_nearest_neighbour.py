"""The nearest known text."""

import numpy as np
import pytest

from course_lib.baselines.nearest_neighbour import nearest

pytestmark = pytest.mark.one_backend


def test_the_nearest_text():
    known = ["Close all tabs", "Open a file", "Close this tab", "Restart the kernel"]
    texts = ["Close all the tabs", "Restarting kernels", "open files", "Open a file"]
    assert nearest(known, texts).tolist() == [0, 3, 1, 1]


def test_the_first_of_equals_is_taken():
    assert nearest(["same text", "same text"], ["same text"]).tolist() == [0]


def test_the_length_of_ngrams_decides_what_is_shared():
    known = ["ab", "ba ba"]  # of single letters, the second has as many; "ba" only the second has
    assert nearest(known, ["ba"], (2, 2)).tolist() == [1]
    assert nearest(known, ["ba"], (1, 1)).tolist() == [0]


def test_rare_ngrams_count_more():
    known = ["the cat", "the dog", "the owl", "a dog", "an owl"]
    assert np.all(nearest(known, ["zzz the cat"]) == 0)
