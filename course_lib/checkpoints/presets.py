"""Finds presets: folders, our own weights, assets in the registry, and repositories on the Hugging Face hub."""

import pathlib
import re

from course_lib import assets
from course_lib.checkpoints import hub
from course_lib.checkpoints.format import FOREIGN_FILES

# A preset has one of these, or a GGUF file.
_MARKS = {"config.json", "tokenizer.json", "vocab.txt", "vocab.json", *FOREIGN_FILES}
_OWNERS = {
    "bert": "google-bert",
    "gpt2": "openai-community",
    "openai-gpt": "openai-community",
    "roberta": "FacebookAI",
}


def resolve_preset(preset):
    """Finds the folder of a model or a tokenizer, and downloads it if necessary.

    Args:
        preset: the path of a folder, a name in `data/weights/` or `data/registry.toml`, or "hf://owner/model" for a
            repository of the Hugging Face hub, or "hf://owner/model@revision" for one of its revisions. If a folder and
            a name are equal, the folder is used.

    Returns:
        Path of the folder.

    Raises:
        ValueError: if there is no such preset. The message lists the known ones.
        OSError: if the preset must be downloaded and no source can be reached.
    """
    name = str(preset)
    if name.startswith("hf://"):
        return hub.download(name.removeprefix("hf://"))
    if pathlib.Path(preset).is_dir():
        return pathlib.Path(preset)
    ours = {path.name: path for path in (assets.data_folder() / "weights").glob("*") if _is_preset(path)}
    registered = {asset for asset, entry in assets.registry().items() if _are_marks(entry["files"])}
    if name in ours:
        return ours[name]
    if name in registered:
        return assets.fetch(name)
    known = ", ".join(sorted(ours.keys() | registered))
    raise ValueError(
        f"Expected the path of a folder, 'hf://owner/model' for the Hugging Face hub, or one of {known}; got {name!r}."
        f"{_suggestion(name)}"
    )


def _is_preset(folder):
    return _are_marks(path.name for path in folder.glob("*"))


def _are_marks(names):
    return any(name in _MARKS or name.endswith(".gguf") for name in names)


def _suggestion(name):
    """Suggests a repository, in case the caller left out "hf://"."""
    found = re.fullmatch(r"(?:(\w[\w.-]*)/)?(\w[\w.-]*)", name)
    if not found or pathlib.Path(name).exists():
        return ""
    owner, model = found.groups()
    published = next((known for family, known in _OWNERS.items() if model.startswith(family)), "owner")
    return f" Did you mean 'hf://{owner or published}/{model}'?"
