"""Training a translator: pairs of like length together, and the mean of a run's last checkpoints; and a rival to it.

Shapes: n pairs, B batch, T length.
"""

import collections

import keras
import numpy as np

from course_lib.seq2seq import teacher_forcing

_STEP = 4  # widths of batches are multiples of it, so that few different ones are compiled


class Pairs(keras.utils.PyDataset):
    """Pairs of texts for `fit`, those of like length together, so that little is computed for padding.

    Args:
        tokenizer: as `course_lib.seq2seq.teacher_forcing` takes it.
        sources: n strings.
        targets: n strings.
        batch_size: B.
        seed: of the order, which is another in each epoch.

    Raises:
        ValueError: if there are more or fewer targets than sources, or none.
    """

    def __init__(self, tokenizer, sources, targets, batch_size=32, seed=0):
        super().__init__()
        self.inputs, self.labels, self.weights = teacher_forcing(tokenizer, sources, targets)
        longer = np.maximum(self.inputs["encoder_padding_mask"].sum(axis=1), self.weights["logits"].sum(axis=1))
        self.widths = -(-longer.astype(int) // _STEP) * _STEP
        self.batch_size, self.rng = batch_size, np.random.default_rng(seed)
        self.on_epoch_end()

    @property
    def num_batches(self):
        """How many batches there are."""
        return len(self.batches)

    def on_epoch_end(self):
        """Puts the pairs in another order: batches of one width by chance, and all batches by chance."""
        batches = []
        for width in np.unique(self.widths):
            rows = self.rng.permutation(np.flatnonzero(self.widths == width))
            batches += [
                (width, rows[start : start + self.batch_size]) for start in range(0, len(rows), self.batch_size)
            ]
        batches = [batches[index] for index in self.rng.permutation(len(batches))]
        # From the first two batches TensorFlow learns which axes vary.
        other = [index for index, (width, _) in enumerate(batches) if width != batches[0][0]]
        if other:
            batches.insert(1, batches.pop(other[0]))
        self.batches = batches

    def __getitem__(self, index):
        width, rows = self.batches[index]
        cut = [{name: _wide(array[rows], width) for name, array in arrays.items()}
               for arrays in (self.inputs, self.labels, self.weights)]  # fmt: skip
        return tuple(cut)


def _wide(array, width):
    """Cuts rows (B, T), or pads them with zeros, which have no weight."""
    return np.pad(array[:, :width], ((0, 0), (0, max(width - array.shape[1], 0))))


class Checkpoints(keras.callbacks.Callback):
    """Keeps the weights at the ends of the last epochs, whose mean often translates better than the last.

    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 6.1, take the last five.

    Args:
        last: how many epochs.
    """

    def __init__(self, last=5):
        super().__init__()
        self.weights = collections.deque(maxlen=last)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the weights.

        Args:
            epoch: its number.
            logs: not read.
        """
        self.weights.append(self.model.get_weights())

    def mean(self):
        """The mean of the weights kept.

        Returns:
            A list of arrays, for `set_weights`.

        Raises:
            ValueError: if none are kept.
        """
        if not self.weights:
            raise ValueError("Expected at least one epoch; there was none.")
        return [np.mean(arrays, axis=0) for arrays in zip(*self.weights, strict=True)]


def translate(model, sources, max_new_tokens, sampler, batch_size=100):
    """Translates many texts, those of like length together: a batch is done when its longest row is.

    Args:
        model: a `course_lib.seq2seq.Seq2Seq` with a tokenizer.
        sources: n strings.
        max_new_tokens: of a translation.
        sampler: as `generate` of the model takes it.
        batch_size: B.

    Returns:
        A list of n strings.
    """
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    answers = [""] * len(sources)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        written = model.generate([sources[place] for place in places], max_new_tokens, sampler)
        for place, answer in zip(places, written, strict=True):
            answers[place] = answer
    return answers


def nearest(known, texts, ngrams=(1, 3)):
    """For each text the most similar known one: what a translation memory would propose.

    Texts are compared by the characters' n-grams that they share, weighted by TF-IDF, as the cosine of the two vectors.

    Args:
        known: m strings.
        texts: n strings.
        ngrams: the shortest and the longest.

    Returns:
        Integers (n,), places in `known`; the first of several that are as similar.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ngrams, sublinear_tf=True)
    of_known = vectorizer.fit_transform(known)
    similarity = (vectorizer.transform(texts) @ of_known.T).toarray()
    return np.round(similarity, 6).argmax(axis=1)  # as similar up to rounding
