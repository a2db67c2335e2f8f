"""One epoch of fine-tuning, text to gradient: ours beside Hugging Face's Trainer and KerasHub's BertTextClassifier.

All begin with all-MiniLM-L6-v2 and a new dense layer on its pooled output, and see the same sentences of Rotten
Tomatoes under the same recipe; a run counts from the strings to the last step, what is traced on the way included.

`make bench` installs the rivals and runs this. It prints the figures and writes `benchmarks/finetuning.json`.
Run it on a quiet machine. `--count 32 --test 32 --seeds 1` tries whether it runs, and writes nothing.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time

import keras
import numpy as np
from measure import header, write

from course_lib import Bert, TextClassifier, assets
from course_lib.data import reviews
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW
from course_lib.training.schedules import WarmupLinearDecay

NAME = "all-MiniLM-L6-v2"
CLASSES = ["negative", "positive"]
BATCH_SIZE, LENGTH, LEARNING_RATE, WEIGHT_DECAY, CLIP = 32, 64, 1e-4, 0.01, 1.0


def optimizer(count):
    """AdamW with a warm-up over a tenth of the epoch's steps, then down to zero."""
    steps = -(-count // BATCH_SIZE)
    schedule = WarmupLinearDecay(LEARNING_RATE, steps // 10, steps)
    return AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP)


def ours(train, test):
    """`TextClassifier`: seconds of the epoch, and accuracy on the test split."""
    model = TextClassifier(Bert.from_preset(NAME), CLASSES, pooling="pooled", max_length=LENGTH)
    model.compile(optimizer(len(train)), CrossEntropy(), jit_compile=False)
    start = time.perf_counter()
    model.fit(train.texts, train.labels, batch_size=BATCH_SIZE, verbose=0)
    seconds = time.perf_counter() - start
    found = [prediction.label for prediction in model.predict(test.texts, batch_size=128, verbose=0)]
    return seconds, float(np.mean(np.array(found) == np.array(CLASSES)[test.labels]))


def keras_hub(train, test):
    """`BertTextClassifier` with its preprocessor, which pads every row to one length."""
    with contextlib.redirect_stderr(None):
        import keras_hub

    folder = assets.fetch(NAME)
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=str(folder / "vocab.txt"), lowercase=True)
    model = keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone.from_preset(str(folder)),
        num_classes=len(CLASSES),
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=LENGTH),
    )
    model.compile(optimizer(len(train)), CrossEntropy(), jit_compile=False)
    start = time.perf_counter()
    model.fit(np.array(train.texts), train.labels, batch_size=BATCH_SIZE, verbose=0)
    seconds = time.perf_counter() - start
    logits = model.predict(np.array(test.texts), batch_size=128, verbose=0)
    return seconds, float(np.mean(logits.argmax(axis=-1) == test.labels))


def hugging_face(train, test, seed):
    """`Trainer`, whose collator pads each batch to its longest row."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    folder = assets.fetch(NAME)
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=len(CLASSES))
    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            per_device_eval_batch_size=128,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="linear",
            warmup_steps=0.1,  # a share of all steps
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=CLIP,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )

        def rows(split):
            batch = tokenizer(split.texts, truncation=True, max_length=LENGTH)
            return [
                {"input_ids": ids, "attention_mask": mask, "labels": int(label)}
                for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], split.labels, strict=True)
            ]

        start = time.perf_counter()
        trainer = transformers.Trainer(model, arguments, train_dataset=rows(train), processing_class=tokenizer)
        trainer.train()
        seconds = time.perf_counter() - start
        logits = trainer.predict(rows(test)).predictions
    return seconds, float(np.mean(logits.argmax(axis=-1) == test.labels))


def main():
    """Runs all of it, prints the figures and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="training sentences")
    parser.add_argument("--test", type=int, default=1066, help="test sentences")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = reviews.rotten_tomatoes()
    test = reviews.few_shot(data.test, options.test, seed=0)
    candidates = {"ours": ours, "KerasHub": keras_hub, "Hugging Face": hugging_face}
    seconds, accuracy = ({name: [] for name in candidates} for _ in range(2))
    for seed in range(options.seeds):  # they take turns, so that all meet the same noise
        train = reviews.few_shot(data.train, options.count, seed)
        for name, run in candidates.items():
            keras.utils.set_random_seed(seed)
            taken, score = run(train, test, seed) if run is hugging_face else run(train, test)
            print(f"{name}, seed {seed}: {taken:.1f} s, accuracy {score:.3f}", flush=True)
            seconds[name].append(taken)
            accuracy[name].append(score)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    means = {name: statistics.mean(values) for name, values in accuracy.items()}
    spread = max(max(values) - min(values) for values in accuracy.values())
    results = header() | {
        "sentences": options.count,
        "recipe": f"one epoch, {BATCH_SIZE} a batch, at most {LENGTH} tokens, learning rate {LEARNING_RATE}",
        "seconds": medians,
        "times KerasHub": medians["KerasHub"] / medians["ours"],
        "times Hugging Face": medians["Hugging Face"] / medians["ours"],
        "accuracy of each seed": accuracy,
        "means differ by": max(means.values()) - min(means.values()),
        "largest spread over the seeds": spread,
    }
    print(json.dumps(results, indent=2))
    if options == parser.parse_args([]):
        write(results, __file__)


if __name__ == "__main__":
    main()
