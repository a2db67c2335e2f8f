"""The Hugging Face hub: downloads repositories, and uploads a model with its card.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` work as in `huggingface_hub`, which does the transport:
a broken download continues, a file appears in the cache when it is complete, and what is in the cache needs no network.
"""

import pathlib
import tempfile

_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "vocab.txt", "merges.txt"]  # what is downloaded of a repository
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*"]  # the same model once more, for another library
_SIZES = "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "vocabulary_size", "max_sequence_length"
_PIPELINES = {  # suffix of the class in transformers → kind of task, as the hub names it
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "LMHeadModel": "text-generation",
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}


def download(address):
    """Downloads a repository, or finds it in the cache.

    Args:
        address: "owner/model", or "owner/model@revision" for a branch, a tag or a commit.

    Returns:
        Path of the folder.

    Raises:
        ValueError: if there is no such repository or revision, it asks for a token, or what answers is no hub.
        ConnectionError: if the hub cannot be reached or refuses for now, and the cache lacks a file.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

    repository, _, revision = address.partition("@")
    options = {"allow_patterns": _PATTERNS, "ignore_patterns": _OTHER_RUNTIMES}
    try:
        return pathlib.Path(snapshot_download(repository, revision=revision or None, **options))
    except LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"Expected a hub in reach, or all of {address} in the Hugging Face cache; found neither: "
            f"{error.__cause__ or error}. With a network elsewhere, download it there and give from_preset the path of "
            f"the folder."
        ) from error
    except HFValidationError as error:
        raise ValueError(f"Expected a repository of the Hugging Face hub; got hf://{address}: {error}.") from error
    except HTTPError as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
            raise ValueError(f"Expected a repository of the Hugging Face hub; got hf://{address}: {error}.") from error
        raise ConnectionError(f"Expected all of {address} from the hub; the connection broke: {error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected the answers of a hub for {address}; got something else, such as the page on which a network "
            f"asks for a login: {error}."
        ) from error


def push_to_hub(
    model, repository, *, data="", training="", figures=None, limits="", licence=None, private=False, dtype="float32"
):
    """Uploads a model, its tokenizer and its card to the Hugging Face hub.

    Its files are those of `save_to_preset`, so `from_preset("hf://owner/name")` and `transformers` load it. The
    repository is made if need be. You need a token that may write, from `hf auth login` or in `HF_TOKEN`.

    Args:
        model: a backbone or a task.
        repository: "owner/name".
        data: what the model was trained on, in Markdown.
        training: how it was trained: recipe, seeds, hours, machine.
        figures: dict from the name of a measure to its value, or to a string such as "0.83 ± 0.01 (three seeds)".
        limits: what it cannot do, and what was not measured.
        licence: identifier of the licence, as the hub writes it, such as "apache-2.0".
        private: whether only its owner sees a repository that is new.
        dtype: of the weights in the file.

    Returns:
        Address of the commit, a string.

    Raises:
        ValueError: if Hugging Face's layout has no place for what the model computes, or the name is none for the hub.
        PermissionError: if the hub asks for a token, or for one that may do more.
        ConnectionError: if the hub cannot be reached.

    Example:
        >>> push_to_hub(classifier, "me/reviews", data="8,530 sentences of film reviews.", licence="apache-2.0")
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    with tempfile.TemporaryDirectory() as folder:
        model.save_to_preset(folder, dtype)
        card = model_card(model, repository, data, training, figures, limits, licence)
        (pathlib.Path(folder) / "README.md").write_text(card, encoding="utf-8")
        api = HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            return api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"A {type(model).__name__}"
            ).commit_url
        except HFValidationError as error:
            raise ValueError(f"Expected a repository, 'owner/name'; got {repository!r}: {error}.") from error
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise PermissionError(
                    f"Expected a token that may write to {repository}, from `hf auth login` or in HF_TOKEN: {error}."
                ) from error
            raise ConnectionError(f"Expected the hub to take {repository}; it refused: {error}.") from error
        except HTTPError as error:
            raise ConnectionError(f"Expected a hub in reach; got: {error}.") from error


def model_card(model, repository, data="", training="", figures=None, limits="", licence=None):
    """Writes the card of a model, the README of its repository.

    Args:
        model: a backbone or a task.
        repository: "owner/name".
        data: as in `push_to_hub`.
        training: as in `push_to_hub`.
        figures: as in `push_to_hub`.
        limits: as in `push_to_hub`.
        licence: as in `push_to_hub`.

    Returns:
        A string in Markdown. What was not given, it says is not stated.
    """
    from huggingface_hub import ModelCardData

    backbone = getattr(model, "backbone", model)
    config, checkpoint_format = backbone.config, backbone.checkpoint_format
    theirs = checkpoint_format.architecture(model) if hasattr(checkpoint_format, "architecture") else None
    task = next((name for suffix, name in _PIPELINES.items() if (theirs or "").endswith(suffix)), None)
    header = ModelCardData(
        license=licence, library_name=theirs and "transformers", pipeline_tag=task, tags=["keras", "course_lib"]
    )
    ours = type(model).__name__
    sizes = ", ".join(f"{name} {getattr(config, name)}" for name in _SIZES if hasattr(config, name))
    measured = [f"| {name} | {value} |" for name, value in (figures or {}).items()]
    load = [f"from course_lib import {ours}", "", f'model = {ours}.from_preset("hf://{repository}")']
    if theirs:
        load += ["", f"from transformers import {theirs}", "", f'model = {theirs}.from_pretrained("{repository}")']
    sections = {
        "Model": f"A `{ours}`: {sizes}; {model.count_params():,} weights.",
        "Use": "\n".join(["```python", *load, "```"]),
        "Data": data,
        "Training": training,
        "Figures": "\n".join(["| measure | value |", "| --- | --- |", *measured]) if measured else "",
        "Limits": limits,
        "Licence": licence,
    }
    if hasattr(model, "names"):
        sections["Model"] += f" Its labels are {', '.join(model.names)}."
    text = "\n\n".join(f"## {title}\n\n{content or 'Not stated.'}" for title, content in sections.items())
    return f"---\n{header.to_yaml()}\n---\n\n# {repository.rpartition('/')[2]}\n\n{text}\n"
