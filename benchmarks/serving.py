"""Chapter 10's classifier and its distilled student at inference: by Keras, PyTorch, ONNX Runtime and OpenVINO.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/serving.json`.
Run it on a quiet machine.

Every candidate gets the same arrays, the test sentences of Rotten Tomatoes: one by one, each padded to a multiple of 8
tokens; and sorted by length in batches of 32, each cut to its longest row.
"""

import contextlib
import functools
import json
import pathlib
import tempfile

import keras
import numpy as np
from measure import compiled, has_bfloat16, header, interleaved, matrix_rate, write

from course_lib import Bert, TextClassifier, experiments
from course_lib.data import reviews
from course_lib.models import cost

SINGLE = 50  # sentences that are read one by one
ROUNDS = 5
DISTILLATION = experiments.experiment("distillation")
PRECISIONS = {
    "float32": {},
    "float32, XLA": {"jit_compile": True},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},  # Keras rounds the activations, too
    "int8, weights alone": {"quantize": keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)},
    "int4": {"quantize": "int4"},
}


def teacher_of(folder, dtype="float32"):
    """The teacher, from the folder of its encoder; no preset describes a head on the mean of the vectors."""
    model = TextClassifier(
        Bert.from_preset(folder, dtype=dtype), DISTILLATION.teacher.classes, max_length=64, dtype=dtype
    )
    model.build()
    model.classifier.set_weights(DISTILLATION.teacher.classifier.get_weights())
    return model


def in_keras(make, dtype="float32", quantize=None, jit_compile=False):
    """Our classifier: a function from inputs to logits, and the bytes of its weights."""
    model = make(dtype=dtype)
    if quantize:
        model.quantize(config=quantize)
    model.compile(jit_compile=jit_compile)
    return model.predict_on_batch, sum(np.asarray(weight).nbytes for weight in model.weights)


def in_keras_hub(folder, head):
    """KerasHub's encoder, with the mean of the token vectors and our dense layer on it."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    encoder = keras_hub.models.BertBackbone.from_preset(folder)
    mask = keras.ops.cast(encoder.input["padding_mask"][..., None], "float32")
    mean = keras.ops.sum(encoder.output["sequence_output"] * mask, axis=1) / keras.ops.sum(mask, axis=1)
    dense = keras.layers.Dense(2)
    model = keras.Model(encoder.input, dense(mean))
    dense.set_weights(head)
    return model.predict_on_batch, sum(np.asarray(weight).nbytes for weight in model.weights)


def in_pytorch(folder, head, dtype="float32", compile=False):
    """Hugging Face's encoder, likewise."""
    import torch
    import transformers

    encoder = transformers.BertModel.from_pretrained(
        folder, dtype=getattr(torch, dtype), add_pooling_layer=False
    ).eval()
    kernel, bias = (torch.tensor(each) for each in head)

    def classify(ids, segments, mask):
        vectors = encoder(ids, mask, segments).last_hidden_state.float()
        return (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) @ kernel + bias

    function = torch.compile(classify, dynamic=True) if compile else classify

    def run(inputs):
        with torch.inference_mode():
            return function(
                *(torch.tensor(inputs[k]).long() for k in ("token_ids", "segment_ids", "padding_mask"))
            ).numpy()

    return run, sum(weight.nbytes for weight in encoder.parameters())


def in_onnx_runtime(path):
    """An ONNX file by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    return lambda inputs: session.run(None, {name: inputs[name] for name in names})[0], path.stat().st_size


def in_openvino(path, precision):
    """An ONNX file by OpenVINO."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.compile_model(path, "CPU", hints)
    names = [each.any_name for each in model.inputs]
    return lambda inputs: model({name: inputs[name] for name in names})[0], path.stat().st_size


def exported(model, path):
    """Writes a classifier as an ONNX file, and one with int8 weights beside it; returns both paths."""
    from onnxruntime.quantization import quantize_dynamic

    model.export(path, format="onnx", verbose=False)
    small = path.with_name(f"{path.stem}-int8.onnx")
    quantize_dynamic(path, small)
    return path, small


def candidates(folder):
    """All ways to run the two classifiers: functions without arguments that make one, as the functions above do."""
    encoder = str(folder / "encoder")
    DISTILLATION.teacher.backbone.save_to_preset(encoder)
    teacher = functools.partial(teacher_of, encoder)
    student = functools.partial(TextClassifier.from_preset, "sentiment-mini")
    head = DISTILLATION.teacher.classifier.get_weights()
    made = {f"Keras, {name}": functools.partial(in_keras, teacher, **how) for name, how in PRECISIONS.items()}
    made["KerasHub, float32"] = functools.partial(in_keras_hub, encoder, head)
    for name, how in {
        "float32": {},
        "float32, compiled": {"compile": True},
        "bfloat16": {"dtype": "bfloat16"},
        "bfloat16, compiled": {"dtype": "bfloat16", "compile": True},
    }.items():
        made[f"PyTorch, {name}"] = functools.partial(in_pytorch, encoder, head, **how)
    files = [exported(each(), folder / f"{name}.onnx") for name, each in (("teacher", teacher), ("student", student))]
    made["ONNX Runtime, float32"] = functools.partial(in_onnx_runtime, files[0][0])
    made["ONNX Runtime, int8"] = functools.partial(in_onnx_runtime, files[0][1])
    made["OpenVINO, float32"] = functools.partial(in_openvino, files[0][0], "f32")
    made["OpenVINO, bfloat16"] = functools.partial(in_openvino, files[0][0], "bf16")
    made["student: Keras, float32"] = functools.partial(in_keras, student)
    made["student: Keras, int8"] = functools.partial(in_keras, student, quantize="int8")
    made["student: ONNX Runtime, float32"] = functools.partial(in_onnx_runtime, files[1][0])
    made["student: ONNX Runtime, int8"] = functools.partial(in_onnx_runtime, files[1][1])
    return made


def serve(results):
    """Latency, throughput, size and accuracy of each candidate."""
    test = reviews.rotten_tomatoes().test
    arrays = {}
    for name, model in {
        "teacher": DISTILLATION.teacher,
        "student": TextClassifier.from_preset("sentiment-mini"),
    }.items():
        batches = model.examples(test.texts, test.labels, batch_size=32)
        padded = model.tokenizer(test.texts, max_length=64)
        whole = {key: np.pad(value, ((0, 0), (0, 64 - value.shape[1]))) for key, value in padded.items()}
        single = [model.examples([text], [0], batch_size=1)[0][0] for text in test.texts[:SINGLE]]
        arrays[name] = {
            "single": single,
            "batches": batches,
            "whole": [{key: value[i : i + 32] for key, value in whole.items()} for i in range(0, len(test), 32)],
        }
    rows, calls, expected = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in candidates(pathlib.Path(folder)).items():
            who = "student" if "student" in name else "teacher"
            given = arrays[who]
            function, size = make()
            batches = [given["batches"][index][0] for index in range(given["batches"].num_batches)]
            logits = given["batches"].in_order(np.concatenate([np.asarray(function(b), "float32") for b in batches]))
            expected.setdefault(who, logits)
            rows[name] = {
                "megabytes": size / 1e6,
                "accuracy": float(np.mean(logits.argmax(axis=1) == test.labels)),
                "agreement": float(np.mean(logits.argmax(axis=1) == expected[who].argmax(axis=1))),
                "right": "".join("01"[is_right] for is_right in (logits.argmax(axis=1) == test.labels).astype(int)),
            }
            calls[f"{name}|one by one"] = functools.partial(run_all, function, given["single"])
            calls[f"{name}|batches of 32"] = functools.partial(run_all, function, batches)
            if name == "Keras, float32":
                calls[f"{name}|64 tokens each"] = functools.partial(run_all, function, given["whole"])
            print(name, {key: rows[name][key] for key in ("megabytes", "accuracy", "agreement")}, flush=True)
        seconds = interleaved(calls, ROUNDS)
    for name, row in rows.items():
        row["milliseconds, one by one"] = 1000 * seconds[f"{name}|one by one"] / SINGLE
        row["sentences per second, in batches of 32"] = len(test) / seconds[f"{name}|batches of 32"]
    rows["Keras, float32"]["sentences per second, 64 tokens each"] = (
        len(test) / seconds["Keras, float32|64 tokens each"]
    )
    results["serve"] = rows


def run_all(function, inputs):
    """Runs a candidate on each of its inputs."""
    for one in inputs:
        function(one)


def roofline(results):
    """What the machine multiplies and copies at best, and what the encoder reaches between the two."""
    config = DISTILLATION.teacher.config
    x = keras.random.normal((1 << 26,), seed=0)  # 268 MB, more than any cache holds
    copy = compiled(lambda: x + 1.0)
    seconds = interleaved({"copy": lambda: np.asarray(copy()[0])}, 10)["copy"]
    points = []
    for batch_size in (1, 2, 4, 8, 32):
        inputs = {
            "token_ids": np.full((batch_size, 32), 2000, "int32"),
            "segment_ids": np.zeros((batch_size, 32), "int32"),
            "padding_mask": np.ones((batch_size, 32), "int32"),
        }
        call = functools.partial(DISTILLATION.teacher.predict_on_batch, inputs)
        points.append(
            {
                "batch size": batch_size,
                "length": 32,
                "operations": sum(cost.forward(config, batch_size, 32).values()),
                "seconds": interleaved({"forward": call}, 15, warm_up=3)["forward"],
            }
        )
    results["roofline"] = {
        "operations per second": {name: matrix_rate(name, 1024, config) for name in ("float32", "bfloat16")},
        "bytes per second": 2 * x.shape[0] * 4 / seconds,
        "encoder": points,
        "bfloat16 in the processor": has_bfloat16(),
    }


def main():
    """Runs all of it, prints the figures and writes them down."""
    results = header()
    for part in (roofline, serve):
        part(results)
        print(json.dumps(results[part.__name__], indent=2), flush=True)
    write(results, __file__)


if __name__ == "__main__":
    main()
