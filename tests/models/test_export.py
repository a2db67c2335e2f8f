"""Models for use without Keras: ids of any batch size and length, and the same numbers."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tiny_models
from layer_checks import compiled, randomize, to_numpy

from course_lib import Bert, SentenceEncoder, TextClassifier

MODELS = {
    "Bert": tiny_models.bert,
    "BertPretrainer": tiny_models.bert_pretrainer,
    "GPT2CausalLM": tiny_models.gpt2_causal_lm,
    "LlamaCausalLM": tiny_models.llama_causal_lm,
    "OpenAIGPTCausalLM": tiny_models.openai_gpt_causal_lm,
    "Seq2SeqLM": tiny_models.seq2seq_lm,
    "TextClassifier": tiny_models.text_classifier,
    "TokenClassifier": tiny_models.token_classifier,
    "SentenceEncoder": lambda: SentenceEncoder(tiny_models.bert()),
}
KINDS = ("GPT2CausalLM", "Seq2SeqLM", "TextClassifier")  # between them, they have every kind of input and of mask
SHAPES = (2, 3, 5), (4, 7, 2)  # batch size, length, length of the source
rng = np.random.default_rng(0)


def made(name):
    """A model whose weights all matter."""
    model = MODELS[name]()
    model.build()
    randomize(model)
    return model


def inputs_of(model, batch_size, length, source):
    """Inputs as an exported model takes them, with padding."""
    inputs = {}
    for name in getattr(model, "backbone", model).input_names:
        shape = batch_size, source if name.startswith("encoder_") else length
        kind = name.removeprefix("encoder_").removeprefix("decoder_")
        inputs[name] = {
            "token_ids": rng.integers(5, 18, shape),
            "segment_ids": np.arange(shape[1]) % 2 * np.ones(shape),
            "padding_mask": np.arange(shape[1]) < np.maximum(1, shape[1] - np.arange(batch_size)[:, None]),
        }[kind].astype("int32")
    return inputs


def same_outputs(found, expected):
    found, expected = sorted(map(by_shape, found)), sorted(map(by_shape, keras.tree.flatten(expected)))
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def by_shape(array):
    return tuple(np.shape(array)), to_numpy(array).tolist()


@pytest.mark.parametrize(
    "name",
    [name if name in KINDS else pytest.param(name, marks=pytest.mark.one_backend) for name in MODELS],
)
def test_a_saved_model_takes_ids_of_any_size(name, tmp_path):
    import tensorflow as tf

    model = made(name)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    for shape in SHAPES:
        inputs = inputs_of(model, *shape)
        same_outputs(keras.tree.flatten(exported.serve(inputs)), compiled(model)(inputs))


def test_after_training_and_after_loading(tmp_path):
    import tensorflow as tf

    model = tiny_models.text_classifier()
    model.fit(["a b", "c", "d"], ["good", "bad", "neither"], verbose=0)
    model.save(tmp_path / "model.keras")
    for number, each in enumerate((model, keras.saving.load_model(tmp_path / "model.keras"))):
        each.export(tmp_path / str(number), verbose=False)
        exported = tf.saved_model.load(tmp_path / str(number))
        inputs = inputs_of(model, 2, 3, 3)
        same_outputs([exported.serve(inputs)], compiled(model)(inputs))


@pytest.mark.one_backend
@pytest.mark.parametrize("name", KINDS)
def test_litert_takes_ids_of_any_size(name, tmp_path):
    import tensorflow as tf

    model = made(name)
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    for shape in SHAPES:
        inputs = inputs_of(model, *shape)
        runner = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
        same_outputs(keras.tree.flatten(runner(**inputs)), compiled(model)(inputs))


@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="`make parity` installs tf2onnx")
@pytest.mark.parity
@pytest.mark.parametrize("name", MODELS)
def test_onnx_takes_ids_of_any_size(name, tmp_path):
    import onnxruntime

    model = made(name)
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in SHAPES:
        inputs = inputs_of(model, *shape)
        given = {each.name: inputs[each.name] for each in session.get_inputs()}
        same_outputs(session.run(None, given), compiled(model)(inputs))


@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="`make parity` installs tf2onnx")
@pytest.mark.parity
def test_the_page_on_serving(tmp_path, monkeypatch):
    page = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"
    export, smaller, serve = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    TextClassifier(Bert.from_preset("bert-mini"), ["negative", "positive"]).save("yours.keras")
    variables = {}
    exec(export, variables)
    exec(smaller, variables)
    classifier = variables["classifier"]
    says = "\nimport sys; assert not {'keras', 'tensorflow', 'course_lib'} & {*sys.modules}"
    for file, tolerance in (("model.onnx", 1e-4), ("model-int8.onnx", 0.1)):
        code = serve.replace("model.onnx", file) + says
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        (texts,) = re.findall(r"print\(classify\((.*?)\)\)", serve)
        found = ast.literal_eval(run.stdout)
        for prediction, (label, probability) in zip(classifier.predict(ast.literal_eval(texts)), found, strict=True):
            assert abs(prediction.probabilities[label] - probability) < tolerance


@pytest.mark.one_backend
def test_onnx_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match="pip install.*tf2onnx"):
        tiny_models.bert().export(tmp_path / "model.onnx", format="onnx")


TWO_DEVICES = """
import numpy as np, tensorflow as tf, keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import tiny_models
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
texts, classes = ["a b", "c", "d d", "a"] * 4, ["good", "bad", "bad", "good"] * 4
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice())
found = []
for scope in (strategy.scope(), tf.init_scope()):
    keras.utils.set_random_seed(0)
    with scope:
        model = tiny_models.text_classifier()
        model.dropout.rate = 0
        model.compile(AdamW(1e-2), CrossEntropy(), jit_compile=False)
    model.fit(texts, classes, batch_size=16, epochs=3, verbose=0)  # outside of the scope
    found.append([np.asarray(weight) for weight in model.get_weights()])
print(max(np.abs(a - b).max() for a, b in zip(*found)))
"""


@pytest.mark.one_backend
def test_made_in_the_scope_of_a_strategy_and_trained_outside_two_devices_step_as_one_does():
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.path.dirname(tiny_models.__file__)}
    run = subprocess.run([sys.executable, "-c", TWO_DEVICES], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout.split()[-1]) < 1e-5
