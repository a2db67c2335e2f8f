"""How the models of this course start pre-training: with heads that look at neighbours, and with token frequencies.

With random weights, attention must first learn what a position is. For millions of tokens every head averages over the
row, and the loss stays at the level that token frequencies alone reach. A model whose heads look at neighbours from the
start skips that plateau. Mimetic initialization (Trockman and Kolter, 2023, https://arxiv.org/abs/2305.09828) is
similar: it starts from the patterns of trained heads.

Shapes: T length, N heads, H width of one head, D model width, V vocabulary.
"""

import numpy as np


def relative_position_initialization(bert, scale=1.75, seed=5):
    """Makes the heads of the first block look at neighbours: 1 left, 1 right, 2 left, 2 right, and so on.

    Each position gets the sines and cosines of D/2 angular frequencies, spread evenly between 0 and π per token. Moving
    along the row rotates each such pair. Every head takes 1/N of the pairs. Its query passes them on, and its key
    rotates them back by the head's offset, so their product is largest where the key's position is the query's plus the
    offset. The pairs are assigned to the heads at random, since evenly spaced frequencies would match again at distant
    positions.

    Args:
        bert: a built `Bert`. Its position embeddings, and the queries and keys of its first block, are replaced.
        scale: factor of the query and key kernels. The larger it is, the sharper the attention.
        seed: seed for assigning the pairs.

    Raises:
        ValueError: if H is odd.
    """
    config, attention = bert.config, bert.encoder.blocks[0].attention
    heads, width, dim = config.num_heads, config.hidden_dim // config.num_heads, config.hidden_dim
    if width % 2:
        raise ValueError(f"Expected heads of an even width, since sines and cosines go in pairs; got {width}.")
    frequencies = np.pi * (np.arange(dim // 2) + 0.5) / (dim // 2)
    angles = np.arange(config.max_sequence_length)[:, None] * frequencies  # (T, D/2)
    positions = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, dim)  # (T, D)
    bert.position_embedding.embeddings.assign(positions * config.initializer_range * 2**0.5)

    query, key = np.zeros((dim, dim)), np.zeros((dim, dim))
    for head, pairs in enumerate(np.random.default_rng(seed).permutation(dim // 2).reshape(heads, -1)):
        offset = (1 + head // 2) * (-1, 1)[head % 2]
        sine, cosine = np.sin(offset * frequencies[pairs]), np.cos(offset * frequencies[pairs])
        rows, columns = 2 * pairs, head * width + 2 * np.arange(len(pairs))
        query[rows, columns] = query[rows + 1, columns + 1] = scale
        key[rows, columns], key[rows, columns + 1] = scale * cosine, scale * sine
        key[rows + 1, columns], key[rows + 1, columns + 1] = -scale * sine, scale * cosine
    attention.query.kernel.assign(query)
    attention.key.kernel.assign(key)


def unigram_output_bias(masked_lm, counts):
    """Sets the bias of an MLM head to the log-frequencies of tokens, which an untrained model then roughly predicts.

    Args:
        masked_lm: a built `MaskedLanguageModelHead`.
        counts: integers (V,), how often each token occurs in the corpus. One is added to each.
    """
    counts = np.asarray(counts) + 1.0
    masked_lm.bias.assign(np.log(counts / counts.sum()))
