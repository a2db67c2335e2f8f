"""Llama: its config, its head, its chats; and SmolLM2 beside what `transformers` computes with the same file."""

import pathlib

import keras
import numpy as np
import pytest
import tiny_models
from layer_checks import TOKENS, randomize, same, to_numpy

from course_lib import Llama, LlamaCausalLM, LlamaConfig

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SIZES = {"vocabulary_size": 20, "num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 12}


def test_the_config_reaches_the_layers():
    changes = {"rms_norm_epsilon": 0.5, "rotary_base": 70.0, "activation": "relu", "attention_dropout": 0.4}
    model = Llama(LlamaConfig(**SIZES | changes, num_key_value_heads=2, head_dim=6))
    model.build()
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RMSNormalization)]
    assert len(norms) == 2 * 2 + 1 and {norm.epsilon for norm in norms} == {0.5}
    for block in model.decoder.blocks:
        attention = block.attention
        assert (attention.num_heads, attention.num_key_value_heads, attention.dropout.rate) == (4, 2, 0.4)
        assert attention.query.kernel.shape == (16, 24) and attention.key.kernel.shape == (16, 12)
        assert attention.rotary.base == 70.0 and block.feed_forward.activation is keras.activations.relu
    assert not [weight.path for weight in model.weights if weight.path.endswith(("bias", "beta"))]


def test_defaults_are_one_key_per_query_and_a_head_of_its_own():
    config = LlamaConfig(**SIZES)
    assert (config.num_key_value_heads, config.head_dim, config.tie_embeddings) == (4, 4, False)
    lm, tied = LlamaCausalLM(Llama(config)), LlamaCausalLM(Llama(LlamaConfig(**SIZES, tie_embeddings=True)))
    assert lm.count_params() - tied.count_params() == 20 * 16
    for model in (lm, tied):
        randomize(model)
        x = to_numpy(model.backbone(TOKENS["token_ids"])["sequence_output"])
        kernel = lm.head.kernel if model is lm else to_numpy(tied.backbone.token_embedding.embeddings).T
        same(model(TOKENS["token_ids"]), x @ to_numpy(kernel))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads to divide"),
        ({"num_heads": 3}, "3 and 16"),
        ({"head_dim": 5}, "even width"),
        ({"attention_dropout": 1.0}, "attention_dropout"),
        ({"rotary_scaling": {"rope_type": "yarn"}}, "linear.*llama3"),
        ({"intermediate_dim": 0}, "intermediate_dim"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**SIZES | changes)


def test_more_tokens_than_the_context_holds_are_refused():
    with pytest.raises(ValueError, match="at most 4 tokens.*max_length=4"):
        Llama(LlamaConfig(**SIZES, max_sequence_length=4))(TOKENS["token_ids"])


@pytest.fixture(scope="module")
def lm():
    keras.utils.set_random_seed(0)
    model = tiny_models.llama_causal_lm(max_sequence_length=32)
    model.build()
    randomize(model)
    return model


def test_a_chat_continues_what_the_template_writes(lm):
    prompt = "<|user|>a b<|assistant|>"
    assert lm.tokenizer.write_chat([{"role": "user", "content": "a b"}]) == prompt
    options = {"sampler": "top_p", "seed": 3}
    expected = lm.generate(prompt, 8, **options)
    assert lm.chat("a b", 8, **options) == expected
    assert lm.chat([{"role": "user", "content": "a b"}], 8, **options) == expected
    assert "".join(lm.chat("a b", 8, stream=True, **options)) == expected


@pytest.mark.one_backend
def test_a_chat_that_cannot_be_is_refused(lm):
    with pytest.raises(ValueError, match="role of system, user, assistant"):
        lm.chat([{"role": "robot", "content": "a"}])
    with pytest.raises(ValueError, match="8 new tokens within the model's 32 positions.*Cut it"):
        lm.chat("a b " * 20, 8)
    with pytest.raises(ValueError, match="tokenizer"):
        tiny_models.llama_causal_lm(tokenizer=None).chat("a")


# SmolLM2


@pytest.fixture(scope="module")
def smollm():
    return LlamaCausalLM.from_preset("smollm2-135m-instruct")


def test_the_real_model_computes_what_transformers_computes(smollm):
    with np.load(GOLDEN / "smollm2-135m-instruct.npz") as expected:
        for index in range(10):
            ids = expected[f"ids_{index}"]
            logits = to_numpy(smollm(ids[None]))[0, -1]
            np.testing.assert_allclose(logits[::512], expected[f"logits_{index}"], atol=5e-4)
        prompts = [expected[f"ids_{index}"].tolist() for index in range(10)]
        greedy = [expected[f"greedy_{index}"].tolist() for index in range(10)]
    assert smollm.generate(prompts, 12, ignore_end=True) == greedy


@pytest.mark.one_backend
def test_the_real_model_answers_and_streams(smollm):
    question = "What is the capital of Norway?"
    answer = "".join(smollm.chat(question, 24, stream=True))
    assert "Oslo" in answer and "<|" not in answer
