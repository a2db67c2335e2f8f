"""Made the folders `*_L-*`: tiny random models as Google's BERT code writes them, and what it computes with them.

    python -m pip install --no-deps bert-tensorflow==1.0.4 tf-keras==2.21.* tf-slim
    python tests/golden/make_google_bert.py
    python tests/golden/make_google_bert.py FOLDER INPUTS.npz OUTPUTS.npz  # what it computes with another checkpoint

The package carries `modeling.py`, `run_pretraining.py` and `tokenization.py` of https://github.com/google-research/bert
for TensorFlow 1. They run on TensorFlow 2 with Keras 2, and with `tf_slim` in place of `tf.contrib`. Each folder holds
a checkpoint and `expected.npz`: the ids that Google's tokenizer gives, and the outputs.
"""

import os
import pathlib
import sys
import types

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tensorflow
import tf_slim

contrib = types.ModuleType("tensorflow.contrib")
contrib.layers = tf_slim.layers
sys.modules["tensorflow.contrib"] = contrib

from absl import flags  # noqa: E402
from bert import modeling, run_pretraining, tokenization  # noqa: E402

tf = tensorflow.compat.v1
tf.disable_v2_behavior()
flags.FLAGS(["make_google_bert"])

HERE = pathlib.Path(__file__).parent
VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] the a my his dog cat bird river moon stone is was sits sings sleeps
    cute old and under on , . ! ? ##s ##ing ##er 狗 猫 é cafe café Dog Paris The un ##seen""".split()
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "Café 狗 Dog"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]


def main():
    if len(sys.argv) > 1:
        folder, inputs, outputs = map(pathlib.Path, sys.argv[1:])
        config = modeling.BertConfig.from_json_file(folder / "bert_config.json")
        with np.load(inputs) as arrays:
            np.savez(outputs, **compute(config, arrays, folder))
        return
    make("uncased_L-2_H-8_A-2", 2, 8, 2, 12, 2)
    modeling.gelu = exact_gelu  # that of Google's first release
    make("multi_cased_L-3_H-12_A-4", 3, 12, 4, 20, 3)


def exact_gelu(x):
    return x * 0.5 * (1.0 + tf.math.erf(x / np.sqrt(2.0)))


def make(name, layers, width, heads, inner, segments):
    """Writes a checkpoint, as after a step of training, with its vocabulary, its config and its outputs."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf-8")
    config = modeling.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=32,
        type_vocab_size=segments,
    )
    (folder / "bert_config.json").write_text(config.to_json_string())
    tokenizer = tokenization.FullTokenizer(str(folder / "vocab.txt"), do_lower_case="uncased" in name)
    arrays = packed(tokenizer)
    expected = compute(config, arrays, folder, new=True)
    np.savez_compressed(folder / "expected.npz", **arrays, **expected)


def packed(tokenizer):
    """Turns the texts into rows, as Google's `run_classifier.py` does."""
    rows = []
    for text, pair in zip(TEXTS, PAIRS, strict=True):
        first = ["[CLS]", *tokenizer.tokenize(text), "[SEP]"]
        second = [*tokenizer.tokenize(pair), "[SEP]"]
        ids = tokenizer.convert_tokens_to_ids(first + second)
        rows.append((ids, [0] * len(first) + [1] * len(second), [1] * len(ids)))
    width = max(len(ids) for ids, _, _ in rows)
    names = "token_ids", "segment_ids", "padding_mask"
    return {
        name: np.array([column + [0] * (width - len(column)) for column in columns], "int32")
        for name, columns in zip(names, zip(*rows, strict=True), strict=True)
    }


def compute(config, arrays, folder, new=False):
    """Builds the model with both heads, draws its weights or loads them, and computes everything."""
    ids, segments, mask = (tf.constant(arrays[name]) for name in ("token_ids", "segment_ids", "padding_mask"))
    model = modeling.BertModel(config, False, ids, mask, segments)
    rows, width = arrays["token_ids"].shape
    places = tf.tile(tf.range(width)[None], [rows, 1])
    zeros = tf.zeros([rows, width], tf.int32)
    _, _, mlm = run_pretraining.get_masked_lm_output(
        config, model.get_sequence_output(), model.get_embedding_table(), places, zeros, tf.cast(zeros, tf.float32)
    )
    _, _, nsp = run_pretraining.get_next_sentence_output(config, model.get_pooled_output(), zeros[:, :1])
    weights = tf.trainable_variables()
    prefix = str(folder / "bert_model.ckpt")
    with tf.Session() as session:
        if new:
            rng = np.random.default_rng(sum(folder.name.encode()))
            for weight in weights:  # so large that every part of it matters
                shape = weight.shape.as_list()
                weight.load(rng.normal(float(len(shape) == 1), 0.5, shape).astype("float32"), session)
            for weight in weights:
                for slot in ("adam_m", "adam_v"):
                    tf.get_variable(f"{weight.op.name}/{slot}", weight.shape, trainable=False)
            tf.train.get_or_create_global_step()
            others = [variable for variable in tf.global_variables() if variable not in weights]
            session.run(tf.variables_initializer(others))
            tf.train.Saver().save(session, prefix, write_meta_graph=False, write_state=False)
        else:
            tf.train.Saver(weights).restore(session, prefix)
        states = [model.get_embedding_output(), *model.get_all_encoder_layers()]
        expected = {
            "hidden_states": tf.stack(states),
            "sequence_output": model.get_sequence_output(),
            "pooled_output": model.get_pooled_output(),
            "mlm_log_probs": tf.reshape(mlm, [rows, width, -1]),
            "nsp_log_probs": nsp,
        }
        expected = session.run(expected)
    tf.reset_default_graph()
    return expected


if __name__ == "__main__":
    main()
