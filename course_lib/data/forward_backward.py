"""The exact recursion behind the artificial language: forward–backward over the topic and the last two words.

After Rabiner, 1989, https://doi.org/10.1109/5.18626, section III. A state holds, for each number of chosen words that
were shown as words so far, each topic, each current word, each row and each word before, how likely that is together
with what was shown: (C, K, W, B, W).

Shapes: B rows, T words a row, K topics, W words, C numbers of chosen words.
"""

import numpy as np


class Shown:
    """What rows show, as factors on a state.

    Args:
        words: integers (B, T), -1 for `[MASK]`.
        num_words: W.
        hidden: how many of the chosen are shown as words, the same in all rows.
        masking: the `Masking`, of which the shares count; None if every chosen word is shown as `[MASK]`.

    Attributes:
        masked: booleans (B, T), whether `[MASK]` is shown.
        plain: floats (B, T, W), how likely what is shown is if the word was not chosen; 1 where `[MASK]` is shown.
        corrupted: floats (B, T, W), how likely the word that is shown is if it was chosen; 0 where `[MASK]` is shown.
        hidden: as above.
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
        """A state, times what a position shows: a chosen word that is shown as a word counts one more.

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
        """How likely each word is at a position, if that was chosen, with all that is shown.

        Args:
            ahead: the state before the position is shown, (C, K, W, B, W).
            behind: the state of what is still to come, given the words here, (C, K, W, B, W).
            t: the position.

        Returns:
            Floats (B, W), up to a factor a row.
        """

        def elsewhere(hidden):
            return sum(np.einsum("kwbv,kwbv->bw", ahead[c], behind[hidden - c]) for c in range(hidden + 1))

        shown_as_word = elsewhere(self.hidden - 1) * self.corrupted[:, t]  # which leaves one less for elsewhere
        return np.where(self.masked[:, t, None], elsewhere(self.hidden), shown_as_word)


def forward(transitions, pairs, shown, start=None, share=0.5):
    """The states before each position is shown, and how likely all that is shown is.

    Args:
        transitions: floats (K, W, W, W), at [z, a, b, c] the probability that c follows on a b under topic z.
        pairs: floats (K, W, W), how likely a topic and two words next to each other are, at the beginning of a text.
        shown: a `Shown`.
        start: where a second segment begins, or None.
        share: how likely it follows the first; otherwise it begins anew.

    Returns:
        A list of T states (C, K, W, B, W), each up to a factor a row; and the log probability of what is shown, (B,).
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
    """How likely each word is at each position, if that was chosen, together with what is shown elsewhere.

    Args:
        transitions: floats (K, W, W, W), as for `forward`.
        pairs: floats (K, W, W), as for `forward`.
        shown: a `Shown`.
        start: where a second segment begins, which follows the first or begins anew, as likely as not; or None.

    Returns:
        Floats (B, T, W), up to a factor a row and position.
    """
    back = transitions.transpose(0, 2, 3, 1)[None]  # (1, K, current, next, before)
    begin = pairs.swapaxes(1, 2)[None, :, :, None, :]
    states, _ = forward(transitions, pairs, shown, start)
    found = np.zeros(shown.plain.shape)
    state = np.zeros_like(states[0])  # of what is still to come, given the words here
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
