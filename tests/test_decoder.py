"""The decoder: it is its formula, and keeps the promises of every layer."""

import typing

import keras
import numpy as np
import pytest
from layer_checks import ATTENTION_MASK, LayerChecks, X, config_tells, randomize, same, stack_by_formula

from course_lib.decoder import Decoder, DecoderBlock

SOURCE = np.random.default_rng(2).normal(size=(3, 7, 8)).astype("float32")  # (B, S, D)
SOURCE_MASK = (np.arange(7) < np.array([[7], [3], [0]]))[:, None, None, :]  # (B, 1, 1, S); one row has no source at all


class TestDecoderBlock(LayerChecks):
    inputs: typing.ClassVar = {"x": X, "source": SOURCE, "attention_mask": ATTENTION_MASK, "source_mask": SOURCE_MASK}

    def make(self, **kwargs):
        return DecoderBlock(2, 12, activation="quick_gelu", layer_norm_epsilon=1e-3, **kwargs)


class TestDecoderWithNormFirst(TestDecoderBlock):
    def make(self, **kwargs):
        return Decoder(2, 2, 12, activation="gelu", norm_first=True, **kwargs)

    def call(self, layer, inputs):
        return layer(**inputs, return_hidden_states=True, return_attention=True)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_looks_at_the_source_between_attention_and_feed_forward(norm_first):
    decoder = Decoder(2, 2, 12, activation="relu", norm_first=norm_first, layer_norm_epsilon=0.1)
    expected = stack_by_formula(
        decoder,
        lambda block: [
            (block.attention, block.attention_norm, {"attention_mask": ATTENTION_MASK}),
            (block.cross_attention, block.cross_attention_norm, {"value": SOURCE, "attention_mask": SOURCE_MASK}),
        ],
    )
    outputs = decoder(X, SOURCE, attention_mask=ATTENTION_MASK, source_mask=SOURCE_MASK, return_hidden_states=True)
    same(outputs, expected, tolerance=2e-5)


def test_what_a_decoder_has_read_stands_for_the_source():
    decoder = Decoder(2, 2, 12)
    decoder.build(X.shape)
    randomize(decoder)
    masks = {"attention_mask": np.tril(np.ones((5, 5), bool)), "source_mask": SOURCE_MASK}
    expected = decoder(X, SOURCE, **masks, return_attention=True)
    nothing = keras.ops.zeros((3, 5, 2, 4))
    cache = tuple(((nothing, nothing), pair) for pair in decoder.read(SOURCE))
    outputs = decoder(X, cache=cache, position=0, **masks, return_attention=True)
    for name in ("sequence_output", "attention", "cross_attention"):
        same(outputs[name], expected[name])
    for (_, before), (_, after) in zip(cache, outputs["cache"], strict=True):
        same(after, before, tolerance=0)


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    block = {"activation": "tanh", "kernel_initializer": "zeros", "dropout": 0.1, "attention_dropout": 0.2}
    block |= {"norm_first": True, "layer_norm_epsilon": 0.1, "output_initializer": "zeros", "attention_scale": 0.1}
    config_tells(lambda **kwargs: DecoderBlock(2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: Decoder(2, 2, 12, **kwargs), **block)
