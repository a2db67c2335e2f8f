"""From the vectors of tokens to one vector per text: five ways, each by its definition."""

import numpy as np
import pytest
import tiny_models
from layer_checks import to_numpy

from course_lib.models.pooling import POOLINGS, check_pooling, first_token, pool

X = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], "int32")


@pytest.mark.parametrize("dtype", ["int32", "bool", "float32"])
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_only_tokens_are_pooled(pooling, dtype):
    by_hand = {
        "mean": lambda rows: rows.mean(axis=0),
        "max": lambda rows: rows.max(axis=0),
        "first": lambda rows: rows[0],
        "last": lambda rows: rows[-1],
    }[pooling]
    pooled = to_numpy(pool({"sequence_output": X}, MASK.astype(dtype), pooling))
    for row in range(4):
        np.testing.assert_allclose(pooled[row], by_hand(X[row, MASK[row] > 0]), atol=1e-6)
    assert np.isfinite(pooled[4]).all()
    assert np.all(pooled[4] == 0) == (pooling in ("mean", "max"))
    whole = to_numpy(pool({"sequence_output": X}, None, pooling))
    np.testing.assert_allclose(whole, [by_hand(rows) for rows in X], atol=1e-6)
    if pooling == "first":
        np.testing.assert_allclose(to_numpy(first_token(X, MASK.astype(dtype))), pooled)


def test_the_pooled_output_is_the_backbones():
    pooled = pool({"sequence_output": X, "pooled_output": X[:, 1]}, MASK, "pooled")
    np.testing.assert_array_equal(to_numpy(pooled), X[:, 1])


@pytest.mark.one_backend
def test_which_backbone_can_be_pooled_how():
    for pooling in POOLINGS:
        check_pooling(tiny_models.bert(), pooling)
    for backbone in (tiny_models.bert(pooler=False), tiny_models.gpt2()):
        check_pooling(backbone, "mean")
        with pytest.raises(ValueError, match="pooled"):
            check_pooling(backbone, "pooled")
    with pytest.raises(ValueError, match="sum"):
        check_pooling(tiny_models.bert(), "sum")
