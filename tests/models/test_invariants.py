"""What every model must do, whatever it is for: the promises of every layer, and more that only a model makes."""

import typing

import keras
import numpy as np
import pytest
import tiny_models
from keras import ops
from layer_checks import TOKENS, LayerChecks, compiled, randomize, same, to_numpy

TOKEN_IDS = {name: TOKENS[name] for name in ("token_ids", "padding_mask")}
PAIRS = {
    "encoder_token_ids": TOKENS["token_ids"],
    "encoder_padding_mask": TOKENS["padding_mask"],  # the last row has no token at all
    "decoder_token_ids": np.random.default_rng(1).integers(0, 20, (3, 4)).astype("int32"),
}
SLOTS = np.array([[4, 5, 6], [0, 1, 2], [1, 3, 6]])  # where three rows of three tokens lie among seven slots


def spread(array, junk):
    """Rows of three tokens, padded to seven: on the left, on the right, and on both sides and between."""
    padded = np.full((3, 7), junk, array.dtype)
    np.put_along_axis(padded, SLOTS, array, axis=1)
    return padded


class ModelChecks(LayerChecks):
    """Inherit it, with `make`, which returns a new model with a tokenizer."""

    inputs: typing.ClassVar = TOKEN_IDS
    source: typing.ClassVar = ""  # prefix of the inputs that have a padding mask
    other_inputs: typing.ClassVar = ()  # that change the shapes of outputs

    def call(self, layer, inputs):
        return layer(inputs)

    def built(self, **kwargs):
        model = self.make(**kwargs)
        model.build()
        randomize(model)
        return model

    def test_padding_changes_nothing_on_either_side(self):
        model, mask = self.built(), f"{self.source}padding_mask"
        plain = {name: array for name, array in self.inputs.items() if name not in (mask, *self.other_inputs)}
        short = {name: array[:, :3] if name.startswith(self.source) else array for name, array in plain.items()}
        expected = keras.tree.flatten(compiled(model)(short))
        for junk in (0, 1):
            padded = {
                name: spread(array, junk) if name.startswith(self.source) else np.pad(array, [(0, 0), (0, 3)])
                for name, array in short.items()
            }
            padded[mask] = spread(np.ones_like(SLOTS), 0).astype("int32")
            for output, alone in zip(keras.tree.flatten(compiled(model)(padded)), expected, strict=True):
                output = to_numpy(output)
                if self.source:
                    output = output[:, :4]  # padding of the target stands on the right
                elif output.shape[1] == 7:
                    output = np.take_along_axis(output, SLOTS[..., None], axis=1)
                same(output, alone)

    def test_saved_and_loaded_with_its_tokenizer(self, tmp_path):
        model = self.built()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model) and loaded.config == model.config
        same(compiled(loaded)(self.inputs), compiled(model)(self.inputs), tolerance=0)
        assert type(loaded.tokenizer) is type(model.tokenizer)
        assert loaded.tokenizer.encode("a b c") == model.tokenizer.encode("a b c")

    def test_a_preset_keeps_everything(self, tmp_path):
        model = self.built()
        model.save_to_preset(tmp_path)
        loaded = type(model).from_preset(tmp_path)
        same(compiled(loaded)(self.inputs), compiled(model)(self.inputs), tolerance=0)
        assert loaded.tokenizer.encode("a b c") == model.tokenizer.encode("a b c")
        own = ("name", "backbone", "dtype")
        config, other = ({k: v for k, v in each.get_config().items() if k not in own} for each in (model, loaded))
        assert loaded.config == model.config and config == other

    @pytest.mark.one_backend
    def test_a_new_model_can_be_counted_and_summed_up(self):
        lines = []
        model = self.make()
        model.summary(print_fn=lambda line, line_break=True: lines.append(line))
        table = "\n".join(lines)
        assert "?" not in table and "unbuilt" not in table
        assert all(layer.name in table for layer in model.layers)
        fresh = self.make()
        counted = fresh.count_params()
        assert counted == sum(np.prod(weight.shape) for weight in fresh.weights) == model.count_params() > 100

    @pytest.mark.one_backend
    def test_token_ids_outside_the_vocabulary_are_named(self):
        model = self.make()
        size = model.config.vocabulary_size
        for name, ids in self.inputs.items():
            if name.endswith("token_ids"):
                for wrong, message in ((size, rf"\[{size}\]"), (-1, r"\[-1\]"), (1.5, "float")):
                    changed = ids.astype(type(wrong))
                    changed[0, 1] = wrong
                    with pytest.raises(ValueError, match=message):
                        model(self.inputs | {name: changed})


class CausalChecks(ModelChecks):
    future: typing.ClassVar = "token_ids"  # of which no position sees a later one

    def test_a_changed_future_token_changes_no_earlier_output(self):
        model = self.built()
        ids = self.inputs[self.future][:2]
        inputs = {name: array[:2] for name, array in self.inputs.items() if name != "padding_mask"}
        before = to_numpy(keras.tree.flatten(model(inputs))[0])
        for start in range(1, ids.shape[1]):
            changed = ids.copy()
            changed[:, start:] = (changed[:, start:] + 7) % 20
            after = to_numpy(keras.tree.flatten(model(inputs | {self.future: changed}))[0])
            np.testing.assert_allclose(before[:, :start], after[:, :start], atol=2e-5)
            assert np.all(np.abs(before - after)[:, start:].max(axis=-1) > 1e-3)


class TestBert(ModelChecks):
    inputs: typing.ClassVar = TOKENS
    make = staticmethod(tiny_models.bert)


class TestBertPretrainer(ModelChecks):
    inputs: typing.ClassVar = TOKENS | {"mask_positions": np.array([[2, 0], [1, 1], [0, 2]], "int32")}
    other_inputs: typing.ClassVar = ("mask_positions",)
    more_dtypes: typing.ClassVar = {"float32"}  # Keras multiplies by a tied embedding in the embedding's own dtype
    make = staticmethod(tiny_models.bert_pretrainer)


class TestGPT2(CausalChecks):
    def make(self, **kwargs):
        return tiny_models.gpt2(scale_attention_by_layer=True, **kwargs)


class TestGPT2CausalLM(CausalChecks):
    more_dtypes: typing.ClassVar = {"float32"}
    make = staticmethod(tiny_models.gpt2_causal_lm)


class TestOpenAIGPT(CausalChecks):
    make = staticmethod(tiny_models.openai_gpt)


class TestOpenAIGPTCausalLM(TestGPT2CausalLM):
    make = staticmethod(tiny_models.openai_gpt_causal_lm)


class TestLlama(CausalChecks):
    make = staticmethod(tiny_models.llama)


class TestLlamaCausalLM(CausalChecks):
    make = staticmethod(tiny_models.llama_causal_lm)


class TestSeq2Seq(CausalChecks):
    inputs: typing.ClassVar = PAIRS
    future: typing.ClassVar = "decoder_token_ids"
    source: typing.ClassVar = "encoder_"
    make = staticmethod(tiny_models.seq2seq)


class TestSeq2SeqLM(TestSeq2Seq):
    more_dtypes: typing.ClassVar = {"float32"}

    def make(self, **kwargs):
        return tiny_models.seq2seq_lm(norm_first=True, **kwargs)


class TestTextClassifier(ModelChecks):
    inputs: typing.ClassVar = TOKENS

    def make(self, **kwargs):
        return tiny_models.text_classifier(**kwargs)


class TestTextClassifierOnGPT2(ModelChecks):
    def make(self, **kwargs):
        return tiny_models.text_classifier(backbone=tiny_models.gpt2, **kwargs)


class TestTokenClassifier(ModelChecks):
    inputs: typing.ClassVar = TOKENS | {"word_positions": np.array([[1, 2], [2, 0], [0, 0]], "int32")}
    other_inputs: typing.ClassVar = ("word_positions",)

    def make(self, **kwargs):
        return tiny_models.token_classifier(pooler=False, **kwargs)


class TestSentenceEncoder(ModelChecks):
    inputs: typing.ClassVar = TOKENS

    def make(self, **kwargs):
        return tiny_models.sentence_encoder(pooler=False, **kwargs)


# Caches


@pytest.mark.parametrize("make", [tiny_models.gpt2, tiny_models.openai_gpt, tiny_models.llama])
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (3, 2), (5,)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_backbone_with_a_cache_equals_the_one_without(make, chunks, as_tensor):
    model = make()
    model.build()
    randomize(model)
    ids = TOKENS["token_ids"]
    asked = {"return_attention": True, "return_hidden_states": True}
    expected = model(ids, **asked)
    cache, position = model.empty_cache(3, 7), 0
    assert {part.shape for part in keras.tree.flatten(cache)} == {(3, 7, *model.config.key_value_shape)}
    assert len(cache) == 2 and model.config.key_value_shape == ((1, 6) if make is tiny_models.llama else (2, 4))
    for chunk in chunks:
        part = slice(position, position + chunk)
        place = ops.convert_to_tensor(position) if as_tensor else position
        outputs = model(ids[:, part], cache=cache, position=place, **asked)
        cache, position = outputs["cache"], position + chunk
        same(outputs["sequence_output"], expected["sequence_output"][:, part])
        same(outputs["hidden_states"], [state[:, part] for state in expected["hidden_states"]])
        same([weights[..., :5] for weights in outputs["attention"]], [w[:, :, part] for w in expected["attention"]])


@pytest.mark.parametrize("make", [tiny_models.gpt2, tiny_models.openai_gpt, tiny_models.llama])
def test_beside_padding_a_cache_goes_on_where_the_row_ended(make):
    """Rows padded on the left, on the right and not at all are read at once, and then continued token by token."""
    model = make()
    model.build()
    randomize(model)
    rows = [[3, 4, 5], [7, 2, 9, 1, 8], [6, 6, 2]]
    slots = np.array([[0, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]], "int32")
    ids = np.zeros((3, 5), "int32")
    for row, tokens in enumerate(rows):
        ids[row, slots[row, :5] > 0] = tokens
    more = np.array([[7, 8], [4, 5], [1, 2]], "int32")
    expected = [to_numpy(model(np.array([[*r, *m]]))["sequence_output"])[0] for r, m in zip(rows, more, strict=True)]
    inputs = {"token_ids": ids, "padding_mask": slots}
    outputs = model(inputs, cache=model.empty_cache(3, 8))
    for row, tokens in enumerate(rows):
        same(to_numpy(outputs["sequence_output"])[row, slots[row, :5] > 0], expected[row][: len(tokens)])
    for step in range(2):
        slots[:, 5 + step] = 1
        inputs = {"token_ids": more[:, step : step + 1], "padding_mask": slots}
        outputs = model(inputs, cache=outputs["cache"], position=5 + step)
        for row, tokens in enumerate(rows):
            same(outputs["sequence_output"][row, 0], expected[row][len(tokens) + step])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize(
    "make", [tiny_models.gpt2_causal_lm, tiny_models.openai_gpt_causal_lm, tiny_models.llama_causal_lm]
)
def test_a_language_model_scores_the_same_step_by_step(make, policy):
    model = make(dtype=policy)
    model.build()
    randomize(model)
    ids, lengths = TOKENS["token_ids"], np.array([3, 2, 3])
    inputs = {"token_ids": ids[:, :3], "padding_mask": (np.arange(3) < lengths[:, None]).astype("int32")}
    logits, state = model.prefill(inputs, 6)
    tolerance = 2e-5 if policy == "float32" else 0.1
    for step in range(3):
        if step:
            logits, state = model.decode(ops.convert_to_tensor(ids[:, 2 + step]), state)
        for row, length in enumerate(lengths):
            whole = np.concatenate([ids[row, :length], ids[row, 3 : 3 + step]])
            same(logits[row], model(whole[None])[0, -1], tolerance)
    assert int(state["position"]) == 5 and state["padding_mask"].shape == (3, 6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_translator_scores_the_same_step_by_step(norm_first, policy):
    model = tiny_models.seq2seq_lm(dtype=policy, norm_first=norm_first)
    model.build()
    randomize(model)
    inputs = {name: array.copy() for name, array in PAIRS.items()}
    inputs["encoder_padding_mask"][2, 0] = 1
    inputs["decoder_token_ids"][:, 0] = model.config.end_token_id
    source = {"token_ids": inputs["encoder_token_ids"], "padding_mask": inputs["encoder_padding_mask"]}
    expected, tolerance = to_numpy(model(inputs)), 2e-5 if policy == "float32" else 0.1
    logits, state = model.prefill(source, 6)
    same(logits, expected[:, 0], tolerance)
    for step in range(1, 4):
        logits, state = model.decode(ops.convert_to_tensor(inputs["decoder_token_ids"][:, step]), state)
        same(logits, expected[:, step], tolerance)
