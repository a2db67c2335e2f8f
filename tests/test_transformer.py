"""Feed-forward and encoder blocks: each is its formula, and keeps the promises of every layer."""

import typing

import keras
import numpy as np
import pytest
from layer_checks import ATTENTION_MASK, LayerChecks, X, config_tells, same, stack_by_formula, to_numpy

from course_lib.transformer import Encoder, EncoderBlock, FeedForward

EPSILON = 0.1  # large enough to matter


class TestFeedForward(LayerChecks):
    def make(self, **kwargs):
        return FeedForward(12, activation="gelu_approximate", **kwargs)


class TestEncoderBlock(LayerChecks):
    inputs: typing.ClassVar = {"x": X, "attention_mask": ATTENTION_MASK}

    def make(self, **kwargs):
        return EncoderBlock(2, 12, activation="quick_gelu", layer_norm_epsilon=1e-3, **kwargs)


class TestEncoderWithNormFirst(TestEncoderBlock):
    def make(self, **kwargs):
        return Encoder(2, 2, 12, activation="gelu", norm_first=True, **kwargs)

    def call(self, layer, inputs):
        return layer(**inputs, return_hidden_states=True, return_attention=True)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_is_attention_and_feed_forward_with_residuals_and_norms(norm_first):
    encoder = Encoder(2, 2, 12, activation="relu", norm_first=norm_first, layer_norm_epsilon=EPSILON)
    expected = stack_by_formula(
        encoder, lambda block: [(block.attention, block.attention_norm, {"attention_mask": ATTENTION_MASK})]
    )
    same(encoder(X, attention_mask=ATTENTION_MASK, return_hidden_states=True), expected)


def test_feed_forward_treats_each_position_by_itself():
    layer = FeedForward(12)
    order = [3, 0, 4, 1, 2]
    same(layer(X[:, order]), to_numpy(layer(X))[:, order])


def test_dropout_is_drawn_in_training_only_and_anew_at_each_place():
    keras.utils.set_random_seed(0)
    block = EncoderBlock(2, 12, dropout=0.5)
    same(block(X), block(X))
    first, second = to_numpy(block(X, training=True)), to_numpy(block(X, training=True))
    assert np.abs(first - second).max() > 0.1 and np.abs(first - to_numpy(block(X))).max() > 0.1


def test_dropout_spares_the_residual_connection():
    block = EncoderBlock(
        2, 12, dropout=0.5, norm_first=True, kernel_initializer="zeros"
    )  # so that sublayers give zeros
    same(block(X, training=True), X, tolerance=0)


def test_a_block_whose_last_layers_start_at_zero_gives_back_its_input():
    block = EncoderBlock(2, 12, norm_first=True, output_initializer="zeros")
    same(block(X), X, tolerance=0)
    assert to_numpy(block.attention.value.kernel).any() and to_numpy(block.feed_forward.intermediate.kernel).any()


def test_attention_dropout_reaches_the_attention_weights():
    keras.utils.set_random_seed(0)
    block = EncoderBlock(2, 12, attention_dropout=0.5)
    _, weights = block(X, return_attention=True)
    _, dropped = block(X, return_attention=True, training=True)
    same(weights, dropped)  # the weights that are returned are those before dropout,
    assert np.abs(to_numpy(block(X, training=True)) - to_numpy(block(X))).max() > 0.01  # those used are not


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    dense = {"activation": "tanh", "kernel_initializer": "zeros"}
    config_tells(lambda **kwargs: FeedForward(12, **kwargs), **dense, output_initializer="zeros")
    block = dense | {"dropout": 0.1, "attention_dropout": 0.2, "norm_first": True, "layer_norm_epsilon": 0.1}
    block |= {"output_initializer": "zeros", "attention_scale": 0.1}
    config_tells(lambda **kwargs: EncoderBlock(2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: Encoder(2, 2, 12, **kwargs), **block)


def test_an_encoder_without_blocks_is_refused():
    with pytest.raises(ValueError, match="at least one block.*num_layers=0"):
        Encoder(0, 2, 12)


def test_each_block_has_the_scale_that_is_asked_for():
    for asked, scales in (([1.0, 0.5, 0.1], [1.0, 0.5, 0.1]), (0.5, [0.5] * 3), (None, [None] * 3)):
        assert [block.attention.scale for block in Encoder(3, 2, 12, attention_scale=asked).blocks] == scales
    with pytest.raises(ValueError, match="one attention_scale for each of 2 blocks; got 3"):
        Encoder(2, 2, 12, attention_scale=[1.0, 0.5, 0.1])


def test_each_block_starts_with_weights_of_its_own():
    encoder = Encoder(2, 2, 12)
    encoder.build(X.shape)
    kernels = [to_numpy(weight) for weight in encoder.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) == 2 * 6 and len({kernel.tobytes() for kernel in kernels}) == 12
