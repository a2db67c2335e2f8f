"""Our own format, which keeps the models that no foreign format has a place for."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest
from layer_checks import randomize, same

from course_lib.checkpoints.files import read_json, read_tensors
from course_lib.checkpoints.native import NativeFormat

pytestmark = pytest.mark.one_backend


@dataclasses.dataclass(frozen=True)
class Config:
    width: int
    rate: float = 0.5


FORMAT = NativeFormat("course-tiny", Config)


class Tiny(keras.Model):
    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(width, name="first")
        self.random = keras.layers.Dropout(0.5, seed=1)
        self.second = keras.layers.Dense(2, name="second")

    def build(self, input_shape=None):
        self.first.build((None, 3))
        self.second.build((None, self.first.units))
        self.built = True


class Task(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.backbone = Tiny()
        self.head = keras.layers.Dense(5, name="head")

    def build(self, input_shape=None):
        self.backbone.build()
        self.head.build((None, 2))
        self.built = True


def made(model_class, **kwargs):
    model = model_class(**kwargs)
    model.build()
    randomize(model)
    return model


@pytest.mark.parametrize("name", [None, "first"])
def test_saved_and_loaded(tmp_path, name):
    model, other = made(Tiny), made(Tiny, name=name)
    FORMAT.save(model, {"width": 4, "rate": 0.5}, tmp_path / "new")
    assert read_json(tmp_path / "new" / "config.json") == {"model_type": "course-tiny", "width": 4, "rate": 0.5}
    assert read_tensors(tmp_path / "new").keys() == {"first/kernel", "first/bias", "second/kernel", "second/bias"}
    fields, tensors = FORMAT.read(tmp_path / "new")
    assert Config(**fields) == Config(4)
    FORMAT.load(tensors, fields, other)
    same(other.get_weights(), model.get_weights(), tolerance=0)


def test_a_backbone_has_the_same_names_alone_and_in_a_task(tmp_path):
    task, alone = made(Task), made(Tiny)
    FORMAT.save(task.backbone, {"width": 4, "rate": 0.5}, tmp_path / "backbone")
    FORMAT.load(FORMAT.read(tmp_path / "backbone")[1], {}, alone)
    same(alone.get_weights(), task.backbone.get_weights(), tolerance=0)
    FORMAT.save(task, {"width": 4, "rate": 0.5}, tmp_path / "task")
    assert read_tensors(tmp_path / "task").keys() - read_tensors(tmp_path / "backbone").keys() == {
        "head/kernel",
        "head/bias",
    }
    other = made(Task)
    FORMAT.load(FORMAT.read(tmp_path / "task")[1], {}, other)
    same(other.get_weights(), task.get_weights(), tolerance=0)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"model_type": "bert"}, ["'course-tiny'", "'bert'", "Bert"]),
        ({"model_type": None}, ["'course-tiny'", "None"]),
        ({"num_experts": 2}, ["num_experts"]),
        ({"rate": ...}, ["rate"]),
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path, refused, change, facts):
    FORMAT.save(made(Tiny), {"width": 4, "rate": 0.5}, tmp_path)
    config = read_json(tmp_path / "config.json") | change
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    with refused(tmp_path / "config.json", *facts):
        FORMAT.read(tmp_path)


def test_a_tensor_that_is_wrong_is_named_and_nothing_is_loaded(tmp_path, refused):
    model = made(Tiny)
    FORMAT.save(model, {"width": 4, "rate": 0.5}, tmp_path)
    fields, tensors = FORMAT.read(tmp_path)
    other = made(Tiny)
    before = other.get_weights()
    wrong = tensors | {"extra": tensors["first/bias"], "second/bias": tensors["second/bias"][:1]}
    del wrong["first/kernel"]
    with refused("first/kernel is missing", "extra is unused", "second/bias", "(1,)", "(2,)"):
        FORMAT.load(wrong, fields, other)
    same(other.get_weights(), before, tolerance=0)


def test_what_would_be_lost_is_not_saved(tmp_path, refused):
    fields = {"width": 4, "rate": 0.5}
    quantized, adapted, twice = made(Tiny), made(Tiny), Tiny()
    quantized.first.quantize("int8")
    with refused("int8", "before you quantize"):
        FORMAT.save(quantized, fields, tmp_path / "new")
    adapted.first.enable_lora(2)
    with refused("lora_kernel_a", "merge_lora"):
        FORMAT.save(adapted, fields, tmp_path / "new")
    twice.second = keras.layers.Dense(2, name="first")
    twice.build()
    with refused("same path"):
        FORMAT.save(twice, fields, tmp_path / "new")
    assert not pathlib.Path(tmp_path / "new").exists()


def test_our_translator_is_read(refused):
    from course_lib.models.seq2seq import Seq2Seq

    folder = pathlib.Path(__file__).parents[2] / "data" / "weights" / "seq2seq-mini"
    fields, tensors = Seq2Seq.checkpoint_format.read(folder)
    model = Seq2Seq(Seq2Seq.config_class(**fields))
    model.build()
    Seq2Seq.checkpoint_format.load(tensors, fields, model)
    assert len(tensors) == len(model.weights) and np.array_equal(
        np.asarray(model.token_embedding.embeddings), tensors["token_embedding/embeddings"].astype("float32")
    )
