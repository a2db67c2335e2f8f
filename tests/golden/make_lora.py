"""Made the folders `peft-*` beside it: adapters as PEFT writes them, and what PEFT computes with them.

    python tests/golden/make_lora.py

It needs `peft` beside the extra `parity`. The models are those of the other folders.
"""

import pathlib

import numpy as np
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).parent


def main():
    classifier = transformers.BertForSequenceClassification.from_pretrained(HERE / "classifier-of-texts")
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=3,
        lora_alpha=5,
        use_rslora=True,
        target_modules=["query", "attention.output.dense"],
        rank_pattern={"layer.1.attention.self.query": 2},
        alpha_pattern={"layer.0.attention.self.query": 7},
    )
    save("peft-classifier", classifier, config, "classifier-of-texts", "logits")
    gpt2 = transformers.GPT2Model.from_pretrained(HERE / "gpt2")
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["c_attn", "attn.c_proj", "c_fc"], fan_in_fan_out=True)
    save("peft-gpt2", gpt2, config, "gpt2", "last_hidden_state")


def save(name, base, config, golden, output):
    """Writes adapters with random weights, so large that every part of them matters, and the output."""
    torch.manual_seed(sum(name.encode()))
    model = peft.get_peft_model(base, config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink()
    inputs = np.load(HERE / golden / "expected.npz")
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    arguments = {theirs: torch.tensor(inputs[ours].astype("int64")) for ours, theirs in names.items() if ours in inputs}
    with torch.no_grad():
        found = model(**arguments)[output].numpy()
    ours = {name: inputs[name] for name in names if name in inputs}
    np.savez_compressed(HERE / name / "expected.npz", **ours, output=found)


if __name__ == "__main__":
    main()
