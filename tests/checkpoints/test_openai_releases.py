"""OpenAI's own releases of GPT-2 and of the first GPT, beside their arithmetic written out in NumPy."""

import json
import pathlib

import numpy as np
import pytest
import tiny_models
from layer_checks import compiled, same
from safetensors.numpy import save_file

from course_lib import GPT2, Bert, BytePairTokenizer, GPT2CausalLM, OpenAIGPT, OpenAIGPTCausalLM
from course_lib.checkpoints.files import read_json, read_tensorflow
from course_lib.text.openai_gpt import OpenAIGPTTokenizer

LAYERS, WIDTH, CONTEXT = 2, 24, 16
TEXTS = ["a b c d", "abba", "e f a b c a b"]


# The two releases as NumPy reads them: conv1d, norm and attention as in `model.py` and `train.py`.


def norm(x, g, b):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * g + b


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(x, weights, name, num_heads):
    """x (T, D) → (T, D)"""
    length, width = x.shape
    q, k, v = np.split(x @ weights[f"{name}/c_attn/w"][0] + weights[f"{name}/c_attn/b"], 3, axis=-1)
    q, k, v = (part.reshape(length, num_heads, -1).swapaxes(0, 1) for part in (q, k, v))  # (N, T, H)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(width / num_heads)
    scores = np.where(np.tril(np.ones((length, length))), scores, -1e10)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(length, width)
    return mixed @ weights[f"{name}/c_proj/w"][0] + weights[f"{name}/c_proj/b"]


def feed_forward(x, weights, name):
    inside = gelu(x @ weights[f"{name}/c_fc/w"][0] + weights[f"{name}/c_fc/b"])
    return inside @ weights[f"{name}/c_proj/w"][0] + weights[f"{name}/c_proj/b"]


def logits_of(weights, ids, num_heads, norm_first):
    """The scores of the next tokens, float64 (T, V)."""
    weights = {name: array.astype("float64") for name, array in weights.items()}
    x = weights["model/wte"][ids] + weights["model/wpe"][: len(ids)]
    for layer in range(LAYERS):
        h = f"model/h{layer}"

        def normed(x, name, h=h):
            return norm(x, weights[f"{h}/{name}/g"], weights[f"{h}/{name}/b"])

        if norm_first:
            x = x + attention(normed(x, "ln_1"), weights, f"{h}/attn", num_heads)
            x = x + feed_forward(normed(x, "ln_2"), weights, f"{h}/mlp")
        else:
            x = normed(x + attention(x, weights, f"{h}/attn", num_heads), "ln_1")
            x = normed(x + feed_forward(x, weights, f"{h}/mlp"), "ln_2")
    if norm_first:
        x = norm(x, weights["model/ln_f/g"], weights["model/ln_f/b"])
    return x @ weights["model/wte"].T


def random_weights(vocabulary_size, norm_first):
    """Weights so large that every part of them matters, in the order of OpenAI's files."""
    shapes = {"model/wpe": (CONTEXT, WIDTH), "model/wte": (vocabulary_size, WIDTH)}
    for layer in range(LAYERS):
        h = f"model/h{layer}"
        shapes |= {f"{h}/attn/c_attn/w": (1, WIDTH, 3 * WIDTH), f"{h}/attn/c_attn/b": (3 * WIDTH,)}
        shapes |= {f"{h}/attn/c_proj/w": (1, WIDTH, WIDTH), f"{h}/attn/c_proj/b": (WIDTH,)}
        shapes |= {f"{h}/ln_1/g": (WIDTH,), f"{h}/ln_1/b": (WIDTH,)}
        shapes |= {f"{h}/mlp/c_fc/w": (1, WIDTH, 4 * WIDTH), f"{h}/mlp/c_fc/b": (4 * WIDTH,)}
        shapes |= {f"{h}/mlp/c_proj/w": (1, 4 * WIDTH, WIDTH), f"{h}/mlp/c_proj/b": (WIDTH,)}
        shapes |= {f"{h}/ln_2/g": (WIDTH,), f"{h}/ln_2/b": (WIDTH,)}
    if norm_first:
        shapes |= {"model/ln_f/g": (WIDTH,), "model/ln_f/b": (WIDTH,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}


def write_vocabulary(folder, tokenizer, names):
    vocabulary, merges = (folder / name for name in names)
    vocabulary.write_text(json.dumps({piece: index for index, piece in enumerate(tokenizer.vocabulary)}))
    merges.write_text("".join(f"{line}\n" for line in ["#version: 0.2", *map(" ".join, tokenizer.merges)]))


@pytest.fixture
def gpt2_release(tmp_path):
    """A folder as `download_model.py` makes it, written by TensorFlow's `Saver`."""

    def write(change=lambda weights: None, **hparams):
        import tensorflow as tf

        folder = tmp_path / "124M"
        folder.mkdir(exist_ok=True)
        weights = random_weights(tiny_models.BYTE_PAIRS.vocabulary_size, norm_first=True)
        sizes = {"n_vocab": len(weights["model/wte"]), "n_ctx": CONTEXT, "n_embd": WIDTH, "n_head": 4}
        (folder / "hparams.json").write_text(json.dumps(sizes | {"n_layer": LAYERS} | hparams))
        write_vocabulary(folder, tiny_models.BYTE_PAIRS, ("encoder.json", "vocab.bpe"))
        change(weights)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            for name, array in weights.items():
                tf.compat.v1.get_variable(name, initializer=array)
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"))
        return folder, weights

    return write


@pytest.fixture
def gpt_release(tmp_path):
    """A folder as `model/` of the first GPT's repository."""

    def write(change=lambda shapes, vector: None):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        weights = random_weights(tiny_models.CHARACTER_PAIRS.vocabulary_size, norm_first=False)
        shapes, vector = [array.shape for array in weights.values()], np.concatenate([*map(np.ravel, weights.values())])
        shapes, vector = change(shapes, vector) or (shapes, vector)
        (folder / "params_shapes.json").write_text(json.dumps(shapes))
        for number, piece in enumerate(np.split(vector, [100, 200, 300, 5000, 6000, 7000, 8000, 9000, 10_000])):
            np.save(folder / f"params_{number}.npy", piece)
        write_vocabulary(folder, tiny_models.CHARACTER_PAIRS, ("encoder_bpe_40000.json", "vocab_40000.bpe"))
        return folder, weights

    return write


RELEASES = {"gpt2_release": (GPT2CausalLM, 4), "gpt_release": (OpenAIGPTCausalLM, 12)}


@pytest.mark.parametrize("name", RELEASES)
def test_computes_what_the_published_code_computes(name, request):
    model_class, num_heads = RELEASES[name]
    folder, weights = request.getfixturevalue(name)()
    lm = model_class.from_preset(folder)
    batch = lm.tokenizer(TEXTS)
    outputs = np.asarray(compiled(lm)(batch))
    for row, ids, mask in zip(outputs, batch["token_ids"], batch["padding_mask"].astype(bool), strict=True):
        expected = logits_of(weights, ids[mask], num_heads, norm_first=name == "gpt2_release")
        same(row[mask], expected, tolerance=1e-4)
        assert np.abs(expected).max() > 1


def in_hugging_faces_layout(weights, folder, config, prefix=""):
    """The same weights as Hugging Face published them, by a rule of its own: names with dots, kernels without the 1."""
    names = {"wpe": "positions_embed.weight", "wte": "tokens_embed.weight"} if prefix else {}
    tensors = {}
    for name, array in weights.items():
        path = name.removeprefix("model/").replace("/w", ".weight").replace("/g", ".weight").replace("/b", ".bias")
        path = path.replace("/", ".").replace("h0", "h.0").replace("h1", "h.1")
        path = names.get(path, {"wpe": "wpe.weight", "wte": "wte.weight"}.get(path, path))
        tensors[prefix + path] = array[0] if array.ndim == 3 else array
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.one_backend
@pytest.mark.parametrize("name", RELEASES)
def test_the_same_weights_in_hugging_faces_layout(name, request, tmp_path):
    model_class, num_heads = RELEASES[name]
    folder, weights = request.getfixturevalue(name)()
    tokenizer = model_class.from_preset(folder).tokenizer
    sizes = {"n_layer": LAYERS, "n_head": num_heads, "n_embd": WIDTH, "n_positions": CONTEXT}
    sizes["vocab_size"] = end = tokenizer.vocabulary_size
    if name == "gpt2_release":
        sizes |= {"model_type": "gpt2", "bos_token_id": end - 1, "eos_token_id": end - 1}
    else:
        sizes |= {"model_type": "openai-gpt"}
    in_hugging_faces_layout(weights, tmp_path / "hf", sizes, "" if name == "gpt2_release" else "transformer.")
    tokenizer.save(tmp_path / "hf")
    lm, original = (model_class.from_preset(path) for path in (tmp_path / "hf", folder))
    assert lm.config == original.config
    same(lm.get_weights(), original.get_weights(), tolerance=0)
    assert lm.tokenizer.vocabulary == original.tokenizer.vocabulary and lm.tokenizer.merges == original.tokenizer.merges


@pytest.mark.one_backend
@pytest.mark.parametrize("name", RELEASES)
def test_saved_as_it_was_published(name, request, tmp_path):
    model_class, _ = RELEASES[name]
    folder, weights = request.getfixturevalue(name)()
    lm = model_class.from_preset(folder)
    lm.save_to_preset(tmp_path / "new", layout="openai")
    files = {path.name for path in folder.iterdir()} - {"model.ckpt.meta"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == files | {"tokenizer_config.json"}
    for path in folder.glob("*.json"):
        assert json.loads((tmp_path / "new" / path.name).read_text()) == json.loads(path.read_text()), path.name
    for path in folder.glob("*.bpe"):
        assert (tmp_path / "new" / path.name).read_text() == path.read_text(), path.name
    if name == "gpt2_release":
        import tensorflow as tf

        assert pathlib.Path(tf.train.latest_checkpoint(tmp_path / "new")).name == "model.ckpt", "as OpenAI's code asks"
        found = read_tensorflow(tmp_path / "new")
        assert found.keys() == weights.keys()
        assert all(np.array_equal(found[key], weights[key]) for key in weights)
    else:
        found = np.concatenate([np.load(tmp_path / "new" / f"params_{number}.npy") for number in range(10)])
        assert np.array_equal(found, np.concatenate([array.ravel() for array in weights.values()]))
    again = model_class.from_preset(tmp_path / "new")
    same(again.get_weights(), lm.get_weights(), tolerance=0)
    assert again.config == lm.config and again.tokenizer.vocabulary == lm.tokenizer.vocabulary


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("hparams", "facts"),
    [
        ({"n_head": 5}, ["num_heads", "5", "24"]),
        ({"n_layer": 1}, ["model/h1", "is unused"]),
        ({"n_layer": 3}, ["model/h2/attn/c_attn/w is missing"]),
        ({"n_ctx": 17}, ["model/wpe", "(16, 24)", "(17, 24)"]),
        ({"n_vocab": 0}, ["vocabulary_size", "0"]),
        ({"n_embd": 25, "n_head": 5}, ["model/h0/attn/c_attn/w", "(1, 24, 72)", "(1, 25, 75)"]),
        ({"n_ctx": "16"}, ["max_sequence_length", "'16'"]),
        ({"rotary": True}, ["['rotary']", "n_layer"]),
    ],
)
def test_hparams_that_cannot_be_honoured_are_refused(gpt2_release, refused, hparams, facts):
    with refused(*facts):
        GPT2.from_preset(gpt2_release(**hparams)[0])


@pytest.mark.one_backend
def test_a_tensor_of_gpt2_that_is_wrong_is_named(gpt2_release, refused):
    kernel = "model/h1/mlp/c_fc/w"
    for change, facts in (
        (lambda w: w.pop(kernel), [f"{kernel} is missing"]),
        (lambda w: w.update({kernel: w[kernel][0]}), [kernel, "(24, 96)", "(1, 24, 96)"]),
        (lambda w: w.update({"model/odd": w[kernel]}), ["model/odd is unused"]),
        (lambda w: w.update({kernel: w[kernel].astype("int32")}), [kernel, "int32", "floats"]),
    ):
        folder, _ = gpt2_release(change)
        with refused(*facts):
            GPT2CausalLM.from_preset(folder)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda s, v: (s, v[:-1]), ["numbers", "params_*.npy"]),
        (lambda s, v: (s[:-1], v), ["12 arrays per layer", "25 shapes"]),
        (lambda s, v: ([[16, 24, 1], *s[1:]], v), ["position and token embeddings", "[16, 24, 1]"]),
        (lambda s, v: ([s[0], s[1], "x", *s[3:]], v), ["list of shapes", "'x'"]),
        (lambda s, v: ([*s[:3], [36, 2], *s[4:]], v), ["model/h0/attn/c_attn/b", "(36, 2)", "(72,)"]),
        (lambda s, v: (s, v.astype("int32")), ["params_0.npy", "int32"]),
        (lambda s, v: (s, v.astype("complex64")), ["params_0.npy", "complex64"]),
    ],
)
def test_arrays_of_the_first_gpt_that_are_wrong_are_refused(gpt_release, refused, change, facts):
    with refused(*facts):
        OpenAIGPT.from_preset(gpt_release(change)[0])


class Evil:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("evil"),)


@pytest.mark.one_backend
def test_files_of_the_first_gpt_that_are_missing_broken_or_pickles_are_refused(gpt_release, refused, monkeypatch):
    path, whole = None, None
    for kept in (None, 0, 5, 100, -4):
        path = gpt_release()[0] / "params_3.npy"
        whole = path.read_bytes()
        path.unlink() if kept is None else path.write_bytes(whole[:kept])
        with refused("params_3.npy", "cut short"):
            OpenAIGPT.from_preset(path.parent)
    monkeypatch.chdir(path.parent)
    np.save(path, np.array([Evil()], object))
    with refused("params_3.npy", "pickle"):
        OpenAIGPT.from_preset(path.parent)
    assert not (path.parent / "evil").exists()
    (path.parent / "params_shapes.json").write_text("{}")
    with refused("params_shapes.json", "list", "dict"):
        OpenAIGPT.from_preset(path.parent)


@pytest.mark.one_backend
def test_a_model_that_the_layouts_cannot_describe_is_not_saved(tmp_path, refused):
    where = tmp_path / "new"
    with refused("activation", "'relu'", "end_token_id"):
        tiny_models.gpt2(activation="relu", intermediate_dim=None, end_token_id=-1).save_to_preset(
            where, layout="openai"
        )
    with refused("num_heads must be 12, not 2"):
        tiny_models.openai_gpt().save_to_preset(where, layout="openai")
    with refused("classes", "TextClassifier"):
        tiny_models.text_classifier(backbone=tiny_models.gpt2).save_to_preset(where, layout="openai")
    with refused("float16, float32, float64", "bfloat16"):
        tiny_models.openai_gpt(num_heads=12, hidden_dim=24).save_to_preset(where, "bfloat16", layout="openai")
    assert not where.exists()


@pytest.mark.one_backend
def test_another_class_is_named_for_the_folder(gpt2_release, gpt_release, refused):
    (gpt2, _), (gpt, _) = gpt2_release(), gpt_release()
    for model_class, folder, name in ((Bert, gpt2, "GPT2"), (OpenAIGPT, gpt2, "GPT2"), (GPT2, gpt, "OpenAIGPT")):
        with refused(f"with {name} or one of its tasks"):
            model_class.from_preset(folder)
    assert BytePairTokenizer.from_preset(gpt2).vocabulary == tiny_models.BYTE_PAIRS.vocabulary
    assert OpenAIGPTTokenizer.from_preset(gpt).merges == tiny_models.CHARACTER_PAIRS.merges
    assert read_json(gpt2 / "hparams.json")["n_ctx"] == CONTEXT
