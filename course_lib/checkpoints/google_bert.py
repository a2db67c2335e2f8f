"""Google's own release of BERT: `bert_config.json`, `vocab.txt`, and the TensorFlow 1 checkpoint `bert_model.ckpt.*`.

The layout is that of https://github.com/google-research/bert. Base, large, cased, uncased, whole-word-masking,
multilingual and Chinese models share it. The checkpoint holds the encoder and both pre-training heads.

The config calls the activation "gelu", and Google's code gave that name to two functions: at first to the exact GELU,
x · Φ(x), and since 7 February 2019 to its approximation by tanh. Hugging Face's `transformers` computes the exact one
for the same weights, and so do we unless the option `gelu` says "approximate". The two functions differ by less than
0.0005 at every x.
"""

import dataclasses
import re

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.files import read_json, read_tensorflow, write_json, write_tensorflow
from course_lib.checkpoints.format import OriginalFormat, check_fields
from course_lib.checkpoints.huggingface import heads, tokenizers
from course_lib.checkpoints.huggingface.bert import BERT as HUGGING_FACE

GELUS = {"exact": "gelu", "approximate": "gelu_approximate"}  # option → our name
_NAMES = (  # the tensors of Hugging Face's layout under other names
    (r"\blayer\.(\d+)", r"layer_\1"),
    (r"_embeddings\.weight$", "_embeddings"),
    (r"LayerNorm\.weight$", "LayerNorm.gamma"),
    (r"LayerNorm\.bias$", "LayerNorm.beta"),
    (r"seq_relationship\.weight$", "seq_relationship.output_weights"),
    (r"(predictions|seq_relationship)\.bias$", r"\1.output_bias"),
    (r"\.weight$", ".kernel"),
    (r"\.", "/"),
)
_OPTIMIZER = r".*/adam_[mv]|global_step"  # the state of Google's optimizer, and how many steps it took
_CASES = {"uncased": True, "cased": False, "multilingual": True, "chinese": True}  # in a name → whether it lower-cases
_FIXED = {"layer_norm_epsilon": 1e-12, "pad_token_id": 0, "pooler": True, "tie_embeddings": True}


class GoogleBertFormat(OriginalFormat):
    """BERT's tensors and config, as Google's `modeling.py` and `run_pretraining.py` name them."""

    model_type = "bert"
    layout = "google"
    config_file = "bert_config.json"
    options = ("gelu",)
    config_table = ConfigTable(  # with the defaults of Google's `BertConfig`
        fields={
            "vocab_size": ("vocabulary_size", None),
            "num_hidden_layers": ("num_layers", 12),
            "num_attention_heads": ("num_heads", 12),
            "hidden_size": ("hidden_dim", 768),
            "intermediate_size": ("intermediate_dim", 3072),
            "max_position_embeddings": ("max_sequence_length", 512),
            "type_vocab_size": ("num_segments", 16),
            "hidden_dropout_prob": ("dropout", 0.1),
            "attention_probs_dropout_prob": ("attention_dropout", 0.1),
            "hidden_act": ("activation", "gelu"),
            "initializer_range": ("initializer_range", 0.02),
        },
        values={"activation": {name: name for name in ("gelu", "relu", "tanh", "linear")}},
        fixed={},
    )

    def read_fields(self, folder, gelu=None):
        """Reads the config of a folder.

        Args:
            folder: path of the folder.
            gelu: "exact" or "approximate", the function that "gelu" in the file stands for. Defaults to what
                `save_to_preset` noted in the file, and in a file of Google's to "exact".

        Returns:
            The fields of a `BertConfig`, a dict.

        Raises:
            ValueError: if the file is missing or broken, or an entry is not supported.
        """
        path = folder / self.config_file
        config = read_json(path)
        gelu = gelu or config.get("gelu", "exact")
        if gelu not in [*GELUS]:
            raise ValueError(f"Expected gelu to be one of {sorted(GELUS)}, for {path}; got {gelu!r}.")
        activation = config.get("hidden_act", "gelu") or "linear"  # Google's code reads null and "" as no activation
        fields = self.config_table.read(config | {"hidden_act": str(activation).lower()}, path)
        if fields["activation"] == "gelu":
            fields["activation"] = GELUS[gelu]
        return fields | _FIXED

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder, without the optimizer's state.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of arrays.

        Raises:
            ValueError: if the index or a data file is missing or broken.
        """
        return read_tensorflow(folder, skip=_OPTIMIZER)

    def rows(self, fields, model):
        """Lists the tensors of the encoder and of both pre-training heads.

        Args:
            fields: fields of a `BertConfig`.
            model: the model to load or to save.

        Returns:
            A list of `Tensor`.
        """
        rows = [row for row in HUGGING_FACE.tensors(fields) if not row.name.startswith("classifier.")]
        return [
            dataclasses.replace(row, name=name, transposed=row.transposed and not name.endswith("/kernel"))
            for row, name in ((row, _google_name(row.name)) for row in rows)
        ]

    def is_of_another_task(self, name, model):
        """Tells whether a tensor belongs to a head, and the model only has the weights of a backbone.

        Args:
            name: name of a tensor without a row.
            model: a backbone or a task model.

        Returns:
            A boolean.
        """
        is_headless = len(model.weights) == len(getattr(model, "backbone", model).weights)
        return is_headless and not name.startswith("bert/")

    def config_of(self, model, fields):
        """Makes the content of `bert_config.json`.

        Google's code ignores the entry `gelu`, which says which function "gelu" stands for. Its present version
        computes the approximation.

        Args:
            model: a `Bert`, or a task model on it without a classifier.
            fields: fields of a `BertConfig`.

        Returns:
            A dict.

        Raises:
            ValueError: if Google's code cannot express the config or the head of the model.
        """
        heads.check_no_classifier(model)
        check_fields(fields, _FIXED, "BERT of Google's")
        gelu = next((name for name, ours in GELUS.items() if ours == fields["activation"]), None)
        if gelu is None:
            return self.config_table.write(fields)
        return self.config_table.write(fields | {"activation": "gelu"}) | {"gelu": gelu}

    def write_files(self, folder, config, tensors):
        """Writes `bert_config.json` and `bert_model.ckpt.*`.

        Args:
            folder: path of a temporary folder.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays.
        """
        write_json(folder / self.config_file, config)
        write_tensorflow(folder / "bert_model.ckpt", tensors)


BERT = GoogleBertFormat()


def read_tokenizer(folder, lowercase=None):
    """Reads `vocab.txt`.

    Google's files do not say whether the model lower-cases its texts and strips accents. The name of the folder does:
    names with "uncased", "multilingual" or "chinese" do, and those with "cased" do not.

    The ids are those of Google's `tokenization.py` with two exceptions: a word of 101 to 200 characters becomes one
    unknown token, as in Hugging Face's tokenizers, and a special token such as "[MASK]" may be written in a text.

    Args:
        folder: path of the folder.
        lowercase: whether to lower-case. Defaults to what `tokenizer_config.json` says, if we wrote one, and otherwise
            to what the folder's name says.

    Returns:
        The arguments of `course_lib.text.WordPieceTokenizer`, a dict.

    Raises:
        ValueError: if there is no vocabulary, it has another size than the config says, or nothing says whether to
            lower-case.
    """
    arguments = tokenizers.read_word_piece(folder)
    size, found = read_json(folder / BERT.config_file).get("vocab_size"), len(arguments["vocabulary"])
    if size != found:
        raise ValueError(f"Expected {size} pieces in {folder / 'vocab.txt'}, as the config says; got {found}.")
    if lowercase is not None or (folder / "tokenizer_config.json").is_file():
        return arguments | ({} if lowercase is None else {"lowercase": lowercase})
    name = folder.resolve().name
    named = re.findall(rf"(?<![a-z])(?:{'|'.join(_CASES)})(?![a-z])", name.lower())
    if not named:
        raise ValueError(
            f"Expected a folder whose name has one of {[*_CASES]}, which says whether the model lower-cases its texts; "
            f"got {name!r}. Pass lowercase=True or lowercase=False."
        )
    return arguments | {"lowercase": _CASES[min(named, key=[*_CASES].index)]}


def _google_name(name):
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
