"""What is counted from a config is what the models have and what they compute."""

import functools

import keras
import numpy as np
import pytest
import tiny_models

from course_lib import GPT2Config, LlamaConfig
from course_lib.models import cost

MODELS = {
    "bert_pretrainer": {},
    "gpt2_causal_lm": {},
    "openai_gpt_causal_lm": {},
    "llama_causal_lm": {"num_heads": 4, "num_key_value_heads": 2},
}


def made(name, **changes):
    model = getattr(tiny_models, name)(**MODELS[name] | changes)
    model.build()
    return model


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in MODELS),
        ("bert_pretrainer", {"pooler": False}),
        ("llama_causal_lm", {"tie_embeddings": True}),
    ],
)
def test_parameters_are_those_of_the_model(name, changes):
    model = made(name, **changes)
    parts = cost.parameters(model.config)
    assert sum(parts.values()) == model.count_params()
    for part, path in (("attention", "/attention/"), ("feed_forward", "/feed_forward/")):
        assert parts[part] == sum(np.prod(weight.shape) for weight in model.weights if path in weight.path)


def products(jaxpr):
    """Operations in the matrix products of a jaxpr, those of its calls included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * np.prod(out, dtype=int) * np.prod([left[axis] for axis in contracted], dtype=int)
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    total += products(getattr(inner, "jaxpr", inner))
    return total


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX shows what it computes")
@pytest.mark.parametrize("name", MODELS)
def test_operations_are_those_that_jax_counts(name):
    import jax

    model = made(name, hidden_dim=256, intermediate_dim=None if "openai" in name else 512)
    ids = np.ones((2, 6), "int32")
    inputs, scored = {"token_ids": ids}, None
    if name == "bert_pretrainer":
        inputs, scored = inputs | {"mask_positions": np.ones((2, 3), "int32")}, 3
    parts = cost.forward(model.config, 2, 6, scored=scored)
    if name == "bert_pretrainer":
        parts["next_sentence"] = 2 * 2 * 256 * 2
    assert products(jax.make_jaxpr(model)(inputs).jaxpr) == sum(parts.values())

    counted = jax.jit(model).lower(inputs).compile().cost_analysis()["flops"]
    assert 1 < counted / sum(parts.values()) < 1.1  # XLA counts norms and activations, too

    def loss(weights):
        outputs, _ = model.stateless_call(weights, model.non_trainable_variables, inputs)
        return sum(keras.ops.sum(output) for output in keras.tree.flatten(outputs))

    weights = [variable.value for variable in model.trainable_variables]
    step = products(jax.make_jaxpr(jax.grad(loss))(weights).jaxpr)
    expected = cost.training_step(model.config, 2, 6, scored=scored)
    assert 0.9 < step / sum(expected.values()) < 1.01


@pytest.mark.one_backend
def test_published_sizes():
    gpt2 = GPT2Config(50257, 12, 12, 768)
    assert sum(cost.parameters(gpt2).values()) == 124_439_808
    assert cost.cache_bytes(gpt2, 1, 1024, 2) == 2 * 12 * 1024 * 768 * 2
    smollm2 = LlamaConfig(49152, 30, 9, 576, 1536, 3, tie_embeddings=True)
    assert sum(cost.parameters(smollm2).values()) == 134_515_008
    assert cost.cache_bytes(smollm2, 1, 1024) == cost.cache_bytes(smollm2, 2, 512) == 2 * 30 * 1024 * 192 * 4
    reading = functools.partial(cost.decoding_bytes, smollm2, 1, 512)
    assert reading() - reading(bytes_per_weight=2) == 2 * 134_515_008
    untied = LlamaConfig(49152, 30, 9, 576, 1536, 3)
    assert cost.decoding_bytes(untied, 1, 512) == reading()
