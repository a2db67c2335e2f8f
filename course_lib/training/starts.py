"""Where pre-training begins: with heads that look at neighbours, and scores that are the frequencies of the tokens.

From random weights, attention must first find out what a position is: for millions of tokens every head averages over
the row, and the loss stays where the frequencies of the tokens alone put it. A model that begins by looking at
neighbours is past that plateau at once, and learns what else to look at from there. Kin to mimetic initialization
(Trockman and Kolter, 2023, https://arxiv.org/abs/2305.09828), which begins with the patterns of trained heads.
"""

import numpy as np


def look_at_neighbours(bert, scale=1.75, seed=5):
    """Sets positions, and the first layer's queries and keys: its heads look 1 left, 1 right, 2 left, 2 right, …

    A position begins as the sines and cosines of D/2 angular frequencies, spread evenly between 0 and π a token; a
    rotation of each such pair moves it along the row. A head takes 1/N of the pairs: its query passes them on, its key
    turns them back by the head's offset, and so their product is largest where the key's position is the query's plus
    the offset. The pairs are dealt at random: frequencies at equal distances would agree far away once more.

    Args:
        bert: a built `Bert` whose H is even.
        scale: of queries and keys: how sharply the heads look.
        seed: of the dealing.

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


def score_by_frequency(masked_lm, counts):
    """Sets the bias of an MLM head: whatever it is shown, it begins by predicting each token as often as it occurs.

    Args:
        masked_lm: a built `MaskedLanguageModelHead`.
        counts: int (V,), of each token in the corpus; one is added to each.
    """
    counts = np.asarray(counts) + 1.0
    masked_lm.bias.assign(np.log(counts / counts.sum()))
