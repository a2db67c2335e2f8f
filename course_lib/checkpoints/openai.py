"""OpenAI's own releases of GPT-2 and of the first GPT.

GPT-2 (https://github.com/openai/gpt-2) is a folder with `hparams.json`, `encoder.json`, `vocab.bpe`, and the
TensorFlow 1 checkpoint `model.ckpt.*`. The first GPT (https://github.com/openai/finetune-transformer-lm, its folder
`model/`) is one long vector, cut into `params_0.npy` to `params_9.npy`; the shapes of the 146 arrays in it are in
`params_shapes.json`, and its vocabulary is in `encoder_bpe_40000.json` and `vocab_40000.bpe`.

Neither release says which dropout rates and which initial weights it was trained with. A loaded model has the defaults
of its config, and these fields are not written.
"""

import dataclasses
import math

import numpy as np

from course_lib.checkpoints.config_table import ConfigTable
from course_lib.checkpoints.files import read_json, read_tensorflow, write_json, write_tensorflow
from course_lib.checkpoints.format import OriginalFormat, Tensor, check_fields
from course_lib.checkpoints.huggingface import heads, tokenizers

_PIECES = range(10)  # the numbers of the files into which the first GPT's weights are cut
_ARRAYS_PER_LAYER = 12
_NUM_HEADS = 12  # of the first GPT: its training script says so, and not its files


@dataclasses.dataclass(frozen=True)
class _Kernel(Tensor):
    """The kernel of a dense layer, which OpenAI's code calls a convolution of width 1: (1, in, out)."""

    def file_shape(self, variable):
        return (1, *super().file_shape(variable))

    def from_file(self, array):
        return super().from_file(array[0])

    def to_file(self, array):
        return super().to_file(array)[None]


class OpenAIFormat(OriginalFormat):
    """What both releases share: the names of the tensors, and a vocabulary in two files.

    Attributes:
        vocabulary_files: names of the files with the vocabulary and with the merges.
    """

    layout = "openai"
    vocabulary_files = None

    def rows(self, fields, model):
        """Lists the tensors in the order of OpenAI's code.

        Args:
            fields: fields of our config.
            model: the model to load or to save.

        Returns:
            A list of `Tensor`.
        """
        rows = [
            Tensor("model/wpe", "position_embedding.embeddings"),
            Tensor("model/wte", "token_embedding.embeddings"),
        ]
        for index in range(fields["num_layers"]):
            name, path = f"model/h{index}", f"decoder.blocks.{index}"
            for place, part in enumerate(("query", "key", "value")):
                rows += _dense(f"{name}/attn/c_attn", f"{path}.attention.{part}", (place, 3))
            rows += _dense(f"{name}/attn/c_proj", f"{path}.attention.output_projection")
            rows += _norm(f"{name}/ln_1", f"{path}.attention_norm")
            rows += _dense(f"{name}/mlp/c_fc", f"{path}.feed_forward.intermediate")
            rows += _dense(f"{name}/mlp/c_proj", f"{path}.feed_forward.output_projection")
            rows += _norm(f"{name}/ln_2", f"{path}.feed_forward_norm")
        return rows

    def fixed_fields(self, fields):
        """Finds the fields of our config whose values the release does not leave open.

        Args:
            fields: fields of our config, sizes at least.

        Returns:
            A dict.
        """
        return {
            "intermediate_dim": 4 * fields["hidden_dim"],
            "activation": "gelu_approximate",
            "layer_norm_epsilon": 1e-5,
            "scale_attention": True,
            "scale_attention_by_layer": False,
        }

    def save_tokenizer(self, tokenizer, folder):
        """Writes the vocabulary and the merges, and a `tokenizer_config.json` that holds any added tokens.

        Args:
            tokenizer: the tokenizer.
            folder: path of the folder.
        """
        tokenizer.save(folder, self.vocabulary_files)


class GPT2Format(OpenAIFormat):
    """GPT-2's tensors and config, as OpenAI's `model.py` names them."""

    model_type = "gpt2"
    config_file = "hparams.json"
    vocabulary_files = "encoder.json", "vocab.bpe"
    config_table = ConfigTable(  # with the defaults of OpenAI's `default_hparams`
        fields={
            "n_vocab": ("vocabulary_size", 0),
            "n_ctx": ("max_sequence_length", 1024),
            "n_embd": ("hidden_dim", 768),
            "n_head": ("num_heads", 12),
            "n_layer": ("num_layers", 12),
        },
        values={},
        fixed={},
    )

    def read_fields(self, folder):
        """Reads `hparams.json`.

        Args:
            folder: path of the folder.

        Returns:
            Fields of a `GPT2Config`, a dict. The others have their defaults.

        Raises:
            ValueError: if the file is missing or broken, or has an unknown entry, which OpenAI's code refuses, too.
        """
        path = folder / self.config_file
        config = read_json(path)
        if unknown := sorted(config.keys() - self.config_table.fields.keys()):
            raise ValueError(f"Expected only {[*self.config_table.fields]} in {path}; got {unknown}.")
        return self.config_table.read(config, path)

    def read_tensors(self, folder, fields):
        """Reads the tensors of a folder.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of arrays.

        Raises:
            ValueError: if the index or a data file is missing or broken.
        """
        return read_tensorflow(folder)

    def rows(self, fields, model):
        """Lists the tensors, with the norm after the last block.

        Args:
            fields: fields of our config.
            model: the model to load or to save.

        Returns:
            A list of `Tensor`.
        """
        return [*super().rows(fields, model), *_norm("model/ln_f", "decoder.norm")]

    def fixed_fields(self, fields):
        """Finds the fields of our config whose values the release does not leave open.

        Args:
            fields: fields of our config, sizes at least.

        Returns:
            A dict.
        """
        return super().fixed_fields(fields) | {"end_token_id": fields["vocabulary_size"] - 1}

    def config_of(self, model, fields):
        """Makes the content of `hparams.json`.

        Args:
            model: a `GPT2` or a `GPT2CausalLM`.
            fields: fields of a `GPT2Config`.

        Returns:
            A dict.

        Raises:
            ValueError: if OpenAI's code cannot express the config or the head of the model.
        """
        heads.check_no_classifier(model)
        check_fields(fields, self.fixed_fields(fields), "GPT-2 of OpenAI's")
        return self.config_table.write(fields)

    def write_files(self, folder, config, tensors):
        """Writes `hparams.json`, `model.ckpt.*`, and `checkpoint`, which tells OpenAI's code the checkpoint's name.

        Args:
            folder: path of a temporary folder.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays.
        """
        write_json(folder / self.config_file, config)
        write_tensorflow(folder / "model.ckpt", tensors)
        (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')


class OpenAIGPTFormat(OpenAIFormat):
    """The first GPT's tensors, in the order in which OpenAI's `train.py` reads them. There is no config."""

    model_type = "openai-gpt"
    config_file = "params_shapes.json"
    vocabulary_files = "encoder_bpe_40000.json", "vocab_40000.bpe"
    dtypes = ("float16", "float32", "float64")  # those that NumPy itself has

    def read_fields(self, folder):
        """Reads the sizes from the shapes of the arrays.

        Args:
            folder: path of the folder.

        Returns:
            Fields of an `OpenAIGPTConfig`, a dict.

        Raises:
            ValueError: if the file is missing or broken, or the number of arrays is not that of a GPT.
        """
        path = folder / self.config_file
        shapes = read_json(path, list)
        if not all(isinstance(shape, list) and _are_sizes(shape) for shape in shapes):
            raise ValueError(f"Expected a list of shapes in {path}; got {str(shapes)[:80]}.")
        num_layers, rest = divmod(len(shapes) - 2, _ARRAYS_PER_LAYER)
        if num_layers < 1 or rest or [*map(len, shapes[:2])] != [2, 2]:
            raise ValueError(
                f"Expected the shapes of position and token embeddings, then of {_ARRAYS_PER_LAYER} arrays per layer, "
                f"in {path}; got {len(shapes)} shapes, the first of which are {shapes[:3]}."
            )
        (max_sequence_length, _), (vocabulary_size, hidden_dim) = shapes[:2]
        fields = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": _NUM_HEADS,
            "hidden_dim": hidden_dim,
            "max_sequence_length": max_sequence_length,
        }
        return fields | self.fixed_fields(fields)

    def read_tensors(self, folder, fields):
        """Joins the files `params_*.npy`, and cuts them into arrays.

        Args:
            folder: path of the folder.
            fields: fields of our config.

        Returns:
            A dict of arrays.

        Raises:
            ValueError: if a file is missing, broken, cut short or a pickle, or there are more or fewer numbers than the
                shapes ask for.
        """
        shapes = read_json(folder / self.config_file, list)
        vector = np.concatenate([self._read_piece(folder / f"params_{number}.npy") for number in _PIECES])
        sizes = [math.prod(shape) for shape in shapes]
        if vector.size != sum(sizes):
            raise ValueError(f"Expected {sum(sizes)} numbers in {folder / 'params_*.npy'}; got {vector.size}.")
        names = dict.fromkeys(row.name for row in self.rows(fields, None))
        arrays = np.split(vector, np.cumsum(sizes)[:-1])
        return {name: array.reshape(shape) for name, array, shape in zip(names, arrays, shapes, strict=True)}

    def _read_piece(self, path):
        try:
            piece = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(
                f"Expected a whole file {path} of numbers; it is missing, broken, cut short or a pickle: {error}."
            ) from error
        if getattr(piece, "ndim", None) != 1 or str(piece.dtype) not in self.dtypes:
            raise ValueError(f"Expected a vector of floats in {path}; got {getattr(piece, 'dtype', type(piece))}.")
        return piece

    def fixed_fields(self, fields):
        """Finds the fields of our config whose values the release does not leave open.

        Args:
            fields: fields of our config, sizes at least.

        Returns:
            A dict.
        """
        return super().fixed_fields(fields) | {"num_heads": _NUM_HEADS, "end_token_id": -1}

    def config_of(self, model, fields):
        """Checks that the layout can express a model. It has no config.

        Args:
            model: an `OpenAIGPT` or an `OpenAIGPTCausalLM`.
            fields: fields of an `OpenAIGPTConfig`.

        Returns:
            None.

        Raises:
            ValueError: if OpenAI's code cannot express the config or the head of the model.
        """
        heads.check_no_classifier(model)
        check_fields(fields, self.fixed_fields(fields), "GPT of OpenAI's")

    def write_files(self, folder, config, tensors):
        """Writes `params_shapes.json` and `params_*.npy`.

        Args:
            folder: path of a temporary folder.
            config: from `config_of`.
            tensors: dict from names to contiguous arrays, in the order of the rows.
        """
        write_json(folder / self.config_file, [array.shape for array in tensors.values()])
        vector = np.concatenate([array.ravel() for array in tensors.values()])
        for number, piece in zip(_PIECES, np.array_split(vector, len(_PIECES)), strict=True):
            np.save(folder / f"params_{number}.npy", piece)


GPT2 = GPT2Format()
OPENAI_GPT = OpenAIGPTFormat()


def read_byte_pair(folder):
    """Reads GPT-2's tokenizer, in OpenAI's layout or in Hugging Face's.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.BytePairTokenizer`, a dict.

    Raises:
        ValueError: if a file is missing or broken, or describes a tokenizer that our class cannot reproduce.
    """
    return _read_by(tokenizers.read_byte_pair, GPT2, folder)


def read_openai_gpt(folder):
    """Reads the first GPT's tokenizer, in OpenAI's layout or in Hugging Face's.

    OpenAI's code repaired texts with the package ftfy and split them into words with spaCy. Our class splits as
    Hugging Face's does without these packages, so words such as "didn't" may get other ids than OpenAI gave them.

    Args:
        folder: path of the folder.

    Returns:
        The arguments of `course_lib.text.openai_gpt.OpenAIGPTTokenizer`, a dict.

    Raises:
        ValueError: if a file is missing or broken, or describes a tokenizer that our class cannot reproduce.
    """
    return _read_by(tokenizers.read_openai_gpt, OPENAI_GPT, folder)


def _are_sizes(shape):
    return all(type(size) is int and size > 0 for size in shape)


def _read_by(read, checkpoint_format, folder):
    names = checkpoint_format.vocabulary_files
    return read(folder, names) if (folder / names[0]).is_file() else read(folder)


def _dense(name, path, part=(0, 1)):
    return _Kernel(f"{name}/w", f"{path}.kernel", part=part), Tensor(f"{name}/b", f"{path}.bias", part=part)


def _norm(name, path):
    return Tensor(f"{name}/g", f"{path}.gamma"), Tensor(f"{name}/b", f"{path}.beta")
