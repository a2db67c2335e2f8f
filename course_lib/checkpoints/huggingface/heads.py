"""Classifiers in the layout of the Hugging Face hub: what their configs say of the head, both ways.

The tensors of the heads are rows of each family's format.
"""

import pathlib

from course_lib.checkpoints.files import read_json

_CLASSES = {"classes": "ForSequenceClassification", "labels": "ForTokenClassification"}  # of texts, and of tokens
_POOLINGS = {"Bert": "pooled", "GPT2": "last", "OpenAIGPT": "last"}
_FAMILIES = {"classes": tuple(_POOLINGS), "labels": ("Bert",)}


def family(folder, kind):
    """Finds the family of a classifier's backbone.

    Args:
        folder: path of the folder.
        kind: "classes" for a classifier of texts, "labels" for a classifier of tokens.

    Returns:
        "Bert", "GPT2" or "OpenAIGPT", the name of our class.

    Raises:
        ValueError: if the folder holds no classifier of this kind.
    """
    path = pathlib.Path(folder) / "config.json"
    theirs = (read_json(path).get("architectures") or ["unknown"])[0]
    found = theirs.removesuffix(_CLASSES[kind])
    if found == theirs or found not in _FAMILIES[kind]:
        known = [each + _CLASSES[kind] for each in _FAMILIES[kind]]
        raise ValueError(
            f"Expected an architecture of {known} in {path}; got {theirs}. To put a new classifier on a backbone, load "
            f"the backbone alone and give it to the constructor with the {kind}."
        )
    return found


def arguments(folder, kind):
    """Reads the arguments of a classifier's constructor, except the backbone.

    Args:
        folder: path of the folder.
        kind: "classes" for a classifier of texts, "labels" for a classifier of tokens.

    Returns:
        A dict with the names under `kind`, `dropout` and, for a classifier of texts, `pooling`.

    Raises:
        ValueError: if the folder holds no classifier of this kind, the labels are no list of names, or it gives a text
            several labels or a number.
    """
    found = family(folder, kind)
    path = pathlib.Path(folder) / "config.json"
    config = read_json(path)
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise ValueError(f"Expected one label per text in {path}; got the problem_type {config['problem_type']!r}.")
    dropout = config.get("classifier_dropout")
    if dropout is None:
        dropout = config.get("hidden_dropout_prob", 0.1) if found == "Bert" else 0.0
    pooling = {"pooling": _POOLINGS[found]} if kind == "classes" else {}
    return {kind: _names(config, path), "dropout": dropout} | pooling


def is_classifier(model):
    """Tells whether a model is a `TextClassifier` or a `TokenClassifier`.

    Args:
        model: a backbone or a task.

    Returns:
        A boolean.
    """
    return hasattr(model, "classifier")


def architecture(family, model):
    """Finds the class there that computes what a classifier computes.

    Args:
        family: "Bert", "GPT2" or "OpenAIGPT".
        model: a `TextClassifier` or a `TokenClassifier`.

    Returns:
        Its name, a string.

    Raises:
        ValueError: if the classifier pools otherwise than that class.
    """
    name = family + _CLASSES[model.names_argument]
    if model.names_argument == "classes" and model.pooling != _POOLINGS[family]:
        raise ValueError(
            f"Expected pooling={_POOLINGS[family]!r}, all that {name} computes; got {model.pooling!r}. "
            f"Train with that, or save this one as a .keras file."
        )
    return name


def head_config(model):
    """Makes the entries of the config that describe a classifier.

    Args:
        model: a `TextClassifier` or a `TokenClassifier`.

    Returns:
        A dict.
    """
    return {
        "id2label": {str(index): name for index, name in enumerate(model.names)},
        "label2id": {name: index for index, name in enumerate(model.names)},
        "classifier_dropout": model.dropout.rate,
    }


def _names(config, path):
    """The names in the order of their ids, which must be 0, 1, 2, …"""
    id2label = config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"})
    if {*map(str, id2label)} != {*map(str, range(len(id2label)))}:
        raise ValueError(f"Expected the ids of labels from 0 to {len(id2label) - 1} in {path}; got {sorted(id2label)}.")
    by_id = {int(index): name for index, name in id2label.items()}
    names = [by_id[index] for index in range(len(by_id))]
    label2id = config.get("label2id", {name: index for index, name in enumerate(names)})
    if label2id != {name: index for index, name in enumerate(names)}:
        raise ValueError(f"Expected label2id to be the inverse of id2label in {path}; got {label2id}.")
    return names
