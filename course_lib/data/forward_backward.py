"""The forward–backward algorithm for the artificial language, over the topic and the last two words.

It follows Rabiner, 1989, https://doi.org/10.1109/5.18626, section III. A state is an array (C, K, W, B, W). Its axes
are: the number of chosen words that were shown as words so far, the topic, the current word, the row, and the word
before. Each entry is the joint probability of this combination and of everything shown so far.

Shapes: B rows, T words per row, K topics, W words, C possible numbers of chosen words that are shown as words.
"""

import numpy as np


class Shown:
    """Holds what rows show, as the factors by which each position multiplies a state.

    Args:
        words: integers (B, T), -1 for `[MASK]`.
        num_words: W.
        hidden: number of chosen words that are shown as words. It is the same in all rows.
        masking: the `Masking`, for its fractions; None if every chosen word is shown as `[MASK]`.

    Attributes:
        masked: booleans (B, T), true where `[MASK]` is shown.
        plain: floats (B, T, W), for each true word the probability of what is shown if the word was not chosen; 1 where
            `[MASK]` is shown.
        corrupted: floats (B, T, W), for each true word the probability of the word shown if it was chosen; 0 where
            `[MASK]` is shown.
        hidden: the argument.
    """

    def __init__(self, words, num_words, hidden, masking=None):
        self.masked = words < 0
        self.hidden = int(hidden)
        same = np.eye(num_words)[words] * ~self.masked[..., None]
        self.plain = same + self.masked[..., None]
        self.corrupted = np.zeros_like(same)
        if masking is not None:
            kept = 1 - masking.mask_fraction - masking.random_fraction
            self.corrupted = (masking.random_fraction / num_words + kept * same) * ~self.masked[..., None]

    def applied(self, state, t):
        """Multiplies a state by what a position shows, and counts the word there if it is chosen but not masked.

        Args:
            state: floats (C, K, W, B, W).
            t: the position.

        Returns:
            Floats (C, K, W, B, W).
        """
        plain, corrupted = (factor[:, t].T[:, :, None] for factor in (self.plain, self.corrupted))  # (W, B, 1)
        result = state * plain
        result[1:] += state[:-1] * corrupted
        return result

    def chosen(self, ahead, behind, t):
        """Computes the joint probability of each word at a chosen position and of everything shown in the row.

        Args:
            ahead: (C, K, W, B, W), the state before the position is shown.
            behind: (C, K, W, B, W), the probability of what later positions show, given the words here.
            t: the position.

        Returns:
            Floats (B, W), up to one factor per row.
        """

        def elsewhere(hidden):
            return sum(np.einsum("kwbv,kwbv->bw", ahead[c], behind[hidden - c]) for c in range(hidden + 1))

        shown_as_word = elsewhere(self.hidden - 1) * self.corrupted[:, t]  # one fewer is left for the rest
        return np.where(self.masked[:, t, None], elsewhere(self.hidden), shown_as_word)


def forward(transitions, pairs, shown, start=None, share=0.5):
    """Runs the forward pass: computes the state before each position is shown, and the probability of everything shown.

    Args:
        transitions: floats (K, W, W, W), at [z, a, b, c] the probability that word c follows words a, b under topic z.
        pairs: floats (K, W, W), the joint probability of a topic and of the first two words of a text.
        shown: a `Shown`.
        start: position at which a second segment begins, or None.
        share: probability that it follows the first segment. Otherwise it comes from another document.

    Returns:
        A list of T states (C, K, W, B, W), each up to one factor per row; and the log-probability of what is shown,
        (B,).
    """
    ahead = transitions.swapaxes(1, 2)[None]  # (1, K, current, before, next)
    begin = pairs.swapaxes(1, 2)[None, :, :, None, :]
    rows, length, num_words = shown.plain.shape
    state = np.zeros((shown.hidden + 1, len(pairs), num_words, rows, num_words))
    state[0] = begin[0]
    states, log = [], np.zeros(rows)
    for t in range(length):
        states.append(state)
        state = shown.applied(state, t)
        total = state.sum(axis=(0, 1, 2, 4))
        log, state = log + np.log(total), state / total[:, None]
        if t + 1 < length:
            fresh = begin * state.sum(axis=(1, 2, 4), keepdims=True) if t + 1 == start else None
            state = (state @ ahead).swapaxes(2, 4)  # (C, K, current, B, next): the current word is now the one before
            if fresh is not None:
                state = share * state + (1 - share) * fresh
    return states, log + np.log(state[-1].sum(axis=(0, 1, 3)))


def forward_backward(transitions, pairs, shown, start=None):
    """Computes how likely each word is at each position, if the position was chosen, given everything shown.

    Args:
        transitions: floats (K, W, W, W), as for `forward`.
        pairs: floats (K, W, W), as for `forward`.
        shown: a `Shown`.
        start: position at which a second segment begins, or None. It follows the first segment with probability 1/2.

    Returns:
        Floats (B, T, W), up to one factor per row and position.
    """
    back = transitions.transpose(0, 2, 3, 1)[None]  # (1, K, current, next, before)
    begin = pairs.swapaxes(1, 2)[None, :, :, None, :]
    states, _ = forward(transitions, pairs, shown, start)
    found = np.zeros(shown.plain.shape)
    state = np.zeros_like(states[0])  # probability of what later positions show, given the words here
    state[0] = 1
    for t in reversed(range(len(states))):
        found[:, t] = shown.chosen(states[t], state, t)
        state = shown.applied(state, t)
        state = state / state.sum(axis=(0, 1, 2, 4))[:, None]
        if t:
            fresh = (state * begin).sum(axis=(1, 2, 4), keepdims=True) if t == start else None
            state = state.swapaxes(2, 4) @ back  # (C, K, before, B, current) → (C, K, before, B, before it)
            if fresh is not None:
                state = (state + fresh) / 2
    return found
