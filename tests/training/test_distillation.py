"""Distillation: the loss is its formula and Keras's, a student learns from a teacher alone, and layers can go."""

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops
from layer_checks import config_tells, randomize, to_numpy

from course_lib.training.distillation import DistillationCrossEntropy, distil, drop_layers, imitate
from course_lib.training.finetuning import logits_of

rng = np.random.default_rng(0)
STUDENT, TEACHER = rng.normal(size=(2, 5, 3)).astype("float32") * 3
LABELS = np.array([0, 2, 1, 1, 0])
TEXTS = [" ".join(letters) for letters in rng.choice([*"abcdef"], (60, 4))]
HAS_A = np.array(["a" in text for text in TEXTS])


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 1.0), (2.0, 1.0), (3.0, 0.4), (2.0, 0.0)])
def test_the_loss_is_its_formula(temperature, alpha):
    loss = DistillationCrossEntropy(temperature, alpha)
    soft = -np.sum(softmax(TEACHER / temperature) * np.log(softmax(STUDENT / temperature)), axis=-1)
    hard = -np.log(softmax(STUDENT))[np.arange(5), LABELS]
    expected = alpha * temperature**2 * soft + (1 - alpha) * hard
    both = np.column_stack([TEACHER, LABELS]).astype("float32")
    np.testing.assert_allclose(to_numpy(loss(both, STUDENT)), expected.mean(), rtol=1e-5)
    weights = np.array([1, 0, 2, 0, 1], "float32")
    np.testing.assert_allclose(
        to_numpy(loss(both, STUDENT, weights)), (expected * weights).sum() / weights.sum(), rtol=1e-5
    )
    np.testing.assert_allclose(to_numpy(loss(LABELS, STUDENT)), hard.mean(), rtol=1e-5)


@pytest.mark.one_backend
def test_its_gradient_is_that_of_kerass_loss():
    """Keras's is the divergence, which is less by the teacher's entropy, and has τ² as well. Given the loss by its
    name, as by default, Keras 3.15 takes the divergence of the logits themselves."""
    import tensorflow as tf

    theirs = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=3.0)
    both = np.column_stack([TEACHER, LABELS]).astype("float32")
    gradients = []
    for function in (
        lambda z: DistillationCrossEntropy(3.0)(both, z),
        lambda z: theirs.compute_loss(ops.convert_to_tensor(TEACHER), z),
    ):
        z = tf.Variable(STUDENT)
        with tf.GradientTape() as tape:
            value = function(z)
        gradients.append(tape.gradient(value, z).numpy())
    np.testing.assert_allclose(*gradients, atol=1e-6)


@pytest.mark.one_backend
def test_it_comes_back_from_its_config():
    loss = DistillationCrossEntropy(3.0, 0.25)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is DistillationCrossEntropy and again.get_config() == loss.get_config()
    config_tells_all = {"temperature": 4.0, "alpha": 0.5, "label_smoothing": 0.1}
    config_tells(lambda **kwargs: DistillationCrossEntropy(**{"name": "layer"} | kwargs), **config_tells_all)
    for wrong in ({"temperature": 0}, {"alpha": 1.5}):
        with pytest.raises(ValueError, match="temperature above 0 and alpha"):
            DistillationCrossEntropy(**wrong)


def student(seed=0):
    keras.utils.set_random_seed(seed)
    model = tiny_models.text_classifier(hidden_dim=16, intermediate_dim=32, initializer_range=0.2)
    model.dropout.rate = 0
    return model


def test_a_student_learns_from_the_teacher_alone():
    model = student()
    logits = np.stack([np.where(HAS_A, 3.0, -3.0), np.where(HAS_A, -3.0, 3.0), np.full(60, -9.0)], axis=1)
    labels = [model.classes[int(not has)] for has in HAS_A]
    losses = distil(model, TEXTS, logits, (TEXTS, labels), 3e-2, 8, batch_size=12, verbose=0)
    assert len(losses) == 8 and min(losses) < 0.3 < losses[0]
    answers = logits_of(model, model.examples(TEXTS))
    assert np.mean(answers.argmax(axis=1) == logits.argmax(axis=1)) > 0.9
    assert answers[:, 2].max() < answers.max(axis=1).min(), "the third class is unlikely, as the teacher says"


@pytest.mark.one_backend
def test_labels_count_by_alpha():
    model = student()
    labels = [model.classes[int(not has)] for has in HAS_A]
    against = np.stack([np.where(HAS_A, -3.0, 3.0), np.where(HAS_A, 3.0, -3.0), np.full(60, -9.0)], axis=1)
    losses = distil(model, TEXTS, against, (TEXTS, labels), 3e-2, 6, labels=labels, alpha=0.0, batch_size=12, verbose=0)
    assert min(losses) < 0.4
    for arguments, message in (
        ({"alpha": 0.5}, "labels for alpha below 1"),
        ({"logits": against[:, :2]}, r"60 texts and 3 classes; got an array of shape \(60, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            distil(
                model, TEXTS, **{"logits": against} | arguments, validation=(TEXTS, labels), learning_rate=1, epochs=1
            )


def test_a_backbone_imitates_vectors():
    model = student()
    vectors = rng.normal(size=(2, 5))[HAS_A.astype(int)]
    losses = imitate(model, TEXTS, vectors, 1e-2, 6, batch_size=12)
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]
    with pytest.raises(ValueError, match=r"each of 60 texts; got an array of shape \(59, 5\)"):
        imitate(model, TEXTS, vectors[1:], 1e-2, 1)


@pytest.mark.one_backend
@pytest.mark.parametrize("make", [tiny_models.bert, tiny_models.gpt2])
def test_layers_are_dropped_and_the_others_stay(make):
    backbone = make(num_layers=3)
    backbone.build()
    randomize(backbone)
    inputs = {"token_ids": np.array([[3, 4, 5, 6]], "int32")}
    same = drop_layers(backbone, range(3))
    np.testing.assert_array_equal(*(to_numpy(b(inputs)["sequence_output"]) for b in (same, backbone)))
    smaller = drop_layers(backbone, [0, 2])
    states = backbone(inputs, return_hidden_states=True)["hidden_states"]
    found = smaller(inputs, return_hidden_states=True)["hidden_states"]
    assert smaller.config.num_layers == 2 and smaller.tokenizer is backbone.tokenizer
    np.testing.assert_array_equal(to_numpy(found[1]), to_numpy(states[1]))
    assert np.abs(to_numpy(found[2]) - to_numpy(states[3])).max() > 1e-3
    stack = next(layer for layer in backbone.layers if hasattr(layer, "blocks"))
    np.testing.assert_allclose(
        to_numpy(found[2]), to_numpy(stack.blocks[2](found[1], use_causal_mask=make is tiny_models.gpt2)), atol=1e-5
    )
    for wrong in ([], [0, 3], [2, 0], [1, 1], [-1]):
        with pytest.raises(ValueError, match="from 0 to 2"):
            drop_layers(backbone, wrong)
