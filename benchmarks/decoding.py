"""Our GPT-2 beside KerasHub's and Hugging Face's, of GPT-2's size and on the same weights: decoding, and training.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/decoding.json`.
Run it on a quiet machine.
"""

import contextlib
import json
import tempfile
import time
import warnings

import keras
import numpy as np
from measure import compiled, has_bfloat16, header, interleaved, matrix_rate, products, write

from course_lib import GPT2, GPT2CausalLM, GPT2Config
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
PRESET, REVIEWS = "gpt-mini", 200  # whose loss tells what low precision costs: random weights have none to lose


def save_random(folder):
    """Writes a GPT-2 with random weights, and GPT-2's vocabulary."""
    keras.utils.set_random_seed(0)
    tokenizer = BytePairTokenizer.from_preset("gpt2-vocabulary")
    model = GPT2CausalLM(GPT2(SMALL, tokenizer, dtype="float32"), dtype="float32")
    model.save_to_preset(folder)


def decode_ours(folder, prompts, dtype="float32", quantize=None):
    """Our greedy decoding: a function that returns the new token ids (B, 64)."""
    model = GPT2CausalLM.from_preset(folder, dtype=dtype)
    if quantize:
        model.quantize(quantize)
    return lambda: np.array(model.generate(prompts.tolist(), NEW, ignore_end=True))


def decode_keras_hub(folder, prompts, jit_compile):
    """The same by KerasHub."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    model = keras_hub.models.GPT2CausalLM(keras_hub.models.GPT2Backbone.from_preset(folder), preprocessor=None)
    model.compile(sampler="greedy", jit_compile=jit_compile)
    width = ((0, 0), (0, NEW))
    inputs = {"token_ids": np.pad(prompts, width), "padding_mask": np.pad(np.ones_like(prompts), width)}
    return lambda: model.generate(dict(inputs), stop_token_ids=None)["token_ids"][:, PROMPT:]


def decode_hugging_face(folder, prompts):
    """The same by Hugging Face, with the cache that it takes by default."""
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    inputs = torch.tensor(prompts).long()
    arguments = {"attention_mask": torch.ones_like(inputs), "do_sample": False, "pad_token_id": 0}

    def decode():
        with torch.inference_mode():
            ids = model.generate(inputs, min_new_tokens=NEW, max_new_tokens=NEW, **arguments)
        return ids[:, PROMPT:].numpy()

    return decode


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


def decoding(results, folder):
    """Greedy decoding, batch 1 and 8, against the rivals and against reading the weights once a token."""
    weights = GPT2CausalLM.from_preset(folder).count_params() - SMALL.max_sequence_length * SMALL.hidden_dim
    for batch in BATCHES:
        prompts = np.random.default_rng(0).integers(0, SMALL.vocabulary_size, (batch, PROMPT)).astype("int32")
        candidates = {
            "ours, float32": decode_ours(folder, prompts),
            "KerasHub, float32": decode_keras_hub(folder, prompts, jit_compile=False),
            "KerasHub, float32, XLA": decode_keras_hub(folder, prompts, jit_compile=True),
            "Hugging Face, float32": decode_hugging_face(folder, prompts),
            "ours, bfloat16": decode_ours(folder, prompts, dtype="bfloat16"),
            "ours, int8": decode_ours(folder, prompts, quantize="int8"),
        }
        first, tokens = {}, {}
        for name, call in candidates.items():  # compiles, where there is something to compile
            start = time.perf_counter()
            tokens[name] = call()
            first[name] = time.perf_counter() - start
            assert tokens[name].shape == (batch, NEW), name
            if "float32" in name:
                assert np.array_equal(tokens[name][:, 0], tokens["ours, float32"][:, 0]), name
        reading = readers(weights)
        seconds = interleaved(candidates | reading, ROUNDS)
        limit = min(seconds.pop(name) for name in reading)
        ours = seconds["ours, float32"]
        results[f"decoding, batch {batch}"] = {
            "seconds": seconds,
            "milliseconds a token": {name: 1000 * value / NEW for name, value in seconds.items()},
            "seconds to compile": {name: first[name] - seconds[name] for name in seconds if "Hugging" not in name},
            "times KerasHub": seconds["KerasHub, float32"] / ours,  # as `compile` leaves it on a CPU
            "times KerasHub under XLA": seconds["KerasHub, float32, XLA"] / ours,
            "times Hugging Face": seconds["Hugging Face, float32"] / ours,
            "times float32, in bfloat16": ours / seconds["ours, bfloat16"],
            "times float32, in int8": ours / seconds["ours, int8"],
            "reading the weights once a token": limit,
            "gigabytes read a second": 4e-9 * weights * NEW / limit,
            "share of what that allows": {name: limit / seconds[name] for name in seconds if "float32" in name},
            "share of tokens that are ours in float32": {
                name: float(np.mean(tokens[name] == tokens["ours, float32"])) for name in tokens
            },
            "bfloat16 in the processor": has_bfloat16(),
        }
        print(json.dumps(results[f"decoding, batch {batch}"], indent=2), flush=True)


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
    try:
        model = GPT2CausalLM.from_preset(PRESET, dtype="float32")
    except ValueError:
        print(f"There is no preset {PRESET}: the loss in low precision is not measured.", flush=True)
        return
    config = model.backbone.config
    rows = model.tokenizer(
        reviews.imdb().validation.texts[:REVIEWS], max_length=min(LENGTH, config.max_sequence_length)
    )
    losses = {"float32": held_out_loss(model, rows)}
    losses["bfloat16"] = held_out_loss(GPT2CausalLM.from_preset(PRESET, dtype="bfloat16"), rows)
    model.quantize("int8")
    losses["int8"] = held_out_loss(model, rows)
    results["loss"] = {
        "of": f"{PRESET}, on the first {rows['token_ids'].shape[1]} tokens of {REVIEWS} held-out reviews",
        "nats a token": losses,
        "change": {name: losses[name] - losses["float32"] for name in ("bfloat16", "int8")},
    }
    print(json.dumps(results["loss"], indent=2), flush=True)


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
        for part in (decoding, precision, training):
            part(results, folder)
    write(results, __file__)


if __name__ == "__main__":
    main()
