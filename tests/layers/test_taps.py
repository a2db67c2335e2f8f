"""Taps: what they see, that what they return is used, and that without one nothing changes."""

import keras
import numpy as np
import pytest
import tiny_models
from layer_checks import randomize

MODELS = [
    tiny_models.bert,
    tiny_models.gpt2,
    tiny_models.llama,
    tiny_models.text_classifier,
    tiny_models.token_classifier,
    tiny_models.bert_pretrainer,
    tiny_models.openai_gpt_causal_lm,
    tiny_models.llama_causal_lm,
]
SUBLAYERS = ("attention/weights", "attention/heads", "attention", "feed_forward", "")
IDS = np.array([[1, 2, 3, 4], [4, 3, 2, 1]])


def built(make):
    model = make()
    model.build()
    randomize(model)
    return model


def ran(model, inputs, tap=None):
    return [np.array(each) for each in keras.tree.flatten(model(inputs, tap=tap))]


@pytest.mark.parametrize("make", MODELS)
def test_a_tap_sees_each_activation_once_in_order_and_changes_nothing(make):
    model, seen = built(make), []

    def tap(name, x):
        seen.append(name)
        return x

    plain = ran(model, IDS)
    for found, expected in zip(ran(model, IDS, tap), plain, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    blocks = [f"block_{index}" for index in range(model.config.num_layers)]
    assert seen == ["embeddings", *(f"{block}/{part}".strip("/") for block in blocks for part in SUBLAYERS)]


@pytest.mark.parametrize("make", MODELS)
def test_what_a_tap_returns_is_used(make):
    model = built(make)
    plain = ran(model, IDS)[0]
    names = []
    model(IDS, tap=lambda name, x: names.append(name) or x)
    for chosen in names:
        changed = ran(model, IDS, lambda name, x, chosen=chosen: x + x[::-1] if name == chosen else x)[0]
        assert not np.allclose(changed, plain, atol=1e-6), chosen


def test_both_stacks_of_a_translator_are_tapped():
    model, seen = built(tiny_models.seq2seq_lm), {}
    inputs = {"encoder_token_ids": IDS, "decoder_token_ids": IDS[:, :3]}

    def tap(name, x):
        seen[name] = tuple(x.shape)
        return x

    model(inputs, tap=tap)
    cross = [f"decoder/block_0/cross_attention{part}" for part in ("/weights", "/heads", "")]
    encoder = [f"encoder/{name}" for name in ("embeddings", *(f"block_0/{part}".strip("/") for part in SUBLAYERS))]
    decoder = [each.replace("encoder", "decoder") for each in encoder]
    assert list(seen) == [*encoder, *decoder[:4], *cross, *decoder[4:]]
    assert seen[cross[0]] == (2, 2, 3, 4) and seen[cross[1]] == (2, 3, 2, 4)
    zero = ran(model, inputs, lambda name, x: x * 0 if name == cross[0] else x)[0]
    assert not np.allclose(zero, ran(model, inputs)[0])
