"""Two baselines for a `TokenClassifier`: a dictionary of known entities, and a conditional random field.

Both work on data in the form of `course_lib.data.wnut`: sentences as sequences of words, with a label for each word.

Shapes: W words.
"""

import collections
import pathlib
import re
import tempfile

from course_lib.metrics.spans import bio_to_spans, repair_bio, spans_to_bio


class DictionaryTagger:
    """Labels words that are known entities: going from left to right, it takes the longest dictionary entry that fits.

    The entries are the entities of the training sentences, each with its most frequent type. An entry is used only if
    its words are an entity in a large enough fraction of their occurrences. This keeps out "may" and "apple", unless
    they are mostly names.

    Args:
        sentences: sequences of words.
        labels: for each sentence, a label for each word.
        lowercase: whether to ignore capitals.
        fraction: minimum fraction of the occurrences of an entry's words that are an entity, from 0 to 1.

    Raises:
        ValueError: if there is not one label per word.
    """

    def __init__(self, sentences, labels, lowercase=True, fraction=0.0):
        self.lowercase = lowercase
        types, seen = collections.defaultdict(collections.Counter), collections.Counter()
        for words, names in _labelled(sentences, labels):
            for kind, start, end in bio_to_spans(names):
                types[self._form(words[start:end])][kind] += 1
        self.longest = max(map(len, types), default=0)
        for words in sentences:
            form = self._form(words)
            for start in range(len(form)):
                for end in range(start + 1, min(start + self.longest, len(form)) + 1):
                    seen[form[start:end]] += form[start:end] in types
        self.entries = {
            form: kinds.most_common(1)[0][0] for form, kinds in types.items() if kinds.total() >= fraction * seen[form]
        }

    def __call__(self, sentences):
        """Labels sentences.

        Args:
            sentences: sequences of words.

        Returns:
            For each sentence, a list with a label for each word.
        """
        return [spans_to_bio(self._found(self._form(words)), len(words)) for words in sentences]

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
    """Yields each sentence with its labels."""
    if len(sentences) != len(labels):
        raise ValueError(f"Expected labels for each of {len(sentences)} sentences; got {len(labels)}.")
    for place, (words, names) in enumerate(zip(sentences, labels, strict=True)):
        if len(words) != len(names):
            raise ValueError(
                f"Expected a label for each word; sentence {place} has {len(words)} words and {len(names)} labels."
            )
        yield words, names


class CRFTagger:
    """A conditional random field with scores for each feature and label, and for each label and the next one.

    A sentence gets the sequence of labels with the highest sum of scores (Lafferty, McCallum and Pereira, 2001).
    Training is deterministic.

    Args:
        sentences: sequences of words.
        labels: for each sentence, a label for each word.
        lowercase: whether the features ignore capitals.
        l1: weight of the sum of absolute values in the loss.
        l2: weight of the sum of squares in the loss.
        iterations: maximum number of iterations of L-BFGS.

    Raises:
        ValueError: if there is not one label per word.
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
            For each sentence, a list with a label for each word, made valid by `repair_bio`.
        """
        return [repair_bio(self.tagger.tag(self._features(words))) for words in sentences]

    def _features(self, words):
        return [word_features(words, place, self.lowercase) for place in range(len(words))]


def word_features(words, place, lowercase=False):
    """Lists the features of a word for a linear model: the word, its neighbours, its prefixes and suffixes, its shape.

    Args:
        words: W strings.
        place: index of the word in `words`.
        lowercase: whether the features ignore capitals.

    Returns:
        A list of strings, the features of the word.
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
    """Reduces a word to its shape: "McDonald's" becomes "XxXx'x", and "2022" becomes "0".

    Args:
        word: a string.

    Returns:
        A string: X for capitals, x for other letters, 0 for digits, and other characters as they are. A run of equal
        characters is written as one.
    """
    kinds = "".join("X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", kinds)
