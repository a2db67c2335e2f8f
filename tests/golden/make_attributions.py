"""Made `attributions.npz` beside it: what Captum computes with the tiny models of the other folders.

    python tests/golden/make_attributions.py

It needs `captum` beside the extra `parity`. Each score is the log-odds of the most probable class or next token.
"""

import pathlib

import captum.attr
import numpy as np
import torch
import transformers

from course_lib.text import BytePairTokenizer, ChatTokenizer, WordPieceTokenizer

HERE = pathlib.Path(__file__).parent
STEPS = 12
TEXTS = {
    "classifier-of-texts": ["the dogs sit under my moon!", "a bird sings, unseen."],
    "gpt2-causal-lm": ["The cat sat on my mat", "a dog"],
    "llama-causal-lm": ["The cat sat on my mat", "a dog"],
}


def main():
    results = {}
    for name, texts in TEXTS.items():
        results[f"{name}/texts"] = np.array(texts)
        for index, text in enumerate(texts):
            for key, value in attributed(name, text).items():
                results[f"{name}/{index}/{key}"] = value
    np.savez_compressed(HERE / "attributions.npz", **results)


def attributed(name, text):
    """Computes both attributions of a text, summed over the width of the embeddings."""
    if name == "classifier-of-texts":
        model = transformers.BertForSequenceClassification.from_pretrained(HERE / name)
        layer, tokenizer = model.bert.embeddings, WordPieceTokenizer.from_preset(HERE / name)
    elif name == "gpt2-causal-lm":
        model = transformers.GPT2LMHeadModel.from_pretrained(HERE / name)
        layer, tokenizer = model.transformer.drop, BytePairTokenizer.from_preset(HERE / name)
    else:
        model = transformers.LlamaForCausalLM.from_pretrained(HERE / name)
        layer, tokenizer = model.model.embed_tokens, ChatTokenizer.from_preset(HERE / name)
    model.eval()
    ids = torch.tensor(tokenizer([text])["token_ids"].astype("int64"))
    empty = torch.full_like(ids, getattr(tokenizer, "mask_token_id", getattr(tokenizer, "special_token_id", None)))
    if name == "classifier-of-texts":
        empty[:, [0, -1]] = ids[:, [0, -1]]
    last = (lambda logits: logits) if name == "classifier-of-texts" else (lambda logits: logits[:, -1])
    target = int(last(model(ids).logits)[0].argmax())

    def score(ids):
        logits = last(model(ids).logits)
        others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
        return logits[:, target] - others.logsumexp(dim=1)

    integrated = captum.attr.LayerIntegratedGradients(score, layer)
    found = integrated.attribute(ids, empty, n_steps=STEPS, method="gausslegendre")
    product = captum.attr.LayerGradientXActivation(score, layer).attribute(ids)
    return {
        "token_ids": ids.numpy()[0],
        "target": np.array(target),
        "score": score(ids).detach().numpy()[0],
        "integrated_gradients": found.sum(dim=-1).detach().numpy()[0],
        "gradient_x_input": product.sum(dim=-1).detach().numpy()[0],
    }


if __name__ == "__main__":
    main()
