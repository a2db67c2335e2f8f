"""Feed-forward layers, blocks and stacks: each is its formula, and keeps the promises of every layer."""

import typing

import keras
import numpy as np
import pytest
from layer_checks import (
    ATTENTION_MASK,
    AttendsUnderMasks,
    PassesMasks,
    X,
    config_tells,
    randomize,
    same,
    stack_by_formula,
    to_numpy,
)

from course_lib.layers import FeedForward, RotaryEmbedding, TransformerBlock, TransformerStack

EPSILON = 0.1  # large enough to matter
SOURCE = np.random.default_rng(2).normal(size=(3, 7, 6)).astype("float32")  # (B, S, D')
SOURCE_TOKENS = (np.arange(7) < np.array([[7], [3], [0]])).astype("int32")  # (B, S); one row has no source at all


class TestFeedForward(PassesMasks):
    def make(self, **kwargs):
        return FeedForward(12, activation="gelu_approximate", **kwargs)


class TestGatedFeedForward(PassesMasks):
    def make(self, **kwargs):
        return FeedForward(12, activation="silu", gated=True, use_bias=False, **kwargs)


class TestLlamaStack(AttendsUnderMasks, PassesMasks):
    num_heads: typing.ClassVar = 4
    inputs: typing.ClassVar = {"x": X, "attention_mask": ATTENTION_MASK}

    def make(self, **kwargs):
        return TransformerStack(
            2,
            4,
            12,
            activation="silu",
            norm_first=True,
            num_key_value_heads=2,
            head_dim=4,
            rotary=RotaryEmbedding(100.0),
            norm="rms",
            gated=True,
            use_bias=False,
            **kwargs,
        )

    def call(self, layer, inputs):
        return layer(**inputs)["sequence_output"]


class TestBlock(AttendsUnderMasks, PassesMasks):
    inputs: typing.ClassVar = {"x": X, "attention_mask": ATTENTION_MASK}

    def make(self, **kwargs):
        return TransformerBlock(2, 12, activation="quick_gelu", layer_norm_epsilon=1e-3, **kwargs)


class TestStackWithCrossAttention(AttendsUnderMasks, PassesMasks):
    inputs: typing.ClassVar = {
        "x": X,
        "source": SOURCE,
        "attention_mask": ATTENTION_MASK,
        "source_padding_mask": SOURCE_TOKENS,
    }

    def make(self, **kwargs):
        return TransformerStack(2, 2, 12, True, activation="gelu", norm_first=True, **kwargs)

    def call(self, layer, inputs):
        outputs = layer(**inputs, return_hidden_states=True, return_attention=True)
        return {"": outputs.pop("sequence_output"), **outputs}  # first, when they are flattened


class TestSourceOfABlock(AttendsUnderMasks):
    """What cross-attention attends to has a padding mask of its own."""

    inputs: typing.ClassVar = {"x": X, "source": X[..., :6] + 1}
    keys: typing.ClassVar = "source"
    padding_mask: typing.ClassVar = "source_padding_mask"

    def make(self, **kwargs):
        return TransformerBlock(2, 12, cross_attention=True, **kwargs)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("cross_attention", [False, True])
def test_a_stack_is_its_sublayers_with_residuals_and_norms(norm_first, cross_attention):
    """Cross-attention stands between self-attention and feed-forward."""
    stack = TransformerStack(2, 2, 12, cross_attention, norm_first=norm_first, layer_norm_epsilon=EPSILON)
    source = SOURCE if cross_attention else None
    stack.build(X.shape, SOURCE.shape)
    expected = stack_by_formula(
        stack,
        lambda block: [
            (block.attention, block.attention_norm, {"attention_mask": ATTENTION_MASK}),
            *[(block.cross_attention, block.cross_attention_norm, {"value": source, "padding_mask": SOURCE_TOKENS})]
            * cross_attention,
        ],
    )
    masks = {"attention_mask": ATTENTION_MASK, "source_padding_mask": SOURCE_TOKENS if cross_attention else None}
    same(stack(X, source, **masks, return_hidden_states=True), expected, tolerance=2e-5)


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_and_decoder_differ_by_their_masks(norm_first):
    """A stack looks both ways, unless a mask hides the future from it, in whichever way the mask is given."""
    stack = TransformerStack(2, 2, 12, norm_first=norm_first)
    stack.build(X.shape)
    randomize(stack)
    causal = stack(X, use_causal_mask=True)
    same(stack(X, attention_mask=np.tril(np.ones((5, 5), bool))), causal)
    changed = X.copy()
    changed[:, 3] *= -1
    for masks, sees in (({}, True), ({"use_causal_mask": True}, False)):
        before, after = (to_numpy(stack(x, **masks)["sequence_output"]) for x in (X, changed))
        assert (np.abs(before - after)[:, :3].max() > 1e-3) == sees
        assert np.abs(before - after)[:, 3:].max(axis=-1).min() > 1e-3


def test_a_stack_returns_what_is_asked_for():
    for cross_attention in (False, True):
        stack = TransformerStack(2, 2, 12, cross_attention)
        source = X if cross_attention else None
        assert stack(X, source).keys() == {"sequence_output"}
        assert stack(X, source, return_hidden_states=True).keys() == {"sequence_output", "hidden_states"}
        weights = stack(X, source, return_attention=True)
        both = {"sequence_output", "attention", "cross_attention"}
        assert weights.keys() == (both if cross_attention else both - {"cross_attention"})


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (3, 2)])
def test_step_by_step_with_caches_equals_all_at_once(norm_first, chunks):
    stack = TransformerStack(2, 2, 12, True, norm_first=norm_first)
    stack.build(X.shape, SOURCE.shape)
    randomize(stack)
    asked = {"return_attention": True, "return_hidden_states": True}
    masks = {"use_causal_mask": True, "source_padding_mask": SOURCE_TOKENS}
    expected = stack(X, SOURCE, **masks, **asked)
    nothing = keras.ops.zeros((3, 6, 2, 4))
    of_source = stack.cross_attention_kv(SOURCE)
    cache, start = tuple(((nothing, nothing), pair) for pair in of_source), 0
    for chunk in chunks:
        part = slice(start, start + chunk)
        outputs = stack(X[:, part], **masks, cache=cache, position=start, **asked)
        cache, start = outputs["cache"], start + chunk
        same(outputs["sequence_output"], expected["sequence_output"][:, part])
        same(outputs["hidden_states"], [state[:, part] for state in expected["hidden_states"]])
        same(outputs["cross_attention"], [weights[:, :, part] for weights in expected["cross_attention"]])
        same([weights[..., :5] for weights in outputs["attention"]], [w[:, :, part] for w in expected["attention"]])
    same([pair for _, pair in cache], of_source, tolerance=0)


def test_feed_forward_treats_each_position_by_itself():
    layer = FeedForward(12)
    order = [3, 0, 4, 1, 2]
    same(layer(X[:, order]), to_numpy(layer(X))[:, order])


def test_dropout_is_drawn_in_training_only_and_anew_at_each_place():
    keras.utils.set_random_seed(0)
    block = TransformerBlock(2, 12, dropout=0.5)
    same(block(X), block(X))
    first, second = to_numpy(block(X, training=True)), to_numpy(block(X, training=True))
    assert np.abs(first - second).max() > 0.1 and np.abs(first - to_numpy(block(X))).max() > 0.1


def test_dropout_spares_the_residual_connection():
    zeros = {"kernel_initializer": "zeros"}  # so that sublayers give zeros
    block = TransformerBlock(2, 12, dropout=0.5, norm_first=True, **zeros)
    same(block(X, training=True), X, tolerance=0)


def test_a_block_whose_last_layers_start_at_zero_gives_back_its_input():
    block = TransformerBlock(2, 12, norm_first=True, output_initializer="zeros")
    same(block(X), X, tolerance=0)
    assert to_numpy(block.attention.value.kernel).any() and to_numpy(block.feed_forward.intermediate.kernel).any()


def test_attention_dropout_reaches_the_attention_weights():
    keras.utils.set_random_seed(0)
    block = TransformerBlock(2, 12, attention_dropout=0.5)
    _, weights = block(X, return_attention=True)
    _, dropped = block(X, return_attention=True, training=True)
    same(weights, dropped)  # the weights that are returned are those before dropout,
    assert np.abs(to_numpy(block(X, training=True)) - to_numpy(block(X))).max() > 0.01  # those used are not


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    dense = {"activation": "tanh", "kernel_initializer": "zeros"}
    config_tells(
        lambda **kwargs: FeedForward(12, **kwargs), **dense, output_initializer="zeros", gated=True, use_bias=False
    )
    block = dense | {"dropout": 0.1, "attention_dropout": 0.2, "norm_first": True, "layer_norm_epsilon": 0.1}
    block |= {"output_initializer": "zeros", "attention_scale": 0.1, "cross_attention": True}
    block |= {"num_key_value_heads": 1, "head_dim": 6, "norm": "rms", "gated": True, "use_bias": False}
    config_tells(lambda **kwargs: TransformerBlock(2, 12, **kwargs), **block)
    config_tells(lambda **kwargs: TransformerStack(2, 2, 12, **kwargs), **block)
    sizes = {"num_heads": 4, "intermediate_dim": 16}
    config_tells(lambda **kwargs: TransformerBlock(**{"num_heads": 2, "intermediate_dim": 12} | kwargs), **sizes)


def test_a_gate_multiplies_what_it_lets_pass():
    layer = FeedForward(12, activation="silu", gated=True, use_bias=False)
    layer.build(X.shape)
    gate, inside, out = (to_numpy(part.kernel) for part in (layer.gate, layer.intermediate, layer.output_projection))
    opened = X @ gate
    same(layer(X), (opened / (1 + np.exp(-opened)) * (X @ inside)) @ out)
    assert len(layer.weights) == 3


def test_norms_that_keep_the_mean():
    block = TransformerBlock(2, 12, norm="rms", norm_first=True, layer_norm_epsilon=0.1, use_bias=False)
    block.build(X.shape)
    same(block.attention_norm(X), X / np.sqrt(np.mean(X**2, axis=-1, keepdims=True) + 0.1))
    with pytest.raises(ValueError, match="batch"):
        TransformerBlock(2, 12, norm="batch")


def test_blocks_do_not_share_their_rotary_layer():
    stack = TransformerStack(2, 2, 12, rotary=RotaryEmbedding(100.0), cross_attention=True)
    first, second = (block.attention.rotary for block in stack.blocks)
    assert first is not second and first.base == second.base == 100.0
    assert stack.blocks[0].cross_attention.rotary is None


def test_a_stack_without_blocks_is_refused():
    with pytest.raises(ValueError, match="num_layers=0"):
        TransformerStack(0, 2, 12)


def test_each_block_has_the_scale_that_is_asked_for():
    for asked, scales in (([1.0, 0.5, 0.1], [1.0, 0.5, 0.1]), (0.5, [0.5] * 3), (None, [None] * 3)):
        assert [block.attention.scale for block in TransformerStack(3, 2, 12, attention_scale=asked).blocks] == scales
    with pytest.raises(ValueError, match="attention_scale.* 2 .*3"):
        TransformerStack(2, 2, 12, attention_scale=[1.0, 0.5, 0.1])


def test_each_block_starts_with_weights_of_its_own():
    stack = TransformerStack(2, 2, 12, cross_attention=True)
    stack.build(X.shape)
    kernels = [to_numpy(weight) for weight in stack.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) == 2 * 10 and len({kernel.tobytes() for kernel in kernels}) == 20
