"""Classifiers: what they compute of arrays, what they make of strings, and what they refuse."""

import keras
import numpy as np
import pytest
from layer_checks import TOKENS, compiled, config_tells, randomize, same, to_numpy

from course_lib import (
    GPT2,
    Bert,
    BertConfig,
    BytePairTokenizer,
    GPT2CausalLM,
    GPT2Config,
    TextClassifier,
    TokenClassifier,
    WordPieceTokenizer,
)
from course_lib.models.pooling import POOLINGS, pool
from course_lib.text.word_alignment import pack_words
from course_lib.training.adaptation import enable_lora
from course_lib.training.losses import CrossEntropy
from course_lib.training.optimizers import AdamW

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm", "##n", "##o"]
GPT_TOKENS = {name: TOKENS[name] for name in ("token_ids", "padding_mask")}
TEXTS = ["a b c", "d a", "e f g h i j k l", "a", "b d", "c c c", "k l a", "m", "f a f", "g g", "h a", "i i i i"]
CLASSES = ["with" if "a" in text.split() else "without" for text in TEXTS]
SENTENCES = [text.split() for text in TEXTS]
LABELS = [["B-dog" if word in "abc" else "O" for word in words] for words in SENTENCES]
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


def bert(tokenizer=None, pooler=True, **kwargs):
    return Bert(BertConfig(20, 1, 2, 8, 12, 17, pooler=pooler, **NO_DROPOUT), tokenizer, **kwargs)


def gpt2(tokenizer=None, vocabulary_size=20, **kwargs):
    return GPT2(GPT2Config(vocabulary_size, 1, 2, 8, 12, 17, embedding_dropout=0.0, **NO_DROPOUT), tokenizer, **kwargs)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_classifier_is_a_dense_layer_on_what_is_pooled(pooling):
    model = TextClassifier(bert(), ["bad", "good"], pooling=pooling)
    model.build()
    randomize(model)
    encoded = {name: to_numpy(value) for name, value in model.backbone(TOKENS).items()}
    kernel, *bias = (to_numpy(weight) for weight in model.classifier.weights)
    assert len(bias) == (pooling != "last")
    same(model(TOKENS), to_numpy(pool(encoded, TOKENS["padding_mask"], pooling)) @ kernel + sum(bias))
    changes = {"dropout": 0.3, "max_length": 9}
    config_tells(lambda **kwargs: TextClassifier(model.backbone, **{"classes": ["a", "b"]} | kwargs), **changes)


def test_on_a_gpt2_the_last_token_decides():
    model = TextClassifier(gpt2(), ["bad", "good"])
    assert model.pooling == "last"
    ids, mask = GPT_TOKENS["token_ids"][:2], GPT_TOKENS["padding_mask"][:2]
    whole = to_numpy(model({"token_ids": ids, "padding_mask": mask}))
    same(model(ids[1:, :3]), whole[1:])
    hole = {"token_ids": ids, "padding_mask": np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0]], "int32")}
    same(model(hole)[1], model(ids[1:, [1, 3]])[0])
    for pooling in ("first", "pooled"):
        with pytest.raises(ValueError, match=pooling):
            TextClassifier(gpt2(), ["bad", "good"], pooling)


def test_a_token_classifier_scores_words_by_their_first_pieces():
    model = TokenClassifier(bert(), ["O", "B-dog"])
    model.build()
    randomize(model)
    at_all, positions = to_numpy(model(TOKENS)), np.array([[1, 3], [2, 0], [0, 4]], "int32")
    assert at_all.shape == (3, 5, 2)
    same(model(TOKENS | {"word_positions": positions}), np.take_along_axis(at_all, positions[..., None], axis=1))


@pytest.mark.one_backend
@pytest.mark.parametrize("head", [TextClassifier, TokenClassifier])
def test_in_training_the_vectors_before_the_head_are_dropped_out(head):
    model = head(bert(), ["bad", "good"], dropout=0.9)
    same(model(TOKENS, training=False), model(TOKENS))
    assert np.abs(to_numpy(model(TOKENS, training=True)) - to_numpy(model(TOKENS))).max() > 1e-4


@pytest.mark.one_backend
@pytest.mark.parametrize("pooling", ["pooled", "mean"])
def test_a_head_lets_nothing_learn_that_was_frozen(pooling):
    backbone = bert()
    backbone.build()
    backbone.trainable = False
    model = TextClassifier(backbone, ["bad", "good"], pooling)
    model.build()
    assert list(map(id, model.trainable_weights)) == list(map(id, model.classifier.weights))
    adapted = bert()
    enable_lora(adapted, 2)
    learning = len(adapted.trainable_weights)
    TextClassifier(adapted, ["bad", "good"], pooling)
    assert len(adapted.trainable_weights) == learning
    free = bert()
    assert TextClassifier(free, ["bad", "good"], pooling).backbone.pooler.trainable == (pooling == "pooled")


# Strings


def for_texts(seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    config = BertConfig(20, 1, 2, 16, 32, 17, initializer_range=0.2, **NO_DROPOUT)
    model = TextClassifier(Bert(config, WordPieceTokenizer(WORDS)), ["without", "with"], dropout=0.0, **kwargs)
    model.compile(AdamW(1e-2), CrossEntropy(), weighted_metrics=["accuracy"])
    return model


def table(predictions):
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


def for_words(**kwargs):
    keras.utils.set_random_seed(0)
    config = BertConfig(20, 1, 2, 16, 32, 17, initializer_range=0.2, **NO_DROPOUT)
    model = TokenClassifier(Bert(config, WordPieceTokenizer(WORDS)), ["O", "B-dog"], dropout=0.0, **kwargs)
    model.compile(AdamW(1e-2), CrossEntropy(), weighted_metrics=["accuracy"])
    return model


def test_texts_are_learned_measured_and_classified_by_name(tmp_path):
    model = for_texts()
    history = model.fit(TEXTS, CLASSES, 4, epochs=15, validation_data=(TEXTS[:5], CLASSES[:5]), verbose=0).history
    assert history.keys() == {"loss", "accuracy", "val_loss", "val_accuracy"} and len(history["loss"]) == 15
    loss, accuracy = model.evaluate(TEXTS, CLASSES, verbose=0)
    assert accuracy == 1 and loss < 0.3 < history["loss"][0]

    predictions = model.predict(TEXTS, batch_size=5, verbose=0)
    assert [prediction.label for prediction in predictions] == CLASSES
    inputs = model.backbone.tokenizer(TEXTS)
    logits = model.predict(inputs, verbose=0)
    same(logits, compiled(model)(inputs))
    same(table(predictions), keras.ops.softmax(logits))
    for prediction in predictions:
        assert list(prediction.probabilities) == ["without", "with"]
        assert (
            prediction.probability
            == prediction.probabilities[prediction.label]
            == max(prediction.probabilities.values())
        )
    assert model.predict("d a", verbose=0)[0].label == "with"

    model.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    for one, other in zip(loaded.predict(TEXTS, verbose=0), predictions, strict=True):
        assert one.label == other.label and abs(one.probability - other.probability) < 1e-5


def test_strings_give_what_their_arrays_give():
    """The order aside, which is that of `Examples`; labels as places; weights; arrays of strings."""
    places = np.array([["without", "with"].index(name) for name in CLASSES])
    weights = np.linspace(0, 2, len(TEXTS))
    losses = []
    for arguments in (
        (TEXTS, CLASSES),
        (np.array(TEXTS), places),
        (np.array(TEXTS, object), tuple(CLASSES)),
    ):
        model = for_texts()
        losses.append(
            model.fit(*arguments, sample_weight=weights, batch_size=12, shuffle=False, verbose=0).history["loss"]
        )
    model = for_texts()
    arrays = model.backbone.tokenizer(TEXTS), places
    losses.append(model.fit(*arrays, sample_weight=weights, batch_size=12, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(losses, losses[:1] * 4, rtol=1e-5)
    results = [
        model.evaluate(*data, sample_weight=weights, batch_size=12, verbose=0) for data in ((TEXTS, CLASSES), arrays)
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


@pytest.mark.parametrize("make", [for_texts, for_words])
def test_weights_of_classes_are_weights_of_what_has_them(make):
    """Of texts as in Keras, of words likewise; beside weights of texts they are factors."""
    data = (TEXTS, CLASSES) if make is for_texts else (SENTENCES, LABELS)
    factors, of_texts = {1: 5.0}, np.linspace(0, 2, len(TEXTS))
    losses = []
    for given in ({"class_weight": factors}, {"class_weight": factors, "sample_weight": of_texts}):
        losses.append(make().fit(*data, 12, shuffle=False, verbose=0, **given).history["loss"])
        model = make()
        arrays = model.examples(*data, given.get("sample_weight"), batch_size=12)
        weights = np.where(arrays.labels == 1, 5, 1) * arrays.weights
        losses.append(model.fit(arrays.inputs, arrays.labels, 12, sample_weight=weights, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[::2], losses[1::2], rtol=1e-5)
    assert abs(losses[0][0] - losses[2][0]) > 1e-4
    if make is for_texts:
        arrays = model.backbone.tokenizer(TEXTS), np.array([["without", "with"].index(name) for name in CLASSES])
        by_keras = make().fit(*arrays, 12, class_weight=factors, verbose=0).history["loss"]
        np.testing.assert_allclose(losses[0], by_keras, rtol=1e-5)


@pytest.mark.one_backend
def test_weights_of_nothing_are_refused():
    for model, data in ((for_texts(), (TEXTS, CLASSES)), (for_words(), (SENTENCES, LABELS))):
        for weights, shape in ((np.ones(11), r"\(11,\)"), (np.ones((12, 3)), r"\(12, 3\)"), (1.0, r"\(\)")):
            with pytest.raises(ValueError, match=f"weight.*12.*{shape}"):
                model.fit(*data, sample_weight=weights, verbose=0)
        with pytest.raises(ValueError, match=r"labels.*\[2\]"):
            model.fit(*data, class_weight={0: 1.0, 2: 5.0}, verbose=0)


@pytest.mark.one_backend
def test_the_order_is_that_of_the_seed(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, *args, **kwargs: seen.append(np.concatenate(x.batches)))
    model = for_texts()
    model.build()  # which draws, too
    for seed, shuffle in ((0, True), (0, True), (1, True), (1, False), (2, False)):
        keras.utils.set_random_seed(seed)
        model.fit(TEXTS, CLASSES, 3, shuffle=shuffle)
    assert np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])
    assert np.array_equal(seen[3], seen[4])


def test_sentences_are_learned_measured_and_tagged_word_by_word():
    model = for_words(max_length=9)  # seven words of one piece, so that one is cut off
    model.fit(SENTENCES, LABELS, 4, epochs=15, validation_data=(SENTENCES, LABELS), verbose=0)
    assert model.evaluate(SENTENCES, LABELS, verbose=0)[1] == 1
    predictions = model.predict(SENTENCES, batch_size=5, verbose=0)
    assert [[prediction.label for prediction in row] for row in predictions] == [row[:7] for row in LABELS]
    inputs = pack_words(model.backbone.tokenizer, SENTENCES, 9)
    logits = model.predict(inputs, verbose=0)
    for row, (words, found) in enumerate(zip(SENTENCES, predictions, strict=True)):
        expected = to_numpy(keras.ops.softmax(logits[row]))[: min(len(words), 7)]
        same(table(found), expected)


def test_a_word_that_yields_no_piece_has_a_label_too():
    (row,) = for_words().predict([["a", "\u200b", "", "b"]], verbose=0)
    assert len(row) == 4


def test_a_gpt2_reads_texts_too():
    tokenizer = BytePairTokenizer.train(TEXTS, 280)
    model = TextClassifier(gpt2(tokenizer, tokenizer.vocabulary_size), ["without", "with"])
    model.compile(AdamW(1e-2), CrossEntropy())
    model.fit(TEXTS[:4], CLASSES[:4], verbose=0)
    logits = np.concatenate([to_numpy(model(tokenizer([text]))) for text in TEXTS[:3]])  # without any padding
    same(table(model.predict(TEXTS[:3], verbose=0)), keras.ops.softmax(logits))


# What is refused


@pytest.mark.one_backend
@pytest.mark.parametrize("names", [[], ["one"], ["one", "two", "one"]])
def test_names_that_tell_nothing_apart_are_refused(names):
    for head in (TextClassifier, TokenClassifier):
        with pytest.raises(ValueError, match="two names"):
            head(bert(), names)


@pytest.mark.one_backend
def test_what_no_classifier_is_made_of():
    with pytest.raises(ValueError, match=r"strings.*\[0, 1\]"):
        TextClassifier(bert(), [0, 1])
    for length in (0, 18):
        with pytest.raises(ValueError, match=f"max_length.*17.* {length}"):
            TextClassifier(bert(), ["a", "b"], max_length=length)
    with pytest.raises(ValueError, match="Bert.*GPT2"):
        TokenClassifier(gpt2(), ["O", "B-dog"])
    for backbone, name in ((GPT2CausalLM(gpt2()), "GPT2CausalLM"), ("bert-mini", "str")):
        with pytest.raises(ValueError, match=f"Bert.*GPT2.* {name}"):
            TextClassifier(backbone, ["a", "b"])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("texts", "classes", "message"),
    [
        (["a", "b"], ["with", "wihout"], r"\['without', 'with'\].*\['wihout'\]"),
        (["a", "b"], [1, 2], r"labels.*\[2\]"),
        (["a", "b"], [[0, 1], [1, 0]], r"labels.*\[\[0, 1\], \[1, 0\]\]"),
        (["a", "b"], ["with", "with"], r"two labels.*\['with'\]"),
        (["a", "b", "c"], ["with", "without"], "label.* 3 .* 2"),
        (["a", "b"], None, "label.*none"),
        (["a", " ", "b", "\u200b"], ["with", "without"] * 2, r"\[1, 3\]"),
        ([], [], "none"),
        (["a", 3], ["with", "without"], "int"),
        (["a", "b " * 16], ["with", "without"], "text 1 has 18.*max_length=17"),
    ],
)
def test_texts_that_teach_nothing_are_refused(texts, classes, message):
    model = for_texts()
    with pytest.raises(ValueError, match=message):
        model.fit(texts, classes, verbose=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("sentences", "labels", "message"),
    [
        ([["a", "b"], ["c", "d"]], [["O", "O"], ["O"]], "sentence 1 has 2 words and 1 labels"),
        ([["a"], ["c"]], [["O"], ["B-cat"]], r"\['O', 'B-dog'\].*\['B-cat'\]"),
        ([["a"], ["c"]], [["O"], ["O"]], r"two labels.*\['O'\]"),
        ([["a"], []], [["O"], []], r"word.*\[1\]"),
        (["a b"], [["O", "B-dog"]], "'a b'"),
        ([["a"] * 16], [["O"] * 16], "17.*text 0 has 18"),
    ],
)
def test_sentences_that_teach_nothing_are_refused(sentences, labels, message):
    with pytest.raises(ValueError, match=message):
        for_words().fit(sentences, labels, verbose=0)


@pytest.mark.one_backend
def test_predicting_and_measuring_refuse_likewise():
    model = for_texts()
    with pytest.raises(ValueError, match=r"\[0\]"):
        model.predict("")
    with pytest.raises(ValueError, match=r"got \['else'\]"):
        model.evaluate(["a"], ["else"])
    with pytest.raises(ValueError, match=r"got \['else'\]"):
        model.fit(TEXTS, CLASSES, validation_data=(["a"], ["else"]))
    with pytest.raises(ValueError, match="tokenizer"):
        TextClassifier(bert(), ["a", "b"]).predict(["a"])


@pytest.mark.one_backend
def test_what_is_no_number_predicts_nothing():
    for model, texts in ((for_texts(), ["a b", "m", "b"]), (for_words(), [["a", "b"], ["m"], ["b"]])):
        model.build()
        embeddings = model.backbone.token_embedding.embeddings
        table = to_numpy(embeddings).copy()
        table[WORDS.index("m")] = np.nan
        embeddings.assign(table)
        with pytest.raises(ValueError, match=r"NaN.*\[1\]"):
            model.predict(texts, verbose=0)


@pytest.mark.one_backend
def test_a_frozen_model_is_not_asked_to_learn():
    model = for_texts()
    model.trainable = False
    for data in ((TEXTS, CLASSES), (model.backbone.tokenizer(TEXTS), np.zeros(len(TEXTS)))):
        with pytest.raises(ValueError, match="trainable is False"):
            model.fit(*data)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
    ],
)
def test_a_loss_of_probabilities_is_refused(loss):
    model = for_texts()
    model.compile("adam", loss)
    with pytest.raises(ValueError, match=r"logits.*course_lib\.training\.losses\.CrossEntropy"):
        model.fit(TEXTS, CLASSES)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(TEXTS, CLASSES, verbose=0)


# Several labels, balance, reports


SEVERAL = [[name for name in "abc" if name in text.split()] for text in TEXTS]


def multi_label(**kwargs):
    return TextClassifier(bert(WordPieceTokenizer(WORDS)), "abc", dropout=0.0, multi_label=True, **kwargs)


def test_a_text_with_several_labels(tmp_path):
    keras.utils.set_random_seed(0)
    model = multi_label()
    model.compile(AdamW(1e-2))
    history = model.fit(TEXTS, SEVERAL, epochs=60, batch_size=12, validation_data=(TEXTS, SEVERAL), verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0] and history.keys() >= {"accuracy", "val_loss"}
    logits = to_numpy(model(model.tokenizer(TEXTS)))
    for text, row, found in zip(TEXTS, logits, model.predict(TEXTS, verbose=0), strict=True):
        np.testing.assert_allclose(list(found.probabilities.values()), 1 / (1 + np.exp(-row)), rtol=1e-4, err_msg=text)
        assert found.labels == tuple(name for name, p in found.probabilities.items() if p >= 0.5)
    matrix = np.array([[name in labels for name in "abc"] for labels in SEVERAL])
    for y in (SEVERAL, matrix, matrix.astype(int).tolist(), [set(labels) for labels in SEVERAL]):
        assert np.array_equal(model.examples(TEXTS, y).labels, matrix)
    measured = model.evaluate(TEXTS, SEVERAL, verbose=0, return_dict=True)
    cross_entropy = np.logaddexp(0, np.where(matrix, -logits, logits)).mean()
    np.testing.assert_allclose(measured["loss"], cross_entropy, rtol=1e-4)
    np.testing.assert_allclose(measured["accuracy"], ((logits > 0) == matrix).mean(), rtol=1e-6)
    report = model.report(TEXTS, SEVERAL)
    assert report.confusion.shape == (3, 2, 2) and report.support == dict(zip("abc", matrix.sum(axis=0), strict=True))
    np.testing.assert_allclose(
        report.accuracy,
        np.mean([(row > 0).tolist() == right.tolist() for row, right in zip(logits, matrix, strict=True)]),
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.multi_label and [p.labels for p in loaded.predict(TEXTS, verbose=0)] == [
        p.labels for p in model.predict(TEXTS, verbose=0)
    ]


@pytest.mark.one_backend
def test_thresholds_decide_which_labels_are_given():
    model = multi_label(threshold=[0.01, 0.99, 0.5])
    model.build()
    randomize(model)
    for found in model.predict(TEXTS, verbose=0):
        values = list(found.probabilities.values())
        assert found.labels == tuple(
            name for name, p, least in zip("abc", values, (0.01, 0.99, 0.5), strict=True) if p >= least
        )
    for threshold in (0, 1.0, [0.5, 0.5], "high"):
        with pytest.raises(ValueError, match="threshold" if threshold != "high" else "could not convert"):
            multi_label(threshold=threshold)
    with pytest.raises(ValueError, match="collection of labels"):
        model.examples(TEXTS, CLASSES)
    with pytest.raises(ValueError, match=r"\['a', 'b', 'c'\]; got \['z'\]"):
        model.examples(["a"], [["z"]])


@pytest.mark.one_backend
def test_balanced_classes_count_the_same_in_sum():
    from sklearn.utils.class_weight import compute_class_weight

    model = TextClassifier(bert(WordPieceTokenizer(WORDS)), ["with", "without"])
    factors = compute_class_weight("balanced", classes=np.array(["with", "without"]), y=CLASSES)
    batches = model.training_batches(model.examples(TEXTS, CLASSES, batch_size=12), "balanced")
    np.testing.assert_allclose(batches.weights, factors[batches.labels], rtol=1e-6)
    np.testing.assert_allclose([batches.weights[batches.labels == i].sum() for i in (0, 1)], 6, rtol=1e-6)
    ids = np.array([model.names.index(name) for name in CLASSES])
    assert model.class_weights(ids, "balanced") == pytest.approx(dict(enumerate(factors)), rel=1e-6)
    assert model.class_weights(ids, {"without": 2.0}) == {0: 1, 1: 2} and model.class_weights(ids, None) is None
    assert np.isfinite(model.fit(model.tokenizer(TEXTS), ids, class_weight="balanced", verbose=0).history["loss"][0])
    for wrong in ("even", {"nothing": 1}):
        with pytest.raises(ValueError, match="class_weight|nothing"):
            model.fit(TEXTS, CLASSES, class_weight=wrong)
    several = multi_label()
    batches = several.training_batches(several.examples(TEXTS, SEVERAL), "balanced")
    for labels, weights in zip(batches.labels.T, batches.weights.T, strict=True):
        np.testing.assert_allclose(weights[labels == 1].sum(), weights[labels == 0].sum(), rtol=1e-6)
    with pytest.raises(ValueError, match="has no classes"):
        GPT2CausalLM(gpt2(BytePairTokenizer.train(["a b"], 257), 257)).fit(["a b"], class_weight="balanced")


@pytest.mark.one_backend
def test_a_number_of_classes_in_place_of_names():
    model = TextClassifier(bert(WordPieceTokenizer(WORDS)), 2)
    ids = [int(name == "with") for name in CLASSES]
    assert model.classes == ("0", "1") and np.array_equal(model.examples(TEXTS, ids).labels, ids)
    assert model.predict("a", verbose=0)[0].label in model.classes
    with pytest.raises(ValueError, match="two names"):
        TextClassifier(bert(), 1)


@pytest.mark.one_backend
def test_a_report_is_that_of_scikit_learn():
    from sklearn import metrics

    model = TextClassifier(bert(WordPieceTokenizer(WORDS)), ["with", "without"])
    model.build()
    randomize(model)
    predicted = [each.label for each in model.predict(TEXTS, verbose=0)]
    report = model.report(TEXTS, CLASSES)
    assert report.accuracy == metrics.accuracy_score(CLASSES, predicted)
    assert np.array_equal(report.confusion, metrics.confusion_matrix(CLASSES, predicted, labels=model.names))
    expected = metrics.f1_score(CLASSES, predicted, labels=model.names, average=None)
    assert list(report.f1.values()) == pytest.approx(expected) and report.macro_f1 == pytest.approx(expected.mean())
    assert report.support == {name: CLASSES.count(name) for name in model.names}
    assert "Confusion matrix" in str(report) and "without" in str(report)
    tagger = TokenClassifier(bert(WordPieceTokenizer(WORDS)), ["O", "B-dog"], max_length=6)
    tagger.build()
    randomize(tagger)
    report = tagger.report(SENTENCES, LABELS)
    kept = [
        (right, word.label)
        for labels, row in zip(LABELS, tagger.predict(SENTENCES, verbose=0), strict=True)
        for right, word in zip(labels, row, strict=False)
    ]
    assert sum(report.support.values()) == len(kept) < sum(map(len, LABELS))
    assert report.accuracy == pytest.approx(np.mean([right == found for right, found in kept]))
    with pytest.raises(ValueError, match="a label for each"):
        model.report(TEXTS)


@pytest.mark.one_backend
def test_entities_are_the_valid_labels_with_the_highest_sum():
    tagger = TokenClassifier(bert(WordPieceTokenizer(WORDS)), ["O", "B-dog", "I-dog"])
    tagger.build()
    randomize(tagger)
    found = tagger.predict_entities(SENTENCES)
    assert len(found) == len(SENTENCES) and any(found)
    for words, entities in zip(SENTENCES, found, strict=True):
        for before, entity in zip([None, *entities], entities, strict=False):
            assert entity.label == "dog" and entity.text == " ".join(words[entity.start : entity.end])
            assert 0 <= (before.end if before else 0) <= entity.start < entity.end <= len(words)
    with pytest.raises(ValueError, match="B-type"):
        TokenClassifier(bert(WordPieceTokenizer(WORDS)), ["O", "dog"]).predict_entities(SENTENCES)
