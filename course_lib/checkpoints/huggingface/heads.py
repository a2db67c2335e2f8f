"""Classifiers in the Hugging Face layout: reads and writes the config entries that describe the head.

The tensors of the heads are in the format of each family.
"""

import pathlib

import numpy as np

from course_lib.checkpoints.files import read_json

_CLASSES = {"classes": "ForSequenceClassification", "labels": "ForTokenClassification"}  # of texts, and of tokens
_POOLINGS = {"Bert": "pooled", "Roberta": "pooled", "GPT2": "last", "OpenAIGPT": "last"}
_ENCODERS = "Bert", "Roberta"
_PROBLEMS = {False: "single_label_classification", True: "multi_label_classification"}  # by `multi_label`
_FAMILIES = {"classes": tuple(_POOLINGS), "labels": _ENCODERS}


def family(folder, kind):
    """Finds the family of a classifier's backbone.

    Args:
        folder: path of the folder.
        kind: "classes" for a classifier of texts, "labels" for a classifier of tokens.

    Returns:
        "Bert", "Roberta", "GPT2" or "OpenAIGPT", the name of our class.

    Raises:
        ValueError: if the folder does not hold a classifier of this kind.
    """
    path = pathlib.Path(folder) / "config.json"
    config = read_json(path) if path.is_file() else {}  # Google's and OpenAI's layouts have none, and no classifiers
    theirs = (config.get("architectures") or ["unknown"])[0]
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
        A dict with the names under `kind`, `dropout` and, for a classifier of texts, `pooling` and, if a text may have
        several labels, `multi_label`.

    Raises:
        ValueError: if the folder does not hold a classifier of this kind, its labels are inconsistent or not numbered
            from 0, or its problem type is not supported, for example regression.
    """
    found = family(folder, kind)
    path = pathlib.Path(folder) / "config.json"
    config = read_json(path)
    problem = config.get("problem_type")
    if problem not in (None, *_PROBLEMS.values()) or (kind == "labels" and problem == _PROBLEMS[True]):
        raise ValueError(f"Expected a problem_type of {sorted(_PROBLEMS.values())} in {path}; got {problem!r}.")
    dropout = config.get("classifier_dropout")
    if dropout is None:
        dropout = config.get("hidden_dropout_prob", 0.1) if found in _ENCODERS else 0.0
    pooling = {"pooling": _POOLINGS[found]} if kind == "classes" else {}
    several = {"multi_label": True} if problem == _PROBLEMS[True] else {}
    return {kind: _names(config, path), "dropout": dropout} | pooling | several


def is_classifier(model):
    """Tells whether a model is a `TextClassifier` or a `TokenClassifier`.

    Args:
        model: a backbone or a task model.

    Returns:
        A boolean.
    """
    return hasattr(model, "classifier")


def check_no_classifier(model):
    """Checks that a model can be saved in the layout in which BERT or a GPT was first released.

    Args:
        model: a backbone or a task model.

    Raises:
        ValueError: if the model is a classifier.
    """
    if is_classifier(model):
        raise ValueError(
            f"Expected a backbone or a language model, since this layout has no place for the names of classes; got a "
            f"{type(model).__name__}. Save it in Hugging Face's layout."
        )


def architecture(family, model):
    """Finds the class in `transformers` that computes the same as a classifier.

    Args:
        family: "Bert", "Roberta", "GPT2" or "OpenAIGPT".
        model: a `TextClassifier` or a `TokenClassifier`.

    Returns:
        The name of the class, a string.

    Raises:
        ValueError: if the classifier pools in a different way than that class.
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

    Raises:
        ValueError: if a classifier with several labels per text has a threshold other than 0.5.
    """
    if model.multi_label and np.any(np.array(model.threshold) != 0.5):
        raise ValueError(
            f"Expected a threshold of 0.5, since this layout has no place for another; got {model.threshold}. "
            f"Save this one as a .keras file."
        )
    problem = {"problem_type": _PROBLEMS[True]} if model.multi_label else {}
    return problem | {
        "id2label": {str(index): name for index, name in enumerate(model.names)},
        "label2id": {name: index for index, name in enumerate(model.names)},
        "classifier_dropout": model.dropout.rate,
    }


def _names(config, path):
    """Reads the names in the order of their ids, which must be 0, 1, 2, …"""
    count = config.get("num_labels", config.get("_num_labels", 2))
    id2label = config.get("id2label", {index: f"LABEL_{index}" for index in range(count)})
    if {*map(str, id2label)} != {*map(str, range(len(id2label)))}:
        raise ValueError(f"Expected the ids of labels from 0 to {len(id2label) - 1} in {path}; got {sorted(id2label)}.")
    by_id = {int(index): name for index, name in id2label.items()}
    names = [by_id[index] for index in range(len(by_id))]
    label2id = config.get("label2id", {name: index for index, name in enumerate(names)})
    if label2id != {name: index for index, name in enumerate(names)}:
        raise ValueError(f"Expected label2id to be the inverse of id2label in {path}; got {label2id}.")
    return names
