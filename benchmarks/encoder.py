"""Our encoder beside Hugging Face's, KerasHub's and Sentence Transformers', on the same weights and inputs, in one run.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/encoder.json`.
Run it on a quiet machine.
"""

import contextlib
import json
import tempfile

import course_lib

course_lib.reproducible(0)

import numpy as np  # noqa: E402
from measure import has_bfloat16, header, interleaved, matrix_rate, products, write  # noqa: E402

from course_lib import (  # noqa: E402
    Bert,
    BertConfig,
    SentenceEncoder,
    assets,
)
from course_lib.data import reviews  # noqa: E402

BATCH, LENGTH = 8, 128
BASE = BertConfig(vocabulary_size=30522, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072)


def forward(results):
    """BERT-base, 8 rows of 128 tokens, against Hugging Face and KerasHub; and our own in bfloat16."""
    import torch
    import transformers

    with contextlib.redirect_stderr(None):
        import keras_hub

    rng = np.random.default_rng(0)
    shape = BATCH, LENGTH
    inputs = {
        "token_ids": rng.integers(1000, BASE.vocabulary_size, shape).astype("int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, "int32"),
    }
    ours = Bert(BASE, Bert.from_preset("all-MiniLM-L6-v2").tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        ours.save_to_preset(folder)
        half = Bert.from_preset(folder, dtype="bfloat16")
        hugging_face = transformers.BertModel.from_pretrained(folder).eval()
        keras_hubs = keras_hub.models.BertBackbone.from_preset(folder)
    tensors = torch.tensor(inputs["token_ids"]).long(), torch.tensor(inputs["padding_mask"])

    def run_hugging_face():
        with torch.inference_mode():
            return hugging_face(*tensors).last_hidden_state.numpy()

    candidates = {
        "ours, float32": lambda: ours.predict_on_batch(inputs)["sequence_output"],
        "KerasHub, float32": lambda: keras_hubs.predict_on_batch(inputs)["sequence_output"],
        "Hugging Face, float32": run_hugging_face,
        "ours, bfloat16": lambda: half.predict_on_batch(inputs)["sequence_output"],
    }
    expected = candidates["ours, float32"]()
    for name, tolerance in {"Hugging Face, float32": 1e-3, "KerasHub, float32": 0.1}.items():  # KerasHub: another GELU
        assert np.abs(candidates[name]() - expected).max() < tolerance, name
    seconds = interleaved(candidates, 5)
    operations = products(BASE, np.full(BATCH, LENGTH))
    rates = {
        "float32": matrix_rate("float32", BATCH * LENGTH, BASE),
        "bfloat16": matrix_rate("bfloat16", BATCH * LENGTH, BASE),
    }
    change = np.abs(np.asarray(candidates["ours, bfloat16"](), "float32") - expected)
    results["forward"] = {
        "seconds": seconds,
        "times Hugging Face": seconds["Hugging Face, float32"] / seconds["ours, float32"],
        "times KerasHub": seconds["KerasHub, float32"] / seconds["ours, float32"],
        "times float32, in bfloat16": seconds["ours, float32"] / seconds["ours, bfloat16"],
        "mean change in bfloat16, in standard deviations": float(change.mean() / expected.std()),
        "matrix products a second": rates,
        "share of that rate": {
            name: operations / seconds[name] / rates["bfloat16" if "bfloat16" in name else "float32"]
            for name in candidates
        },
        "bfloat16 in the processor": has_bfloat16(),
    }


def encode(results):
    """All Rotten Tomatoes sentences, text to vector, against Sentence Transformers; and the search in bfloat16."""
    import sentence_transformers

    texts = reviews.rotten_tomatoes().all_texts
    folder = str(assets.fetch("all-MiniLM-L6-v2"))
    ours = SentenceEncoder.from_preset("all-MiniLM-L6-v2")
    rival = sentence_transformers.SentenceTransformer(folder, device="cpu")
    vectors = {}

    def run_ours():
        vectors["ours"] = ours.encode(texts)

    def run_rival():
        vectors["rival"] = rival.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)

    ours.encode(texts[::20])  # traces every length
    rival.encode(texts[::20])
    seconds = interleaved({"ours": run_ours, "Sentence Transformers": run_rival}, rounds=1, warm_up=0)  # minutes each
    assert np.abs(vectors["ours"] - vectors["rival"]).max() < 1e-4
    half = SentenceEncoder.from_preset("all-MiniLM-L6-v2", dtype="bfloat16").encode(texts[:500])
    lengths = ours.backbone.tokenizer(texts)["padding_mask"].sum(axis=1)
    operations = products(ours.backbone.config, lengths)
    rate = results["forward"]["matrix products a second"]["float32"]
    results["encode"] = {
        "sentences": len(texts),
        "seconds": seconds,
        "times Sentence Transformers": seconds["Sentence Transformers"] / seconds["ours"],
        "share of the matrix rate, padding not counted": {n: operations / s / rate for n, s in seconds.items()},
        "share of 500 sentences with the same nearest neighbour in bfloat16": agreement(vectors["ours"][:500], half),
    }


def agreement(vectors, others):
    """How many rows have the same nearest neighbour among the rest in both."""
    nearest = [(v @ v.T - 2 * np.eye(len(v))).argmax(axis=1) for v in (vectors, others.astype("float32"))]
    return float(np.mean(nearest[0] == nearest[1]))


def main():
    """Runs all of it, prints the figures and writes them down."""
    results = header()
    for part in (forward, encode):
        part(results)
        print(json.dumps(results[part.__name__], indent=2), flush=True)
    write(results, __file__)


if __name__ == "__main__":
    main()
