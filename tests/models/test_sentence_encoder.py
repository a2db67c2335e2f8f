"""Sentence vectors: pooled over tokens only, of unit length, in the order of the texts."""

import keras
import numpy as np
import pytest
from layer_checks import IS_TOKEN, TOKENS, compiled, randomize, same, to_numpy

from course_lib import Bert, BertConfig, SentenceEncoder, WordPieceTokenizer
from course_lib.models.pooling import POOLINGS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"]
TEXTS = ["a b c", "d", "", "e f g h i j k l m n o a b c", "b", "o n m l k j i h g f e d c b a"]


def backbone(tokenizer=None, pooler=True, **kwargs):
    return Bert(BertConfig(20, 1, 2, 8, 12, 17, dropout=0.0, attention_dropout=0.0, pooler=pooler), tokenizer, **kwargs)


@pytest.fixture(scope="module", params=POOLINGS)
def encoder(request):
    model = SentenceEncoder(backbone(WordPieceTokenizer(WORDS)), pooling=request.param)
    model.build()
    randomize(model)
    return model


def test_the_pooling_is_what_it_says(encoder):
    tokens = {name: array[:2] for name, array in TOKENS.items()}
    encoded = {name: to_numpy(value) for name, value in compiled(encoder.backbone)(tokens).items()}
    x, lengths = encoded["sequence_output"], IS_TOKEN[:2].sum(axis=1)
    rows = {
        "mean": [row[:length].mean(axis=0) for row, length in zip(x, lengths, strict=True)],
        "max": [row[:length].max(axis=0) for row, length in zip(x, lengths, strict=True)],
        "first": x[:, 0],
        "last": [row[length - 1] for row, length in zip(x, lengths, strict=True)],
        "pooled": encoded["pooled_output"],
    }[encoder.pooling]
    same(compiled(encoder)(tokens), [row / np.linalg.norm(row) for row in rows] @ np.eye(8))
    ids = tokens["token_ids"]
    same(compiled(encoder)(ids), compiled(encoder)({"token_ids": ids, "padding_mask": np.ones((2, 5), "int32")}))


def test_texts_come_back_in_their_order_whatever_the_batches(encoder):
    vectors = encoder.encode(TEXTS, batch_size=2)
    assert vectors.shape == (6, 8) and vectors.dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    same(compiled(encoder)(encoder.backbone.tokenizer(TEXTS)), vectors)
    same(encoder.encode(TEXTS[1]), vectors[1:2])


def test_nothing_is_cut_unless_asked(encoder):
    long = "a b " * 10
    with pytest.raises(ValueError, match="text 1 has 22.*max_length=17"):
        encoder.encode(["a", long])
    same(encoder.encode(["a", long], max_length=8), encoder.encode(["a", "a b a b a b"]))


def test_a_row_without_a_token_is_finite(encoder):
    vectors = to_numpy(compiled(encoder)(TOKENS))
    assert np.isfinite(vectors).all()
    assert np.all(vectors[2] == 0) == (encoder.pooling in ("mean", "max"))


def test_short_vectors_come_to_unit_length_too():
    model = SentenceEncoder(backbone(pooler=False))
    model.build()
    for weight in model.backbone.encoder.blocks[-1].feed_forward_norm.weights:
        weight.assign(0.01 * to_numpy(weight))
    np.testing.assert_allclose(np.linalg.norm(to_numpy(model(TOKENS)), axis=1), [1, 1, 0], atol=1e-5)


def test_saved_and_loaded_with_its_tokenizer(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert loaded.pooling == encoder.pooling
    same(loaded.encode(TEXTS), encoder.encode(TEXTS), tolerance=1e-6)


def test_bad_input_is_named(encoder):
    with pytest.raises(ValueError, match="'mean', 'max', 'first', 'last', 'pooled'.*'sum'"):
        SentenceEncoder(backbone(), pooling="sum")
    with pytest.raises(ValueError, match="pooler"):
        SentenceEncoder(backbone(pooler=False), pooling="pooled")
    with pytest.raises(ValueError, match=r"int.*\[1\]"):
        encoder.encode(["a", 3])
    with pytest.raises(ValueError, match="none"):
        encoder.encode([])
    with pytest.raises(ValueError, match="tokenizer"):
        SentenceEncoder(backbone()).encode(["a"])
