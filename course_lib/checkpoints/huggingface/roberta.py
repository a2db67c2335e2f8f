"""RoBERTa in the Hugging Face layout: BERT's encoder under other names, its head for masked tokens, and classifiers."""

import dataclasses

import numpy as np

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.format import Tensor
from course_lib.checkpoints.huggingface import heads
from course_lib.checkpoints.huggingface.bert import BertFormat

FIRST_POSITION = 2  # positions are counted after the id of the padding token, 1
_NAMES = {  # prefix of a tensor's name in BERT's files → in RoBERTa's
    "bert.": "roberta.",
    "cls.predictions.transform.dense.": "lm_head.dense.",
    "cls.predictions.transform.LayerNorm.": "lm_head.layer_norm.",
    "cls.predictions.": "lm_head.",
}
_TABLE = BertFormat.config_table
_POOLER = "roberta.pooler."
# A classifier of texts has two dense layers. The first, with tanh, is what BERT's pooler is.
_HEAD_NAMES = {"classifier.dense.": f"{_POOLER}dense.", "classifier.out_proj.": "classifier."}


@dataclasses.dataclass(frozen=True)
class _Positions(Tensor):
    """The position embeddings, before which the file has rows that no token of a text ever gets."""

    def file_shape(self, variable):
        length, width = variable.shape
        return length + FIRST_POSITION, width

    def from_file(self, array):
        return array[FIRST_POSITION:]

    def to_file(self, array):
        return np.pad(array, [(FIRST_POSITION, 0), (0, 0)])


class RobertaFormat(BertFormat):
    """RoBERTa's tensors and config, as in the classes `RobertaModel` and `RobertaFor…` of `transformers`."""

    model_type = "roberta"
    family = "Roberta"
    prefix = "roberta."
    buffers = r"roberta\.embeddings\.(position_ids|token_type_ids)"
    config_table = ConfigTable(
        fields={name: entry for name, entry in _TABLE.fields.items() if name != "pad_token_id"}
        | {"vocab_size": ("vocabulary_size", 50265)},
        values={"activation": {"gelu": "gelu", "gelu_python": "gelu"}},  # the only one that its head computes
        fixed=_TABLE.fixed | {"pad_token_id": 1},
    )

    def read_fields(self, folder):
        """Reads the config of a folder.

        Args:
            folder: path of the folder.

        Returns:
            The fields of our config, a dict. It counts only positions that a token can have.

        Raises:
            ValueError: if there is no config, it belongs to a different kind of model, or an entry is not supported.
        """
        fields, path = super().read_fields(folder), folder / "config.json"
        positions = fields["max_sequence_length"]
        if not isinstance(positions, int) or positions <= FIRST_POSITION:
            raise ValueError(f"Expected max_position_embeddings above {FIRST_POSITION} in {path}; got {positions!r}.")
        return fields | {"max_sequence_length": positions - FIRST_POSITION}

    def family_defaults(self, fields):
        """Finds the fields of our config that have the same value in every RoBERTa.

        Args:
            fields: fields of our config.

        Returns:
            A dict.
        """
        return {"pad_token_id": 1}

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder, with the names that they have in a model without a classifier of texts.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of arrays, without buffers.

        Raises:
            ValueError: if a file is missing, broken or pickled, or a tensor occurs under its old and its new name.
        """
        tensors = super().read_tensors(folder, fields)
        if any(name.startswith("classifier.dense.") for name in tensors):  # such a model does not use a pooler
            tensors = {name: array for name, array in tensors.items() if not name.startswith(_POOLER)}
        return {_renamed(name, _HEAD_NAMES): array for name, array in tensors.items()}

    def fields_from_tensors(self, names):
        """Tells whether the model has a pooler.

        Args:
            names: names of the tensors in a folder.

        Returns:
            A dict with `pooler`, a boolean.
        """
        return {"pooler": any(name.startswith(_POOLER) for name in names)}

    def tensors(self, fields):
        """Lists the tensors of the encoder, of the head for masked tokens, and of a classifier.

        Args:
            fields: fields of a `RobertaConfig`.

        Yields:
            `Tensor`.
        """
        for row in super().tensors(fields):
            name = _renamed(row.name, _NAMES)
            if row.path == "position_embedding.embeddings":
                yield _Positions(name, row.path)
            elif not name.startswith("cls."):  # there is no next-sentence head
                yield dataclasses.replace(row, name=name)

    def tied_weights(self, fields):
        """Lists the copies of the token embeddings and of the bias that files may have in the head for masked tokens.

        Args:
            fields: fields of a `RobertaConfig`.

        Returns:
            A dict, as in `Format.tied_weights`.
        """
        tied = super().tied_weights(fields)
        return {_renamed(copy, _NAMES): original and _renamed(original, _NAMES) for copy, original in tied.items()}

    def architecture(self, model):
        """Finds the class in `transformers` that computes the same as a model.

        Args:
            model: a `Roberta` or a task model on it.

        Returns:
            The name of the class, a string.

        Raises:
            ValueError: if `transformers` has no such class.
        """
        return "RobertaForMaskedLM" if hasattr(model, "masked_lm") else super().architecture(model)

    def skip_on_save(self, model):
        """Names the pooler if the model's class in `transformers` has none.

        Args:
            model: a `Roberta` or a task model on it.

        Returns:
            A tuple of prefixes of tensor names.
        """
        is_token_classifier = heads.is_classifier(model) and model.names_argument == "labels"
        return (_POOLER,) if is_token_classifier or hasattr(model, "masked_lm") else ()

    def saved_name(self, name, model):
        """Finds the name under which a tensor is saved: without the prefix if the model has no head.

        Args:
            name: name of a row.
            model: the model to save.

        Returns:
            A string, or None if the tensor is not saved.
        """
        if heads.is_classifier(model) and model.names_argument == "classes":
            return _renamed(name, {ours: theirs for theirs, ours in _HEAD_NAMES.items()})
        return super().saved_name(name, model)

    def config_of(self, model, fields):
        """Makes the content of `config.json`.

        Args:
            model: a `Roberta` or a task model on it.
            fields: fields of our config.

        Returns:
            A dict.

        Raises:
            ValueError: if `transformers` cannot express the config or the head of the model.
        """
        return super().config_of(
            model, fields | {"max_sequence_length": fields["max_sequence_length"] + FIRST_POSITION}
        )


ROBERTA = RobertaFormat()


def _renamed(name, prefixes):
    old = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    return prefixes.get(old, "") + name.removeprefix(old)
