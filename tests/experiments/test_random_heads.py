"""The control differs from what it controls by the start of attention alone."""

import numpy as np
import pytest

from course_lib import experiments
from course_lib.experiments.mlm_bayes_loss import FROM_SCRATCH

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("task", ["[MASK]", FROM_SCRATCH])
def test_only_positions_and_the_first_queries_and_keys_differ(task):
    models = [experiments.experiment(name).model(task, seed=1) for name in ("mlm-bayes-loss", "random-heads")]
    weights = [{weight.path: np.asarray(weight) for weight in model.weights} for model in models]
    different = [
        path
        for (path, one), (_, other) in zip(weights[0].items(), weights[1].items(), strict=True)
        if not np.array_equal(one, other)
    ]
    assert len(different) == 3 and sum("position" in path for path in different) == 1, different
    assert sum("query" in path or "key" in path for path in different) == 2
