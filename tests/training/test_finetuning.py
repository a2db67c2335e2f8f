"""A fit that keeps the best epoch."""

import keras
import numpy as np
import pytest
from layer_checks import to_numpy

from course_lib import Bert, BertConfig, WordPieceTokenizer
from course_lib.models.classifiers import TextClassifier
from course_lib.text.batches import Examples
from course_lib.training.finetuning import fine_tune, logits_of
from course_lib.training.losses import CrossEntropy

rng = np.random.default_rng(0)
LENGTHS = rng.integers(9, 17, 50)  # one width, so JAX compiles few steps
PADDING_MASK = (np.arange(30) < LENGTHS[:, None]).astype("int32")
INPUTS = {
    "token_ids": rng.integers(3, 20, (50, 30)).astype("int32") * PADDING_MASK,
    "padding_mask": PADDING_MASK,
}
LABELS = (INPUTS["token_ids"] == 7).any(axis=1).astype("int32")


def classifier(seed=0):
    keras.utils.set_random_seed(seed)
    config = BertConfig(20, 1, 2, 16, 32, 30, dropout=0.0, attention_dropout=0.0, initializer_range=0.2)
    return TextClassifier(Bert(config), ["without", "with"], dropout=0.0)


def test_a_fit_learns_and_keeps_the_best_epoch():
    model, validation = classifier(), Examples(INPUTS, LABELS, batch_size=64)
    losses = fine_tune(model, Examples(INPUTS, LABELS, batch_size=8, seed=0), validation, 1e-2, 8)
    assert len(losses) == 8 and min(losses) < 0.3 < losses[0]
    np.testing.assert_allclose(model.evaluate(validation, verbose=0)[0], min(losses), rtol=1e-4)


def test_a_rate_far_too_high_keeps_an_early_epoch():
    model, validation = classifier(), Examples(INPUTS, 1 - LABELS, batch_size=64)  # which training moves away from
    losses = fine_tune(model, Examples(INPUTS, LABELS, batch_size=8, seed=0), validation, 1e-2, 4)
    assert losses[0] == min(losses) < losses[-1]
    np.testing.assert_allclose(model.evaluate(validation, verbose=0)[0], losses[0], rtol=1e-4)


def test_a_score_chooses_the_epoch():
    model, validation, seen = classifier(), Examples(INPUTS, LABELS, batch_size=64), []

    def score():
        seen.append(logits_of(model, validation))
        return (1.0, 3.0, 2.0)[len(seen) - 1]

    found = fine_tune(model, Examples(INPUTS, LABELS, batch_size=8, seed=0), validation, 1e-2, 3, score=score)
    assert found == [1.0, 3.0, 2.0]
    assert np.abs(seen[1] - seen[0]).min() > 0 and np.abs(seen[2] - seen[1]).max() > 1e-3
    np.testing.assert_allclose(logits_of(model, validation), seen[1], atol=1e-5)


FEW = Examples({name: array[:8] for name, array in INPUTS.items()}, LABELS[:8])


@pytest.mark.one_backend
@pytest.mark.parametrize(("patience", "count"), [(0, 3), (2, 4), (None, 5)])
def test_patience_ends_training_early(patience, count):
    scores = iter([1.0, 3.0, 2.0, 2.0, 2.0])
    found = fine_tune(classifier(), FEW, FEW, 1e-2, 5, patience=patience, score=lambda: next(scores))
    assert len(found) == count


@pytest.fixture
def compiled_with(monkeypatch):
    """The optimizers and losses that models were compiled with, in order."""
    seen, compile_ = [], TextClassifier.compile
    monkeypatch.setattr(
        TextClassifier,
        "compile",
        lambda self, *args, **kwargs: seen.append((*args, kwargs.get("loss"))) or compile_(self, *args, **kwargs),
    )
    return seen


@pytest.mark.one_backend
def test_what_is_asked_of_the_optimizer_reaches_it(compiled_with):
    distances = []
    for layer_decay in (1.0, 0.1):
        model = classifier()
        model.build()
        before = to_numpy(model.backbone.token_embedding.embeddings)
        fine_tune(model, FEW, FEW, 1e-2, 1, weight_decay=0.3, layer_decay=layer_decay)
        distances.append(np.abs(to_numpy(model.backbone.token_embedding.embeddings) - before).max())
        optimizer, loss = compiled_with[-2]  # the last is the default
        assert optimizer.weight_decay == 0.3 and optimizer.global_clipnorm == 1 and isinstance(loss, CrossEntropy)
    np.testing.assert_allclose(distances[1], distances[0] * 0.1**2, rtol=1e-2)  # the embeddings are below one block


@pytest.mark.one_backend
def test_the_learning_rate_rises_for_a_tenth_of_the_steps_and_then_falls_to_zero(compiled_with):
    model, examples = classifier(), Examples(INPUTS, LABELS, batch_size=5, seed=0)
    fine_tune(model, examples, FEW, 1e-2, 2)
    rates = [float(compiled_with[0][0]._learning_rate(step)) for step in range(21)]
    np.testing.assert_allclose(rates[:2], [5e-3, 1e-2], rtol=1e-6)  # of 20 steps, 2
    assert np.all(np.diff(rates[1:]) < 0) and rates[20] == 0 < rates[19]
    own = keras.optimizers.schedules.CosineDecay(1e-2, 20)
    fine_tune(model, examples, FEW, own, 1)
    assert compiled_with[2][0]._learning_rate is own


def test_a_saved_classifier_is_no_larger_than_its_weights_and_loads_without_a_warning(tmp_path, recwarn):
    model = classifier()
    fine_tune(model, Examples(INPUTS, LABELS, batch_size=25), FEW, 1e-2, 1)
    model.save(tmp_path / "tuned.keras")
    loaded = keras.saving.load_model(tmp_path / "tuned.keras")
    assert not [each for each in recwarn if "optimizer" in str(each.message)]
    assert loaded.evaluate(FEW, verbose=0)[1] == model.evaluate(FEW, verbose=0)[1]
    model.fit(FEW, verbose=0)
    model.save(tmp_path / "with-state.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("tuned", "with-state")]
    assert sizes[1] - sizes[0] > 1.5 * 4 * model.count_params(), "AdamW keeps two more numbers per weight"
    with_state = keras.saving.load_model(tmp_path / "with-state.keras")
    for old, new in zip(model.optimizer.variables, with_state.optimizer.variables, strict=True):
        assert np.array_equal(to_numpy(old), to_numpy(new))


@pytest.mark.one_backend
def test_a_fraction_of_the_texts_is_held_out():
    model = classifier()
    model.backbone.tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"])
    texts = [f"{first} {second}" for first in "abcd" for second in "efghi"]
    names = ["with" if "a" in text else "without" for text in texts]
    seen = []
    fine_tune(model, (np.array(texts), np.array(names)), 0.25, 1e-2, 1, score=lambda: seen.append(1) or 1.0)
    assert seen == [1] and model.compiled


@pytest.mark.one_backend
def test_the_step_is_traced_once(monkeypatch):
    """TensorFlow traces twice what makes variables the first time, as an optimizer does."""
    model, traced = classifier(), []
    monkeypatch.setattr(model, "train_step", lambda data, step=model.train_step: traced.append(data) or step(data))
    model.compile("adam", CrossEntropy())
    model.fit(Examples(INPUTS, LABELS, batch_size=8), epochs=2, shuffle=False, verbose=0)
    assert len(traced) == 1


@pytest.mark.one_backend
def test_raw_texts_of_one_label_are_refused():
    model = classifier()
    model.backbone.tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ab"])
    with pytest.raises(ValueError, match=r"at least two labels to learn from; got only \['with'\]"):
        fine_tune(model, (["a", "b"], ["with", "with"]), (["a", "b"], ["with", "without"]), 1e-2, 1)


def test_raw_texts_are_fine_tuned_on_as_their_examples_are():
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"])
    texts, names = ["a b", "c", "d a", "e f g", "a"] * 3, ["with", "without", "with", "without", "with"] * 3
    found = []
    for raw in (True, False):
        model = classifier()
        model.backbone.tokenizer = tokenizer
        train = validation = (texts, names)
        if not raw:
            train, validation = model.examples(texts, names, None, 4, seed=1), model.examples(texts, names)
        found.append(fine_tune(model, train, validation, 1e-2, 3, layer_decay=0.9, batch_size=4, seed=1))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert found[0][-1] < found[0][0]


def test_logits_come_in_the_order_of_the_rows():
    model = classifier()
    expected = to_numpy(model(INPUTS))
    np.testing.assert_allclose(logits_of(model, Examples(INPUTS, LABELS, batch_size=16)), expected, atol=1e-5)
