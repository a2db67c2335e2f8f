"""Counts what a model computes and stores, from its config alone: parameters, floating-point operations and bytes.

The operations are those of the matrix products, two for each multiplication with its addition (Kaplan et al., 2020,
https://arxiv.org/abs/2001.08361, section 2.1, whose table counts half of attention's). Norms, activations and softmax
add one or two per cent. What they cost is mostly the time to read and write memory.

Shapes: B batch, T length, S keys, N heads, K heads for keys and values, H width of one head, D model width, F width
inside the feed-forward layers, V vocabulary, P scored positions.

Example:
    >>> config = GPT2Config(50257, 12, 12, 768)
    >>> sum(parameters(config).values())
    124439808
    >>> sum(forward(config, batch_size=1, length=1024).values()) / 1e9  # 10⁹ operations
    291.6...
"""

from course_lib.models.bert import BertConfig
from course_lib.models.llama import LlamaConfig
from course_lib.models.openai_gpt import OpenAIGPTConfig


def parameters(config):
    """Counts the weights of a `BertPretrainer`, or of a decoder that is a language model.

    Args:
        config: a `BertConfig`, `GPT2Config`, `OpenAIGPTConfig` or `LlamaConfig`.

    Returns:
        A dict of integers: `embeddings`, `attention`, `feed_forward`, `norms`, and `head`, the weights of the heads
        that are not shared with the embeddings.
    """
    layers, width, inner = config.num_layers, config.hidden_dim, _inner(config)
    queries, keys, kernels = _shape(config)
    is_bert, is_llama = isinstance(config, BertConfig), isinstance(config, LlamaConfig)
    has_bias = not is_llama
    embeddings = config.vocabulary_size + (0 if is_llama else config.max_sequence_length)
    head = 0
    if is_bert:
        embeddings += config.num_segments
        head = width**2 + 3 * width + config.vocabulary_size
        head += (width**2 + width + 2 * width + 2) * config.pooler
    elif is_llama and not config.tie_embeddings:
        head = config.vocabulary_size * width
    num_norms = 2 * layers + (not isinstance(config, OpenAIGPTConfig))  # after the embeddings, or after the last block
    return {
        "embeddings": embeddings * width,
        "attention": layers * (2 * width * (queries + keys) + has_bias * (queries + 2 * keys + width)),
        "feed_forward": layers * (kernels * width * inner + has_bias * (inner + width)),
        "norms": num_norms * width * (1 if is_llama else 2),
        "head": head,
    }


def forward(config, batch_size, length, keys=None, scored=None):
    """Counts the operations of one pass through the model.

    Args:
        config: as in `parameters`.
        batch_size: B.
        length: T, tokens per row.
        keys: S, positions that each token attends to, masked ones included. Defaults to T.
        scored: P, positions per row that a head gives logits. Defaults to all for a decoder, and to none for a BERT.

    Returns:
        A dict of integers: `projections`, queries, keys, values and output; `attention`, scores and weighted values;
        `feed_forward`; and `head`, with BERT's pooler.
    """
    tokens, width = batch_size * length, config.hidden_dim
    queries, shared, kernels = _shape(config)
    is_bert = isinstance(config, BertConfig)
    scored = batch_size * ((0 if is_bert else length) if scored is None else scored)
    head = 2 * scored * width * (config.vocabulary_size + (width if is_bert else 0))
    if is_bert and config.pooler:
        head += 2 * batch_size * width**2
    return {
        "projections": 2 * tokens * config.num_layers * 2 * width * (queries + shared),
        "attention": 2 * tokens * config.num_layers * 2 * queries * (length if keys is None else keys),
        "feed_forward": 2 * tokens * config.num_layers * kernels * width * _inner(config),
        "head": head,
    }


def training_step(config, batch_size, length, scored=None, rematerialised=False):
    """Counts the operations of a training step: forward, and twice as many backward (Kaplan et al., 2020, section 2.1).

    Backward, each product of the forward pass becomes two, one for the gradient of each factor.

    Args:
        config: as in `parameters`.
        batch_size: B.
        length: T.
        scored: P, as in `forward`.
        rematerialised: whether the blocks are computed a second time, to keep fewer activations.

    Returns:
        A dict, as from `forward`.
    """
    parts = forward(config, batch_size, length, scored=scored)
    return {name: count * (4 if rematerialised and name != "head" else 3) for name, count in parts.items()}


def cache_bytes(config, batch_size, length, bytes_per_value=4):
    """Counts the bytes of a decoder's keys and values.

    Args:
        config: of a decoder.
        batch_size: B.
        length: S, positions in the cache.
        bytes_per_value: such as 4 for float32.

    Returns:
        An integer.
    """
    return 2 * config.num_layers * batch_size * length * _shape(config)[1] * bytes_per_value


def decoding_bytes(config, batch_size, length, bytes_per_weight=4, bytes_per_value=4):
    """Counts the bytes that a decoder has to read to append one token to each row: its weights once, and its cache.

    Args:
        config: of a decoder.
        batch_size: B.
        length: S, positions in the cache.
        bytes_per_weight: such as 4 for float32, 1 for int8.
        bytes_per_value: bytes of a value in the cache.

    Returns:
        A number.
    """
    weights = sum(parameters(config).values())
    if getattr(config, "tie_embeddings", True) is False:  # of an untied table, one row per token is read
        weights -= config.vocabulary_size * config.hidden_dim
    return weights * bytes_per_weight + cache_bytes(config, batch_size, length, bytes_per_value)


def _shape(config):
    """Returns N·H and K·H, and how many kernels of D × F a feed-forward layer has."""
    if isinstance(config, LlamaConfig):
        return config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim, 3
    return config.hidden_dim, config.hidden_dim, 2


def _inner(config):
    return config.intermediate_dim or 4 * config.hidden_dim
