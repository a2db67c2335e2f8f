"""Where pre-training begins: each head looks where it is told, and the scores are the frequencies."""

import numpy as np
import pytest
from layer_checks import to_numpy

from course_lib import Bert, BertConfig, BertPretrainer
from course_lib.training import initialization

CONFIG = BertConfig(30, 2, 6, 192, 32, 40, dropout=0.0, attention_dropout=0.0, initializer_range=0.05)
IDS = np.random.default_rng(0).integers(0, 30, (3, 40)).astype("int32")


def test_each_head_looks_at_its_neighbour():
    bert = Bert(CONFIG)
    bert.build()
    initialization.relative_position_initialization(bert)
    weights = to_numpy(bert({"token_ids": IDS}, return_attention=True)["attention"][0])  # (B, N, T, T)
    for head, offset in enumerate((-1, 1, -2, 2, -3, 3)):
        queries = np.arange(5, 35)
        by_offset = {o: weights[:, head, queries, queries + o].mean() for o in range(-5, 6)}
        assert max(by_offset, key=by_offset.get) == offset and by_offset[offset] > 10 / 40, by_offset


def test_heads_of_an_odd_width_are_refused():
    bert = Bert(BertConfig(30, 1, 2, 6, 8, 10))
    bert.build()
    with pytest.raises(ValueError, match="even width.*got 3"):
        initialization.relative_position_initialization(bert)


def test_the_scores_are_the_frequencies():
    model = BertPretrainer(Bert(CONFIG))
    model.build()
    for weight in model.masked_lm.trainable_weights:
        if weight is not model.masked_lm.bias:
            weight.assign(0 * weight)  # which leaves the bias
    counts = np.arange(30)
    initialization.unigram_output_bias(model.masked_lm, counts)
    logits = to_numpy(model({"token_ids": IDS})["mlm_logits"]).astype("float64")
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(shares, np.broadcast_to((counts + 1) / (counts + 1).sum(), shares.shape), rtol=1e-4)
