"""BERT: what it must not notice, what it must, and the heads of its two objectives."""

import dataclasses
import typing

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from layer_checks import TOKENS, LayerChecks, X, config_tells, randomize, same, to_numpy

from course_lib import Bert, BertConfig, BertPretrainer, WordPieceTokenizer
from course_lib.models.bert_pretrainer import MaskedLanguageModelHead

SIZES = {
    "vocabulary_size": 20,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "max_sequence_length": 6,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sat", "##s", ".", "é", "猫", "Dog", "##é"]


def config(**changes):
    return BertConfig(**SIZES | changes)


class TestMaskedLanguageModelHead(LayerChecks):
    def make(self, **kwargs):
        return MaskedLanguageModelHead(20, activation="gelu_approximate", layer_norm_epsilon=1e-3, **kwargs)


class TestTiedMaskedLanguageModelHead(LayerChecks):
    more_dtypes: typing.ClassVar = {"float32"}

    def make(self, **kwargs):
        embedding = keras.layers.ReversibleEmbedding(20, 8, dtype=kwargs.get("dtype"))
        embedding.build()
        return MaskedLanguageModelHead(20, embedding, **kwargs)


@pytest.fixture(scope="module")
def bert():
    model = Bert(config(num_layers=2, num_segments=3))
    model.build()
    randomize(model)
    return model


@pytest.fixture(scope="module")
def pretrainer(bert):
    model = BertPretrainer(bert)
    model.build()
    randomize(model.masked_lm, scale=0.1)
    randomize(model.next_sentence)
    return model


ROWS = {name: array[:2] for name, array in TOKENS.items()}  # five tokens, and three


def test_outputs(bert):
    outputs = bert(ROWS, return_hidden_states=True, return_attention=True)
    assert {name: value.shape for name, value in outputs.items() if name.endswith("output")} == {
        "sequence_output": (2, 5, 8),
        "pooled_output": (2, 8),
    }
    assert len(outputs["hidden_states"]) == 3 and len(outputs["attention"]) == 2
    same(outputs["hidden_states"][-1], outputs["sequence_output"], tolerance=0)
    assert bert(ROWS).keys() == {"sequence_output", "pooled_output"}
    same(bert(ROWS), {name: outputs[name] for name in ("sequence_output", "pooled_output")})
    assert "pooled_output" not in Bert(config(pooler=False))(ROWS)


def test_the_embeddings_are_the_norm_of_three_vectors(bert):
    embeddings = bert(ROWS, return_hidden_states=True)["hidden_states"][0]
    tokens, segments, positions = (
        to_numpy(layer.embeddings) for layer in (bert.token_embedding, bert.segment_embedding, bert.position_embedding)
    )
    counted = positions[[[0, 1, 2, 3, 4], [0, 1, 2, 2, 2]]]  # padding has no position of its own
    x = tokens[ROWS["token_ids"]] + segments[ROWS["segment_ids"]] + counted
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    same(embeddings, x * to_numpy(bert.embedding_norm.gamma) + to_numpy(bert.embedding_norm.beta))


def test_attention_is_a_distribution_over_the_tokens(bert):
    for weights in bert(ROWS, return_attention=True)["attention"]:
        weights = to_numpy(weights)
        assert weights.shape == (2, 2, 5, 5) and np.all(weights >= 0)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
        assert np.all(weights[1, ..., 3:] == 0) and np.all(weights[1, ..., :3] > 0)


def test_rows_do_not_see_each_other(bert):
    swapped = bert({name: array[::-1] for name, array in ROWS.items()})
    same({name: to_numpy(value)[::-1] for name, value in swapped.items()}, bert(ROWS))
    alone = {name: array[1:, :3] for name, array in ROWS.items()}
    same(bert(alone)["sequence_output"], bert(ROWS)["sequence_output"][1:, :3])


@pytest.mark.parametrize("name", ["token_ids", "segment_ids", "padding_mask"])
def test_every_input_matters(bert, name):
    changed = {key: array.copy() for key, array in ROWS.items()}
    changed[name][0, 2] = 1 - min(changed[name][0, 2], 1)
    difference = np.abs(to_numpy(bert(changed)["sequence_output"]) - to_numpy(bert(ROWS)["sequence_output"]))
    assert np.all(difference[0].max(axis=-1) > 1e-3), "every position of that row sees it"
    assert np.all(difference[1] < 1e-6)


def test_positions_matter(bert):
    order = [0, 1, 2, 4, 3]
    moved = bert({"token_ids": ROWS["token_ids"][:1, order]})["sequence_output"]
    assert np.abs(to_numpy(moved) - to_numpy(bert(ROWS["token_ids"][:1])["sequence_output"])[:, order]).max() > 0.01


def test_what_is_left_out_is_one_segment_without_padding(bert):
    zeros, ones = np.zeros((2, 5), "int32"), np.ones((2, 5), "int32")
    full = bert({"token_ids": ROWS["token_ids"], "segment_ids": zeros, "padding_mask": ones})
    same(bert({"token_ids": ROWS["token_ids"]}), full)
    same(bert(ROWS["token_ids"]), full)
    same(bert(ops.convert_to_tensor(ROWS["token_ids"])), full)
    assert not np.allclose(to_numpy(bert(ROWS)["pooled_output"]), to_numpy(full["pooled_output"]), atol=1e-3)


@pytest.mark.parametrize("left", [0, 2])
def test_the_pooled_output_is_a_dense_layer_on_the_first_token(bert, left):
    rows = {name: array.copy() for name, array in ROWS.items()}
    rows["padding_mask"][0, :left] = 0  # which padding may precede
    outputs = bert(rows)
    first = to_numpy(outputs["sequence_output"])[[0, 1], [left, 0]]
    same(outputs["pooled_output"], np.tanh(first @ to_numpy(bert.pooler.kernel) + to_numpy(bert.pooler.bias)))


def test_dropout_in_training_only():
    keras.utils.set_random_seed(0)
    for dropout, attention_dropout in ((0.5, 0.0), (0.0, 0.5)):
        model = Bert(config(dropout=dropout, attention_dropout=attention_dropout))
        model.build()
        randomize(model)
        same(model(ROWS), model(ROWS, training=False))
        trained = to_numpy(model(ROWS, training=True)["sequence_output"])
        assert np.abs(trained - to_numpy(model(ROWS)["sequence_output"])).max() > 0.05


def test_the_embeddings_are_dropped_out_after_their_norm():
    keras.utils.set_random_seed(0)
    model = Bert(config(dropout=0.5))
    model.build()
    randomize(model)
    kept, dropped = (
        to_numpy(model(ROWS, return_hidden_states=True, training=training)["hidden_states"][0])
        for training in (False, True)
    )
    assert 0.2 < np.mean(dropped == 0) < 0.8
    same(dropped, np.where(dropped == 0, 0, 2 * kept))


def test_the_config_reaches_the_layers():
    changes = {"layer_norm_epsilon": 0.5, "activation": "relu", "initializer_range": 0.1, "dropout": 0.2}
    pretrainer = BertPretrainer(Bert(config(num_layers=2, tie_embeddings=False, **changes)))
    pretrainer.build()
    head, model = pretrainer.masked_lm, pretrainer.backbone
    assert (head.norm.epsilon, head.activation, head.initializer_range) == (0.5, keras.activations.relu, 0.1)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.LayerNormalization)]
    assert len(norms) == 1 + 2 * 2 and {norm.epsilon for norm in norms} == {0.5}
    assert all(block.feed_forward.activation is keras.activations.relu for block in model.encoder.blocks)
    assert {block.dropout.rate for block in model.encoder.blocks} | {model.dropout.rate} == {0.2}
    assert {block.attention.dropout.rate for block in model.encoder.blocks} == {0.1}
    matrices = [to_numpy(w) for w in pretrainer.trainable_weights if w.path.split("/")[-1] in ("kernel", "embeddings")]
    assert len(matrices) == 3 + 2 * 6 + 1 + 3
    deviations = np.std(np.concatenate([matrix.ravel() for matrix in matrices]))
    highest = [np.abs(matrix).max() for matrix in matrices]
    assert 0.07 < deviations < 0.11 and min(highest) > 0.05 and max(highest) <= 0.2 + 1e-6


def test_a_saved_tokenizer_keeps_its_settings(tmp_path):
    tokenizer = WordPieceTokenizer(WORDS, lowercase=False, strip_accents=True)
    for make in (lambda backbone: backbone, BertPretrainer):
        model = make(Bert(config(), tokenizer=tokenizer))
        model.build()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras").tokenizer
        text = "Dogs sat. é 猫 dog"
        assert loaded.vocabulary == tuple(WORDS)
        assert loaded.encode(text) == tokenizer.encode(text) != WordPieceTokenizer(WORDS).encode(text)


def test_compiled_steps_learn_a_batch_by_heart():
    keras.utils.set_random_seed(0)
    model = BertPretrainer(Bert(config()))
    inputs = ROWS | {"mask_positions": np.array([[1, 3], [2, 0]], "int32")}
    targets = {"mlm_logits": np.array([[7, 3], [11, 19]]), "nsp_logits": np.array([1, 0])}
    loss = {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in targets}
    model.compile(keras.optimizers.Adam(0.03), loss)
    many = {name: np.concatenate([array] * 40) for name, array in (inputs | targets).items()}
    model.fit({name: many[name] for name in inputs}, {name: many[name] for name in targets}, batch_size=2, verbose=0)
    for name, logits in model(inputs).items():
        assert np.array_equal(to_numpy(logits).argmax(axis=-1), targets[name])


def test_the_embedding_is_tied(pretrainer):
    before, embedding = to_numpy(pretrainer(ROWS)["mlm_logits"]), pretrainer.backbone.token_embedding.embeddings
    values = to_numpy(embedding)
    unused = next(index for index in range(20) if index not in ROWS["token_ids"])
    changed = values.copy()
    changed[unused] += 1
    embedding.assign(changed)
    after = to_numpy(pretrainer(ROWS)["mlm_logits"])
    embedding.assign(values)
    assert np.all(np.abs(after - before)[..., unused].max(axis=-1) > 1e-3)
    np.testing.assert_array_equal(np.delete(after, unused, axis=-1), np.delete(before, unused, axis=-1))
    for tied, extra in ((True, 0), (False, 20 * 8)):
        model = BertPretrainer(Bert(config(tie_embeddings=tied)))
        model.build()
        head = (8 * 8 + 8) + 2 * 8 + 20  # dense layer, norm, bias
        assert model.count_params() == model.backbone.count_params() + head + extra + (8 * 2 + 2)


def test_the_head_is_dense_layer_activation_norm_and_projection(pretrainer):
    head = pretrainer.masked_lm
    x = to_numpy(keras.activations.gelu(X @ to_numpy(head.dense.kernel) + to_numpy(head.dense.bias), approximate=False))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    x = x * to_numpy(head.norm.gamma) + to_numpy(head.norm.beta)
    expected = x @ to_numpy(pretrainer.backbone.token_embedding.embeddings).T + to_numpy(head.bias)
    same(head(X), expected, tolerance=1e-4)


@settings(max_examples=10)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=2))
def test_logits_at_chosen_positions_are_those_gathered_from_all(pretrainer, positions):
    everywhere, chosen = pretrainer(ROWS), pretrainer(ROWS | {"mask_positions": np.array(positions, "int32")})
    expected = np.take_along_axis(to_numpy(everywhere["mlm_logits"]), np.array(positions)[..., None], axis=1)
    same(chosen["mlm_logits"], expected)
    same(chosen["nsp_logits"], everywhere["nsp_logits"], tolerance=0)


def test_next_sentence_scores_come_from_the_pooled_output(pretrainer):
    pooled, head = to_numpy(pretrainer.backbone(ROWS)["pooled_output"]), pretrainer.next_sentence
    same(pretrainer(ROWS)["nsp_logits"], pooled @ to_numpy(head.kernel) + to_numpy(head.bias))
    assert pretrainer(ROWS["token_ids"]).keys() == {"mlm_logits", "nsp_logits"}
    assert BertPretrainer(Bert(config(pooler=False)))(ROWS).keys() == {"mlm_logits"}


@pytest.mark.one_backend
def test_the_config_of_the_head_tells_every_argument():
    changes = {"activation": "relu", "layer_norm_epsilon": 0.1, "initializer_range": 0.1}
    config_tells(lambda **kwargs: MaskedLanguageModelHead(20, **kwargs), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 9}, "num_heads.*2 and 9"),
        ({"num_layers": 0}, "num_layers.* 0"),
        ({"num_heads": -2}, "num_heads.*-2"),
        ({"vocabulary_size": 20.0}, "vocabulary_size.*20.0"),
        ({"intermediate_dim": "12"}, "intermediate_dim.*'12'"),
        ({"max_sequence_length": 0}, "max_sequence_length.* 0"),
        ({"num_segments": True}, "num_segments.*True"),
        ({"dropout": 1.0}, "dropout.*1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout.*-0.1"),
        ({"activation": "gellu"}, "gellu"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_config_is_a_value():
    assert config() == config() != config(num_segments=3)
    assert BertConfig(**dataclasses.asdict(config(activation="quick_gelu"))) == config(activation="quick_gelu")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().num_layers = 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"segment_ids": np.zeros((2, 5), "int32")}, r"token_ids.*\['segment_ids'\]"),
        (ROWS | {"attention_mask": np.ones((2, 5), "int32")}, "attention_mask"),
        (ROWS | {"padding_mask": np.ones((2, 4), "int32")}, r"padding_mask.*\(2, 5\).*\(2, 4\)"),
        (ROWS | {"padding_mask": np.ones((2, 1, 5), "int32")}, r"padding_mask.*\(2, 1, 5\)"),
        (ROWS | {"segment_ids": np.ones((1, 5), "int32")}, r"segment_ids.*\(1, 5\)"),
        (np.zeros(5, "int32"), r"token_ids.*\(5,\)"),
        (np.zeros((2, 7), "int32"), "7.*max_length=6"),
    ],
)
@pytest.mark.parametrize("task", [False, True])
def test_inputs_that_cannot_be_are_named(bert, pretrainer, task, inputs, message):
    with pytest.raises(ValueError, match=message):
        (pretrainer if task else bert)(inputs)
