"""Classifiers in the layout of the Hugging Face hub: what their configs say of the head, both ways.

Their tensors stand in the tables of `huggingface.py` and `huggingface_gpt.py`.
"""

import pathlib

from course_lib.checkpoints.files import read_json

_CLASSES = {"classes": "ForSequenceClassification", "labels": "ForTokenClassification"}  # of texts, and of tokens
_POOLINGS = {"Bert": "pooled", "GPT2": "last", "OpenAIGPT": "last"}


def read(folder, kind):
    """Reads what a folder says of a classifier.

    Args:
        folder: path of the folder.
        kind: "classes" for a classifier of texts, "labels" for one of tokens.

    Returns:
        The arguments of the classifier beside its backbone, a dict.

    Raises:
        ValueError: if the folder holds something else, labels that are no list of names, or a regression.
    """
    path = pathlib.Path(folder) / "config.json"
    config = read_json(path)
    theirs = (config.get("architectures") or ["unknown"])[0]
    family = theirs.removesuffix(_CLASSES[kind])
    families = list(_POOLINGS) if kind == "classes" else ["Bert"]
    if family not in families:
        raise ValueError(
            f"Expected an architecture of {[each + _CLASSES[kind] for each in families]} in {path}; got {theirs}. "
            f"To put a new classifier on the backbone of another model, give its constructor that and the {kind}."
        )
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise ValueError(f"Expected one label a text in {path}; got the problem_type {config['problem_type']!r}.")
    names = {int(index): name for index, name in config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"}).items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"Expected the ids of labels from 0 to {len(names) - 1} in {path}; got {sorted(names)}.")
    names = [names[index] for index in range(len(names))]
    ids = config.get("label2id", {name: index for index, name in enumerate(names)})
    if ids != {name: index for index, name in enumerate(names)}:
        raise ValueError(f"Expected label2id to be the inverse of id2label in {path}; got {ids}.")
    dropout = config.get("classifier_dropout")
    if dropout is None:
        dropout = config.get("hidden_dropout_prob", 0.1) if family == "Bert" else 0.0
    return {kind: names, "dropout": dropout} | ({"pooling": _POOLINGS[family]} if kind == "classes" else {})


def architecture(family, model):
    """The name of the foreign class that computes what a classifier computes.

    Args:
        family: what the names of its foreign classes begin with: "Bert", "GPT2" or "OpenAIGPT".
        model: a `TextClassifier` or a `TokenClassifier`.

    Returns:
        A string.

    Raises:
        ValueError: if the classifier pools otherwise than that class.
    """
    name = family + _CLASSES[model.names_argument]
    if getattr(model, "pooling", _POOLINGS[family]) != _POOLINGS[family]:
        raise ValueError(
            f"Expected pooling={_POOLINGS[family]!r}, all that {name} computes; got {model.pooling!r}. "
            f"Train with that, or save this one as a .keras file."
        )
    return name


def entries(model):
    """What a config says of a model's head.

    Args:
        model: any model; only classifiers have such entries.

    Returns:
        A dict.
    """
    if not hasattr(model, "classifier"):
        return {}
    return {
        "id2label": {str(index): name for index, name in enumerate(model.names)},
        "label2id": {name: index for index, name in enumerate(model.names)},
        "classifier_dropout": model.dropout.rate,
    }
