"""The encoder–decoder: what it computes, its cache, its config, and the texts that it writes."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import LOW_PRECISION, compiled, randomize, same, symbol, to_numpy

from course_lib import BytePairTokenizer, Seq2Seq, Seq2SeqConfig, Seq2SeqLM
from course_lib.generation.samplers import BeamSearch, Greedy, MinP, Sampler, TopK, TopP
from course_lib.models.seq2seq_lm import teacher_forcing

SIZES = {"vocabulary_size": 20, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
rng = np.random.default_rng(0)
INPUTS = {
    "encoder_token_ids": rng.integers(0, 20, (3, 5)).astype("int32"),
    "encoder_padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], "int32"),
    "decoder_token_ids": rng.integers(0, 20, (3, 4)).astype("int32"),
}


def config(**changes):
    return Seq2SeqConfig(**SIZES | {"dropout": 0.0} | changes)


@pytest.fixture(scope="module", params=[False, True], ids=["norm after", "norm first"])
def model(request):
    model = Seq2SeqLM(Seq2Seq(config(norm_first=request.param)))
    model.build()
    randomize(model)
    return model


def test_outputs(model):
    outputs = model.backbone(INPUTS, return_hidden_states=True, return_attention=True)
    states, weights = {"hidden_states", "encoder_hidden_states"}, {"attention", "encoder_attention", "cross_attention"}
    assert outputs.keys() == {"sequence_output"} | states | weights
    assert outputs["sequence_output"].shape == (3, 4, 8) and model(INPUTS).shape == (3, 4, 20)
    assert all(len(outputs[name]) == 3 for name in states) and all(len(outputs[name]) == 2 for name in weights)
    assert outputs["encoder_hidden_states"][0].shape == (3, 5, 8) and outputs["hidden_states"][0].shape == (3, 4, 8)
    same(model.backbone(INPUTS), {"sequence_output": outputs["sequence_output"]})
    assert model.backbone(INPUTS, return_attention=True).keys() == {"sequence_output"} | weights


def test_source_target_and_output_share_one_table_of_embeddings(model):
    backbone = model.backbone
    table = to_numpy(backbone.token_embedding.embeddings)
    positions = to_numpy(backbone.position_encoding(np.zeros((1, 5, 8), "float32")))
    outputs = backbone(INPUTS, return_hidden_states=True)
    counted = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 2, 2], [0, 0, 0, 0, 0]])  # padding has no position of its own
    same(outputs["encoder_hidden_states"][0], 8**0.5 * table[INPUTS["encoder_token_ids"]] + positions[0, counted])
    same(outputs["hidden_states"][0], 8**0.5 * table[INPUTS["decoder_token_ids"]] + positions[:, :4])
    same(model(INPUTS), to_numpy(outputs["sequence_output"]) @ table.T, tolerance=2e-5)
    tables = [weight for weight in model.weights if 20 in weight.shape]
    assert len(tables) == 1


def test_attention_is_a_distribution_over_what_may_be_seen(model):
    outputs = model.backbone(INPUTS, return_attention=True)
    seen = {
        "attention": np.broadcast_to(np.tril(np.ones((4, 4), bool)), (3, 2, 4, 4)),
        "cross_attention": np.broadcast_to(INPUTS["encoder_padding_mask"][:, None, None] > 0, (3, 2, 4, 5)),
        "encoder_attention": np.broadcast_to(INPUTS["encoder_padding_mask"][:, None, None] > 0, (3, 2, 5, 5)),
    }
    for name, expected in seen.items():
        for weights in outputs[name]:
            weights = to_numpy(weights)
            np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
            assert np.array_equal(weights > 0, expected), name


def test_every_target_position_depends_on_every_source_token(model):
    before = to_numpy(model(INPUTS))[0]
    for place in range(5):
        changed = INPUTS["encoder_token_ids"].copy()
        changed[0, place] = (changed[0, place] + 1) % 20
        after = to_numpy(model(INPUTS | {"encoder_token_ids": changed}))[0]
        assert np.all(np.abs(after - before).max(axis=-1) > 1e-4)


@pytest.mark.parametrize("name", ["encoder_token_ids", "decoder_token_ids"])
def test_positions_matter_on_both_sides(model, name):
    inputs = {key: array[:1] for key, array in INPUTS.items()}
    moved = inputs | {name: inputs[name][:, [1, 0, *range(2, inputs[name].shape[1])]]}
    last, other = (to_numpy(model(rows))[0, -1] for rows in (inputs, moved))
    assert np.abs(last - other).max() > 1e-3


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1), (3, 1), (4,)])
def test_step_by_step_with_a_cache_equals_all_at_once(model, chunks):
    backbone, asked = model.backbone, {"return_attention": True, "return_hidden_states": True}
    expected = backbone(INPUTS, **asked)
    source = {"token_ids": INPUTS["encoder_token_ids"], "padding_mask": INPUTS["encoder_padding_mask"]}
    encoded = backbone.encode(source)["sequence_output"]
    nothing = ops.zeros((3, 6, 2, 4))
    cache, start = tuple(((nothing, nothing), pair) for pair in backbone.decoder.cross_attention_kv(encoded)), 0
    for chunk in chunks:
        ids = INPUTS["decoder_token_ids"][:, start : start + chunk]
        mask = source["padding_mask"]
        outputs = backbone.decode(ids, None, mask, cache=cache, position=ops.convert_to_tensor(start), **asked)
        cache, part = outputs["cache"], slice(start, start + chunk)
        same(outputs["sequence_output"], expected["sequence_output"][:, part])
        for state, other in zip(outputs["hidden_states"], expected["hidden_states"], strict=True):
            same(state, other[:, part])
        for weights, other in zip(outputs["cross_attention"], expected["cross_attention"], strict=True):
            same(weights, other[:, :, part])
        for weights, other in zip(outputs["attention"], expected["attention"], strict=True):
            same(weights[..., :4], other[:, :, part])
        start += chunk


def test_dropout_in_training_only():
    keras.utils.set_random_seed(0)
    for name in ("dropout", "attention_dropout"):
        model = Seq2SeqLM(Seq2Seq(config(**{name: 0.5})))
        model.build()
        randomize(model)
        same(model(INPUTS), model(INPUTS, training=False))
        assert np.abs(to_numpy(model(INPUTS, training=True)) - to_numpy(model(INPUTS))).max() > 0.05


# The config


def test_the_config_reaches_the_layers():
    model = Seq2Seq(
        config(
            layer_norm_epsilon=0.5,
            activation="gelu",
            dropout=0.3,
            attention_dropout=0.4,
            max_wavelength=100,
            num_layers=3,
            norm_first=True,
        )
    )
    model.build()
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.LayerNormalization)]
    assert len(norms) == 3 * 2 + 1 + 3 * 3 + 1 and {norm.epsilon for norm in norms} == {0.5}
    blocks = model.encoder.blocks + model.decoder.blocks
    assert len(blocks) == 6 and all(block.feed_forward.activation is keras.activations.gelu for block in blocks)
    assert {block.dropout.rate for block in blocks} | {model.dropout.rate} == {0.3}
    attentions = [block.attention for block in blocks] + [block.cross_attention for block in model.decoder.blocks]
    assert {attention.dropout.rate for attention in attentions} == {0.4}
    assert model.position_encoding.max_wavelength == 100
    kernels = [to_numpy(weight).tobytes() for weight in model.weights if weight.path.endswith("kernel")]
    assert len(set(kernels)) == len(kernels) == 3 * 6 + 3 * 10, "each starts with weights of its own"


def test_defaults_are_those_of_the_paper():
    base = Seq2SeqConfig(37_000, 6, 8, 512)
    assert (base.intermediate_dim, base.dropout, base.norm_first, base.activation) == (2048, 0.1, False, "relu")
    model = Seq2Seq(base)
    model.build()
    attention, feed_forward, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    expected = 37_000 * 512 + 6 * (attention + feed_forward + 2 * norm) + 6 * (2 * attention + feed_forward + 3 * norm)
    assert model.count_params() == expected, "one table, three attentions a layer, and five norms"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 10, "num_heads": 4}, "num_heads.*4 and 10"),
        ({"hidden_dim": 9, "num_heads": 3}, "even hidden_dim.* 9"),
        ({"num_layers": 0}, "num_layers.* 0"),
        ({"dropout": 1.0}, "dropout.*1.0"),
        ({"end_token_id": 20}, "end_token_id.* 20"),
        ({"activation": "gellu"}, "gellu"),
    ],
)
@pytest.mark.one_backend
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (INPUTS["decoder_token_ids"], "encoder_token_ids.*decoder_token_ids.*encoder_padding_mask"),
        ({"token_ids": INPUTS["decoder_token_ids"]}, r"\['token_ids'\]"),
        (INPUTS | {"decoder_padding_mask": INPUTS["decoder_token_ids"]}, r"\['decoder_padding_mask'"),
        (INPUTS | {"encoder_padding_mask": np.ones((3, 4), "int32")}, r"padding_mask.*\(3, 5\).*\(3, 4"),
        (INPUTS | {"decoder_token_ids": np.array([3, 2], "int32")}, r"token_ids.*\(2,\)"),
    ],
)
@pytest.mark.one_backend
def test_inputs_that_cannot_be_are_named(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(inputs)


# Teacher forcing and training

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat, naïve ☕ " * 3], 275)
SOURCES = ["the cat", "a mat, on the naïve ☕ sat the cat", "☕"]
TARGETS = ["on the mat", "☕", "a naïve cat sat"]


def test_teacher_forcing_gives_the_right_tokens_so_far():
    inputs, labels, weights = teacher_forcing(TOKENIZER, SOURCES, TARGETS)
    read = TOKENIZER(SOURCES)
    assert np.array_equal(inputs["encoder_token_ids"], read["token_ids"])
    assert np.array_equal(inputs["encoder_padding_mask"], read["padding_mask"])
    end = TOKENIZER.end_token_id
    for row, target in enumerate(TARGETS):
        ids = TOKENIZER.encode(target)
        count = int(weights[row].sum())
        assert labels[row, :count].tolist() == [*ids, end]
        assert inputs["decoder_token_ids"][row, :count].tolist() == [end, *ids]
        assert np.array_equal(weights[row] > 0, np.arange(labels.shape[1]) < count)
    with pytest.raises(ValueError, match="3.*2"):
        teacher_forcing(TOKENIZER, SOURCES, TARGETS[:2])


def test_compiled_steps_learn_to_turn_a_row_around():
    keras.utils.set_random_seed(0)
    model = Seq2SeqLM(Seq2Seq(config(vocabulary_size=6, hidden_dim=16, num_layers=1, norm_first=True)))
    sources = np.array(list(itertools.product(range(5), repeat=2)), "int32")
    end = np.full((25, 1), 5, "int32")
    targets = sources[:, ::-1]
    inputs = {"encoder_token_ids": sources, "decoder_token_ids": np.concatenate([end, targets], axis=1)}
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(inputs, np.concatenate([targets, end], axis=1), epochs=120, batch_size=25, verbose=0)
    assert model.generate(sources.tolist(), max_new_tokens=4) == targets.tolist()
    assert model.generate(tuple(sources[7].tolist()), max_new_tokens=4) == targets[7].tolist()


# Saving


@pytest.mark.one_backend
def test_a_preset_in_half_precision(tmp_path, translator):
    inputs, *_ = teacher_forcing(TOKENIZER, SOURCES, TARGETS)
    translator.save_to_preset(tmp_path, dtype="float16")
    loaded = Seq2SeqLM.from_preset(tmp_path)
    same(loaded(inputs), translator(inputs), tolerance=0.1)
    assert loaded.tokenizer.vocabulary == TOKENIZER.vocabulary
    same(Seq2Seq.from_preset(tmp_path)(inputs), loaded.backbone(inputs), tolerance=0)


@pytest.mark.one_backend
def test_a_preset_that_cannot_be_is_refused(tmp_path, translator):
    for changes, fact in (
        ({"model_type": "bert"}, "'course-seq2seq'.*'bert'"),
        ({"num_experts": 2}, "num_experts"),
        ({"num_layers": 1}, "block_1/"),
        ({"num_layers": 3}, "block_2/"),
        ({"intermediate_dim": 14}, r"intermediate/bias.*\(12,\).*\(14,\)"),
    ):
        translator.save_to_preset(tmp_path)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(ValueError, match=fact):
            Seq2SeqLM.from_preset(tmp_path)
    quantized = Seq2SeqLM(Seq2Seq(config()))
    quantized.build()
    quantized.quantize("int8")
    with pytest.raises(ValueError, match="quantize"):
        quantized.save_to_preset(tmp_path)


# Generation


@pytest.fixture(scope="module")
def translator():
    keras.utils.set_random_seed(3)  # on both backends, not all of the texts below get one and the same answer
    model = Seq2SeqLM(Seq2Seq(config(vocabulary_size=TOKENIZER.vocabulary_size), TOKENIZER))
    model.build()
    randomize(model)
    return model


def by_loop(model, source, new_tokens, end=None):
    """Greedy, without a cache, each time from the start."""
    end = model.tokenizer.end_token_id if end is None else end
    score, ids = compiled(model), [end]
    while len(ids) <= new_tokens:
        decoder = np.array([ids + [0] * (new_tokens + 1 - len(ids))], "int32")
        inputs = {"encoder_token_ids": np.array([source], "int32"), "decoder_token_ids": decoder}
        best = int(to_numpy(score(inputs))[0, len(ids) - 1].argmax())
        if best == end:
            break
        ids.append(best)
    return ids[1:]


def test_greedy_is_a_plain_loop_and_rows_do_not_see_each_other(translator):
    rows = [TOKENIZER.encode(source) for source in SOURCES]
    expected = [by_loop(translator, row, 8) for row in rows]
    assert len({tuple(row) for row in expected}) > 1
    assert translator.generate(rows, 8) == expected
    assert translator.generate(SOURCES, 8) == [TOKENIZER.decode(row) for row in expected]
    assert translator.generate(rows[1], 8) == translator.generate(np.array(rows[1]), 8) == expected[1]
    assert translator.generate(SOURCES[1], 8) == TOKENIZER.decode(expected[1])


@pytest.mark.parametrize(
    "sampler",
    [Sampler(2.0), TopK(5), TopP(0.9, temperature=0.8), MinP(0.05), Greedy(1.3), BeamSearch(3)],
    ids=repr,
)
@pytest.mark.one_backend
def test_each_source_gives_what_it_gives_alone(translator, sampler):
    together = translator.generate(SOURCES, 8, sampler, seed=5)
    assert together == [translator.generate(source, 8, sampler, seed=5 + row) for row, source in enumerate(SOURCES)]


def test_a_model_builds_itself_before_it_generates():
    assert len(Seq2SeqLM(Seq2Seq(config())).generate([1, 2], 3)) <= 3


def test_as_many_beams_as_there_are_targets_find_the_best_of_all():
    """By brute force over all targets of at most three tokens, of a vocabulary of four."""
    small = Seq2SeqLM(Seq2Seq(config(vocabulary_size=4, num_layers=1)))
    small.build()
    randomize(small, scale=0.6)
    source, end, found = [1, 0, 2], 3, []
    score = compiled(small)
    for text in itertools.product(range(4), repeat=3):
        inputs = {"encoder_token_ids": np.array([source], "int32"), "decoder_token_ids": np.array([[end, *text[:2]]])}
        logits = to_numpy(score(inputs))[0].astype("float64")
        log_p = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(3), text]
        length = text.index(end) + 1 if end in text else 3
        found.append((log_p[:length].sum() / length**0.7, text[:length]))
    best = [token for token in max(found)[1] if token != end]
    assert small.generate(source, 3, BeamSearch(16, length_penalty=0.7)) == best
    assert small.generate([source, [2]], 3, BeamSearch(16, length_penalty=0.7))[0] == best


def test_a_target_may_be_as_long_as_asked_for(translator):
    endless = Seq2SeqLM(Seq2Seq(dataclasses.replace(translator.config, end_token_id=0)))
    endless.build()
    endless.set_weights(translator.get_weights())
    source = TOKENIZER.encode(SOURCES[1])
    table = to_numpy(endless.backbone.token_embedding.embeddings)
    table[0] = 0  # so that the end token is never the likeliest: another always has a score above 0
    endless.backbone.token_embedding.embeddings.assign(table)
    assert len(endless.generate(source, 33)) == 33


@pytest.mark.parametrize("policy", LOW_PRECISION)
def test_generation_in_low_precision(translator, policy):
    low = Seq2SeqLM(Seq2Seq(translator.config, TOKENIZER, dtype=policy), dtype=policy)
    low.build()
    low.set_weights(translator.get_weights())
    assert len(low.generate(SOURCES, 4, TopP(0.9), seed=0)) == 3


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": ""}, "prompt 0"),
        ({"sources": []}, "none"),
        ({"max_new_tokens": 0}, "max_new_tokens.* 0"),
        ({"sources": [[3, 275]]}, r"274.*\[275\]"),
        ({"seed": -1}, "seed.*-1"),
    ],
)
def test_what_cannot_be_generated_is_refused_before_any_work(translator, monkeypatch, arguments, message):
    monkeypatch.setattr(translator.generator, "run", None)
    with pytest.raises(ValueError, match=message):
        translator.generate(**{"sources": "the cat", "max_new_tokens": 4} | arguments)


@pytest.mark.one_backend
def test_the_source_is_read_once(translator, monkeypatch):
    model = Seq2SeqLM(Seq2Seq(translator.config, TOKENIZER))
    model.build()
    traced, encode = [], model.backbone.encode
    monkeypatch.setattr(model.backbone, "encode", lambda *args, **kwargs: traced.append(1) or encode(*args, **kwargs))
    model.generate(SOURCES, 8)
    assert traced == [1], "in the prefill alone; the loop reads keys and values"


def test_a_functional_model_may_stand_around_it():
    symbols = {name: symbol(array, name) for name, array in INPUTS.items()}
    outer = keras.Model(symbols, Seq2SeqLM(Seq2Seq(config()))(symbols))
    assert outer(INPUTS).shape == (3, 4, 20) and outer.output_shape == (None, 4, 20)
