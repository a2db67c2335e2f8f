"""Made the files beside it, with version 0.1 of the library (commit bd9a2d9): PYTHONPATH=… python make.py FOLDER

Tiny models with random weights, as `model.save` wrote them, and what they computed.
"""

import pathlib
import sys
import zipfile

import numpy as np

from course_lib import (
    GPT2,
    Bert,
    BertConfig,
    BertPretrainer,
    GPT2CausalLM,
    GPT2Config,
    Seq2Seq,
    Seq2SeqConfig,
    TextClassifier,
    WordPieceTokenizer,
)

folder = pathlib.Path(sys.argv[1])
generator = np.random.default_rng(0)
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm", "##n", "##o"])
TOKENS = {
    "token_ids": np.arange(15).reshape(3, 5) * 3 % 20,
    "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]),
}
PAIRS = {f"encoder_{name}": array for name, array in TOKENS.items()}
PAIRS["decoder_token_ids"] = TOKENS["token_ids"][:, ::-1]


def bert():
    return Bert(BertConfig(20, 1, 2, 8, 12, 6), TOKENIZER)


def first_gpt():
    return GPT2(GPT2Config(20, 2, 2, 8, 12, 6, norm_first=False, end_token_id=-1))


for name, model, inputs in (
    ("pretrainer", BertPretrainer(bert()), TOKENS),
    ("first-gpt", GPT2CausalLM(first_gpt()), TOKENS),
    ("gpt2", GPT2(GPT2Config(20, 1, 2, 8, 12, 6)), TOKENS),
    ("classifier-on-first-gpt", TextClassifier(first_gpt(), ["bad", "good"]), TOKENS),
    ("seq2seq", Seq2Seq(Seq2SeqConfig(20, 2, 2, 8, 12)), PAIRS),
):
    model.build()
    for weight in model.trainable_weights:
        weight.assign(np.asarray(weight) + generator.normal(scale=0.3, size=weight.shape))
    outputs = model(inputs)
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    np.savez(folder / f"{name}.npz", **{key: np.asarray(value) for key, value in outputs.items()})
    model.save(folder / "large.keras")
    with (
        zipfile.ZipFile(folder / "large.keras") as large,
        zipfile.ZipFile(folder / f"{name}.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as small,
    ):
        for member in large.namelist():
            small.writestr(zipfile.ZipInfo(member), large.read(member), zipfile.ZIP_DEFLATED, 9)
    (folder / "large.keras").unlink()
