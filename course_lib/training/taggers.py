"""What labels words without a neural network: a dictionary of known entities, and a conditional random field.

Both are baselines for a `TokenClassifier`, and take and return what `course_lib.data.entities` holds: sentences as
sequences of words, and a label for each word.
"""

import collections
import pathlib
import re
import tempfile

from course_lib.text.bio import labels_of, mended, spans


class DictionaryTagger:
    """Labels what was an entity in the training split: the longest entry that fits, from left to right.

    An entry has the type that it had most often. It counts only if, where its words stand in the training split, they
    were an entity often enough: that keeps out "may" and "apple" unless they mostly name something.

    Args:
        sentences: sequences of words.
        labels: for each sentence, a label for each word.
        lowercase: whether capitals are disregarded.
        share: how often the words of an entry have to be an entity, from 0 to 1.

    Raises:
        ValueError: if there is not a label for each word.
    """

    def __init__(self, sentences, labels, lowercase=True, share=0.0):
        self.lowercase = lowercase
        types, seen = collections.defaultdict(collections.Counter), collections.Counter()
        for words, names in _labelled(sentences, labels):
            for kind, start, end in spans(names):
                types[self._form(words[start:end])][kind] += 1
        self.longest = max(map(len, types), default=0)
        for words in sentences:
            form = self._form(words)
            for start in range(len(form)):
                for end in range(start + 1, min(start + self.longest, len(form)) + 1):
                    seen[form[start:end]] += form[start:end] in types
        self.entries = {
            form: kinds.most_common(1)[0][0] for form, kinds in types.items() if kinds.total() >= share * seen[form]
        }

    def __call__(self, sentences):
        """Labels sentences.

        Args:
            sentences: sequences of words.

        Returns:
            For each sentence, a list with a label for each word.
        """
        return [labels_of(self._found(self._form(words)), len(words)) for words in sentences]

    def _form(self, words):
        return tuple(word.lower() for word in words) if self.lowercase else tuple(words)

    def _found(self, form):
        found, start = [], 0
        while start < len(form):
            ends = range(min(start + self.longest, len(form)), start, -1)
            end = next((end for end in ends if form[start:end] in self.entries), None)
            if end is not None:
                found.append((self.entries[form[start:end]], start, end))
            start = start + 1 if end is None else end
        return found


def _labelled(sentences, labels):
    """Pairs of a sentence and its labels."""
    if len(sentences) != len(labels):
        raise ValueError(f"Expected labels for each of {len(sentences)} sentences; got {len(labels)}.")
    for place, (words, names) in enumerate(zip(sentences, labels, strict=True)):
        if len(words) != len(names):
            raise ValueError(
                f"Expected a label for each word; sentence {place} has {len(words)} words and {len(names)} labels."
            )
        yield words, names


class CRFTagger:
    """A conditional random field: a score for each feature of a word with each label, and for each pair of labels.

    The best sequence of a whole sentence is sought (Lafferty, McCallum and Pereira, 2001). Training is deterministic.

    Args:
        sentences: sequences of words.
        labels: for each sentence, a label for each word.
        lowercase: whether capitals are withheld from it.
        l1: the weight of the sum of absolute values.
        l2: the weight of the sum of squares.
        iterations: of L-BFGS at most.

    Raises:
        ValueError: if there is not a label for each word.
    """

    def __init__(self, sentences, labels, lowercase=False, l1=0.1, l2=0.01, iterations=100):
        import pycrfsuite

        self.lowercase = lowercase
        trainer = pycrfsuite.Trainer("lbfgs", {"c1": l1, "c2": l2, "max_iterations": iterations}, verbose=False)
        for words, names in _labelled(sentences, labels):
            trainer.append(self._features(words), list(names))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.crfsuite"
            trainer.train(str(path))
            self.model = path.read_bytes()
        self.tagger = pycrfsuite.Tagger()
        self.tagger.open_inmemory(self.model)

    def __call__(self, sentences):
        """Labels sentences.

        Args:
            sentences: sequences of words.

        Returns:
            For each sentence, a list with a label for each word, made valid by `mended`.
        """
        return [mended(self.tagger.tag(self._features(words))) for words in sentences]

    def _features(self, words):
        return [word_features(words, place, self.lowercase) for place in range(len(words))]


def word_features(words, place, lowercase=False):
    """What a linear model may know of a word: itself, its neighbours, its ends, its shape.

    Args:
        words: W strings.
        place: of the word among them.
        lowercase: whether capitals are withheld.

    Returns:
        A list of strings, each a feature that is there.
    """
    word = words[place].lower()
    found = ["always"]
    for distance in range(-2, 3):
        there = 0 <= place + distance < len(words)
        neighbour = words[place + distance] if there else ""
        found.append(f"word {distance}: {neighbour.lower()}")
        found.append(f"shape {distance}: {shape(neighbour.lower() if lowercase else neighbour)}")
    return found + [f"{name}: {end}" for n in range(1, 5) for name, end in (("begins", word[:n]), ("ends", word[-n:]))]


def shape(word):
    """What kinds of characters a word has: "McDonald's" becomes "XxXx'x", and "2022" becomes "0".

    Args:
        word: a string.

    Returns:
        A string: X for capitals, x for other letters, 0 for digits, the rest as it is, each run of one kind as one.
    """
    kinds = "".join("X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", kinds)
