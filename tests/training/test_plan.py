"""The planner: what it counts is what a step keeps, and what does not fit is named."""

import dataclasses

import keras
import numpy as np
import pytest

from course_lib import GPT2, Bert, BertPretrainer, GPT2CausalLM
from course_lib.models import cost
from course_lib.training.losses import CrossEntropy
from course_lib.training.plan import DEVICES, Device, activation_bytes, config_of, main, plan, report, this_machine
from course_lib.training.recipes import Recipe

RECIPE = Recipe(
    vocabulary_size=4000, num_layers=3, num_heads=6, hidden_dim=192, intermediate_dim=768, length=128, batch_size=8,
    optimizer="adamw", steps=1000,
)  # fmt: skip


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX says how much memory a function takes")
@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "masked"},
        {"objective": "causal"},
        {"objective": "causal", "dropout": 0.1, "num_layers": 2, "num_heads": 4, "length": 64},
        {"objective": "masked", "dropout": 0.1, "hidden_dim": 96, "intermediate_dim": 192},
    ],
)
def test_activations_are_nearly_what_xla_allocates(changes):
    import jax

    recipe = dataclasses.replace(RECIPE, **changes)
    config, shape = config_of(recipe), (recipe.batch_size, recipe.length)
    config = dataclasses.replace(config, attention_dropout=recipe.dropout)
    inputs = {"token_ids": np.ones(shape, "int32")}
    if recipe.objective == "masked":
        model, shape = BertPretrainer(Bert(config)), (recipe.batch_size, recipe.predictions)
        inputs["mask_positions"] = np.ones(shape, "int32")
    else:
        model = GPT2CausalLM(GPT2(config))
    model.build()
    labels, fixed = np.ones(shape, "int32"), [variable.value for variable in model.non_trainable_variables]

    def loss(weights):
        outputs, _ = model.stateless_call(weights, fixed, inputs, training=True)
        return CrossEntropy()(labels, outputs["mlm_logits"] if isinstance(outputs, dict) else outputs)

    weights = [variable.value for variable in model.trainable_variables]
    allocated = jax.jit(jax.grad(loss)).lower(weights).compile().memory_analysis().temp_size_in_bytes
    assert 0.8 < activation_bytes(recipe, recipe.batch_size) / allocated < 1.1


@pytest.mark.one_backend
def test_devices_share_the_work():
    h100 = DEVICES["h100"]
    one, eight, split = plan(RECIPE, h100), plan(RECIPE, h100, 8), plan(RECIPE, h100, 4, 2)
    assert one.operations == eight.operations == sum(cost.training_step(
        config_of(RECIPE), 8, 128, scored=RECIPE.predictions).values())  # fmt: skip
    assert one.compute == pytest.approx(8 * eight.compute) == pytest.approx(one.operations / (0.3 * h100.float32))
    assert one.memory["weights"] == 4 * one.parameters == eight.memory["weights"] == one.memory["moments"] / 2
    assert eight.memory["activations"] == one.memory["activations"] / 8
    assert 0.5 < split.memory["weights"] / one.memory["weights"] < 1
    assert one.sending == 0 and set(one.communication.values()) == {0}
    assert eight.communication["gradients"] == pytest.approx(2 * 7 / 8 * 4 * one.parameters)
    assert eight.communication["activations"] == 0 < split.communication["activations"]
    far = plan(dataclasses.replace(RECIPE, batch_size=16), h100, 16)
    assert far.sending > eight.sending * h100.link / h100.network / 2, "the network between hosts is slower"
    hours = one.hours[0]
    assert hours == pytest.approx(1000 * one.compute / 3600) and one.kilowatt_hours[0] == pytest.approx(0.7 * hours)
    half = plan(dataclasses.replace(RECIPE, dtype="mixed_bfloat16"), h100)
    assert half.compute < one.compute and half.memory["activations"] < one.memory["activations"]
    muon = plan(dataclasses.replace(RECIPE, optimizer="muon"), h100)
    assert one.memory["moments"] / 2 < muon.memory["moments"] < one.memory["moments"]


@pytest.mark.one_backend
def test_the_command_prints_a_table_and_names_what_does_not_fit(capsys):
    main(["bert-mini", "--device", "h100", "--devices", "4"])
    table = capsys.readouterr().out
    assert "parameters" in table and "of 80 GB" in table and " to " in table and "kWh" in table
    main(["bert-mini"])
    assert "kWh" not in capsys.readouterr().out, "nobody knows what this machine takes"
    for arguments, facts in (
        (["bert-mini", "--devices", "3"], ["batch of 16 rows", "3 copies"]),
        (["bert-mini", "--devices", "4", "--model-devices", "4"], ["6 heads", "got 4"]),
        (["no-such-recipe"], ["bert-mini", "no-such-recipe"]),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        message = capsys.readouterr().err
        assert message.startswith("Expected") and all(fact in message for fact in facts), message


@pytest.mark.one_backend
def test_a_model_that_does_not_fit_is_said_to_be_too_large():
    small = Device(1e12, 1e12, 1e6, 1e9, 8, 1e9, None)
    assert "This does not fit" in report(plan(RECIPE, small), small)
    assert "This does not fit" not in report(plan(RECIPE, DEVICES["h100"]), DEVICES["h100"])


def test_this_machine_is_measured():
    here = this_machine(256, 2)
    assert 1e8 < here.float32 < 1e15 and here.memory > 1e9 and not here.is_fused
