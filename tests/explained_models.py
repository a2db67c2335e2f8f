"""Tiny models with random weights that have something to explain."""

import tiny_models
from layer_checks import randomize

from course_lib import TextClassifier


def randomized(model):
    model.build()
    randomize(model)
    return model


def classifier(pooling="mean", **changes):
    return randomized(TextClassifier(tiny_models.bert(**changes), ["bad", "good", "neither"], pooling))


def causal_lm():
    return randomized(tiny_models.gpt2_causal_lm())


def llama_lm():
    return randomized(tiny_models.llama_causal_lm(num_heads=4, num_key_value_heads=2))


def translator():
    return randomized(tiny_models.seq2seq_lm(num_layers=2))
