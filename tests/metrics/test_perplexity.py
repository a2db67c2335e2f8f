"""What held-out documents cost a model, against its logits, window by window."""

import dataclasses

import numpy as np
import pytest

from course_lib.metrics.perplexity import Perplexity, bits_per_byte, num_bytes, token_losses
from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config

CONFIG = GPT2Config(
    vocabulary_size=20,
    num_layers=2,
    num_heads=2,
    hidden_dim=16,
    max_sequence_length=8,
    initializer_range=0.5,
    end_token_id=19,
)
LENGTHS = (0, 6, 7, 8, 9, 12, 25)


@pytest.fixture(scope="module")
def model():
    return GPT2CausalLM(GPT2(CONFIG))


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 19, size) for size in LENGTHS]


@pytest.mark.parametrize("stride", [None, 1, 3, 8])
def test_each_token_is_predicted_once_from_as_many_as_promised(model, documents, stride):
    losses = token_losses(model, documents, stride, batch_size=4)
    assert [len(loss) for loss in losses] == [size + 1 for size in LENGTHS]
    stride = stride or 4
    for document, loss in zip(documents, losses, strict=True):
        stream, scores = np.array([19, *document, 19]), {}
        for place in range(1, len(stream)):
            start = stride * -(-max(0, place - 8) // stride)  # where the first window that reaches it begins
            assert start == 0 or place - start > 8 - stride
            if start not in scores:
                scores[start] = np.asarray(model(stream[None, start : start + 8]), "float64")[0]
            logits = scores[start][place - start - 1]
            assert loss[place - 1] == pytest.approx(np.logaddexp.reduce(logits) - logits[stream[place]], abs=1e-4)


def test_other_documents_change_nothing(model, documents):
    alone = [token_losses(model, [document])[0] for document in documents[1:4]]
    for one, loss in zip(alone, token_losses(model, documents)[1:4], strict=True):
        np.testing.assert_allclose(one, loss, atol=1e-5)


def test_perplexity_is_of_all_that_was_seen():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (3, 4, 7)).astype("float32"), rng.integers(0, 7, (3, 4))
    weights = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], "float32")
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    metric = Perplexity()
    for row in range(3):  # in three batches of different weight
        metric.update_state(labels[row : row + 1], logits[row : row + 1], weights[row : row + 1])
    assert float(metric.result()) == pytest.approx(np.exp(np.sum(losses * weights) / weights.sum()), rel=1e-5)
    again = Perplexity.from_config(metric.get_config())
    again.update_state(labels, np.zeros_like(logits))
    assert float(again.result()) == pytest.approx(7, rel=1e-5)  # all seven tokens are equally likely
    metric.reset_state()
    metric.update_state(labels, np.zeros_like(logits))
    assert float(metric.result()) == pytest.approx(7, rel=1e-5)


def test_bits_by_hand():
    texts = ["naïve", "☕"]
    assert num_bytes(texts) == 9
    assert bits_per_byte([np.log([2.0, 4.0]), np.log([8.0])], texts) == pytest.approx(6 / 9)


def test_what_it_refuses(model):
    with pytest.raises(ValueError, match="at least one document"):
        token_losses(model, [])
    for stride in (0, 9):
        with pytest.raises(ValueError, match="from 1 to 8"):
            token_losses(model, [[1]], stride)
    for document, message in (
        ([1, -3, 5], r"from 0 to 19; got \[-3\]"),
        ([1, 25], r"got \[25\]"),
        ([1.7], "dtype float64"),
    ):
        with pytest.raises(ValueError, match=message):
            token_losses(model, [[2], document])
    endless = GPT2CausalLM(GPT2(dataclasses.replace(CONFIG, end_token_id=-1)))
    with pytest.raises(ValueError, match="has none"):
        token_losses(endless, [[1]])
