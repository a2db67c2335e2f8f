"""What freezing, adapters and learning rates by depth leave as it was, and what they move."""

import re

import keras
import numpy as np
import pytest
from layer_checks import compiled, same, to_numpy

from course_lib import GPT2, Bert, BertConfig, GPT2Config, WordPieceTokenizer
from course_lib.models.classifiers import TextClassifier
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.training.adaptation import enable_lora, freeze, layerwise_lr_decay, merge_lora
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW

TEXTS, CLASSES = ["a b", "c", "a c c", "b"], ["with", "without", "with", "without"]
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc"])
INPUTS = {name: array for name, array in TOKENIZER(TEXTS).items() if name != "segment_ids"}


def classifier(on=Bert):
    keras.utils.set_random_seed(0)
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.2}
    if on is Bert:
        backbone = Bert(BertConfig(8, 3, 2, 8, 12, 9, **rates), TOKENIZER)
    else:
        backbone = GPT2(GPT2Config(8, 3, 2, 8, 12, 9, embedding_dropout=0.0, **rates))
    model = TextClassifier(backbone, ["without", "with"], dropout=0.0)
    model.build()
    return model


def step(model, optimizer):
    """One step of training; returns by how much each weight moved, by its path."""
    before = [to_numpy(weight) for weight in model.weights]
    model.compile(optimizer, CrossEntropy(), jit_compile=False)
    model.fit(INPUTS, np.array([1, 0, 1, 0]), batch_size=4, verbose=0)
    return {weight.path: to_numpy(weight) - old for weight, old in zip(model.weights, before, strict=True)}


def moved(model, optimizer=None):
    """What one step moves: of each path, what follows the name of the classifier."""
    return {path.split("/", 1)[1] for path, change in step(model, optimizer or AdamW(1e-2)).items() if change.any()}


@pytest.mark.parametrize("on", [Bert, GPT2])
@pytest.mark.parametrize("layers", [0, 2, 3])
def test_what_is_frozen_stays_and_the_rest_learns(on, layers):
    model = classifier(on)
    freeze(model.backbone, 3)
    freeze(model.backbone, layers)  # lets those above learn again
    found = moved(model)
    assert not [path for path in found if "embedding" in path]
    for index in range(3):
        assert any(f"block_{index}/" in path for path in found) == (index >= layers)
    assert any(path.startswith("classifier/") for path in found)


@pytest.mark.one_backend
def test_what_cannot_be_frozen():
    model = classifier()
    for layers in (-1, 4):
        with pytest.raises(ValueError, match=f"got {layers}"):
            freeze(model.backbone, layers)
    with pytest.raises(ValueError, match="got a Seq2Seq"):  # two stacks
        freeze(Seq2Seq(Seq2SeqConfig(8, 1, 2, 8)), 1)
    enable_lora(model.backbone, 2)
    with pytest.raises(ValueError, match="freeze it before enable_lora"):
        freeze(model.backbone, 1)


@pytest.mark.one_backend
def test_adapters_are_where_they_are_asked_for_and_as_strong():
    model = classifier()
    enable_lora(model.backbone, 2, alpha=6, projections=("key", "output_projection"))
    for block in model.backbone.encoder.blocks:
        projections = {name: getattr(block.attention, name) for name in ("query", "key", "value", "output_projection")}
        assert [name for name, layer in projections.items() if layer.lora_enabled] == ["key", "output_projection"]
        layer = block.attention.key
        kernel, a = to_numpy(layer.kernel), to_numpy(layer.lora_kernel_a)
        layer.lora_kernel_b.assign(b := np.ones(layer.lora_kernel_b.shape, "float32"))
        same(layer.kernel, kernel + 6 / 2 * a @ b)


@pytest.mark.one_backend
def test_what_is_refused_is_left_as_it_was():
    model = classifier()
    learning = len(model.trainable_weights)
    for projections in (("querry",), ("query", "values"), "query", "", ("key", "key")):
        with pytest.raises(ValueError, match=re.escape(f"got {projections!r}")):
            enable_lora(model.backbone, 2, projections=projections)
    for refused in (lambda: enable_lora(model, 2), lambda: freeze(model, 1)):
        with pytest.raises(ValueError, match="got a TextClassifier"):
            refused()
    assert len(model.trainable_weights) == learning
    enable_lora(model.backbone, 2)


@pytest.mark.parametrize("on", [Bert, GPT2])
def test_adapters_learn_and_are_merged(on, tmp_path):
    model = classifier(on)
    expected, count = compiled(model)(INPUTS), len(model.weights)
    enable_lora(model.backbone, 2, alpha=4)
    same(compiled(model)(INPUTS), expected)
    head = sum(to_numpy(weight).size for weight in model.classifier.weights)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == head + 3 * 2 * 2 * (8 + 8)
    found = moved(model) | moved(model)  # in the first step B moves alone, since it is zero
    assert {path.rsplit("/")[-1] for path in found if not path.startswith("classifier/")} == {
        "lora_kernel_a",
        "lora_kernel_b",
    }
    learned = compiled(lambda inputs: model(inputs))(INPUTS)  # anew: JAX keeps what it compiled for `model`
    assert np.abs(to_numpy(learned) - to_numpy(expected)).max() > 1e-3
    merged = merge_lora(model)
    assert len(merged.weights) == count == len(classifier(on).weights)
    assert len(merged.trainable_weights) == len(classifier(on).trainable_weights)
    same(compiled(merged)(INPUTS), learned)
    assert (merged.backbone.tokenizer is None) == (model.backbone.tokenizer is None)


@pytest.mark.one_backend
def test_what_cannot_be_adapted():
    model = classifier()
    with pytest.raises(ValueError, match="rank of at least 1; got 0"):
        enable_lora(model.backbone, 0)
    enable_lora(model.backbone, 2)
    with pytest.raises(ValueError, match="this one has them"):
        enable_lora(model.backbone, 2)


@pytest.mark.parametrize("on", [Bert, GPT2])
def test_steps_fall_with_depth(on):
    """The step of each weight, decay included, is that of AdamW times its multiplier."""
    plain = step(classifier(on), AdamW(1e-2, weight_decay=0.5))
    model = classifier(on)
    multipliers = layerwise_lr_decay(model, 0.5)
    found = step(model, AdamW(1e-2, weight_decay=0.5, lr_multipliers=multipliers))
    for (path, change), expected in zip(found.items(), plain.values(), strict=True):
        if path.endswith("key/bias"):  # whose gradient is nothing but rounding
            continue
        depth = 4 if "embedding" in path else next((3 - i for i in range(3) if f"block_{i}/" in path), 0)
        np.testing.assert_allclose(change, expected * 0.5**depth, atol=1e-6, err_msg=path)
    assert sorted(set(multipliers)) == [0.5**depth for depth in (4, 3, 2, 1, 0)]


@pytest.mark.one_backend
def test_what_is_frozen_has_no_multiplier():
    model = classifier()
    freeze(model.backbone, 2)
    assert sorted(set(layerwise_lr_decay(model, 0.5))) == [0.5, 1.0]
    assert len(layerwise_lr_decay(model, 0.5)) == len(model.trainable_variables)
    for decay in (0, 1.1):
        with pytest.raises(ValueError, match=f"decay in .0, 1.; got {decay}"):
            layerwise_lr_decay(model, decay)
