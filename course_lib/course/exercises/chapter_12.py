"""Checks for the exercises of chapter 12, translation."""

import math

import numpy as np

from course_lib.course.exercises import Exercise, Property, close

# 1. Label smoothing: logits (n, V), labels (n,), ε → the loss of each prediction (n,), and the lowest possible loss

_LOGITS = np.random.default_rng(12).normal(size=(5, 4))
_LABELS = np.array([2, 0, 3, 3, 1])
for _array in (_LOGITS, _LABELS):
    _array.setflags(write=False)


def _wanted(labels, size, smoothing):
    return (1 - smoothing) * np.eye(size)[labels] + smoothing / size


def _losses(answer, logits=_LOGITS, labels=_LABELS, smoothing=0.1):
    with np.errstate(all="ignore"):
        return np.asarray(answer(logits.copy(), labels.copy(), smoothing)[0])


def _lowest(answer, size, smoothing):
    with np.errstate(all="ignore"):
        return answer(np.zeros((1, size)), np.zeros(1, int), smoothing)[1]


def _right(logits, labels, smoothing):
    log = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return -(_wanted(labels, logits.shape[-1], smoothing) * log).sum(axis=-1)


def _is_reached(answer):
    """Tells whether a model that predicts the smoothed target exactly has the lowest loss, for several V and ε."""
    for size, smoothing in ((4, 0.1), (7, 0.3), (1000, 0.1)):
        wanted = _wanted(np.array([1]), size, smoothing)
        if not close(_losses(answer, np.log(wanted), np.array([1]), smoothing)[0], _lowest(answer, size, smoothing)):
            return False
    return True


smoothed = Exercise(
    Property(
        "a loss for each prediction, and one number",
        lambda answer: _losses(answer).shape == (5,) and np.ndim(answer(_LOGITS.copy(), _LABELS.copy(), 0.1)[1]) == 0,
        "Return two things: losses (n,), not their mean, and the lowest loss, which is the same for all.",
    ),
    Property(
        "without smoothing it is the cross-entropy",
        lambda answer: close(_losses(answer, smoothing=0.0), _right(_LOGITS, _LABELS, 0.0)),
        "At ε = 0 the loss is -log p of the right token, with p the softmax of the logits.",
    ),
    Property(
        "where all V tokens are equally likely it is log V, whatever ε",
        lambda answer: close(_losses(answer, np.zeros((2, 4)), np.array([0, 3]), 0.4), [math.log(4)] * 2),
        "What is wanted has to add up to one: 1 - ε for the right token, and ε shared evenly by all V.",
    ),
    Property(
        "the right token has its share of ε, too",
        lambda answer: close(_losses(answer), _right(_LOGITS, _LABELS, 0.1)),
        "ε is shared by all V tokens, the right one among them: it counts 1 - ε + ε/V, and every other ε/V.",
    ),
    Property(
        "large logits do not overflow",
        lambda answer: close(_losses(answer, _LOGITS + 1000.0), _losses(answer)),
        "exp(1000) is infinite: np.logaddexp.reduce takes log Σ exp without it.",
    ),
    Property(
        "without smoothing the lowest loss is 0",
        lambda answer: close(_lowest(answer, 4, 0.0), 0.0),
        "At ε = 0 there is a term 0 · log 0, which counts 0 and which NumPy makes into nan.",
    ),
    Property(
        "the lowest loss is reached where the model says what is wanted of it",
        _is_reached,
        "The lowest is the entropy of what is wanted, -Σ q log q over all V tokens: one is right, V - 1 are not.",
    ),
)


# 2. chrF: n answers, n references → a number from 0 to 100

_REFERENCES = ("Close all open tabs", "Restart the kernel of this notebook", "Files are saved every two minutes")
_ANSWERS = ("Close all tabs", "Restart the kernel of that note", "The files are saved each minute or two minutes")


def _sacrebleu(answers, references):
    from sacrebleu import corpus_chrf

    return corpus_chrf([*answers], [[*references]]).score


def _agrees(answer, answers, references):
    return close(answer([*answers], [*references]), _sacrebleu(answers, references), 1e-4)


chrf = Exercise(
    Property(
        "one number, 100 where every answer is its reference",
        lambda answer: close(answer([*_REFERENCES], [*_REFERENCES]), 100.0, 1e-6),
        "Precision and recall are 1 then; the score is in percent.",
    ),
    Property(
        "0 where nothing is right",
        lambda answer: close(answer(["abcdefg"], ["hijklmno"]), 0.0),
        "Where precision and recall are both 0, so is the score: do not divide by their sum.",
    ),
    Property(
        "spaces do not count",
        lambda answer: close(answer(["Close all tabs"], ["Closealltabs"]), 100.0),
        "Take the spaces out before you cut a text into sequences of characters.",
    ),
    Property(
        "case does",
        lambda answer: answer(["close all tabs"], ["Close all tabs"]) < 99,
        "Leave the characters as they are.",
    ),
    Property(
        "a sequence is right at most as often as the reference has it",
        lambda answer: _agrees(answer, ["tabtabtabtab"], ["tabletop"]),
        "Clip: of each sequence count the smaller of the two numbers, as collections.Counter's & does.",
    ),
    Property(
        "recall counts more than precision",
        lambda answer: _agrees(answer, ["Close all"], ["Close all open tabs"]),
        "F = (1 + β²) P R / (β² P + R), β = 2. Precision divides by the answer's sequences, recall by the reference's.",
    ),
    Property(
        "counts are added up over all texts first",
        lambda answer: _agrees(answer, _ANSWERS, _REFERENCES),
        "Add up the counts of each length over the texts, and divide once; take P and R as means over the six lengths; "
        "then F, once.",
    ),
)


# 3. One step of beam search: scores (K,), log-probabilities (K, V), t, the end token, a → beams, tokens, scores, ended

_K, _V, _END = 3, 5, 4
_rng = np.random.default_rng(3)
_SCORES = np.array([-1.0, -1.5, -2.5])
_LOG = np.log(_rng.dirichlet(np.full(_V, 0.6), size=_K))
for _array in (_SCORES, _LOG):
    _array.setflags(write=False)


def _step(answer, scores=_SCORES, log=_LOG, length=3, penalty=0.0):
    beams, tokens, new, ended = answer(np.array(scores), np.array(log), length, _END, penalty)
    return np.asarray(beams), np.asarray(tokens), np.asarray(new), ended


def _expected(scores=_SCORES, log=_LOG, length=3, penalty=0.0):
    total = np.asarray(scores)[:, None] + log
    ended = total[:, _END].max() / (length + 1) ** penalty
    total = total.copy()
    total[:, _END] = -np.inf
    order = np.argsort(-total, axis=None)[: len(scores)]
    beams, tokens = np.unravel_index(order, total.shape)
    return beams, tokens, total[beams, tokens], ended


def _table(rows):
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows))


# The first beam's second-best continuation is better than any continuation of the other two.
_ONE_PARENT = _table([[0.4, 0.3, 0.25, 0.05, 0.0], [0.25, 0.25, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25, 0.0]])
# The end token is the likeliest everywhere.
_ENDING = _table([[0.2, 0.1, 0.1, 0.0, 0.6], [0.1, 0.2, 0.1, 0.0, 0.6], [0.1, 0.1, 0.2, 0.0, 0.6]])


def _same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True)) and close(
        found[2], expected[2]
    )


beam_step = Exercise(
    Property(
        "K beams, K tokens, K scores, and one score of a text that ends",
        lambda answer: [array.shape for array in _step(answer)[:3]] == [(_K,)] * 3 and np.ndim(_step(answer)[3]) == 0,
        "Return the beam that each continuation comes from, its token and its score, (K,) each, and a number.",
    ),
    Property(
        "from one beam, the likeliest token is taken",
        lambda answer: _same(_step(answer, [0.0], _ONE_PARENT[:1]), ([0], [0], [math.log(0.4)])),
        "With K = 1, a beam search is greedy.",
    ),
    Property(
        "log-probabilities add up",
        lambda answer: close(_step(answer, [-2.0], _ONE_PARENT[:1])[2], [math.log(0.4) - 2.0]),
        "A text's probability is a product, so that its logarithm is a sum: add the beam's score.",
    ),
    Property(
        "the best K of all K · V continuations go on, though they come from one beam",
        lambda answer: (
            sorted(zip(*_step(answer, [0.0, -3.0, -3.0], _ONE_PARENT)[:2], strict=True)) == [(0, 0), (0, 1), (0, 2)]
        ),
        "Sort all K · V together, not each beam's own; entry i of the flat table is beam i // V and token i % V.",
    ),
    Property(
        "a text that has ended does not go on",
        lambda answer: not np.any(_step(answer, _SCORES, _ENDING)[1] == _END),
        "Set the end token's column to minus infinity before you sort.",
    ),
    Property(
        "on a random table, the best come first",
        lambda answer: _same(_step(answer), _expected()),
        "The highest score first.",
    ),
    Property(
        "the likeliest ended text is that of the best sum",
        lambda answer: close(_step(answer)[3], _expected()[3]),
        "With a = 0 there is no division: the largest of score + log p(end) over the beams.",
    ),
    Property(
        "with a length penalty, it is divided by its length, the end token included",
        lambda answer: (
            close(_step(answer, penalty=1.0)[3], _expected(penalty=1.0)[3])
            and close(_step(answer, penalty=2.0)[3], _expected(penalty=2.0)[3])
        ),
        "There were t tokens, and the end token makes t + 1: divide by (t + 1) to the power of a.",
    ),
    Property(
        "scores of beams that go on are not divided",
        lambda answer: close(_step(answer, penalty=2.0)[2], _step(answer)[2]),
        "Beams of one step are all equally long, and the sum is needed for the next step.",
    ),
)
