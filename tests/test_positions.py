"""Positions: each is its formula, and keeps the promises of every layer."""

import keras
import numpy as np
import pytest
from layer_checks import LayerChecks, X, config_tells, same

from course_lib.positions import PositionEmbedding, SinePositionEncoding


class TestPositionEmbedding(LayerChecks):
    def make(self, **kwargs):
        return PositionEmbedding(6, **kwargs)


class TestSinePositionEncoding(LayerChecks):
    def make(self, **kwargs):
        return SinePositionEncoding(**kwargs)


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


@pytest.mark.one_backend
def test_configs_tell_every_argument():
    config_tells(lambda **kwargs: PositionEmbedding(6, **kwargs), embeddings_initializer="zeros")
    config_tells(SinePositionEncoding, max_wavelength=100)
