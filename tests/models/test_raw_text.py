"""Raw text in place of arrays: each task learns from it without `compile`, and what is no text goes to Keras."""

import collections
import collections.abc

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops
from layer_checks import compiled, randomize, to_numpy

from course_lib import SentenceEncoder, Seq2SeqLM
from course_lib.models.sentence_encoder import InBatchNegatives
from course_lib.models.text_inputs import as_texts, check_lengths, labels_of, raw_text, read_data_set

TEXTS = ["a b c", "d a", "e f g h i", "a", "b d", "c c c", "k l a", "m", "f a f", "g g"]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))
CLASSES = ["good" if "a" in text.split() else "bad" for text in TEXTS]
LABELS = [["B-dog" if word in "abc" else "O" for word in text.split()] for text in TEXTS]
LONG = {"max_sequence_length": 24}  # nothing is cut


def sentence_encoder():
    model = SentenceEncoder(tiny_models.bert(**LONG))
    model.build()
    randomize(model)  # so that the texts' vectors differ
    return model


TASKS = {
    "BertPretrainer on texts": (lambda: tiny_models.bert_pretrainer(**LONG), (TEXTS,)),
    "BertPretrainer on pairs": (lambda: tiny_models.bert_pretrainer(**LONG), (PAIRS, [0, 1] * 5)),
    "BertPretrainer without pooler": (lambda: tiny_models.bert_pretrainer(**LONG, pooler=False), (PAIRS,)),
    "GPT2CausalLM": (lambda: tiny_models.gpt2_causal_lm(**LONG), (TEXTS,)),
    "LlamaCausalLM": (lambda: tiny_models.llama_causal_lm(**LONG), (TEXTS,)),
    "OpenAIGPTCausalLM": (lambda: tiny_models.openai_gpt_causal_lm(**LONG), (TEXTS[:3] + TEXTS[4:7],)),
    "Seq2SeqLM": (tiny_models.seq2seq_lm, (TEXTS, TEXTS[::-1])),
    "TextClassifier": (lambda: tiny_models.text_classifier(**LONG), (TEXTS, CLASSES)),
    "TokenClassifier": (lambda: tiny_models.token_classifier(**LONG), ([text.split() for text in TEXTS], LABELS)),
    "SentenceEncoder": (sentence_encoder, (PAIRS,)),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_learns_from_texts_without_being_compiled(name):
    keras.utils.set_random_seed(0)
    make, data = TASKS[name]
    model = make()
    before = model.evaluate(*data, batch_size=10, verbose=0, return_dict=True)["loss"]
    history = model.fit(*data, batch_size=5, epochs=4, verbose=0).history
    after = model.evaluate(*data, batch_size=10, verbose=0, return_dict=True)["loss"]
    assert np.isfinite(history["loss"]).all() and after < before
    batches = model.examples(*data, batch_size=5).num_batches
    assert len(history["loss"]) == 4 and model.optimizer.iterations == 4 * batches
    assert type(model.optimizer).__name__ in ("Adam", "AdamW")


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["BertPretrainer on pairs", "OpenAIGPTCausalLM", "SentenceEncoder", "TextClassifier"])
def test_what_compile_was_told_is_kept(name):
    """And the step may be compiled by XLA, with a validation after it and with weights where they have a meaning."""
    make, data = TASKS[name]
    model = make()
    expected = model.default_compile()
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, expected["loss"], jit_compile=True)
    validation = tuple(part[:4] for part in data)
    losses = [model.fit(*data, batch_size=10, validation_data=validation, verbose=0).history for _ in range(2)]
    assert model.optimizer is optimizer and model.jit_compile is True
    assert losses[0].keys() == {"loss", "val_loss"} | {key for key in losses[0] if key.endswith("logits_loss")}
    assert np.isfinite(losses[1]["loss"] + losses[1]["val_loss"]).all()
    own = model.evaluate(*validation, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(losses[1]["val_loss"], own, rtol=1e-4)


def test_a_language_models_labels_are_the_tokens_that_follow():
    model = tiny_models.gpt2_causal_lm(max_sequence_length=12)
    end, encode = model.config.end_token_id, model.tokenizer.encode
    batches = model.examples(TEXTS, batch_size=4)
    seen = {}
    for index in range(batches.num_batches):
        inputs, labels, weights = batches[index]
        assert inputs.keys() == {"token_ids", "padding_mask"} and weights.dtype == np.float32
        assert np.array_equal(weights, inputs["padding_mask"])
        for ids, after, mask in zip(inputs["token_ids"], labels, inputs["padding_mask"], strict=True):
            length = mask.sum()
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
            assert after[: length - 1].tolist() == ids[1:length].tolist()  # shifted by one
            seen[tuple(ids[:length].tolist())] = int(after[length - 1])
    rows = [[end, *encode(text), end] for text in TEXTS]
    assert all(seen[tuple(row[:-1])] == end for row in rows) and len(seen) == len(TEXTS)

    (inputs, labels, weights), row = model.examples("a b c d a b c d a b c d e", batch_size=4)[0], []
    assert inputs["token_ids"].shape == (1, 12) and weights.sum() == 12, "cut to the model's length, and one more label"
    row = [end, *encode("a b c d a b c d a b c d e"), end]
    assert inputs["token_ids"][0].tolist() == row[:12] and labels[0].tolist() == row[1:13]
    heavy = model.examples(TEXTS[:2], sample_weight=[2, 0.5], batch_size=2)[0][2]
    assert sorted({*heavy.ravel().tolist()} - {0}) == [0.5, 2]

    first = tiny_models.openai_gpt_causal_lm(**LONG)
    inputs, labels, _ = first.examples(["ab c"])[0]
    ids = first.tokenizer.encode("ab c")
    assert inputs["token_ids"][0, :1].tolist() == ids[:-1] and labels[0, :1].tolist() == ids[1:], "no token ends a text"


@pytest.mark.one_backend
def test_masks_are_drawn_anew_in_each_epoch_and_again_with_the_same_seed():
    model = tiny_models.bert_pretrainer(**LONG)

    def epochs(seed, count):
        batches = model.examples(["a b c d e f g h i j k l m"] * 4, batch_size=4, seed=seed)
        for _ in range(count):
            yield to_numpy(batches[0][0]["mask_positions"]), to_numpy(batches[0][0]["token_ids"])
            batches.on_epoch_end()

    (first, second), (again, _), (other,) = epochs(7, 2), epochs(7, 2), epochs(8, 1)
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(first[0], other[0])
    (plain,), (zero,) = epochs(None, 1), epochs(0, 1)
    assert np.array_equal(plain[0], zero[0])


@pytest.mark.one_backend
def test_what_a_pretrainer_makes_of_texts_and_pairs():
    model = tiny_models.bert_pretrainer(**LONG)
    mask, separator = (model.tokenizer.vocabulary.index(name) for name in ("[MASK]", "[SEP]"))
    inputs, labels, weights = model.examples(PAIRS, [0, 1] * 5, batch_size=10)[0]
    original = model.tokenizer(*map(list, zip(*PAIRS, strict=True)))
    order = model.examples(PAIRS, batch_size=10).batches[0]
    assert np.array_equal(inputs["segment_ids"], original["segment_ids"][order, : inputs["segment_ids"].shape[1]])
    assert (inputs["token_ids"] == separator).sum() == 2 * 10 and (inputs["token_ids"] == mask).any()
    assert np.array_equal(labels["nsp_logits"], np.array([0, 1] * 5)[order]) and np.all(weights["nsp_logits"] == 1)
    chosen = weights["mlm_logits"] > 0
    tokens = np.take_along_axis(original["token_ids"][order], inputs["mask_positions"], axis=1)
    assert np.array_equal(labels["mlm_logits"][chosen], tokens[chosen]) and chosen.any(axis=1).all()
    _, labels, weights = model.examples(PAIRS, batch_size=10)[0]
    assert np.all(weights["nsp_logits"] == 0), "without labels, the second objective does not count"
    _, labels, _ = tiny_models.bert_pretrainer(**LONG, pooler=False).examples(TEXTS)[0]
    assert labels.keys() == {"mlm_logits"}
    assert model.examples(["a " * 30])[0][0]["token_ids"].shape == (1, 24), "texts are cut to the model's length"
    for given in ((TEXTS, [0] * 10), (PAIRS, [0] * 9)):
        with pytest.raises(ValueError, match="pairs"):
            model.fit(*given)
    with pytest.raises(ValueError, match="pairs"):
        tiny_models.bert_pretrainer(**LONG, pooler=False).fit(PAIRS, [0, 1] * 5)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(TEXTS, sample_weight=np.ones(10))


@pytest.mark.one_backend
def test_a_translators_batches_are_those_of_teacher_forcing():
    model = tiny_models.seq2seq_lm()
    end, encode = model.config.end_token_id, model.tokenizer.encode
    found = {}
    batches = model.examples(TEXTS, TEXTS[::-1], sample_weight=np.arange(1, 11), batch_size=3)
    for index in range(batches.num_batches):
        inputs, labels, weights = batches[index]
        for row in range(len(labels)):
            source = tuple(inputs["encoder_token_ids"][row][inputs["encoder_padding_mask"][row] > 0])
            length = int((weights[row] > 0).sum())
            found[source] = labels[row, :length].tolist(), weights[row, 0]
            assert inputs["decoder_token_ids"][row, :length].tolist() == [end, *labels[row, : length - 1]]
    for place, (source, target) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True)):
        assert found[tuple(encode(source))] == ([*encode(target), end], place + 1)


def test_a_sentence_encoder_pulls_pairs_together():
    """And pushes the others apart; the loss is cross-entropy over the cosines of a batch, times 20."""
    model = sentence_encoder()
    pairs = list(zip(TEXTS[:5], TEXTS[5:], strict=True))
    inputs, labels = model.examples(pairs, batch_size=5)[0]
    vectors = to_numpy(compiled(model)(inputs)).astype("float64")
    first, second = (model.encode([pair[side] for pair in pairs]).astype("float64") for side in (0, 1))
    np.testing.assert_allclose(vectors, np.stack([first, second], axis=1).reshape(10, -1), atol=1e-5)
    scores = 20 * first @ second.T
    by_hand = np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores))
    np.testing.assert_allclose(model.evaluate(pairs, batch_size=5, verbose=0), by_hand, rtol=1e-4)
    loss = InBatchNegatives(scale=3.0)
    scores *= 3 / 20
    by_hand = np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores))
    np.testing.assert_allclose(to_numpy(loss(labels, vectors.astype("float32"))), by_hand, rtol=1e-4)
    share = scores[:3, :3]  # of a device that gets the first six rows: pairs stay together
    by_hand = np.mean(np.log(np.exp(share).sum(axis=1)) - np.diag(share))
    np.testing.assert_allclose(to_numpy(loss(labels[:6], vectors[:6].astype("float32"))), by_hand, rtol=1e-4)
    assert InBatchNegatives.from_config(loss.get_config()).scale == 3.0

    def margin():
        one, two = (model.encode([pair[side] for pair in pairs]) for side in (0, 1))
        cosines = one @ two.T
        return np.diag(cosines).mean() - cosines[~np.eye(5, dtype=bool)].mean()

    before = margin()
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(0.01), InBatchNegatives())
    model.fit(pairs, batch_size=5, epochs=20, verbose=0)
    assert margin() > before + 0.2


@pytest.mark.one_backend
def test_pairs_that_cannot_teach_are_refused():
    model = sentence_encoder()
    for pairs in (TEXTS, [("a", "b")], [("a", "b", "c"), ("a", "b", "c")], [("a", "b"), ("a",)]):
        with pytest.raises(ValueError, match="at least two pairs"):
            model.fit(pairs)
    for more in ({"y": [1] * 10}, {"sample_weight": [1.0] * 10}):
        with pytest.raises(ValueError, match="labels"):
            model.fit(PAIRS, **more)
    with pytest.raises(ValueError, match="text 10 has 26.* 24 |24.*text 10 has 26"):
        model.fit([("a b", "a " * 24), *PAIRS[1:]])
    batches = model.examples(PAIRS, batch_size=4, seed=0)
    assert batches.num_batches == 2, "what is left over has too few negatives"
    order = np.concatenate(batches.batches)
    batches.on_epoch_end()
    again = np.concatenate(batches.batches)
    assert len({*order}) == len({*again}) == 8 and not np.array_equal(order, again)
    assert np.concatenate(model.examples(PAIRS[:8], batch_size=4).batches).tolist() == list(range(8))
    assert model.examples(PAIRS[:3], batch_size=4).num_batches == 1


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["BertPretrainer on texts", "SentenceEncoder"])
@pytest.mark.parametrize("lengths", [[1] * 5 + [13], [1] * 4 + [13] * 4, [1, 13, 1, 13, 1], [13] * 3 + [1], [3, 9, 6]])
def test_widths_vary_from_the_first_two_batches_on_or_never(name, lengths):
    """For TensorFlow learns which axes vary from the first two batches of the first epoch alone."""
    model = TASKS[name][0]()
    for seed in range(5):
        texts = [" ".join(tiny_models.LETTERS[:length]) for length in lengths]
        x = [(text, f"{text} b") for text in texts] if name == "SentenceEncoder" else texts
        batches, widths = model.examples(x, batch_size=2, seed=seed), []
        for _ in range(8):
            found = [batches[index][0]["padding_mask"] for index in range(batches.num_batches)]
            counts = {int(count) for mask in found for count in mask.sum(axis=1)}
            assert counts <= {length + more for length in lengths for more in (2, 3)}, "nothing is cut off"
            widths.append([mask.shape[1] for mask in found])
            batches.on_epoch_end()
        assert len({*widths[0][:2]}) == 2 or len({width for batch in widths for width in batch}) == 1


@pytest.mark.one_backend
def test_arrays_and_data_sets_go_to_keras(monkeypatch):
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setattr(keras.Model, "evaluate", lambda self, *args, **kwargs: calls.append((args, kwargs)))
    model = tiny_models.text_classifier()
    ids, y = np.ones((4, 3), "int32"), np.array([0, 1, 0, 1])
    for x in (ids, {"token_ids": ids}, [ids, ids], (ids, ids), ids.tolist(), model.examples(TEXTS, CLASSES)):
        weights = np.ones(4)
        model.fit(x, y, 2, sample_weight=weights, shuffle=False, validation_data=(ids, y), epochs=3, callbacks=[])
        model.evaluate(x, y, 2, sample_weight=weights, verbose=0)
        (args, kwargs), (measured, more) = calls[-2:]
        assert args[0] is x and args[1] is y and args[2] == 2 and measured[:3] == args[:3]
        assert kwargs["sample_weight"] is weights is more["sample_weight"] and kwargs["shuffle"] is False
        assert kwargs["validation_data"][0] is ids and kwargs["epochs"] == 3 and more["verbose"] == 0
    model.fit(TEXTS, CLASSES, 2)
    (x, y, batch_size), kwargs = calls[-1]
    assert isinstance(x, keras.utils.PyDataset) and y is None and batch_size is None and kwargs["shuffle"] is False
    assert kwargs["sample_weight"] is None and x.num_batches == 5


def test_several_arrays_in_a_list_are_several_inputs():
    class Sum(tiny_models.TextClassifier):
        def call(self, inputs, training=None):
            return super().call(inputs[0] + 0 * inputs[1], training=training)

    model = Sum(tiny_models.bert(pooler=False), ["a", "b"])
    ids = np.ones((4, 3), "int32")
    history = model.fit([ids, ids], np.array([0, 1, 0, 1]), verbose=0).history
    assert np.isfinite(history["loss"]).all()


class Column(collections.abc.Sequence):
    """A column of the `datasets` library is such a sequence."""

    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("a", "a"),
        (b"\xc3\xa9", "é"),
        (np.array([["a", "b"]]), [["a", "b"]]),
        (np.array([["a"], ["b", "c"]], object), [["a"], ["b", "c"]]),
        ([["a", "b"], ["c"]], [["a", "b"], ["c"]]),
        ((("a", b"b"),), [["a", "b"]]),
        *((x, []) for x in ([], (), Column())),
        ([[]], [[]]),
        *((container(["a", "é"]), ["a", "é"]) for container in (list, tuple, np.array, collections.UserList)),
        *((x, ["a", "é"]) for x in (np.array(["a", "é"], object), Column("a", "é"), [b"a", b"\xc3\xa9"])),
        (np.array(["a", "é"], np.dtypes.StringDType()), ["a", "é"]),
        (np.array([b"a"]), ["a"]),
    ],
)
def test_what_is_raw_text(x, expected):
    assert raw_text(x) == expected


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "x",
    [
        *(None, 1, {"token_ids": ["a"]}, {"a"}, [1, 2], [[1, 2]], [np.array(["a"])], [np.ones(2), np.ones(2)]),
        *(np.ones(2), np.array([1, 2], object), np.array([], object), [["a", 1]], [[["a"]]], range(3), ops.ones(2)),
        *(iter("a"), [None, "a"]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_is_not_raw_text(x):
    assert raw_text(x) is None


@pytest.mark.one_backend
def test_tensors_and_data_sets_of_strings():
    import tensorflow as tf

    assert raw_text(tf.constant(["a", "é"])) == ["a", "é"] and raw_text(tf.constant([["a", "b"]])) == [["a", "b"]]
    assert raw_text(tf.constant([1, 2])) is None
    texts, names, weights = ["a", "é", "c"], ["x", "y", "x"], [1.0, 0.5, 2.0]
    for columns in ((texts,), (texts, names), (texts, [0, 1, 0]), (texts, names, weights)):
        data = tf.data.Dataset.from_tensor_slices(columns if len(columns) > 1 else texts)
        for given, size in ((data, None), (data.batch(2), 2)):
            found = read_data_set(given)
            assert found[0] == texts and found[3] == size
            assert labels_of(found[1]) == (list(columns[1]) if len(columns) > 1 else None)
            assert found[2] == (weights if len(columns) > 2 else None)
    with pytest.raises(ValueError, match="take"):
        read_data_set(data.repeat())
    with pytest.raises(ValueError, match="UTF-8"):
        raw_text([b"\xff"])


@pytest.mark.one_backend
def test_texts_and_their_lengths():
    assert as_texts("a") == ["a"] == as_texts(np.array(["a"])) and as_texts((b"a", "b")) == ["a", "b"]
    with pytest.raises(ValueError, match="none"):
        as_texts([])
    with pytest.raises(ValueError, match=r"int.*\[1, 3\]"):
        as_texts(["a", 1, "b", 2.0])
    check_lengths([3, 4], 4)
    with pytest.raises(ValueError, match="text 1 has 5.*max_length=4"):
        check_lengths([3, 5, 4], 4)


@pytest.mark.one_backend
def test_a_task_says_what_it_lacks():
    for task, data in ((name, data) for name, (_, data) in TASKS.items()):
        model = TASKS[task][0]()
        model.backbone.tokenizer = None
        with pytest.raises(ValueError, match="tokenizer"):
            model.fit(*data)
        frozen = TASKS[task][0]()
        frozen.trainable = False
        with pytest.raises(ValueError, match="trainable is False"):
            frozen.fit(*data)
    for model, x in ((tiny_models.seq2seq_lm(), TEXTS), (tiny_models.text_classifier(), TEXTS)):
        for call in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match="label"):
                call(x)
    lm = tiny_models.gpt2_causal_lm(**LONG)
    with pytest.raises(ValueError, match="labels"):
        lm.fit(TEXTS, CLASSES)
    with pytest.raises(ValueError, match=r"two tokens.*\[1\]"):
        tiny_models.openai_gpt_causal_lm(**LONG).fit(["a b", "a", "c d"])
    with pytest.raises(ValueError, match="2"):
        Seq2SeqLM(tiny_models.seq2seq()).fit(TEXTS, TEXTS[:2])


@pytest.mark.one_backend
def test_the_order_is_that_of_keras_seed(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, *args, **kwargs: seen.append(x[0][0]["token_ids"]))
    model = tiny_models.gpt2_causal_lm(**LONG)
    model.build()
    model.compile("adam", "mse")
    for seed, shuffle in ((0, True), (0, True), (1, True), (1, False), (2, False)):
        keras.utils.set_random_seed(seed)
        model.fit(TEXTS * 3, batch_size=3, shuffle=shuffle)
    assert np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])
    assert np.array_equal(seen[3], seen[4])


def containers(texts):
    """The same texts in everything that Keras users have them in."""
    import tensorflow as tf

    yield from (texts, tuple(texts), np.array(texts), np.array(texts, "S"), np.array(texts, object))
    yield from (collections.UserList(texts), Column(*texts), tf.constant(texts))


@pytest.mark.one_backend
def test_every_container_becomes_the_same_batches(monkeypatch):
    import tensorflow as tf

    seen = []
    for name in ("fit", "evaluate"):
        monkeypatch.setattr(keras.Model, name, lambda self, x, *args, **kwargs: seen.append(x))
    model = tiny_models.text_classifier(**LONG)
    ids = [model.names.index(name) for name in CLASSES]
    expected = model.examples(TEXTS, CLASSES, batch_size=4)
    data = tf.data.Dataset.from_tensor_slices((TEXTS, CLASSES))
    for x, y, size in (
        *((x, CLASSES, 4) for x in containers(TEXTS)),
        *((TEXTS, y, 4) for y in (*containers(CLASSES), ids, np.array(ids), tf.constant(ids))),
        (data.batch(4), None, None),
        (data, None, 4),
    ):
        model.fit(x, y, size, shuffle=False)
        model.evaluate(x, y, size)
        for found in seen[-2:]:
            assert found.batch_size == 4 and np.array_equal(found.labels, expected.labels)
            assert all(np.array_equal(found.inputs[name], expected.inputs[name]) for name in expected.inputs)


def test_a_data_set_of_strings_trains_and_is_labelled():
    import tensorflow as tf

    model = tiny_models.text_classifier(**LONG)
    data = tf.data.Dataset.from_tensor_slices((TEXTS, CLASSES)).batch(4)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    right = [each.label for each in model.predict(TEXTS, verbose=0)]
    for x in (data.map(lambda text, label: text), np.array(TEXTS, "S"), tf.constant(TEXTS)):
        assert [each.label for each in model.predict(x, verbose=0)] == right
    assert [each.label for each in model.predict_on_batch(TEXTS)] == right


@pytest.mark.one_backend
@pytest.mark.parametrize("name", TASKS)
def test_one_batch_of_texts(name):
    make, data = TASKS[name]
    if name == "Seq2SeqLM":
        data = (TEXTS[::3], TEXTS[1::3] + TEXTS[:1])  # of one width: others are evaluated in several batches
    model = make()
    before = float(np.ravel(model.test_on_batch(*data))[0])
    logs = model.train_on_batch(*data, return_dict=True)
    assert np.isfinite(before) and np.isfinite(logs["loss"])
    if name.startswith("BertPretrainer"):
        return  # each batch is masked anew
    whole = model.evaluate(*data, batch_size=len(data[0]), verbose=0, return_dict=True)["loss"]
    found = float(np.ravel(model.test_on_batch(*data))[0])
    np.testing.assert_allclose(found, whole, rtol=1e-5)


@pytest.mark.one_backend
def test_the_last_texts_are_held_out_as_keras_does(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, *args, **kwargs: seen.append((x, kwargs)))
    model = tiny_models.text_classifier()
    model.fit(TEXTS, CLASSES, validation_split=0.3, sample_weight=np.arange(10))
    train, kwargs = seen[0]
    held_out = kwargs["validation_data"]
    assert len(train.lengths) == 7 and len(held_out.lengths) == 3 and kwargs["validation_split"] == 0
    assert sorted(train.weights) == list(range(7)) and sorted(held_out.weights) == [7, 8, 9]
    with pytest.raises(ValueError, match="validation_split"):
        model.fit(TEXTS, CLASSES, validation_split=1.0)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", [name for name in TASKS if "Classifier" not in name and name != "SentenceEncoder"])
def test_predict_of_texts_names_what_answers_to_them(name):
    make, _ = TASKS[name]
    with pytest.raises(ValueError, match=r"arrays.*(generate|fill_mask)"):
        make().predict(TEXTS)


def test_a_compile_that_leaves_something_out():
    model = tiny_models.text_classifier()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    assert model.fit(TEXTS, CLASSES, verbose=0).history.keys() == {"accuracy", "loss"}
    model.compile(loss=model.default_compile()["loss"], weighted_metrics=[])
    assert model.fit(TEXTS, CLASSES, verbose=0).history.keys() == {"loss"}
    assert isinstance(model.optimizer, type(model.default_compile()["optimizer"]))


@pytest.mark.one_backend
def test_validation_texts_come_in_batches_of_the_same_size(monkeypatch):
    seen = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, *args, **kwargs: seen.append(kwargs["validation_data"]))
    tiny_models.text_classifier().fit(TEXTS, CLASSES, 4, validation_data=(TEXTS, CLASSES))
    assert seen[0].batch_size == 4
