"""Integrated gradients of 100 sentences beside Captum's, on the same weights, sentences and steps, in one run.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/attribution.json`.
Run it on a quiet machine.
"""

import json
import tempfile

import course_lib

course_lib.reproducible(0)

import numpy as np  # noqa: E402
from measure import header, interleaved, write  # noqa: E402

from course_lib import Bert, TextClassifier  # noqa: E402
from course_lib.data import reviews  # noqa: E402
from course_lib.interpretability import Question, integrated_gradients  # noqa: E402

STEPS, BATCH = 20, 64


def integrated(results):
    """MiniLM with a new head, 20 Gauss–Legendre steps, batches of sentences of similar length on both sides."""
    import captum.attr
    import torch
    import transformers

    texts = reviews.rotten_tomatoes().test.texts[:100]
    ours = TextClassifier(Bert.from_preset("all-MiniLM-L6-v2"), ["negative", "positive"], pooling="pooled")
    ours.build()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_to_preset(folder)
        rival = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    question = Question.ask(ours, texts, "positive")
    found = {}

    def run_ours():
        answers = integrated_gradients(ours, texts, "positive", steps=STEPS, batch_size=BATCH)
        found["ours"] = [answer.values for answer in answers]

    def score(token_ids, mask):
        logits = rival(input_ids=token_ids, attention_mask=mask).logits
        return logits[:, 1] - logits[:, 0]

    method = captum.attr.LayerIntegratedGradients(score, rival.bert.embeddings)

    def run_captum():
        found["Captum"] = [None] * len(texts)
        for places, inputs in question.batches(np.arange(len(texts)), BATCH):
            ids, mask = (torch.tensor(inputs[name]).long() for name in ("token_ids", "padding_mask"))
            special = torch.isin(ids, torch.tensor(ours.tokenizer.special_ids)) | (mask == 0)
            empty = torch.where(special, ids, ours.tokenizer.mask_token_id)
            values = method.attribute(
                ids, empty, additional_forward_args=(mask,), n_steps=STEPS, method="gausslegendre",
                internal_batch_size=BATCH,
            ).sum(dim=-1).detach().numpy()  # fmt: skip
            for place, row in zip(places, values, strict=True):
                found["Captum"][place] = row[: question.lengths[place]]

    seconds = interleaved({"ours": run_ours, "Captum": run_captum}, rounds=2)
    for one, other in zip(found["ours"], found["Captum"], strict=True):
        assert np.abs(one - other).max() < 1e-3
    results["integrated gradients"] = {
        "sentences": len(texts),
        "steps": STEPS,
        "seconds": seconds,
        "times Captum": seconds["Captum"] / seconds["ours"],
    }


def main():
    """Runs it, prints the figures and writes them down."""
    results = header()
    integrated(results)
    print(json.dumps(results["integrated gradients"], indent=2), flush=True)
    write(results, __file__)


if __name__ == "__main__":
    main()
