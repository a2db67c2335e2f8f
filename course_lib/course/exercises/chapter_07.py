"""Checks for the exercises of chapter 07, pre-training BERT."""

import pathlib
import tempfile

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. A schedule with a flat top: steps already taken, peak, warmup, decay, total → the learning rate of each step

_PEAK, _WARMUP, _DECAY, _STEPS = 0.5, 4, 5, 20


def _rates(answer, steps=None):
    return np.asarray(answer(np.arange(_STEPS) if steps is None else steps, _PEAK, _WARMUP, _DECAY, _STEPS), float)


flat_top = Exercise(
    Property(
        "one rate for one step, and an array of them for an array",
        lambda answer: np.shape(_rates(answer, 7)) == () and _rates(answer).shape == (_STEPS,),
        "np.minimum takes numbers and arrays alike; min and if do not.",
    ),
    Property(
        "the first step has a rate above zero",
        lambda answer: _rates(answer)[0] > 0,
        "The first step is the one before which none has been taken: add 1 before you divide by warmup.",
    ),
    Property(
        "rises in a line to the peak, which the last step of the warm-up has",
        lambda answer: close(_rates(answer)[:_WARMUP], _PEAK * np.arange(1, _WARMUP + 1) / _WARMUP),
        "After t steps the rate is peak (t + 1) / warmup.",
    ),
    Property(
        "stays at the peak until the decay begins",
        lambda answer: close(_rates(answer)[_WARMUP : _STEPS - _DECAY], np.full(_STEPS - _DECAY - _WARMUP, _PEAK)),
        "Between the two lines the rate is the peak: the smallest of three values, of which the peak is one.",
    ),
    Property(
        "none of the steps has a rate of zero",
        lambda answer: np.all(_rates(answer) > 0),
        "The line reaches zero at step `steps`, which is never taken.",
    ),
    Property(
        "falls in a line in the last steps, as many as decay says",
        lambda answer: close(_rates(answer)[-_DECAY:], _PEAK * np.arange(_DECAY, 0, -1) / (_DECAY + 1)),
        "From the peak, at the step before, to zero, at step `steps`, there are decay + 1 equal parts.",
    ),
)


# 2. A save that survives an interruption: a path and an iterator over bytes → the number of bytes

_OLD, _NEW = b"the last file", (b"the ", b"new ", b"one")


class _Cut(Exception):
    pass


def _saved(answer, chunks):
    """Overwrites a file. Returns its content after and during the save, whether it was cut, and the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "checkpoint.safetensors")
        path.write_bytes(_OLD)
        seen, result, was_cut = [], None, False

        def watched():
            for chunk in chunks:
                if chunk is _Cut:
                    raise _Cut
                seen.append(path.read_bytes() if path.exists() else None)
                yield chunk

        try:
            result = answer(path, watched())
        except _Cut:
            was_cut = True
        return path.read_bytes() if path.exists() else None, seen, was_cut, result


save = Exercise(
    Property(
        "writes all chunks, one after the other",
        lambda answer: _saved(answer, _NEW)[0] == b"".join(_NEW),
        "In the end `path` holds the chunks joined. Open the file once, in the mode wb, and write each of them.",
    ),
    Property(
        "returns the number of bytes",
        lambda answer: _saved(answer, _NEW)[3] == len(b"".join(_NEW)),
        "Add up the lengths of the chunks, or what write returns.",
    ),
    Property(
        "the last file is there while the new one is being written",
        lambda answer: set(_saved(answer, _NEW)[1]) == {_OLD},
        "Write to another name in the same folder, and put that file in the place of the last one at the end.",
    ),
    Property(
        "the last file is there after a cut, and the error is not hidden",
        lambda answer: _saved(answer, (*_NEW[:2], _Cut))[::2] == (_OLD, True),
        "Replace only when all is written: not in a `finally`. Whoever called must hear of the error.",
    ),
)


# 3. What decays? A dict from path to shape → a list of paths, in the order of the dict

_SHAPES = {
    "token_embedding/embeddings": (8192, 192),
    "encoder/block_0/attention/query/kernel": (192, 6, 32),
    "encoder/block_0/attention/query/bias": (6, 32),
    "encoder/block_0/attention_norm/gamma": (192,),
    "encoder/block_0/attention_norm/beta": (192,),
    "encoder/block_0/gates": (192,),
    "debiased_beta_network/dense/kernel": (192, 192),
    "masked_lm/bias": (8192,),
}
_DECAYING = [path for path in _SHAPES if path.rsplit("/", 1)[-1] not in ("bias", "gamma", "beta")]

decaying = Exercise(
    Property(
        "a list of paths",
        lambda answer: isinstance(answer(_SHAPES), list) and set(answer(_SHAPES)) <= set(_SHAPES),
        "Return those keys of the dict that decay, as a list.",
    ),
    Property(
        "no bias, whatever its shape",
        lambda answer: not [path for path in answer(_SHAPES) if path.endswith("/bias")],
        "A bias of attention has two axes, one for the heads: the name tells, not the shape.",
    ),
    Property(
        "no gamma and no beta of a norm",
        lambda answer: not [path for path in answer(_SHAPES) if path.endswith(("/gamma", "/beta"))],
        "Norms have two variables each, and neither decays.",
    ),
    Property(
        "every kernel and every embedding",
        lambda answer: {path for path in _DECAYING if path.endswith(("kernel", "embeddings"))} <= set(answer(_SHAPES)),
        "Look at the last part of the path alone: a layer's name may have bias or beta in it.",
    ),
    Property(
        "all others too, in the order of the dict",
        lambda answer: answer(_SHAPES) == _DECAYING,
        "What is not a bias, a gamma or a beta decays, whatever else it is, and the order stays.",
    ),
)
