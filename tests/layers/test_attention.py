"""Attention: the formula, its masks and its cache, against loops over single numbers and against Keras's own layer."""

import typing

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import ops
from layer_checks import (
    ATTENTION_MASK,
    IS_TOKEN,
    AttendsUnderMasks,
    PassesMasks,
    X,
    config_tells,
    randomize,
    same,
    to_numpy,
)

from course_lib.layers import (
    MultiHeadAttention,
    RotaryEmbedding,
    attention_weights,
    causal_mask,
    combine_masks,
    merge_heads,
    padding_mask,
    scaled_dot_product_attention,
    split_heads,
)
from course_lib.layers.masks import mask_of_scores

rng = np.random.default_rng(1)
QUERY, KEY, VALUE = (rng.normal(size=(2, 3, length, 4)).astype("float32") for length in (5, 6, 6))  # (B, N, T|S, H)
MEMORY = rng.normal(size=(3, 5, 6)).astype("float32")  # (B, S, D'), of another width
masks = arrays.arrays(bool, (5, 6))


class TestSelfAttention(AttendsUnderMasks, PassesMasks):
    inputs: typing.ClassVar = {"query": X, "attention_mask": ATTENTION_MASK}
    keys: typing.ClassVar = "query"

    def make(self, **kwargs):
        return MultiHeadAttention(2, **kwargs)


class TestCrossAttention(AttendsUnderMasks):
    inputs: typing.ClassVar = {"query": X, "value": MEMORY, "attention_mask": ATTENTION_MASK}
    keys: typing.ClassVar = "value"
    num_heads: typing.ClassVar = 3

    def make(self, **kwargs):
        return MultiHeadAttention(3, hidden_dim=12, use_bias=False, **kwargs)

    def call(self, layer, inputs):
        return layer(**inputs, return_attention=True)


class TestGroupedQueryAttention(AttendsUnderMasks, PassesMasks):
    inputs: typing.ClassVar = {"query": X, "attention_mask": ATTENTION_MASK}
    keys: typing.ClassVar = "query"
    num_heads: typing.ClassVar = 4

    def make(self, **kwargs):
        return MultiHeadAttention(4, num_key_value_heads=2, rotary=RotaryEmbedding(100.0), **kwargs)


def by_loops(query, key, value, mask):
    """Equation 1, number by number, in float64."""
    output, weights = np.zeros((*query.shape[:-1], value.shape[-1])), np.zeros((*query.shape[:-1], key.shape[-2]))
    mask = np.broadcast_to(mask, weights.shape)
    for *head, t in np.ndindex(query.shape[:-1]):
        allowed = [s for s in range(key.shape[-2]) if mask[*head, t, s]]
        dots = {
            s: sum(float(q) * float(k) for q, k in zip(query[*head, t], key[*head, s], strict=True)) for s in allowed
        }
        powers = {s: np.exp(dot / np.sqrt(query.shape[-1])) for s, dot in dots.items()}
        for s in allowed:
            weights[*head, t, s] = powers[s] / sum(powers.values())
            output[*head, t] += weights[*head, t, s] * value[*head, s]
    return output, weights


@pytest.mark.parametrize("shape", [(), (5, 6), (1, 6), (5, 1), (2, 1, 1, 6), (2, 3, 5, 6)])
def test_attention_is_the_formula(shape):
    mask = np.random.default_rng(2).random(shape) < 0.6 if shape else None
    expected = by_loops(QUERY, KEY, VALUE, True if mask is None else mask)
    same(scaled_dot_product_attention(QUERY, KEY, VALUE, mask), expected, tolerance=1e-6)
    same(attention_weights(QUERY, KEY, mask), expected[1], tolerance=1e-6)


def test_attention_by_hand():
    """Scores log 3 and 0, before the division by √4, times two: three quarters and one quarter."""
    query, value = np.array([[2.0, 0, 0, 0]]), np.array([[8.0], [4.0]])
    key = np.array([[np.log(3), 0, 0, 0], [0, 1, 1, 1]])
    output, weights = scaled_dot_product_attention(query, key, value)
    same((output, weights), (np.array([[7.0]]), np.array([[0.75, 0.25]])), tolerance=1e-6)


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 10), ("bfloat16", 7)])
def test_the_softmax_is_taken_in_float32(dtype, digits):
    """Of scores without rounding error, its weights have but the error of being rounded once, at the end."""
    scores = np.arange(-2, 2, 2**-5)
    query, key = np.array([[2.0, 0, 0, 0]]), np.stack([scores, *np.zeros((3, scores.size))], axis=1)
    weights = to_numpy(attention_weights(ops.cast(query, dtype), ops.cast(key, dtype)))
    np.testing.assert_allclose(weights, by_loops(query, key, key, True)[1], rtol=1.01 * 2.0 ** -(digits + 1))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_query_that_may_attend_to_nothing_gets_zeros(dtype):
    mask = np.ones((5, 6), bool)
    mask[2] = False
    inputs = [ops.cast(x, dtype) for x in (QUERY, KEY, VALUE)]
    for result in scaled_dot_product_attention(*inputs, mask):
        result = to_numpy(result)
        assert np.all(result[..., 2, :] == 0) and np.all(np.any(result[..., [0, 1, 3, 4], :] != 0, axis=-1))

    layer = MultiHeadAttention(2, dtype=dtype)
    layer.build(X.shape)
    randomize(layer)
    layer.output_projection.bias.assign(np.zeros(8))
    nothing = np.ones((3, 1, 5, 5), bool)
    nothing[1, :, 3] = False
    for output in (layer(X, attention_mask=nothing), layer(X, attention_mask=nothing, return_attention=True)[0]):
        output = to_numpy(output)
        assert np.all(output[1, 3] == 0) and np.all(np.any(np.delete(output.reshape(15, 8), 8, axis=0) != 0, axis=-1))


@settings(max_examples=30)
@given(masks, st.integers(0, 5))
def test_what_is_not_allowed_changes_nothing(mask, changed):
    key, value = KEY.copy(), VALUE.copy()
    key[..., changed, :] += 3
    value[..., changed, :] -= 100
    before, weights = scaled_dot_product_attention(QUERY, KEY, VALUE, mask)
    after, _ = scaled_dot_product_attention(QUERY, key, value, mask)
    blind = ~mask[:, changed]
    assert np.array_equal(to_numpy(before)[:, :, blind], to_numpy(after)[:, :, blind])
    assert np.all(np.abs(to_numpy(before) - to_numpy(after))[:, :, ~blind].max(axis=-1) > 1e-3)
    assert np.array_equal(to_numpy(weights) > 0, np.broadcast_to(mask, weights.shape))


@settings(max_examples=20)
@given(st.permutations(range(6)), st.permutations(range(5)), masks)
def test_the_order_of_keys_does_not_matter_and_queries_keep_theirs(keys, queries, mask):
    output, weights = scaled_dot_product_attention(QUERY, KEY, VALUE, mask)
    moved = scaled_dot_product_attention(
        QUERY[..., queries, :], KEY[..., keys, :], VALUE[..., keys, :], mask[queries][:, keys]
    )
    same(moved, (to_numpy(output)[..., queries, :], to_numpy(weights)[..., queries, :][..., keys]), tolerance=1e-6)


def test_masks_by_hand():
    assert to_numpy(causal_mask(3)).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert to_numpy(causal_mask(2, 4)).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    for position in (1, ops.convert_to_tensor(1)):
        assert to_numpy(causal_mask(2, 4, position)).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    padding = padding_mask(np.array([[1, 1, 0], [1, 0, 0]]))
    assert padding.shape == (2, 1, 1, 3)
    assert to_numpy(padding)[:, 0, 0].tolist() == [[1, 1, 0], [1, 0, 0]]
    both = to_numpy(combine_masks(None, causal_mask(3), padding))
    assert both[:, 0].tolist() == [[[1, 0, 0], [1, 1, 0], [1, 1, 0]], [[1, 0, 0], [1, 0, 0], [1, 0, 0]]]
    assert combine_masks(None, None) is None
    for mask in (causal_mask(3), padding, combine_masks(causal_mask(3), None)):
        assert keras.backend.standardize_dtype(mask.dtype) == "bool"


def test_heads_are_cut_from_each_position_and_merged_again():
    x = np.arange(2 * 3 * 8).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 3, 4, 2)
    assert ops.convert_to_numpy(heads)[1, 2].tolist() == [[40, 41], [42, 43], [44, 45], [46, 47]]
    assert np.array_equal(ops.convert_to_numpy(merge_heads(heads)), x)


def with_kernels(layer, *shapes):
    layer.build(*shapes)
    randomize(layer)
    return layer


def of_keras(ours, value, **kwargs):
    """The layer of Keras with the weights of ours."""
    theirs = keras.layers.MultiHeadAttention(3, 4, **kwargs)
    theirs.build(X.shape, value.shape)
    parts = [(ours.query, theirs.query_dense), (ours.key, theirs.key_dense), (ours.value, theirs.value_dense)]
    for mine, its in [*parts, (ours.output_projection, theirs.output_dense)]:
        for weight, other in zip(its.weights, mine.weights, strict=True):
            weight.assign(ops.reshape(other, weight.shape))
    return theirs


@pytest.mark.parametrize(("value", "use_bias"), [(None, True), (MEMORY, False), (MEMORY, True)])
@settings(max_examples=12)
@given(
    st.sampled_from([None, (1, 5), (5, 5), (1, 5, 5), (3, 5, 5), (3, 1, 5), (1, 1, 1, 5), (3, 1, 5, 5), (3, 3, 5, 5)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_equal_to_the_layer_of_keras_under_every_mask_that_it_takes(value, use_bias, axes, causal, padded, seed):
    ours = with_kernels(
        MultiHeadAttention(3, hidden_dim=12, use_bias=use_bias), X.shape, None if value is None else value.shape
    )
    memory = X if value is None else value
    theirs = of_keras(ours, memory, use_bias=use_bias)
    mask = None if axes is None else np.random.default_rng(seed).random(axes) < 0.6
    if mask is not None:
        mask[..., 0] = True  # Keras has another rule for a row without a key
    tokens = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool) if padded else None
    theirs_takes = {"value_mask": tokens, "attention_mask": mask}
    if padded and mask is not None and mask.ndim == 4:  # which Keras would combine to a mask by heads
        theirs_takes = {"attention_mask": mask & tokens[:, None, None]}
    expected, weights = theirs(X, memory, **theirs_takes, use_causal_mask=causal, return_attention_scores=True)
    masks = {"attention_mask": mask, "padding_mask": tokens, "use_causal_mask": causal}
    same(ours(X, value, **masks, return_attention=True), (expected, weights))
    same(ours(X, value, **masks), expected)


def test_a_mask_of_two_axes_has_no_batch():
    """(B, S) with as many rows as queries is read as (T, S), as Keras reads it; with more or fewer it is refused."""
    rows = np.concatenate([X, X[:2]])  # B = T = S = 5
    mask = np.random.default_rng(5).random((5, 5)) < 0.6
    mask[:, 0] = True
    layer = with_kernels(MultiHeadAttention(3, hidden_dim=12), X.shape)
    same(layer(rows, attention_mask=mask), of_keras(layer, X)(rows, rows, attention_mask=mask))
    as_padding = to_numpy(layer(rows, attention_mask=mask[:, None, None, :]))
    same(layer(rows, padding_mask=mask), as_padding)
    assert np.abs(to_numpy(layer(rows, attention_mask=mask)) - as_padding).max() > 0.05


@pytest.mark.one_backend
def test_sizes_that_are_not_known_yet_are_not_compared():
    unknown = None, 2, None, None
    for axes in ((4, 5), (3, 4, 5), (3, 2, 4, 5), (1, 1, 4, 5), (3, 1, 4, 5)):
        mask = mask_of_scores(np.ones(axes, bool), None, unknown)
        assert mask.shape == (*[1] * (4 - len(axes)), *axes) if len(axes) != 3 else mask.shape == (3, 1, 4, 5)
    assert mask_of_scores(None, np.ones((3, 5)), unknown).shape == (3, 1, 1, 5)
    assert mask_of_scores(None, None, unknown) is None
    for wrong in ((np.ones((3, 3, 4, 5), bool), None), (None, np.ones((3, 1, 5)))):
        with pytest.raises(ValueError):
            mask_of_scores(*wrong, unknown)
    with pytest.raises(ValueError, match="4"):
        mask_of_scores(None, np.ones((3, 4)), (None, 2, None, 5))


def test_another_scale_is_as_good_as_longer_queries():
    """3 in place of 1/√4 makes the scores six times as high, as queries six times as long do; on both paths."""
    scaled, longer = (with_kernels(MultiHeadAttention(2, scale=scale), X.shape) for scale in (3.0, None))
    longer.set_weights(scaled.get_weights())
    for weight in longer.query.weights:
        weight.assign(6 * to_numpy(weight))
    expected = longer(X, return_attention=True)
    same(scaled(X, return_attention=True), expected)
    same(scaled(X), expected[0])


@settings(max_examples=20)
@given(arrays.arrays(bool, st.sampled_from([(5, 5), (3, 1, 5), (3, 1, 1, 5), (1, 2, 5, 1), (3, 2, 5, 5)])))
def test_the_fused_path_is_the_path_with_weights(mask):
    same(LAYER(X, attention_mask=mask), LAYER(X, attention_mask=mask, return_attention=True)[0])


LAYER = with_kernels(MultiHeadAttention(2), X.shape)


@settings(max_examples=20)
@given(st.integers(1, 4))
def test_under_the_causal_mask_a_changed_future_changes_no_earlier_output(start):
    changed = X.copy()
    changed[:, start:] += 1
    for masks in ({"attention_mask": causal_mask(5)}, {"use_causal_mask": True}):
        before, after = (to_numpy(LAYER(x, **masks)) for x in (X, changed))
        np.testing.assert_allclose(before[:, :start], after[:, :start], atol=1e-6)
        assert np.all(np.abs(before - after)[:, start:].max(axis=-1) > 1e-3)


@pytest.mark.parametrize("before", [0, 2])
def test_under_the_padding_mask_padding_changes_nothing(before):
    padded = np.pad(X, [(0, 0), (before, 2 - before), (0, 0)], constant_values=100)
    is_token = np.repeat([np.pad([1] * 5, (before, 2 - before))], 3, axis=0)
    own = slice(before, before + 5)
    for causal in (False, True):
        expected = LAYER(X, use_causal_mask=causal)
        for masks in ({"padding_mask": is_token}, {"attention_mask": padding_mask(is_token)}):
            output = LAYER(padded, **masks, use_causal_mask=causal)
            same(output[:, own], expected)
            same(LAYER(padded, **masks, use_causal_mask=causal, return_attention=True)[0], output)


def test_without_positions_permuted_inputs_give_permuted_outputs():
    order = [4, 2, 0, 3, 1]
    same(LAYER(X[:, order]), to_numpy(LAYER(X))[:, order])


def empty_cache(length):
    return np.zeros((3, length, 2, 4), "float32"), np.zeros((3, length, 2, 4), "float32")


@pytest.mark.parametrize(("chunks", "as_tensor"), [((1, 1, 1, 1, 1), False), ((3, 1, 1), True), ((5,), True)])
@pytest.mark.parametrize("return_attention", [False, True])
def test_step_by_step_with_a_cache_equals_all_at_once(chunks, as_tensor, return_attention):
    expected, all_weights = LAYER(X, attention_mask=causal_mask(5), return_attention=True)
    cache, position = empty_cache(7), 0
    for chunk in chunks:
        end = position + chunk
        place = ops.convert_to_tensor(position) if as_tensor else position
        mask = {"use_causal_mask": True} if chunk == 1 else {"attention_mask": causal_mask(chunk, 7, place)}
        output, *weights, cache = LAYER(
            X[:, position:end],
            **mask,
            cache=cache,
            position=place,
            return_attention=return_attention,
        )
        same(output, expected[:, position:end])
        if return_attention:
            same(weights[0][..., :5], all_weights[:, :, position:end])
        position = end
    same(cache[0][:, :5], split_heads(LAYER.key(X), 2))
    same(cache[1][:, :5], split_heads(LAYER.value(X), 2))
    assert np.all(to_numpy(cache[0])[:, 5:] == 0) and cache[0].shape == (3, 7, 2, 4)


@pytest.mark.parametrize("num_key_value_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries_are_those_of_keras(num_key_value_heads, causal):
    ours = with_kernels(MultiHeadAttention(4, num_key_value_heads=num_key_value_heads), X.shape)
    theirs = keras.layers.GroupQueryAttention(2, 4, num_key_value_heads)
    theirs.build(X.shape, X.shape)
    layers = [ours.query, ours.key, ours.value, ours.output_projection]
    for weight, other in zip(theirs.weights, [part for layer in layers for part in layer.weights], strict=True):
        weight.assign(ops.reshape(other, weight.shape))
    mask = np.random.default_rng(0).random((3, 5, 5)) < 0.6
    mask[..., 0] = True  # Keras has another rule for a row without a key
    same(
        ours(X, attention_mask=mask, use_causal_mask=causal), theirs(X, X, attention_mask=mask, use_causal_mask=causal)
    )


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize("return_attention", [False, True])
def test_grouped_queries_and_rotary_positions_step_by_step(chunks, return_attention):
    """The cache holds the key-value heads alone, and one row begins with two slots of padding."""
    layer = with_kernels(MultiHeadAttention(4, num_key_value_heads=2, rotary=RotaryEmbedding(100.0)), X.shape)
    tokens = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    places = np.maximum(tokens.cumsum(axis=1) - 1, 0)
    masks = {"use_causal_mask": True, "padding_mask": tokens}
    expected = to_numpy(layer(X, **masks, positions=places))
    cache, begin = (np.zeros((3, 5, 2, 2), "float32"),) * 2, 0
    for chunk in chunks:
        part = slice(begin, begin + chunk)
        output, *_, cache = layer(
            X[:, part],
            **masks,
            cache=cache,
            position=begin,
            positions=places[:, part],
            return_attention=return_attention,
        )
        is_token = tokens[:, part] > 0
        same(to_numpy(output)[is_token], expected[:, part][is_token])
        begin += chunk
    same(to_numpy(layer(X[1:2, 2:], use_causal_mask=True)), expected[1:2, 2:])  # the row alone, without its padding


def test_without_given_places_tokens_stand_at_their_slots():
    layer = with_kernels(MultiHeadAttention(2, rotary=RotaryEmbedding(100.0)), X.shape)
    cache = (np.zeros((3, 5, 2, 4), "float32"),) * 2
    outputs, cache = layer(X[:, :3], use_causal_mask=True, cache=cache, position=0)
    more, _ = layer(X[:, 3:], use_causal_mask=True, cache=cache, position=3)
    same(np.concatenate([to_numpy(outputs), to_numpy(more)], axis=1), layer(X, use_causal_mask=True))


def test_heads_per_head_masks_reach_grouped_queries():
    layer = with_kernels(MultiHeadAttention(4, num_key_value_heads=2), X.shape)
    mask = np.random.default_rng(0).random((1, 4, 1, 5)) < 0.7
    mask[..., 0] = True
    same(layer(X[:, :1], X, attention_mask=mask), layer(X[:, :1], X, attention_mask=mask, return_attention=True)[0])


def test_what_does_not_fit_into_the_cache_is_refused():
    assert LAYER(X, cache=empty_cache(7), position=2)[1][0].shape == (3, 7, 2, 4)
    with pytest.raises(ValueError, match=r"5.*3.*7"):
        LAYER(X, cache=empty_cache(7), position=3)


def test_beside_a_cache_a_padding_mask_has_its_length():
    slots = np.array([[1, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1, 0]])
    _, cache = LAYER(X, cache=empty_cache(7), position=0)
    mask = {"padding_mask": slots, "use_causal_mask": True}
    output, weights, _ = LAYER(X[:, :1], **mask, cache=cache, position=5, return_attention=True)
    assert np.array_equal(to_numpy(weights) > 0, np.repeat(slots[:, None, None] > 0, 2, axis=1))
    keyed = {"attention_mask": slots[:, None, None] > 0, "cache": cache, "position": 5}
    same(output, LAYER(X[:, :1], **keyed)[0])
    with pytest.raises(ValueError, match=r"\(3, 7\).*\(3, 5\)"):
        LAYER(X[:, :1], padding_mask=IS_TOKEN, cache=cache, position=5)


def test_one_compiled_step_serves_every_position():
    class Step(keras.Model):
        def call(self, inputs):
            mask = causal_mask(1, 7, inputs["position"][0])
            return LAYER(inputs["token"], attention_mask=mask, cache=inputs["cache"], position=inputs["position"][0])

    step = Step()
    step.compile(jit_compile=True)
    cache = empty_cache(7)
    expected = to_numpy(LAYER(X, attention_mask=causal_mask(5)))
    for t in range(5):
        position = np.full(3, t, "int32")
        output, cache = step.predict_on_batch({"token": X[:, t : t + 1], "position": position, "cache": cache})
        same(output, expected[:, t : t + 1])


def test_a_cache_without_a_position_is_read_as_it_stands():
    layer = with_kernels(MultiHeadAttention(2), X.shape, MEMORY.shape)
    cache = split_heads(layer.key(MEMORY), 2), split_heads(layer.value(MEMORY), 2)
    mask = padding_mask(np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]))
    expected, weights = layer(X, MEMORY, attention_mask=mask, return_attention=True)
    output, same_weights, after = layer(X, attention_mask=mask, cache=cache, return_attention=True)
    same((output, same_weights, after), (expected, weights, cache))
    same(layer(X[:, :1], attention_mask=mask, cache=cache)[0], expected[:, :1])
    same(layer(X, padding_mask=mask[:, 0, 0], cache=cache)[0], expected)
    same(layer.keys_and_values(MEMORY), cache)
    causal = {"use_causal_mask": True, "return_attention": True}
    same(layer(X, cache=cache, **causal)[:2], layer(X, MEMORY, **causal))


@pytest.mark.one_backend
def test_the_config_tells_every_argument():
    changes = {"hidden_dim": 12, "dropout": 0.1, "use_bias": False, "kernel_initializer": "zeros"}
    changes |= {"output_initializer": "zeros", "scale": 0.1, "num_key_value_heads": 1}
    config_tells(lambda **kwargs: MultiHeadAttention(2, **kwargs), **changes)


def test_dropout_drops_weights_in_training_only():
    keras.utils.set_random_seed(0)
    layer = with_kernels(MultiHeadAttention(2, dropout=0.5), X.shape)
    always, dropped = layer(X), to_numpy(layer(np.tile(X, (400, 1, 1)), training=True)).reshape(400, *X.shape)
    same(layer(X, training=False), always)
    same(layer(X, return_attention=True)[0], always)
    weights = [layer(X, return_attention=True, training=training)[1] for training in (False, True)]
    same(*weights)  # what is returned is the distribution, before anything is dropped
    spread = dropped.std(axis=0)
    assert np.all(spread > 0.01)
    assert np.all(np.abs(dropped.mean(axis=0) - to_numpy(always)) < 5 * spread / np.sqrt(400))


def test_the_four_projections_start_apart_and_without_bias_where_asked():
    layer = MultiHeadAttention(2, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    layer.build(X.shape)
    assert [weight.path.split("/", 1)[1] for weight in layer.weights] == [
        f"{part}/kernel" for part in ("query", "key", "value", "output")
    ]
    again = MultiHeadAttention(2)
    again.build(X.shape)
    assert len({to_numpy(weight).tobytes() for weight in again.weights if weight.path.endswith("kernel")}) == 4


def test_the_last_projection_has_an_initializer_of_its_own_where_asked():
    layer = MultiHeadAttention(2, output_initializer="zeros")
    layer.build(X.shape)
    started = [weight.path.split("/")[-2] for weight in layer.weights if to_numpy(weight).any()]
    assert started == ["query", "key", "value"]


def test_bad_input_is_named():
    for attend in (
        lambda key: attention_weights(QUERY, key),
        lambda key: scaled_dot_product_attention(QUERY, key, VALUE),
    ):
        with pytest.raises(ValueError, match=r"5, 4\).*6, 3\)"):
            attend(KEY[..., :3])
    for attend in (
        lambda mask: scaled_dot_product_attention(QUERY, KEY, VALUE, mask),
        lambda mask: combine_masks(causal_mask(5), mask),
        lambda mask: LAYER(X, attention_mask=mask),
    ):
        with pytest.raises(ValueError, match="bool.*int32"):
            attend(np.ones((5, 5), "int32"))
    with pytest.raises(ValueError, match=r"\(B, S\).*\(5,\)"):
        padding_mask(np.ones(5))
    with pytest.raises(ValueError, match="num_key_value_heads.* 4; got 3"):
        MultiHeadAttention(4, num_key_value_heads=3)
    for layer, numbers in ((MultiHeadAttention(3), "3 and 8"), (MultiHeadAttention(2, hidden_dim=7), "2 and 7")):
        with pytest.raises(ValueError, match=f"num_heads.*{numbers}"):
            layer(X)
