"""Positions, feed-forward and encoder blocks: each is its formula, and keeps the promises of every layer."""

import math
import typing

import keras
import numpy as np
import pytest
from layer_checks import ATTENTION_MASK, LayerChecks, X, config_tells, randomize, same, to_numpy

from course_lib.transformer import (
    Decoder,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    PositionEmbedding,
    SinePositionEncoding,
    activation_function,
)

EPSILON = 0.1  # large enough to matter
SOURCE = np.random.default_rng(2).normal(size=(3, 7, 8)).astype("float32")  # (B, S, D)
SOURCE_MASK = (np.arange(7) < np.array([[7], [3], [0]]))[:, None, None, :]  # (B, 1, 1, S); one row has no source at all


class TestPositionEmbedding(LayerChecks):
    def make(self, **kwargs):
        return PositionEmbedding(6, **kwargs)


class TestSinePositionEncoding(LayerChecks):
    def make(self, **kwargs):
        return SinePositionEncoding(**kwargs)


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


class TestDecoderBlock(LayerChecks):
    inputs: typing.ClassVar = {"x": X, "source": SOURCE, "attention_mask": ATTENTION_MASK, "source_mask": SOURCE_MASK}

    def make(self, **kwargs):
        return DecoderBlock(2, 12, activation="quick_gelu", layer_norm_epsilon=1e-3, **kwargs)


class TestDecoderWithNormFirst(TestDecoderBlock):
    def make(self, **kwargs):
        return Decoder(2, 2, 12, activation="gelu", norm_first=True, **kwargs)

    def call(self, layer, inputs):
        return layer(**inputs, return_hidden_states=True, return_attention=True)


def test_position_embeddings_stand_at_their_positions():
    layer = PositionEmbedding(6)
    layer.build(X.shape)
    vectors = np.random.default_rng(1).normal(size=(6, 8)).astype("float32")
    layer.embeddings.assign(vectors)
    same(layer(X), X + vectors[:5])
    for position in (1, keras.ops.convert_to_tensor(1)):
        same(layer(X, position=position), X + vectors[1:])


def test_more_tokens_than_positions_are_refused_with_the_remedy():
    assert PositionEmbedding(5)(X).shape == X.shape
    with pytest.raises(ValueError, match=r"at most 4 tokens.*got 5.*max_length=4"):
        PositionEmbedding(4)(X)


@pytest.mark.parametrize("max_wavelength", [100, 10_000])
def test_sines_and_cosines_are_those_of_the_paper(max_wavelength):
    expected = np.array(
        [
            [(np.cos if j % 2 else np.sin)(t / max_wavelength ** (2 * (j // 2) / 8)) for j in range(8)]
            for t in range(3, 3 + 5)
        ]
    )
    layer = SinePositionEncoding(max_wavelength)
    for position in (3, keras.ops.convert_to_tensor(3)):
        same(layer(X, position=position), X + expected)
    same(layer(X)[:, 3:], X[:, 3:] + expected[:2])


def test_far_positions_are_told_apart_in_low_precision():
    """bfloat16 knows no odd numbers above 256: the angles are computed in float32."""
    x = np.zeros((1, 5, 8), "float32")
    low, high = (SinePositionEncoding(dtype=dtype)(x, position=1000) for dtype in ("bfloat16", "float32"))
    same(low, high, tolerance=2**-8)


def test_sines_and_cosines_need_an_even_width():
    with pytest.raises(ValueError, match=r"even width D.*got 7"):
        SinePositionEncoding()(X[..., :7])


def test_activations():
    x = np.linspace(-4, 4, 41)
    phi = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    formulas = {
        "gelu": x * phi,
        "gelu_approximate": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "relu": np.maximum(x, 0),
    }
    for name, expected in formulas.items():
        same(activation_function(name)(x.astype("float32")), expected, tolerance=2e-6)
    with pytest.raises(ValueError, match="gellu"):
        activation_function("gellu")


def layer_norm(x, norm):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    return x * to_numpy(norm.gamma) + to_numpy(norm.beta)


def dense(x, layer):
    return x @ to_numpy(layer.kernel) + to_numpy(layer.bias)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_is_attention_and_feed_forward_with_residuals_and_norms(norm_first):
    encoder = Encoder(2, 2, 12, activation="relu", norm_first=norm_first, layer_norm_epsilon=EPSILON)
    encoder.build(X.shape)
    randomize(encoder)
    x = X.astype("float64")
    states = [x]
    for block in encoder.blocks:

        def attention(x, block=block):
            return to_numpy(block.attention(x.astype("float32"), attention_mask=ATTENTION_MASK))

        def feed_forward(x, block=block):
            return dense(np.maximum(dense(x, block.feed_forward.intermediate), 0), block.feed_forward.output_projection)

        for sublayer, norm in ((attention, block.attention_norm), (feed_forward, block.feed_forward_norm)):
            x = x + sublayer(layer_norm(x, norm)) if norm_first else layer_norm(x + sublayer(x), norm)
        states.append(x)
    outputs = encoder(X, attention_mask=ATTENTION_MASK, return_hidden_states=True)
    same(outputs["hidden_states"], tuple(states))
    same(outputs["sequence_output"], layer_norm(x, encoder.norm) if norm_first else x)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_looks_at_the_source_between_attention_and_feed_forward(norm_first):
    decoder = Decoder(2, 2, 12, activation="relu", norm_first=norm_first, layer_norm_epsilon=EPSILON)
    decoder.build(X.shape)
    randomize(decoder)
    x = X.astype("float64")
    states = [x]
    for block in decoder.blocks:

        def attention(x, block=block):
            return to_numpy(block.attention(x.astype("float32"), attention_mask=ATTENTION_MASK))

        def cross_attention(x, block=block):
            return to_numpy(block.cross_attention(x.astype("float32"), SOURCE, attention_mask=SOURCE_MASK))

        def feed_forward(x, block=block):
            return dense(np.maximum(dense(x, block.feed_forward.intermediate), 0), block.feed_forward.output_projection)

        for sublayer, norm in (
            (attention, block.attention_norm),
            (cross_attention, block.cross_attention_norm),
            (feed_forward, block.feed_forward_norm),
        ):
            x = x + sublayer(layer_norm(x, norm)) if norm_first else layer_norm(x + sublayer(x), norm)
        states.append(x)
    outputs = decoder(X, SOURCE, attention_mask=ATTENTION_MASK, source_mask=SOURCE_MASK, return_hidden_states=True)
    same(outputs["hidden_states"], tuple(states), tolerance=2e-5)
    same(outputs["sequence_output"], layer_norm(x, decoder.norm) if norm_first else x, tolerance=2e-5)


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
    config_tells(lambda **kwargs: PositionEmbedding(6, **kwargs), embeddings_initializer="zeros")
    config_tells(SinePositionEncoding, max_wavelength=100)
    dense = {"activation": "tanh", "kernel_initializer": "zeros"}
    config_tells(lambda **kwargs: FeedForward(12, **kwargs), **dense, output_initializer="zeros")
    block = dense | {"dropout": 0.1, "attention_dropout": 0.2, "norm_first": True, "layer_norm_epsilon": 0.1}
    block |= {"output_initializer": "zeros", "attention_scale": 0.1}
    config_tells(lambda **kwargs: EncoderBlock(2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: Encoder(2, 2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: DecoderBlock(2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: Decoder(2, 2, 12, **kwargs), **block)


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
