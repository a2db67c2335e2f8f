"""Made the folders beside it: tiny random BERTs as Hugging Face writes them, and what Hugging Face computes with them.

    python tests/golden/make.py

It needs the extra `parity` and the asset all-MiniLM-L6-v2. Each folder holds a checkpoint and `expected.npz`, the
inputs and the outputs; `all-MiniLM-L6-v2.npz` holds a few numbers of the real model.
"""

import pathlib

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from course_lib.data import assets

HERE = pathlib.Path(__file__).parent
VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] the a my his dog cat bird river moon stone is was sits sings sleeps
    cute old and under on , . ! ? ##s ##ing ##er 狗 猫 é ü Dog Paris un ##seen""".split()
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "[MASK] cat 狗 É"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]
SIZES = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
}


def main():
    save("bert", transformers.BertModel)
    save("bert-without-pooler", transformers.BertModel, {"add_pooling_layer": False}, hidden_act="relu")
    masked_lm = {"hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 0.05, "num_attention_heads": 4}
    save("masked-lm-in-shards", transformers.BertForMaskedLM, **masked_lm, shard_size="3KB")
    save("masked-lm-untied", transformers.BertForMaskedLM, tie_word_embeddings=False, hidden_act="quick_gelu")
    save("pretraining", transformers.BertForPreTraining, tokenizer={"do_lower_case": False}, hidden_size=12)
    as_in_2019(save("pretraining-in-old-names", transformers.BertForPreTraining, hidden_act="silu"))
    real()


def save(name, model_class, arguments=None, tokenizer=None, shard_size="1GB", **config):
    """Writes a model with random weights, so large that every part of it matters, with its tokenizer and outputs."""
    torch.manual_seed(sum(name.encode()))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = transformers.BertConfig(**SIZES | config, attn_implementation="eager")
    model = model_class(config, **arguments or {}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.5)
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, **tokenizer or {})
    tokenizer.save_pretrained(folder)

    inputs = tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")
    if config.type_vocab_size > 2:
        inputs["token_type_ids"] += inputs["attention_mask"]
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    expected = {
        "token_ids": inputs["input_ids"],
        "segment_ids": inputs["token_type_ids"],
        "padding_mask": inputs["attention_mask"],
        "sequence_output": outputs.hidden_states[-1],
        "hidden_states": torch.stack(outputs.hidden_states),
        "attention": torch.stack(outputs.attentions),
        "pooled_output": outputs.get("pooler_output"),
        "mlm_logits": outputs.get("prediction_logits", outputs.get("logits")),
        "nsp_logits": outputs.get("seq_relationship_logits"),
    }
    expected = {key: value.numpy() for key, value in expected.items() if value is not None}
    np.savez_compressed(folder / "expected.npz", **{key: compact(value) for key, value in expected.items()})
    return folder


def compact(array):
    return array.astype("int32" if array.dtype.kind == "i" else "float32")


def as_in_2019(folder):
    """Renames and adds tensors as the first checkpoints had them, and writes the vocabulary as a list."""
    tensors = load_file(folder / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(SIZES["max_position_embeddings"])[None]
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def real():
    """The first and last numbers of a few positions of all-MiniLM-L6-v2."""
    folder = assets.fetch("all-MiniLM-L6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True)
    np.savez_compressed(
        HERE / "all-MiniLM-L6-v2.npz",
        token_ids=compact(inputs["input_ids"].numpy()),
        sequence_output=outputs.last_hidden_state[0, :, ::48].numpy(),
        pooled_output=outputs.pooler_output[0, ::48].numpy(),
        attention=torch.stack(outputs.attentions)[:, 0, ::4, 0].numpy(),
    )


if __name__ == "__main__":
    main()
