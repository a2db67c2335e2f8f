"""Recipes of pre-training: everything that decides what a run computes, except its corpus; and where runs are kept."""

import dataclasses
import pathlib
import tomllib
import typing

from course_lib import assets
from course_lib.checkpoints.files import read_json
from course_lib.checkpoints.huggingface.bert import BERT
from course_lib.checkpoints.huggingface.gpt import GPT2
from course_lib.checkpoints.presets import resolve_preset

_OBJECTIVES = {"bert": ("masked", BERT), "gpt2": ("causal", GPT2)}  # by the model_type of a preset


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what a pre-training run computes, except its corpus.

    Attributes:
        vocabulary_size: V, of the vocabulary that is trained on the corpus.
        num_layers: number of blocks.
        num_heads: N.
        hidden_dim: D.
        intermediate_dim: width inside the feed-forward layers.
        max_sequence_length: number of positions of the model.
        dropout: fraction dropped in the layers and of the attention weights.
        initializer_range: standard deviation of the initial weights.
        length: T, tokens per row, special tokens included.
        batch_size: B, rows per step.
        steps: number of steps.
        warmup_steps: number of steps until the learning rate is at its peak. From there it falls linearly to 0. The
            default is a tenth of the steps, and at most 300.
        learning_rate: the peak.
        optimizer: "adamw" or "muon", as in `course_lib.training.optimizers`.
        weight_decay: of the optimizer. Norms and biases have none.
        clip: highest norm of all gradients together.
        masking_rate: fraction of the tokens to predict, if `objective` is "masked".
        whole_words: whether the pieces of a word are masked together, if `objective` is "masked".
        next_sentence: whether rows are pairs of text parts, and the model learns to tell whether the second one follows
            the first (next-sentence prediction), if `objective` is "masked". Otherwise the model has no head for it,
            and rows are cut from a stream of documents with `[SEP]` between them, as for RoBERTa (Liu et al., 2019,
            https://arxiv.org/abs/1907.11692, section 4.2), though within sentences, too.
        start: preset whose weights and vocabulary the run starts from: a name, a folder or hf://…; or, in a recipe of
            this module, another one. Without it, the run makes both.
        seed: of weights, batches, masks and dropout.
        dtype: policy of the layers. With "mixed_float16", Keras scales the loss, so that small gradients do not vanish.
        accumulation: number of micro-batches into which a batch is cut (gradient accumulation). They are computed one
            after the other, for less memory, and the step is that of the whole batch.
        rematerialize: whether the backward pass computes each block again from its input, for less memory (gradient
            checkpointing).
        jit_compile: whether XLA compiles the step.
        steps_per_checkpoint: number of steps from one evaluation and checkpoint to the next. Defaults to 250, or to
            `steps` if that is less.
        evaluation_steps: number of held-out batches in each evaluation.
        objective: "masked" for `course_lib.training.mlm`, a BERT; "causal" for `course_lib.training.clm`, a GPT-2.

    Raises:
        ValueError: if fields have wrong values or do not fit together. It names all of them.
    """

    vocabulary_size: int = 8192
    num_layers: int = 3
    num_heads: int = 6
    hidden_dim: int = 192
    intermediate_dim: int = 768
    max_sequence_length: int = 128
    dropout: float = 0.0
    initializer_range: float = 0.05
    length: int = 64
    batch_size: int = 32
    steps: int = 8_000
    warmup_steps: int | None = None
    learning_rate: float = 2e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip: float = 1.0
    masking_rate: float = 0.15
    whole_words: bool = False
    next_sentence: bool = True
    start: str | None = None
    seed: int = 0
    dtype: str = "float32"
    accumulation: int = 1
    rematerialize: bool = False
    jit_compile: bool = True
    steps_per_checkpoint: int | None = None
    evaluation_steps: int = 8
    objective: str = "masked"

    def __post_init__(self):
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", min(300, self.steps // 10))
        if self.steps_per_checkpoint is None:
            object.__setattr__(self, "steps_per_checkpoint", min(250, self.steps))
        wrong = [
            f"{name} has to be {expected}, not {getattr(self, name)!r}"
            for name, expected, is_right in (
                ("objective", '"masked" or "causal"', self.objective in ("masked", "causal")),
                ("optimizer", '"adamw" or "muon"', self.optimizer in ("adamw", "muon")),
                ("steps", "1 or more", self.steps >= 1),
                ("warmup_steps", f"at least 0 and below steps, {self.steps}", 0 <= self.warmup_steps < self.steps),
                ("steps_per_checkpoint", f"from 1 to steps, {self.steps}",
                 1 <= self.steps_per_checkpoint <= self.steps),
                ("length", f"from 1 to max_sequence_length, {self.max_sequence_length}",
                 1 <= self.length <= self.max_sequence_length),
                ("batch_size", "1 or more", self.batch_size >= 1),
                ("accumulation", f"a divisor of batch_size, {self.batch_size}",
                 self.accumulation >= 1 and self.batch_size % self.accumulation == 0),
                ("dropout", "0 with rematerialize, since dropout would be drawn anew",
                 not (self.rematerialize and self.dropout)),
                ("num_heads", f"a divisor of hidden_dim, {self.hidden_dim}",
                 self.num_heads >= 1 and self.hidden_dim % self.num_heads == 0),
            )
            if not is_right
        ]  # fmt: skip
        if wrong:
            raise ValueError(f"Expected a recipe whose fields fit together: {'; '.join(wrong)}.")

    @classmethod
    def read(cls, path):
        """Reads a recipe from a TOML file.

        Args:
            path: of the file. It holds the fields that differ from the defaults. With `start`, the objective and the
                size of the model are those of that preset, rows have its length up to 128, and the default learning
                rate is 2e-4, a tenth of that for new weights.

        Returns:
            A `Recipe`.

        Raises:
            ValueError: if the file is not TOML or contradicts its `start`, or fields are unknown or wrong.
            OSError: if there is no such file, or the preset must be downloaded and no source is in reach.
        """
        try:
            fields = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            names = ", ".join(RECIPES)
            raise FileNotFoundError(
                f"Expected a recipe: one of {names}, or the path of a TOML file; got {path}."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"Expected a TOML file in UTF-8; {path} is not: {error}.") from error
        known = {field.name: field.type for field in dataclasses.fields(cls)}
        wrong = [f"there is no field {name}" for name in sorted(fields.keys() - known.keys())]
        for name in fields.keys() & known.keys():
            kind = next(iter(typing.get_args(known[name])), known[name])  # int of int | None
            value = fields[name]
            if isinstance(value, bool) != (kind is bool) or not isinstance(
                value, (int, float) if kind is float else kind
            ):
                wrong.append(f"{name} has to be of type {kind.__name__}, not {value!r}")
        if wrong:
            raise ValueError(f"Expected fields of {[*known]} in {path}; {'; '.join(wrong)}.")
        if "start" in fields:
            implied = _fields_of_start(fields["start"])
            wrong = [
                f"{name} has to be {implied[name]!r}, not {fields[name]!r}"
                for name in implied.keys() & fields.keys()
                if fields[name] != implied[name]
            ]
            if wrong:
                raise ValueError(
                    f"Expected {path} to agree with its start, {fields['start']}; {'; '.join(sorted(wrong))}."
                )
            defaults = {"length": min(128, implied["max_sequence_length"]), "learning_rate": 2e-4}
            fields = defaults | implied | fields
        return cls(**fields)

    @property
    def predictions(self):
        """P, the highest number of predictions in a row."""
        special = 3 if self.next_sentence else 2
        return int(self.masking_rate * (self.length - special) + 0.5)

    @property
    def pooler(self):
        """Whether a BERT has a pooler, which only its next-sentence head reads."""
        return self.next_sentence

    def config(self, config_class, **fields):
        """Makes the config of a model.

        Args:
            config_class: the dataclass of the config. It gets every field that this recipe has too.
            **fields: further fields, or other values.

        Returns:
            An instance of that class.
        """
        names = [field.name for field in dataclasses.fields(config_class) if hasattr(self, field.name)]
        return config_class(**{name: getattr(self, name) for name in names} | fields)


# A BERT: short rows first, then longer ones, as Devlin et al. do it; and a tenth of both. And a GPT-2, in two parts,
# since its held-out loss was still falling at the end of the first.
_SHORT = Recipe()
_LONG = Recipe(start="bert-mini-short", length=128, batch_size=16, steps=14_000, learning_rate=1.5e-3)
_CAUSAL = Recipe(
    objective="causal",
    vocabulary_size=4096,  # every position is scored, and so a larger one costs as much as layers do
    num_layers=4,
    num_heads=3,
    max_sequence_length=256,
    length=256,
    batch_size=16,
    steps=6_000,
    optimizer="muon",  # held-out loss 5.45 after 250 steps, where AdamW was at 5.61 (a trial with one seed)
    evaluation_steps=16,
)
_TENTH = {"warmup_steps": 100, "steps_per_checkpoint": 200}
RECIPES = {
    "bert-mini-short": _SHORT,
    "bert-mini": _LONG,
    "gpt-mini-first": _CAUSAL,
    "gpt-mini": dataclasses.replace(_CAUSAL, start="gpt-mini-first", steps=4_000, learning_rate=1e-3, seed=1),
    "bert-mini-tenth-short": dataclasses.replace(_SHORT, steps=_SHORT.steps // 10, **_TENTH),
    "bert-mini-tenth": dataclasses.replace(_LONG, start="bert-mini-tenth-short", steps=_LONG.steps // 10, **_TENTH),
}


def run_folder(name):
    """Finds the folder of a run, in the cache of data, for runs that are given no other folder.

    Args:
        name: of the recipe.

    Returns:
        A path.
    """
    return assets.cache_folder() / "pretraining" / name


def resolve_start(name):
    """Finds the folder of a preset, or of the model that a recipe of this module made.

    Args:
        name: a preset, as `course_lib.checkpoints.presets.resolve_preset` takes it, or a recipe.

    Returns:
        A path.

    Raises:
        ValueError: if there is no such preset, or the recipe has not been run to its end.
        OSError: if the preset must be downloaded and no source is in reach.
    """
    folder = run_folder(name) / "preset"
    if name not in RECIPES or (assets.data_folder() / "weights" / name).is_dir():
        return resolve_preset(name)
    if not folder.is_dir():
        raise ValueError(f"Expected the recipe {name} to be run first: {folder} is not there.")
    return folder


def _fields_of_start(start):
    """Finds the fields of a recipe that its start decides."""
    folder = resolve_start(start)
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type not in _OBJECTIVES:
        raise ValueError(f"Expected a BERT or a GPT-2 to start from; {folder} holds a model of type {model_type!r}.")
    objective, checkpoint_format = _OBJECTIVES[model_type]
    config = checkpoint_format.read_fields(folder)
    names = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "max_sequence_length")
    intermediate_dim = config["intermediate_dim"] or 4 * config["hidden_dim"]
    return {"objective": objective, "intermediate_dim": intermediate_dim} | {name: config[name] for name in names}
