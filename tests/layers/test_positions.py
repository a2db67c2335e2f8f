"""Positions: each is its formula, and keeps the promises of every layer."""

import keras
import numpy as np
import pytest
from layer_checks import PassesMasks, X, config_tells, same, to_numpy

from course_lib.layers import PositionEmbedding, SinePositionEncoding, token_positions

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


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    config_tells(lambda **kwargs: PositionEmbedding(6, **kwargs), embeddings_initializer="zeros")
    config_tells(SinePositionEncoding, max_wavelength=100)
