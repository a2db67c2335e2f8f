"""Our GPT-2 and our Llama beside KerasHub's and Hugging Face's, on the same weights: decoding, and GPT-2's training.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/decoding.json`.
Run it on a quiet machine. llama.cpp takes part if it is there: `pip install llama-cpp-python` builds it.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import tempfile
import time
import warnings

import keras
import numpy as np
from measure import compiled, has_bfloat16, header, interleaved, matrix_rate, products, write

from course_lib import GPT2, GPT2CausalLM, GPT2Config, LlamaCausalLM, assets
from course_lib.data import reviews
from course_lib.generation.loop import Compiled
from course_lib.text.byte_pair import BytePairTokenizer
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW

NO_DROPOUT = {"embedding_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
SMALL = GPT2Config(vocabulary_size=50257, num_layers=12, num_heads=12, hidden_dim=768, **NO_DROPOUT)  # 124 M weights
PROMPT, NEW = 32, 64
BATCHES = 1, 8
ROUNDS = 5
ROWS, LENGTH = 4, 128  # of a training step
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
SMOLLM = "smollm2-135m-instruct"
REVIEWS = {"gpt-mini": 200, SMOLLM: 20}  # whose loss tells what low precision costs: random weights have none to lose
PRECISIONS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},  # Keras rounds the activations, too
    "int8, weights alone": {"quantize": keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)},
    "int4": {"quantize": "int4"},  # weights alone, in blocks of 128
}


def save_random(folder):
    """Writes a GPT-2 with random weights, and GPT-2's vocabulary."""
    keras.utils.set_random_seed(0)
    tokenizer = BytePairTokenizer.from_preset("gpt2-vocabulary")
    model = GPT2CausalLM(GPT2(SMALL, tokenizer, dtype="float32"), dtype="float32")
    model.save_to_preset(folder)


def load(model_class, preset, dtype="float32", quantize=None):
    """Our model in one of `PRECISIONS`."""
    model = model_class.from_preset(preset, dtype=dtype)
    if quantize:
        model.quantize(config=quantize)
    return model


def decode_ours(model_class, preset, prompts, precision="float32"):
    """Our greedy decoding: a function that returns the new token ids (B, 64); and the bytes of the weights."""
    model = load(model_class, preset, **PRECISIONS[precision])
    return lambda: np.array(model.generate(prompts.tolist(), NEW, ignore_end=True)), bytes_of(model)


def decode_keras_hub(family, folder, prompts, jit_compile, **arguments):
    """The same by KerasHub."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    backbone = getattr(keras_hub.models, f"{family}Backbone").from_preset(folder, **arguments)
    model = getattr(keras_hub.models, f"{family}CausalLM")(backbone, preprocessor=None)
    model.compile(sampler="greedy", jit_compile=jit_compile)
    width = ((0, 0), (0, NEW))
    inputs = {"token_ids": np.pad(prompts, width), "padding_mask": np.pad(np.ones_like(prompts), width)}
    return lambda: model.generate(dict(inputs), stop_token_ids=None)["token_ids"][:, PROMPT:], bytes_of(model)


def decode_hugging_face(folder, prompts, **arguments):
    """The same by Hugging Face, with the cache that it takes by default."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **arguments).eval()
    inputs = torch.tensor(prompts).long()
    options = {"attention_mask": torch.ones_like(inputs), "do_sample": False, "pad_token_id": 0}

    def decode():
        with torch.inference_mode():
            ids = model.generate(inputs, min_new_tokens=NEW, max_new_tokens=NEW, **options)
        return ids[:, PROMPT:].numpy()

    return decode, sum(weight.nbytes for weight in model.parameters())


def decode_llama_cpp(path, prompts):
    """The same for one prompt by llama.cpp, which multiplies by the weights as they are in the file."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=PROMPT + NEW, n_threads=os.cpu_count(), verbose=False)

    def decode():
        model.reset()  # or it would remember the prompt
        return np.array([list(itertools.islice(model.generate(prompts[0].tolist(), temp=0.0), NEW))])

    return decode, llama_cpp.llama_model_size(model.model)


def bytes_of(model):
    """Bytes of a Keras model's weights."""
    return sum(np.asarray(weight).nbytes for weight in model.weights)


def readers(count):
    """Ways to read so many float32 numbers once for each new token. The fastest says what the machine can read."""
    width = SMALL.hidden_dim
    matrix, vector = keras.ops.ones((count // width, width)), keras.ops.ones((width, 1))
    ways = {
        "product": Compiled(lambda matrix, vector: keras.ops.matmul(matrix, vector)[0, 0], list, jit_compile=False),
        "product, XLA": Compiled(lambda matrix, vector: keras.ops.matmul(matrix, vector)[0, 0], list, jit_compile=True),
        "maximum": Compiled(lambda matrix, vector: keras.ops.max(matrix), list, jit_compile=False),
    }
    return {
        f"reading, {name}": lambda read=read: [float(read(matrix, vector)) for _ in range(NEW)]
        for name, read in ways.items()
    }


def race(candidates, weights):
    """Times what the functions `decode_…` return, beside reading so many float32 weights once a token."""
    sizes = {name: size for name, (_, size) in candidates.items()}
    candidates = {name: call for name, (call, _) in candidates.items()}
    first, tokens = {}, {}
    for name, call in candidates.items():  # compiles, where there is something to compile
        start = time.perf_counter()
        tokens[name] = call()
        first[name] = time.perf_counter() - start
        assert tokens[name].shape == tokens["ours, float32"].shape, name
        if "float32" in name:
            assert np.array_equal(tokens[name][:, 0], tokens["ours, float32"][:, 0]), name
    reading = readers(weights)
    seconds = interleaved(candidates | reading, ROUNDS)
    limit = min(seconds.pop(name) for name in reading)
    ours = seconds["ours, float32"]
    lower = [name for name in PRECISIONS if name != "float32" and f"ours, {name}" in seconds]
    figures = {
        "seconds": seconds,
        "milliseconds a token": {name: 1000 * value / NEW for name, value in seconds.items()},
        "tokens a second": {name: tokens[name].size / value for name, value in seconds.items()},
        "seconds to compile": {
            name: first[name] - seconds[name] for name in seconds if name.startswith(("ours", "KerasHub"))
        },
        "times KerasHub": seconds["KerasHub, float32"] / ours,  # as `compile` leaves it on a CPU
        "times KerasHub under XLA": seconds["KerasHub, float32, XLA"] / ours,
        "times Hugging Face": seconds["Hugging Face, float32"] / ours,
        **{f"times float32, in {name}": ours / seconds[f"ours, {name}"] for name in lower},
        "reading the weights once a token": limit,
        "gigabytes read a second": 4e-9 * weights * NEW / limit,
        "megabytes of weights": {name: 1e-6 * sizes[name] for name in seconds},
        "share of what that allows": {  # to read these megabytes once a token, and do nothing else
            name: limit * sizes[name] / sizes["ours, float32"] / seconds[name] for name in seconds
        },
        "share of tokens that are ours in float32": {
            name: float(np.mean(tokens[name] == tokens["ours, float32"])) for name in tokens
        },
        "bfloat16 in the processor": has_bfloat16(),
    }
    print(json.dumps(figures, indent=2), flush=True)
    return figures


def decoding(results, folder):
    """Greedy decoding of GPT-2, batch 1 and 8, against the rivals and against reading the weights once a token."""
    weights = GPT2CausalLM.from_preset(folder).count_params() - SMALL.max_sequence_length * SMALL.hidden_dim
    for batch in BATCHES:
        prompts = np.random.default_rng(0).integers(0, SMALL.vocabulary_size, (batch, PROMPT)).astype("int32")
        candidates = {
            "ours, float32": decode_ours(GPT2CausalLM, folder, prompts),
            "KerasHub, float32": decode_keras_hub("GPT2", folder, prompts, jit_compile=False),
            "KerasHub, float32, XLA": decode_keras_hub("GPT2", folder, prompts, jit_compile=True),
            "Hugging Face, float32": decode_hugging_face(folder, prompts),
            "ours, bfloat16": decode_ours(GPT2CausalLM, folder, prompts, "bfloat16"),
            "ours, int8": decode_ours(GPT2CausalLM, folder, prompts, "int8"),
        }
        results[f"decoding, batch {batch}"] = race(candidates, weights)


def decoding_smollm(results, folder):
    """The same of SmolLM2, a Llama in a 4-bit file, batch 1. What computes in float32 has that file's weights."""
    (path,) = assets.fetch(SMOLLM).glob("*.gguf")
    model = load(LlamaCausalLM, SMOLLM)
    folder = f"{folder}/{SMOLLM}"
    model.save_to_preset(folder)  # for KerasHub, which does not read such files, nor the epsilon in the config
    hub = {"layer_norm_epsilon": model.config.rms_norm_epsilon}
    prompts = np.array([model.tokenizer.encode(reviews.imdb().validation.texts[0])[:PROMPT]], "int32")
    candidates = {
        "ours, float32": decode_ours(LlamaCausalLM, SMOLLM, prompts),
        "KerasHub, float32": decode_keras_hub("Llama3", folder, prompts, jit_compile=False, **hub),
        "KerasHub, float32, XLA": decode_keras_hub("Llama3", folder, prompts, jit_compile=True, **hub),
        "Hugging Face, float32": decode_hugging_face(path.parent, prompts, gguf_file=path.name),
    }
    if importlib.util.find_spec("llama_cpp"):
        candidates["llama.cpp, 4 bits"] = decode_llama_cpp(path, prompts)
    else:
        print("There is no llama-cpp-python: llama.cpp is not timed.", flush=True)
    for precision in [*PRECISIONS][1:]:
        candidates[f"ours, {precision}"] = decode_ours(LlamaCausalLM, SMOLLM, prompts, precision)
    results["decoding, SmolLM2-135M-Instruct, batch 1"] = race(candidates, model.count_params())


def held_out_loss(model, rows):
    """Nats a token, of all tokens but the first, from rows as the tokenizer returns them."""
    score = compiled(lambda inputs: model(inputs))
    losses, weights = 0.0, 0
    for start in range(0, len(rows["token_ids"]), 8):
        inputs = {name: array[start : start + 8] for name, array in rows.items()}
        logits = keras.ops.cast(score(inputs)[:, :-1], "float32")
        loss = keras.losses.sparse_categorical_crossentropy(inputs["token_ids"][:, 1:], logits, from_logits=True)
        is_token = inputs["padding_mask"][:, 1:]
        losses += float(np.sum(keras.ops.convert_to_numpy(loss) * is_token))
        weights += int(is_token.sum())
    return losses / weights


def precision(results, folder):
    """What low precision costs in loss on reviews that were held out, with weights that have learned something."""
    for preset, count in REVIEWS.items():
        model_class = LlamaCausalLM if preset == SMOLLM else GPT2CausalLM
        try:
            model = load(model_class, preset)
        except ValueError:
            print(f"There is no preset {preset}: the loss in low precision is not measured.", flush=True)
            continue
        length = min(LENGTH, model.config.max_sequence_length)
        rows = model.tokenizer(reviews.imdb().validation.texts[:count], max_length=length)
        losses = {
            name: held_out_loss(load(model_class, preset, **arguments), rows) for name, arguments in PRECISIONS.items()
        }
        results[f"loss, {preset}"] = {
            "of": f"{preset}, on the first {rows['token_ids'].shape[1]} tokens of {count} held-out reviews",
            "nats a token": losses,
            "change": {name: loss - losses["float32"] for name, loss in losses.items() if name != "float32"},
        }
        print(json.dumps(results[f"loss, {preset}"], indent=2), flush=True)


def train_ours(folder, inputs, targets, dtype, jit_compile):
    """A step of ours."""
    model = GPT2CausalLM.from_preset(folder, dtype=dtype)
    optimizer = AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0)
    model.compile(optimizer, loss=CrossEntropy(), jit_compile=jit_compile)
    return lambda: float(model.train_on_batch(inputs, targets))


def train_keras_hub(folder, inputs, targets, jit_compile):
    """A step of KerasHub's."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    backbone = keras_hub.models.GPT2Backbone.from_preset(folder, dropout=0.0)
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0)
    model.compile(optimizer, loss=CrossEntropy(), weighted_metrics=None, jit_compile=jit_compile)
    return lambda: float(np.ravel(model.train_on_batch(inputs, targets))[0])  # the loss alone, or in a list


def train_hugging_face(folder, inputs, targets):
    """A step of Hugging Face's."""
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
    arguments = {theirs: torch.tensor(inputs[name]).long() for name, theirs in names.items()}
    labels = torch.tensor(targets).long().flatten()

    def step():
        loss = torch.nn.functional.cross_entropy(model(**arguments).logits.flatten(0, 1), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def training(results, folder):
    """A training step on full rows of random tokens."""
    tokens = np.random.default_rng(0).integers(0, SMALL.vocabulary_size, (ROWS, LENGTH + 1)).astype("int32")
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((ROWS, LENGTH), "int32")}
    data = inputs, tokens[:, 1:]
    candidates = {
        "ours, float32": train_ours(folder, *data, dtype="float32", jit_compile=False),
        "ours, float32, XLA": train_ours(folder, *data, dtype="float32", jit_compile=True),
        "ours, bfloat16": train_ours(folder, *data, dtype="mixed_bfloat16", jit_compile=False),
        "KerasHub, float32": train_keras_hub(folder, *data, jit_compile=False),
        "KerasHub, float32, XLA": train_keras_hub(folder, *data, jit_compile=True),
        "Hugging Face, float32": train_hugging_face(folder, *data),
    }
    for name, step in candidates.items():  # all begin at chance
        assert abs(step() - np.log(SMALL.vocabulary_size)) < 0.3, name
    seconds = interleaved(candidates, ROUNDS)
    count = ROWS * LENGTH
    head = 2 * count * SMALL.hidden_dim * SMALL.vocabulary_size
    operations = 3 * (products(SMALL, np.full(ROWS, LENGTH)) + head)  # backward: twice forward
    rates = {dtype: matrix_rate(dtype, count, SMALL) for dtype in ("float32", "bfloat16")}
    fastest = min(seconds["ours, float32"], seconds["ours, float32, XLA"])
    results["training"] = {
        "sizes": f"{ROWS} rows of {LENGTH} tokens",
        "seconds": seconds,
        "tokens a second": {name: count / value for name, value in seconds.items()},
        "times KerasHub": seconds["KerasHub, float32"] / fastest,  # as `compile` leaves it on a CPU
        "times KerasHub under XLA": seconds["KerasHub, float32, XLA"] / fastest,
        "times Hugging Face": seconds["Hugging Face, float32"] / fastest,
        "matrix products a second": rates,
        "share of that rate": {
            name: operations / value / rates["bfloat16" if "bfloat16" in name else "float32"]
            for name, value in seconds.items()
        },
    }
    print(json.dumps(results["training"], indent=2), flush=True)


def main():
    """Runs all of it, prints the figures and writes them down."""
    warnings.filterwarnings("ignore", ".*does not have a `quantize` method")  # as Keras says of norms and dropout
    results = header()
    with tempfile.TemporaryDirectory() as folder:
        save_random(folder)
        for part in (decoding, decoding_smollm, precision, training):
            part(results, folder)
    write(results, __file__)


if __name__ == "__main__":
    main()
