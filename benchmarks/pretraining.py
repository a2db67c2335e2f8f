"""A training step of our BERT beside KerasHub's and Hugging Face's: the same sizes, rows and predictions, in one run.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/pretraining.json`.
Run it on a quiet machine.
"""

import contextlib
import dataclasses
import json

import keras
import numpy as np
from measure import header, interleaved, matrix_rate, products, write

from course_lib import BertConfig, WordPieceTokenizer
from course_lib.text.masking import Masking
from course_lib.text.word_piece import SPECIAL_TOKENS
from course_lib.training.losses import CrossEntropy
from course_lib.training.pretrain import build
from course_lib.training.recipes import RECIPES

RECIPE = dataclasses.replace(
    RECIPES["bert-mini"], start=None, num_layers=4, num_heads=4, hidden_dim=256, intermediate_dim=1024, batch_size=32
)
VARIANTS = {  # of ours
    "ours, float32": {"dtype": "float32", "jit_compile": False},
    "ours, float32, XLA": {"dtype": "float32", "jit_compile": True},
    "ours, bfloat16": {"dtype": "mixed_bfloat16", "jit_compile": False},
    "ours, bfloat16, XLA": {"dtype": "mixed_bfloat16", "jit_compile": True},
}


def batch():
    """Random rows, masked as in pre-training: inputs, targets and sample weights."""
    rng = np.random.default_rng(0)
    shape = RECIPE.batch_size, RECIPE.length
    inputs = {
        "token_ids": rng.integers(len(SPECIAL_TOKENS), RECIPE.vocabulary_size, shape, dtype="int32"),
        "segment_ids": np.repeat([[0, 1]], RECIPE.length // 2, axis=1)
        .repeat(RECIPE.batch_size, axis=0)
        .astype("int32"),
        "padding_mask": np.ones(shape, "int32"),
    }
    masking = Masking(
        SPECIAL_TOKENS.index("[MASK]"),
        np.arange(len(SPECIAL_TOKENS), RECIPE.vocabulary_size),
        positions=RECIPE.predictions,
    )
    inputs, tokens, weights = masking(inputs, seed=0, step=0)
    follows = rng.integers(0, 2, RECIPE.batch_size, dtype="int32")
    ones = np.ones(RECIPE.batch_size, "float32")
    return inputs, {"mlm_logits": tokens, "nsp_logits": follows}, {"mlm_logits": weights, "nsp_logits": ones}


def ours(inputs, targets, weights, **settings):
    """A training step of `BertPretrainer`: both objectives."""
    vocabulary = [*SPECIAL_TOKENS, *(f"piece {index}" for index in range(RECIPE.vocabulary_size - len(SPECIAL_TOKENS)))]
    model = build(dataclasses.replace(RECIPE, **settings), WordPieceTokenizer(vocabulary))
    return lambda: float(model.train_on_batch(inputs, targets, weights)[0])


def keras_hub(inputs, targets, weights):
    """A training step of KerasHub's masked language model, which has no next-sentence head."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=RECIPE.vocabulary_size,
        num_layers=RECIPE.num_layers,
        num_heads=RECIPE.num_heads,
        hidden_dim=RECIPE.hidden_dim,
        intermediate_dim=RECIPE.intermediate_dim,
        dropout=0.0,
        max_sequence_length=RECIPE.max_sequence_length,
    )
    model = keras_hub.models.BertMaskedLM(backbone)
    optimizer = keras.optimizers.AdamW(RECIPE.learning_rate, weight_decay=RECIPE.weight_decay, global_clipnorm=1.0)
    model.compile(optimizer, loss=CrossEntropy(), jit_compile=False)
    return lambda: float(model.train_on_batch(inputs, targets["mlm_logits"], weights["mlm_logits"])[0])


def hugging_face(inputs, targets, weights):
    """A training step of `transformers.BertForPreTraining`: both objectives, logits at every position."""
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=RECIPE.vocabulary_size,
        hidden_size=RECIPE.hidden_dim,
        num_hidden_layers=RECIPE.num_layers,
        num_attention_heads=RECIPE.num_heads,
        intermediate_size=RECIPE.intermediate_dim,
        max_position_embeddings=RECIPE.max_sequence_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
    labels = np.full(inputs["token_ids"].shape, -100)  # what its loss passes over
    np.put_along_axis(labels, inputs["mask_positions"], targets["mlm_logits"], axis=1)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    arguments = {theirs: torch.tensor(inputs[name]).long() for name, theirs in names.items()}
    arguments |= {"labels": torch.tensor(labels), "next_sentence_label": torch.tensor(targets["nsp_logits"]).long()}

    def step():
        loss = model(**arguments).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def main():
    """Runs all of it, prints the figures and writes them down."""
    data = batch()
    assert data[2]["mlm_logits"].all()  # every row has all its predictions
    candidates = {name: ours(*data, **settings) for name, settings in VARIANTS.items()}
    candidates |= {"KerasHub, float32": keras_hub(*data), "Hugging Face, float32": hugging_face(*data)}
    for name, step in candidates.items():  # all begin at chance
        chance = np.log(RECIPE.vocabulary_size) + (0 if "KerasHub" in name else np.log(2))
        assert abs(step() - chance) < 0.3, name
    seconds = interleaved(candidates, 5)
    tokens = RECIPE.batch_size * RECIPE.length
    sizes = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim")
    config = BertConfig(**{name: getattr(RECIPE, name) for name in sizes})
    head = 2 * RECIPE.batch_size * RECIPE.predictions * RECIPE.hidden_dim * (RECIPE.hidden_dim + RECIPE.vocabulary_size)
    operations = 3 * (products(config, np.full(RECIPE.batch_size, RECIPE.length)) + head)  # backward: twice forward
    rates = {dtype: matrix_rate(dtype, tokens, config) for dtype in ("float32", "bfloat16")}
    fastest = min((name for name in VARIANTS if "float32" in name), key=seconds.get)
    results = header() | {
        "sizes": f"{config.num_layers} layers, {config.hidden_dim} wide, {tokens} tokens, {RECIPE.predictions} a row",
        "seconds": seconds,
        "tokens a second": {name: tokens / value for name, value in seconds.items()},
        "times KerasHub": seconds["KerasHub, float32"] / seconds[fastest],
        "times Hugging Face": seconds["Hugging Face, float32"] / seconds[fastest],
        "matrix products a second": rates,
        "share of that rate": {
            name: operations / value / rates["bfloat16" if "bfloat16" in name else "float32"]
            for name, value in seconds.items()
            if "Hugging" not in name  # which computes logits that nobody asks for
        },
    }
    print(json.dumps(results, indent=2))
    write(results, __file__)


if __name__ == "__main__":
    main()
