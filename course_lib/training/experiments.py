"""Recorded runs: experiments too long for a chapter, whose every result is kept in `data/runs/NAME.json`.

`python -m course_lib.training.experiments NAME` runs one and writes its record. Chapters read it with `load`, which
refuses a record whose recipe or code is no longer the one that made it.
"""

import argparse
import ast
import dataclasses
import datetime
import hashlib
import inspect
import json
import os
import platform
import subprocess
import time

import keras
import numpy as np

from course_lib.data import assets, reviews


@dataclasses.dataclass(frozen=True)
class FrozenFeatures:
    """What a linear classifier reaches on features that it cannot change, against the number of labels.

    Each kind of features has its own regularisation, chosen on the validation split for each draw. The features are
    TF-IDF of words and word pairs, fitted on the labelled texts; and the sentence vectors of the pre-trained encoder,
    and of the same encoder before any training.

    Args:
        data: the assets that it reads: the texts, and the pre-trained encoder.
        seed: of the untrained encoder's weights.
        counts: numbers of labelled texts.
        draws: how often these are drawn, with seeds 0, 1, 2, …
        regularisations: scikit-learn's C, to choose from.
    """

    data: tuple = ("movie-reviews", "all-MiniLM-L6-v2")
    seed: int = 0
    counts: tuple = (50, 100, 200, 500, 1000, 2000, 4000, 6930)
    draws: int = 5
    regularisations: tuple = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)

    def run(self):
        """Runs the experiment.

        Returns:
            A list of dicts with `features`, `count`, `draw`, `regularisation` and `accuracy` on the test split.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        from course_lib.bert import Bert
        from course_lib.heads import SentenceEncoder

        keras.utils.set_random_seed(self.seed)
        data = reviews.rotten_tomatoes()
        texts = data.all_texts
        row = {text: index for index, text in enumerate(texts)}
        trained = SentenceEncoder.from_preset(self.data[1])
        untrained = SentenceEncoder(Bert(trained.backbone.config, trained.backbone.tokenizer))
        vectors = {"pre-trained": trained.encode(texts), "untrained": untrained.encode(texts)}

        results = []
        for draw in range(self.draws):
            for count in self.counts:
                labelled = reviews.few_shot(data.train, count, seed=draw)
                splits = labelled, data.validation, data.test
                tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(labelled.texts)
                features = {"TF-IDF": [tfidf.transform(split.texts) for split in splits]}
                for name, matrix in vectors.items():
                    features[name] = [matrix[[row[text] for text in split.texts]] for split in splits]
                for name, matrices in features.items():
                    result = best_linear(matrices, [split.labels for split in splits], self.regularisations)
                    results.append({"features": name, "count": count, "draw": draw} | result)
        return results


def best_linear(features, labels, regularisations):
    """Fits logistic regressions on training features and keeps the one with the lowest loss on validation features.

    The loss, the cross-entropy, tells settings apart that a few hundred right-or-wrong answers cannot.

    Args:
        features: matrices (n, D) of the training, validation and test splits.
        labels: the labels of the three, int32 (n,).
        regularisations: scikit-learn's C, to choose from.

    Returns:
        A dict with the chosen `regularisation` and its `accuracy` on the test split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    models = [LogisticRegression(C=c, max_iter=5000).fit(features[0], labels[0]) for c in regularisations]
    losses = [log_loss(labels[1], model.predict_proba(features[1])) for model in models]
    best = int(np.argmin(losses))
    return {"regularisation": regularisations[best], "accuracy": models[best].score(features[2], labels[2])}


EXPERIMENTS = {"frozen-features": FrozenFeatures()}


def recipe_hash(experiment):
    """SHA-256 of an experiment's settings and code, comments, docstrings and layout aside.

    Args:
        experiment: a value of `EXPERIMENTS`.

    Returns:
        64 hexadecimal digits.
    """
    tree = ast.parse("\n".join(inspect.getsource(part) for part in (type(experiment), best_linear)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return hashlib.sha256((json.dumps(dataclasses.asdict(experiment)) + ast.dump(tree)).encode()).hexdigest()


def load(name):
    """Reads the record of an experiment.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        A dict with `results`, as the experiment's `run` returned them, and how they came to be: `command`, `commit`,
        `recipe`, `recipe_hash`, `data_hashes`, `machine`, `date`, `seconds`.

    Raises:
        ValueError: if there is no such experiment or no record of it, or its recipe or code has changed since.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"Expected an experiment of {sorted(EXPERIMENTS)}; got {name!r}.")
    path = _path(name)
    if not path.is_file():
        raise ValueError(f"Expected the record {path}; there is none. Make it with {_command(name)}.")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["recipe_hash"] != recipe_hash(EXPERIMENTS[name]):
        raise ValueError(f"Expected {path} to be of today's recipe; it has changed since. Run {_command(name)} again.")
    return record


def record(name):
    """Runs an experiment and writes its record, when all of it is there.

    Args:
        name: a key of `EXPERIMENTS`.

    Returns:
        The record, as `load` returns it.
    """
    experiment = EXPERIMENTS[name]
    start = time.perf_counter()
    results = experiment.run()
    entry = {
        "name": name,
        "command": _command(name),
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "backend": keras.backend.backend(),
        "seconds": round(time.perf_counter() - start),
        "recipe": dataclasses.asdict(experiment),
        "recipe_hash": recipe_hash(experiment),
        "data_hashes": {
            f"{asset}/{name}": file["sha256"]
            for asset in experiment.data
            for name, file in assets.registry()[asset]["files"].items()
        },
        "results": results,
    }
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return entry


def _path(name):
    return assets.data_folder() / "runs" / f"{name}.json"


def _command(name):
    return f"python -m course_lib.training.experiments {name}"


def _commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main():
    """Runs the experiments that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.training.experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(EXPERIMENTS))
    for name in parser.parse_args().names:
        entry = record(name)
        print(f"{name}: {len(entry['results'])} results in {entry['seconds']} s, in {_path(name)}")


if __name__ == "__main__":
    main()
