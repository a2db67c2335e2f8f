"""Positions: each is its formula, and keeps the promises of every layer."""

import keras
import numpy as np
import pytest
from layer_checks import LayerChecks, PassesMasks, X, config_tells, same, to_numpy

from course_lib.layers import (
    MultiHeadAttention,
    PositionEmbedding,
    RotaryEmbedding,
    SinePositionEncoding,
    rotary_frequencies,
    token_positions,
)

HEADS = np.random.default_rng(3).normal(size=(3, 5, 2, 8)).astype("float32")  # (B, T, N, H)
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

MOVED = np.array([[2, 3, 4, 5, 5], [0, 0, 0, 1, 2], [1, 3, 5, 0, 2]], "int32")  # (B, T), another place in each row


class TestPositionEmbedding(PassesMasks):
    def make(self, **kwargs):
        return PositionEmbedding(6, **kwargs)


class TestPositionEmbeddingAtPlaces(TestPositionEmbedding):
    inputs = {"x": X, "positions": MOVED}  # noqa: RUF012


class TestSinePositionEncoding(PassesMasks):
    def make(self, **kwargs):
        return SinePositionEncoding(**kwargs)


class TestSinePositionEncodingAtPlaces(TestSinePositionEncoding):
    inputs = {"x": X, "positions": MOVED}  # noqa: RUF012


class TestRotaryEmbedding(LayerChecks):
    inputs = {"x": HEADS}  # noqa: RUF012

    def make(self, **kwargs):
        return RotaryEmbedding(base=100.0, **kwargs)


class TestRotaryEmbeddingAtPlaces(LayerChecks):
    inputs = {"x": HEADS, "positions": MOVED}  # noqa: RUF012

    def make(self, **kwargs):
        return RotaryEmbedding(interleaved=True, scaling=LLAMA_3, **kwargs)


def test_tokens_are_counted_and_padding_is_not():
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]])
    expected = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 2, 2], [0, 0, 0, 1, 2], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]])
    for dtype in ("int32", "bool", "float32"):
        found = token_positions(mask.astype(dtype), 5)
        assert np.array_equal(to_numpy(found), expected) and keras.backend.standardize_dtype(found.dtype) == "int32"
    assert np.array_equal(to_numpy(token_positions(mask, 3)), expected[:, :3])
    for position in (2, keras.ops.convert_to_tensor(2)):  # of slots of a cache
        assert np.array_equal(to_numpy(token_positions(mask, 3, position)), expected[:, 2:])


def test_position_embeddings_stand_at_their_positions():
    layer = PositionEmbedding(6)
    layer.build(X.shape)
    vectors = np.random.default_rng(1).normal(size=(6, 8)).astype("float32")
    layer.embeddings.assign(vectors)
    same(layer(X), X + vectors[:5])
    for positions in (np.arange(5) + 1, MOVED, keras.ops.convert_to_tensor(MOVED)):
        same(layer(X, positions), X + vectors[np.array(positions)])


def test_more_tokens_than_positions_are_refused_with_the_remedy():
    assert PositionEmbedding(5)(X).shape == X.shape
    with pytest.raises(ValueError, match="5.*max_length=4"):
        PositionEmbedding(4)(X)


@pytest.mark.parametrize("max_wavelength", [100, 10_000])
def test_sines_and_cosines_are_those_of_the_paper(max_wavelength):
    table = np.array(
        [[(np.cos if j % 2 else np.sin)(t / max_wavelength ** (2 * (j // 2) / 8)) for j in range(8)] for t in range(9)]
    )
    layer = SinePositionEncoding(max_wavelength)
    for positions in (np.arange(5) + 3, MOVED, keras.ops.convert_to_tensor(MOVED)):
        same(layer(X, positions), X + table[np.array(positions)])
    same(layer(X), X + table[:5])


def test_far_positions_are_told_apart_in_low_precision():
    """bfloat16 knows no odd numbers above 256: the angles are computed in float32."""
    x = np.zeros((1, 5, 8), "float32")
    far = np.arange(1000, 1005)
    low, high = (SinePositionEncoding(dtype=dtype)(x, far) for dtype in ("bfloat16", "float32"))
    same(low, high, tolerance=2**-8)


def test_sines_and_cosines_need_an_even_width():
    with pytest.raises(ValueError, match="even.*7"):
        SinePositionEncoding()(X[..., :7])


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_pairs_turn_as_complex_numbers_do(interleaved):
    angles = np.arange(5)[:, None] * 100.0 ** (-np.arange(4) / 4)
    pairs = HEADS.reshape(3, 5, 2, 4, 2) if interleaved else np.stack([HEADS[..., :4], HEADS[..., 4:]], axis=-1)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)[:, None]
    parts = turned.real, turned.imag
    expected = np.stack(parts, axis=-1).reshape(HEADS.shape) if interleaved else np.concatenate(parts, axis=-1)
    same(RotaryEmbedding(100.0, interleaved=interleaved)(HEADS), expected)


def test_products_of_rotated_heads_depend_on_the_distance_alone():
    layer, query, key = RotaryEmbedding(), HEADS[:1, :1], HEADS[1:2, :1]

    def product(at, other):
        return np.sum(to_numpy(layer(query, np.array([at]))) * to_numpy(layer(key, np.array([other]))))

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) == pytest.approx(product(4, 0), abs=1e-5)
    assert abs(product(7, 3) - product(3, 7)) > 0.1  # direction counts


def test_the_conventions_are_permutations_of_each_other():
    """Permuted weights compute the same under the other convention; weights as they are do not."""
    order = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])  # within a head: first members, then second
    halves, neighbours = (
        MultiHeadAttention(2, hidden_dim=16, rotary=RotaryEmbedding(100.0, interleaved=flag)) for flag in (False, True)
    )
    for layer in (halves, neighbours):
        layer.build(X.shape)
    halves.set_weights(neighbours.get_weights())
    expected = to_numpy(neighbours(X))
    assert np.abs(to_numpy(halves(X)) - expected).max() > 0.01
    for part in (halves.query, halves.key):
        kernel = to_numpy(part.kernel).reshape(8, 2, 8)
        part.kernel.assign(kernel[..., order].reshape(8, 16))
    same(halves(X), expected)


def test_frequencies_for_longer_texts():
    plain = rotary_frequencies(64, 500_000.0)
    assert plain[0] == 1 and plain[-1] == pytest.approx(500_000.0 ** (-62 / 64))
    assert np.array_equal(rotary_frequencies(64, 500_000.0, {"rope_type": "default"}), plain)
    assert np.allclose(rotary_frequencies(64, 500_000.0, {"type": "linear", "factor": 4.0}), plain / 4)
    turns = 64 * plain / (2 * np.pi)  # within the trained length
    scaled = rotary_frequencies(64, 500_000.0, LLAMA_3)
    assert np.allclose(scaled[turns > 4], plain[turns > 4]) and np.allclose(scaled[turns < 1], plain[turns < 1] / 8)
    assert (np.diff(scaled) < 0).all() and ((turns >= 1) & (turns <= 4)).any()


@pytest.mark.parametrize("scaling", [{"rope_type": "yarn", "factor": 2.0}, {"rope_type": "linear"}, {"factor": 2.0}])
def test_rotary_scaling_of_another_kind_is_refused(scaling):
    with pytest.raises(ValueError, match="linear.*llama3.*got"):
        RotaryEmbedding(scaling=scaling)(HEADS)


def test_rotary_positions_need_an_even_width():
    with pytest.raises(ValueError, match="even.*7"):
        RotaryEmbedding()(HEADS[..., :7])


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    config_tells(lambda **kwargs: PositionEmbedding(6, **kwargs), embeddings_initializer="zeros")
    config_tells(SinePositionEncoding, max_wavelength=100)
    config_tells(RotaryEmbedding, base=100.0, scaling=LLAMA_3, interleaved=True)
