"""Five hundred altered checkpoints per format: none is accepted in silence, and none changes a weight.

A tensor is removed, renamed, reshaped or of another type; a file is cut short; an entry of the config contradicts the
shapes. To keep it cheap, the models are tiny, only the loader runs, and a model is made once for each config.
"""

import functools
import json
import pathlib
import shutil

import gguf
import numpy as np
import pytest
import tiny_models
from safetensors.numpy import save_file

from course_lib import BertPretrainer
from course_lib.checkpoints.files import read_json, read_tensorflow, read_tensors, write_tensorflow
from course_lib.checkpoints.gguf import LLAMA as GGUF

pytestmark = pytest.mark.one_backend

COUNT = 500
WIDE = {"num_heads": 12, "hidden_dim": 24}
MODELS = {  # name → the model, its layout, its config, the sizes there that shapes can contradict, its checkpoint
    "BERT": (tiny_models.bert_pretrainer, None, "config.json", "vocab_size hidden_size intermediate_size"),
    "RoBERTa": (
        lambda: BertPretrainer(tiny_models.roberta()),
        None,
        "config.json",
        "vocab_size num_hidden_layers max_position_embeddings type_vocab_size",
    ),
    "GPT-2": (tiny_models.gpt2_causal_lm, None, "config.json", "vocab_size n_layer n_embd n_positions"),
    "GPT": (tiny_models.openai_gpt_causal_lm, None, "config.json", "vocab_size n_layer n_embd n_positions"),
    "Llama": (
        tiny_models.llama_causal_lm,
        None,
        "config.json",
        "vocab_size num_hidden_layers hidden_size intermediate_size head_dim",
    ),
    "Google's BERT": (
        tiny_models.bert_pretrainer,
        "google",
        "bert_config.json",
        "vocab_size num_hidden_layers hidden_size intermediate_size max_position_embeddings type_vocab_size",
    ),
    "OpenAI's GPT-2": (
        lambda: tiny_models.gpt2_causal_lm(intermediate_dim=None),
        "openai",
        "hparams.json",
        "n_vocab n_layer n_embd n_ctx",
    ),
}


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a model, its folder, and a function that loads what lies there as `from_preset` does."""

    def make(maker, layout):
        model = maker()
        folder = tmp_path / "cased"
        model.save_to_preset(folder, layout=layout)
        backbone = model.backbone
        checkpoint_format = backbone.format_for(layout)
        models = {repr(backbone.config): model}

        def load():
            fields, tensors = checkpoint_format.read(folder)
            config = type(backbone.config)(**fields)
            if repr(config) not in models:
                models[repr(config)] = type(model)(type(backbone)(config))
                models[repr(config)].build()
            checkpoint_format.load(tensors, fields, models[repr(config)])

        return model, folder, load

    return make


def remove(rng, tensors, name):
    del tensors[name]


def rename(rng, tensors, name):
    at = rng.integers(len(name))
    tensors[f"{name[:at]}x{name[at:]}"] = tensors.pop(name)


def reshape(rng, tensors, name):
    array = tensors[name]
    longer = np.concatenate([array, array[:1]])
    tensors[name] = [longer, array[None], array[:-1], np.stack([array, array], -1)][rng.integers(4)]


def retype(rng, tensors, name):
    tensors[name] = tensors[name].astype(["int8", "int32", "int64", "uint8", "bool"][rng.integers(5)])


def cut(rng, path):
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content) - 1)])  # the last byte may be a line break


def contradict(rng, path, sizes):
    config = read_json(path)
    name = sizes[rng.integers(len(sizes))]
    config[name] = [config[name] + 1, 2 * config[name], 0, -1, 1.5, "7", [8], True][rng.integers(8)]
    path.write_text(json.dumps(config))


def is_refused(load):
    try:
        load()
    except ValueError as error:
        assert str(error).startswith("Expected"), error
        return True
    return False


@pytest.mark.parametrize("name", MODELS)
def test_no_altered_checkpoint_is_accepted(name, checkpoint):
    maker, layout, config, sizes = MODELS[name]
    model, folder, load = checkpoint(maker, layout)
    load()
    before = model.get_weights()
    read = read_tensors if layout is None else read_tensorflow
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = [file for file in whole if file == config or file.endswith((".safetensors", ".index", "-00001"))]
    original, rng = read(folder), np.random.default_rng(0)
    write = save_file if layout is None else functools.partial(tensorflow_writer, folder)
    accepted = []
    for number in range(COUNT):
        kind = [remove, rename, reshape, retype, cut, contradict][number % 6]
        if kind is cut:
            what = files[rng.integers(len(files))]
            cut(rng, folder / what)
        elif kind is contradict:
            what = config
            contradict(rng, folder / config, sizes.split())
        else:
            what, tensors = rng.choice(sorted(original)), dict(original)
            kind(rng, tensors, what)
            write({key: np.ascontiguousarray(array) for key, array in tensors.items()}, folder / "model.safetensors")
        if not is_refused(load):
            accepted.append((number, kind.__name__, str(what), (folder / config).read_text()))
        for file in files:
            (folder / file).write_bytes(whole[file])
    assert not accepted, accepted[:5]
    load()
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def tensorflow_writer(folder, tensors, path):
    write_tensorflow(next(folder.glob("*.index")).with_suffix(""), tensors)


def test_no_altered_release_of_the_first_gpt_is_accepted(checkpoint):
    model, folder, load = checkpoint(lambda: tiny_models.openai_gpt_causal_lm(**WIDE), "openai")
    load()
    before, rng = model.get_weights(), np.random.default_rng(0)
    copy = pathlib.Path(shutil.copytree(folder, folder.parent / "copy"))
    pieces, shapes_path = sorted(folder.glob("params_*.npy")), folder / "params_shapes.json"
    shapes, accepted = read_json(shapes_path, list), []
    for number in range(COUNT):
        kind, at = ("remove", "reshape", "retype", "cut", "swap", "miss")[number % 6], rng.integers(len(shapes))
        path, changed = pieces[rng.integers(len(pieces))], [list(shape) for shape in shapes]
        if kind == "remove":
            del changed[at]
        elif kind == "reshape":
            changed[at] = [[*shapes[at], 1], [size + 1 for size in shapes[at]], shapes[at][:-1], "x"][rng.integers(4)]
        elif kind == "swap":
            other = rng.choice([index for index, shape in enumerate(shapes) if shape != shapes[at]])
            changed[at], changed[other] = changed[other], changed[at]
        elif kind == "retype":
            np.save(path, np.load(path).astype(["int32", "complex64", "bool", "S4"][rng.integers(4)]))
        elif kind == "cut":
            cut(rng, [path, shapes_path][rng.integers(2)])
        else:
            path.unlink()
        if changed != shapes:
            shapes_path.write_text(json.dumps(changed))
        if not is_refused(load):
            accepted.append((number, kind, int(at), path.name, changed[at : at + 1]))
        for file in (path, shapes_path):
            shutil.copyfile(copy / file.name, file)
    assert not accepted, accepted[:5]
    load()
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def write_gguf(path, values, tensors):
    """Writes a file as llama.cpp's converter does, without a tokenizer, which would take most of the time."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_no_altered_gguf_file_is_accepted(tmp_path):
    model = tiny_models.llama_causal_lm(tie_embeddings=True)
    model.save_to_preset(tmp_path / "huggingface")
    config = model.config
    values = {
        "llama.block_count": config.num_layers,
        "llama.context_length": config.max_sequence_length,
        "llama.embedding_length": config.hidden_dim,
        "llama.feed_forward_length": config.intermediate_dim,
        "llama.attention.head_count": config.num_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_epsilon,
        "llama.rope.freq_base": config.rotary_base,
        "llama.vocab_size": config.vocabulary_size,
        "tokenizer.ggml.eos_token_id": config.end_token_id,
    }
    sizes = ["block_count", "embedding_length", "feed_forward_length", "attention.key_length", "vocab_size"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_layers)
    tensors = read_tensors(tmp_path / "huggingface")
    tensors = {names.get_name(f"model.{name}".replace("model.model.", "model."), try_suffixes=(".weight",)): array
               for name, array in tensors.items()}  # fmt: skip
    (tmp_path / "gguf").mkdir()
    path, rng, models, accepted = tmp_path / "gguf" / "model.gguf", np.random.default_rng(0), {}, []

    def load():
        fields, found = GGUF.read(path.parent)
        key = repr(config := type(model.config)(**fields))
        if key not in models:
            models[key] = type(model)(type(model.backbone)(config))
            models[key].build()
        GGUF.load(found, fields, models[key])

    write_gguf(path, values, tensors)
    load()
    for number in range(COUNT):
        kind, what = [remove, rename, reshape, retype, cut, contradict][number % 6], rng.choice(sorted(tensors))
        changed, entries = dict(tensors), dict(values)
        if kind is contradict:
            what = f"llama.{rng.choice(sizes)}"
            entries[what] = [values[what] + 1, 2 * values[what], 0, -1, 1.5, "7"][rng.integers(6)]
        elif kind is retype:
            changed[what] = changed[what].astype(["int8", "int16", "int32", "int64"][rng.integers(4)])
        elif kind is not cut:
            kind(rng, changed, what)
        write_gguf(path, entries, {key: np.ascontiguousarray(array) for key, array in changed.items()})
        if kind is cut:
            cut(rng, path)
        if not is_refused(load):
            accepted.append((number, kind.__name__, str(what), entries.get(what), [*changed]))
    assert not accepted, accepted[:5]
