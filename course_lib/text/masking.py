"""Masking: chooses the tokens that a masked language model has to predict, and what it sees in their place.

It follows BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.1).

Shapes: B batch, T length, P predictions per row, V vocabulary.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
    """Chooses tokens to predict and corrupts them. The result depends only on the batch, a seed and a step.

    In each row, a fraction `rate` of the regular tokens is chosen without replacement: rounded to the nearest number,
    at least one and at most `positions`. Each chosen token becomes the mask token with probability `mask_fraction`, a
    token drawn from all regular ones with probability `random_fraction`, and otherwise stays as it is.

    Attributes:
        mask_token_id: id of the mask token.
        regular_ids: ids of the tokens that may be chosen and drawn: all but the special tokens.
        rate: fraction of a row's regular tokens that is chosen.
        positions: P, the maximum number of tokens chosen in a row.
        mask_fraction: probability that a chosen token becomes the mask token.
        random_fraction: probability that a chosen token becomes a random token.
        continues_word: None, or booleans (V,), true for the pieces that continue a word. Whole words are then chosen,
            in random order, and a word with more pieces than are left to choose is skipped (`--do_whole_word_mask` of
            Google's BERT).

    Raises:
        ValueError: if the rate is not between 0 and 1, a fraction is negative, both fractions add up to more than 1,
            `positions` is below 1, or `regular_ids` is empty or has the mask token.

    Example:
        >>> masking = Masking.of(tokenizer, positions=20)
        >>> inputs, labels, weights = masking(tokenizer(texts), seed=0, step=17)
    """

    mask_token_id: int
    regular_ids: np.ndarray
    rate: float = 0.15
    positions: int = 20
    mask_fraction: float = 0.8
    random_fraction: float = 0.1
    continues_word: np.ndarray | None = None

    def __post_init__(self):
        if not 0 < self.rate < 1:
            raise ValueError(f"Expected a rate between 0 and 1, both excluded; got {self.rate}.")
        if not 0 <= self.mask_fraction <= 1 or not 0 <= self.random_fraction <= 1 - self.mask_fraction + 1e-9:
            raise ValueError(
                f"Expected fractions of 0 or more that add up to at most 1; got mask_fraction={self.mask_fraction}, "
                f"random_fraction={self.random_fraction}."
            )
        if self.positions < 1:
            raise ValueError(f"Expected room for at least one prediction per row; got positions={self.positions}.")
        if not len(self.regular_ids) or self.mask_token_id in self.regular_ids:
            raise ValueError("Expected regular_ids to have at least one id, and not the id of the mask token.")

    @classmethod
    def of(cls, tokenizer, whole_words=False, **settings):
        """Makes the masking for a tokenizer's vocabulary.

        Args:
            tokenizer: a `WordPieceTokenizer`, or without `whole_words` a `RobertaTokenizer`.
            whole_words: whether to choose all pieces of a word together.
            **settings: `rate`, `positions`, `mask_fraction`, `random_fraction`.

        Returns:
            A `Masking`.
        """
        regular = np.delete(np.arange(tokenizer.vocabulary_size), tokenizer.special_ids)
        continues = np.char.startswith(tokenizer.vocabulary, "##") if whole_words else None
        return cls(tokenizer.mask_token_id, regular, continues_word=continues, **settings)

    def __call__(self, batch, seed, step):
        """Masks a batch.

        Args:
            batch: the tokenizer's dict, or any dict with `token_ids`, integers (B, T). The padding id must not be in
                `regular_ids`.
            seed: an integer of 0 or more.
            step: an integer of 0 or more. Each step gives different masks.

        Returns:
            Inputs, labels and weights. The inputs are the batch with corrupted `token_ids`, and with `mask_positions`,
            int32 (B, P), in ascending order. The labels are the original tokens at these positions, int32 (B, P). The
            weights, float32 (B, P), are 1 for a prediction, and 0 in the slots that a row with fewer than P predictions
            leaves empty; position and label are 0 there, too.

        Raises:
            ValueError: if no row has a regular token.
        """
        rng = np.random.default_rng((seed, step))
        token_ids = np.asarray(batch["token_ids"])
        regular = np.isin(token_ids, self.regular_ids)  # (B, T)
        available = regular.sum(axis=1, keepdims=True)  # (B, 1)
        if not available.any():
            raise ValueError("Expected a row with something to mask; got only special tokens and padding.")
        count = np.clip(np.floor(self.rate * available + 0.5), 1, self.positions)
        count = np.minimum(count, available)

        rank = self._ranks(token_ids, regular, count, rng)  # (B, T): tokens with the lowest ranks are chosen
        positions = np.argsort(rank, axis=1, kind="stable")[:, : self.positions]
        positions = np.pad(positions, [(0, 0), (0, self.positions - positions.shape[1])])  # where T < P
        chosen = np.arange(self.positions) < np.minimum(count, np.isfinite(rank).sum(axis=1, keepdims=True))
        positions = np.sort(np.where(chosen, positions, token_ids.shape[1]), axis=1)
        positions = np.where(chosen, positions, 0)  # (B, P)
        labels = np.where(chosen, np.take_along_axis(token_ids, positions, axis=1), 0)

        fate = rng.random(positions.shape)
        drawn = rng.choice(self.regular_ids, positions.shape)
        seen = np.where(fate < self.mask_fraction + self.random_fraction, drawn, labels)
        seen = np.where(fate < self.mask_fraction, self.mask_token_id, seen)
        corrupted = token_ids.copy()
        rows, columns = np.nonzero(chosen)
        corrupted[rows, positions[rows, columns]] = seen[rows, columns]
        inputs = {**batch, "token_ids": corrupted, "mask_positions": positions.astype("int32")}
        return inputs, labels.astype("int32"), chosen.astype("float32")

    def _ranks(self, token_ids, regular, count, rng):
        """Draws a random number for each token, infinite where the token must not be chosen."""
        rank = np.where(regular, rng.random(token_ids.shape), np.inf)
        if self.continues_word is None:
            return rank
        after_regular = np.pad(regular, [(0, 0), (1, 0)])[:, :-1]
        word = np.cumsum(~(self.continues_word[token_ids] & regular & after_regular), axis=1)  # (B, T)
        for row in range(len(rank)):
            left, order = count[row, 0], np.argsort(rank[row], kind="stable")
            allowed = {}
            for index in dict.fromkeys(word[row, order[: regular[row].sum()]]):
                pieces = np.flatnonzero(word[row] == index)
                if len(pieces) <= left:
                    left -= len(pieces)
                    allowed[index] = True
            rank[row, ~np.isin(word[row], list(allowed))] = np.inf
        return rank
