"""Trains and saves the asset `language-gpt`, a small GPT-2 of the artificial language.

`python -m course_lib.experiments.language_gpt` repeats the run of `clm-bayes-loss` with one seed and saves the model.
It keeps no record of its own: the losses of this run are in `data/runs/clm-bayes-loss.json`. The language's words are
not text, so the model has no tokenizer, and `load` reads it in place of `from_preset`.
"""

import argparse

from course_lib import assets
from course_lib.checkpoints.presets import resolve_preset
from course_lib.experiments import clm_bayes_loss
from course_lib.models.gpt2 import GPT2, GPT2CausalLM, GPT2Config
from course_lib.training.pretrain import Batches

PRESET, SEED = "language-gpt", 0


def train(settings=clm_bayes_loss.EXPERIMENT, seed=SEED):
    """Trains the model of a run of `ClmBayesLoss`.

    Args:
        settings: a `ClmBayesLoss`.
        seed: seed of weights and batches.

    Returns:
        A `GPT2CausalLM` without a tokenizer. Its inputs are a start token and words, as `settings.batch` makes them.
    """
    model = settings.model(seed)
    batches = Batches(lambda step: settings.batch(settings.batch_size, seed, step), steps=settings.steps)
    model.fit(batches, shuffle=False, verbose=0)
    return model


def load(preset=PRESET):
    """Loads the trained model.

    Args:
        preset: name of the asset, or path of the folder where `main` saved it.

    Returns:
        A `GPT2CausalLM` without a tokenizer.
    """
    fields, tensors = GPT2.checkpoint_format.read(resolve_preset(preset))
    model = GPT2CausalLM(GPT2(GPT2Config(**fields)))
    model.build()
    GPT2.checkpoint_format.load(tensors, fields, model)
    return model


def main(arguments=None):
    """Trains the model and saves it in float16.

    Args:
        arguments: list of strings. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m course_lib.experiments.language_gpt", description=__doc__)
    parser.add_argument("--folder", default=assets.data_folder() / "weights" / PRESET, help="where to save it")
    folder = parser.parse_args(arguments).folder
    train().save_to_preset(folder, "float16")
    print(f"Saved in {folder}.")


if __name__ == "__main__":
    main()
