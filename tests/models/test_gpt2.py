"""GPT-2: what it computes, its config, and the texts that it generates."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import LOW_PRECISION, TOKENS, compiled, randomize, same, to_numpy

from course_lib import GPT2, BytePairTokenizer, GPT2CausalLM, GPT2Config
from course_lib.generation.samplers import BeamSearch, Greedy, MinP, Sampler, TopK, TopP

SIZES = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "max_sequence_length": 6}
INPUTS = {name: TOKENS[name] for name in ("token_ids", "padding_mask")}
ROWS = {name: array[:2] for name, array in INPUTS.items()}  # five tokens, and three
NO_DROPOUT = {"embedding_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}


def config(**changes):
    return GPT2Config(**SIZES | changes)


@pytest.fixture(scope="module")
def gpt2():
    model = GPT2(config(num_layers=2, intermediate_dim=12, max_sequence_length=10))
    model.build()
    randomize(model)
    return model


def test_outputs(gpt2):
    outputs = gpt2(ROWS, return_hidden_states=True, return_attention=True)
    assert outputs["sequence_output"].shape == (2, 5, 8)
    assert len(outputs["hidden_states"]) == 3 and len(outputs["attention"]) == 2
    same(gpt2.decoder.norm(outputs["hidden_states"][-1]), outputs["sequence_output"], tolerance=1e-6)
    assert gpt2(ROWS).keys() == {"sequence_output"}
    same(gpt2(ROWS), {"sequence_output": outputs["sequence_output"]})
    tokens, positions = (to_numpy(layer.embeddings) for layer in (gpt2.token_embedding, gpt2.position_embedding))
    counted = positions[[[0, 1, 2, 3, 4], [0, 1, 2, 2, 2]]]  # padding has no position of its own
    same(outputs["hidden_states"][0], tokens[ROWS["token_ids"]] + counted)


def test_attention_is_a_distribution_over_the_tokens_so_far(gpt2):
    for weights in gpt2(ROWS, return_attention=True)["attention"]:
        weights = to_numpy(weights)
        assert weights.shape == (2, 2, 5, 5)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
        assert np.array_equal(weights[0] > 0, np.broadcast_to(np.tril(np.ones((5, 5), bool)), (2, 5, 5)))
        assert np.all(weights[1, ..., 3:] == 0) and np.all(weights[1, :, 2, :3] > 0)


def test_positions_matter(gpt2):
    order = [0, 1, 2, 4, 3]
    moved = gpt2(ROWS["token_ids"][:1, order])["sequence_output"]
    assert np.abs(to_numpy(moved) - to_numpy(gpt2(ROWS["token_ids"][:1])["sequence_output"])[:, order]).max() > 0.01


def test_what_is_left_out_is_no_padding(gpt2):
    expected = gpt2({"token_ids": ROWS["token_ids"], "padding_mask": np.ones((2, 5), "int32")})
    same(gpt2(ROWS["token_ids"]), expected)
    same(gpt2({"token_ids": ops.convert_to_tensor(ROWS["token_ids"])}), expected)


# The config


def test_the_config_reaches_the_layers():
    changes = {"layer_norm_epsilon": 0.5, "activation": "relu", "initializer_range": 0.1, "num_layers": 2}
    model = GPT2(config(embedding_dropout=0.3, dropout=0.2, attention_dropout=0.4, hidden_dim=32, **changes))
    model.build()
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.LayerNormalization)]
    assert len(norms) == 2 * 2 + 1 and {norm.epsilon for norm in norms} == {0.5}
    blocks = model.decoder.blocks
    assert all(block.feed_forward.activation is keras.activations.relu for block in blocks)
    assert model.dropout.rate == 0.3 and {block.dropout.rate for block in blocks} == {0.2}
    assert {block.attention.dropout.rate for block in blocks} == {0.4}
    assert {block.feed_forward.intermediate_dim for block in blocks} == {128}
    for block in blocks:
        residual = {id(block.attention.output_projection.kernel), id(block.feed_forward.output_projection.kernel)}
        kernels = [weight for weight in block.trainable_weights if weight.path.endswith("kernel")]
        assert len(kernels) == 6
        for kernel in kernels:  # GPT-2 paper, section 2.3: those that add to x are smaller, by 1/√(2 · layers)
            expected = 0.1 / 2 if id(kernel) in residual else 0.1
            assert abs(to_numpy(kernel).std() / expected - 1) < 0.1
    assert len({to_numpy(weight).tobytes() for weight in model.weights if weight.path.endswith("kernel")}) == 12
    for layer in (model.token_embedding, model.position_embedding):
        assert 0.07 < to_numpy(layer.embeddings).std() < 0.13


def test_how_attention_is_scaled():
    half = 4**-0.5
    for changes, expected in (
        ({}, [half, half, half]),
        ({"scale_attention": False}, [1, 1, 1]),
        ({"scale_attention_by_layer": True}, [half, half / 2, half / 3]),
        ({"scale_attention": False, "scale_attention_by_layer": True}, [1, 1 / 2, 1 / 3]),
    ):
        model = GPT2(config(num_layers=3, **changes))
        assert [block.attention.scale for block in model.decoder.blocks] == expected
        loaded = GPT2.from_config(model.get_config())
        assert [block.attention.scale for block in loaded.decoder.blocks] == expected


def test_dropout_in_training_only():
    keras.utils.set_random_seed(0)
    for name in NO_DROPOUT:
        model = GPT2(config(**NO_DROPOUT | {name: 0.5}))
        model.build()
        randomize(model)
        same(model(ROWS), model(ROWS, training=False))
        trained = to_numpy(model(ROWS, training=True)["sequence_output"])
        assert np.abs(trained - to_numpy(model(ROWS)["sequence_output"])).max() > 0.05, name


def test_defaults_are_those_of_gpt2():
    small = GPT2Config(50257, 12, 12, 768)
    assert (small.intermediate_dim, small.max_sequence_length, small.end_token_id) == (3072, 1024, 50256)
    model = GPT2CausalLM(GPT2(config(num_layers=2, hidden_dim=6)))
    model.build()
    embeddings, block, norm = (20 + 6) * 6, 4 * (6 * 6 + 6) + 2 * (6 * 24) + 24 + 6 + 4 * 6, 2 * 6
    assert model.count_params() == embeddings + 2 * block + norm, "the head has no weights of its own"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 9}, "num_heads.*2 and 9"),
        ({"num_layers": 0}, "num_layers.* 0"),
        ({"vocabulary_size": 20.0}, "vocabulary_size.*20.0"),
        ({"max_sequence_length": True}, "max_sequence_length.*True"),
        ({"intermediate_dim": -1}, "intermediate_dim.*-1"),
        ({"embedding_dropout": 1.0}, "embedding_dropout.*1.0"),
        ({"dropout": -0.1}, "dropout.*-0.1"),
        ({"attention_dropout": 2}, "attention_dropout.* 2"),
        ({"activation": "gellu"}, "gellu"),
    ],
)
@pytest.mark.one_backend
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.one_backend
def test_a_config_is_a_value():
    assert config() == config() != config(scale_attention=False)
    assert GPT2Config(**dataclasses.asdict(config(activation="quick_gelu"))) == config(activation="quick_gelu")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"padding_mask": np.zeros((2, 5), "int32")}, r"token_ids.*\['padding_mask'\]"),
        (TOKENS, "padding_mask.*'segment_ids'"),
        (ROWS | {"padding_mask": np.ones((2, 4), "int32")}, r"padding_mask.*\(2, 5\).*\(2, 4\)"),
        (np.zeros(5, "int32"), r"token_ids.*\(5,\)"),
        (np.zeros((2, 11), "int32"), "11.*max_length=10"),
    ],
)
@pytest.mark.one_backend
def test_inputs_that_cannot_be_are_named(gpt2, inputs, message):
    for model in (gpt2, GPT2CausalLM(gpt2)):
        with pytest.raises(ValueError, match=message):
            model(inputs)


@pytest.mark.one_backend
def test_a_padding_mask_beside_a_cache_has_its_length(gpt2):
    with pytest.raises(ValueError, match=r"padding_mask.*\(2, 7\).*\(2, 5\)"):
        gpt2(ROWS, cache=gpt2.empty_cache(2, 7))


# The language model

TOKENIZER = BytePairTokenizer.train(["the cat sat on the mat, naïve ☕ " * 3], 275)
PROMPTS = ["the cat", "a mat, on the naïve ☕ sat the cat", "☕"]


@pytest.fixture(scope="module")
def lm():
    model = GPT2CausalLM(GPT2(GPT2Config(TOKENIZER.vocabulary_size, 2, 2, 16, max_sequence_length=64), TOKENIZER))
    model.build()
    randomize(model)
    return model


def test_logits_are_products_with_the_embeddings(lm):
    inputs = lm.tokenizer(PROMPTS)
    x, embeddings = to_numpy(lm.backbone(inputs)["sequence_output"]), to_numpy(lm.backbone.token_embedding.embeddings)
    same(lm(inputs), x @ embeddings.T, tolerance=2e-5)
    assert lm(inputs).shape == (*inputs["token_ids"].shape, 275)


def test_compiled_steps_learn_a_text_by_heart():
    keras.utils.set_random_seed(0)
    model = GPT2CausalLM(GPT2(config(num_layers=2, hidden_dim=16, **NO_DROPOUT)))
    text = np.array([[1, 7, 3, 7, 2, 7]], "int32")  # what follows a 7 depends on what was before
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    many = np.repeat(text, 200, axis=0)
    model.fit(many[:, :-1], many[:, 1:], batch_size=2, verbose=0)
    assert np.array_equal(to_numpy(model(text[:, :-1])).argmax(-1), text[:, 1:])
    assert model.generate(text[0, :1], max_new_tokens=5) == text[0, 1:].tolist()


# Generation


def by_loop(lm, prompt, new_tokens, end=True):
    """Greedy, without a cache, each time from the start."""
    score, ids = compiled(lm), lm.tokenizer.encode(prompt)
    for length in range(len(ids), len(ids) + new_tokens):
        batch = {"token_ids": np.array([ids + [0] * (64 - length)]), "padding_mask": np.arange(64)[None] < length}
        best = to_numpy(score(batch))[0, length - 1].argmax()
        if end and best == lm.tokenizer.end_token_id:
            break
        ids.append(int(best))
    return ids[len(lm.tokenizer.encode(prompt)) :]


def test_greedy_is_a_plain_loop_and_rows_do_not_see_each_other(lm):
    expected = [by_loop(lm, prompt, 8) for prompt in PROMPTS]
    assert lm.generate(PROMPTS, 8) == [TOKENIZER.decode(row) for row in expected]
    ids = [TOKENIZER.encode(prompt) for prompt in PROMPTS]
    assert lm.generate(ids, 8) == expected
    assert lm.generate(ids[1], 8) == lm.generate(np.array(ids[1]), 8) == expected[1]


SAMPLERS = [
    Sampler(2.0),
    TopK(5),
    TopP(0.9, temperature=0.8),
    MinP(0.05),
    Greedy(1.3),
    Sampler(repetition_penalty=1.3),
    BeamSearch(3),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.one_backend
def test_each_prompt_gives_what_it_gives_alone(lm, sampler):
    together = lm.generate(PROMPTS, 8, sampler, seed=5)
    assert together == [lm.generate(prompt, 8, sampler, seed=5 + index) for index, prompt in enumerate(PROMPTS)]


def test_cached_scores_are_those_without_a_cache(lm):
    """Of a prompt of 5 tokens, padded, and of each of the tokens after it."""
    tokens = TOKENIZER.encode(PROMPTS[1])
    expected = to_numpy(lm(np.array([tokens])))[0]
    batch = {"token_ids": np.zeros((1, 16), "int32"), "padding_mask": (np.arange(16) < 5)[None].astype("int32")}
    batch["token_ids"][0, :5] = tokens[:5]
    logits, memory = lm.prefill(batch, 40)
    same(logits[0], expected[4])
    for place in range(5, len(tokens)):
        logits, memory = lm.decode(np.array(tokens[place : place + 1], "int32"), memory)
        same(logits[0], expected[place])


def test_streamed_in_pieces_the_same_text(lm):
    for prompt in PROMPTS[:2]:
        pieces = list(lm.generate(prompt, 12, stream=True))
        assert "".join(pieces) == lm.generate(prompt, 12) and all(pieces)


def test_stop_strings_and_the_end_token(lm):
    text = lm.generate(PROMPTS[0], 20, ignore_end=True)
    middle = text[len(text) // 2 : len(text) // 2 + 3]
    assert lm.generate(PROMPTS[0], 20, stop=middle, ignore_end=True) == text[: text.index(middle)]
    assert "".join(lm.generate(PROMPTS[0], 20, stop=middle, stream=True, ignore_end=True)) == text[: text.index(middle)]
    assert lm.generate(PROMPTS[0], 20, stop=["never", "to come"], ignore_end=True) == text
    several = lm.generate(PROMPTS, 20, stop=middle, ignore_end=True)
    assert several == [lm.generate(prompt, 20, stop=middle, ignore_end=True) for prompt in PROMPTS]

    ids = lm.generate(TOKENIZER.encode(PROMPTS[0]), 6, ignore_end=True)
    lm.backbone.tokenizer.end_token_id, end = ids[3], lm.backbone.tokenizer.end_token_id
    try:
        assert lm.generate(TOKENIZER.encode(PROMPTS[0]), 6) == ids[: ids.index(ids[3])]
    finally:
        lm.backbone.tokenizer.end_token_id = end


def test_a_beam_that_loses_stops_nothing(lm, monkeypatch):
    text = lm.generate(PROMPTS[0], 20, BeamSearch(3), ignore_end=True)
    assert lm.generate(PROMPTS[0], 20, BeamSearch(3), stop=text[3:6], ignore_end=True) == text[: text.index(text[3:6])]

    def run(*_, every=None, **__):
        yield from [[TOKENIZER.encode(" cat")]] * bool(every)  # the best so far
        yield [TOKENIZER.encode(" mat")]

    monkeypatch.setattr(lm.generator, "run", run)
    assert lm.generate("the", 8, BeamSearch(2), stop="c") == " mat"


def test_a_model_builds_itself_before_it_generates():
    assert len(GPT2CausalLM(GPT2(config())).generate([1, 2], 3, ignore_end=True)) == 3


def test_numbers_may_be_numpys(lm):
    expected = lm.generate(PROMPTS[0], 4, Sampler(2.0), seed=3)
    assert lm.generate(PROMPTS[0], np.int64(4), Sampler(2.0), seed=np.int64(3)) == expected


def test_a_seed_settles_what_is_drawn(lm):
    draw = [lm.generate(PROMPTS[0], 8, Sampler(2.0), seed=seed) for seed in (1, 1, 2)]
    assert draw[0] == draw[1] != draw[2]
    np.random.seed(3)
    first, second = (lm.generate(PROMPTS[0], 8, Sampler(2.0)) for _ in range(2))
    np.random.seed(3)
    assert first == lm.generate(PROMPTS[0], 8, Sampler(2.0)) != second


@pytest.mark.one_backend
def test_a_text_may_be_as_long_as_the_model_has_positions(lm):
    prompt = TOKENIZER.encode(PROMPTS[1])
    whole = lm.generate(prompt, 64 - len(prompt), ignore_end=True)
    assert len(prompt) + len(whole) == 64
    assert whole == by_loop(lm, PROMPTS[1], 64 - len(prompt), end=False)
    with pytest.raises(ValueError, match="64.*prompt 1"):
        lm.generate([[1], prompt], 65 - len(prompt))


@pytest.mark.parametrize("policy", LOW_PRECISION)
def test_generation_in_low_precision(lm, policy):
    low = GPT2CausalLM(GPT2(lm.backbone.config, TOKENIZER, dtype=policy), dtype=policy)
    low.build()
    low.set_weights(lm.get_weights())
    assert len(low.generate(PROMPTS, 4, TopP(0.9), seed=0)) == 3


@pytest.mark.one_backend
def test_a_changed_model_generates_anew():
    model = GPT2CausalLM(GPT2(config(num_layers=2)))
    model.build()
    randomize(model, scale=1.0)
    prompt = [3, 4]
    model.generate(prompt, 4)
    model.quantize("int8")
    expected = [int(to_numpy(model(np.array([prompt])))[0, -1].argmax())]
    assert model.generate(prompt, 1, ignore_end=True) == expected
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(to_numpy(weight) * np.nan)
    with pytest.raises(ValueError, match="finite.*new token 1"):
        model.generate(prompt, 4)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ""}, "prompt 0.*<[|]endoftext[|]>"),
        ({"prompts": []}, "none"),
        ({"prompts": "the " * 70}, "64"),
        ({"max_new_tokens": 0}, "max_new_tokens.* 0"),
        ({"prompts": [[3, 275]]}, r"274.*\[275\]"),
        ({"prompts": [3, -1]}, r"274.*\[-1\]"),
        ({"stop": ""}, "stop.*''"),
        ({"stop": ["a", ""]}, "stop.*''"),
        ({"prompts": [3, 4], "stop": "a"}, "text"),
        ({"stream": True, "prompts": ["a", "b"]}, "one prompt.*stream"),
        ({"stream": True, "sampler": BeamSearch()}, "beams.*stream"),
        ({"seed": -1}, "seed.*-1"),
        ({"seed": 0.5}, "seed.*0.5"),
        ({"prompts": {"token_ids": [[1]]}}, "token_ids"),
        ({"prompts": None}, "None"),
        ({"prompts": [None]}, "None"),
        ({"prompts": [[1.9, 2.9]]}, "integer.*float"),
        ({"prompts": [1.0, 2.0]}, "integer.*float"),
        ({"sampler": "greediest"}, "\"greedy\".*'greediest'"),
        ({"sampler": Greedy}, "Greedy"),
    ],
)
def test_what_cannot_be_generated_is_refused_before_any_work(lm, monkeypatch, arguments, message):
    monkeypatch.setattr(lm.generator, "run", None)
    with pytest.raises(ValueError, match=message):
        lm.generate(**{"prompts": "the cat", "max_new_tokens": 4} | arguments)
