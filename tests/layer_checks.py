"""What every layer and every model of the course must do, as a class to inherit: one test for each promise."""

import inspect
import typing

import keras
import numpy as np
import pytest
from keras import ops

from course_lib.layers.quantization import cheap_garbage_collection

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 5, 8)).astype("float32")  # (B, T, D)
IS_TOKEN = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], "int32")  # the last row has no token at all
ATTENTION_MASK = np.tril(np.ones((5, 5), bool)) & IS_TOKEN[:, None, None, :].astype(bool)  # (B, 1, T, T)
TOKENS = {
    "token_ids": rng.integers(0, 20, (3, 5)).astype("int32"),
    "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], "int32"),
    "padding_mask": IS_TOKEN,
}
LOW_PRECISION = ["mixed_bfloat16", "float16"]


class LayerChecks:
    """Inherit it, with `make(**kwargs)`, which returns a new layer, and `inputs`, arrays by the names of its call."""

    inputs: typing.ClassVar = {"x": X}
    more_dtypes: typing.ClassVar = set()  # of outputs, beside the policy's

    def call(self, layer, inputs):
        return layer(**inputs)

    def build(self, **kwargs):
        """A layer whose weights all matter, and a functional model around it, of unknown batch size and length."""
        keras.utils.set_random_seed(0)
        layer = self.make(**kwargs)
        symbols = {name: symbol(array, name) for name, array in self.inputs.items()}
        model = keras.Model(symbols, self.call(layer, symbols))
        randomize(layer)
        return layer, model

    def test_unknown_batch_size_and_length(self):
        layer, model = self.build()
        shorter = {name: shortened(array) for name, array in self.inputs.items()}
        same(compiled(model)(shorter), compiled(lambda inputs: self.call(layer, inputs))(shorter))

    @pytest.mark.one_backend
    def test_config(self):
        layer, _ = self.build()
        parameters = inspect.signature(type(layer)).parameters.values()
        arguments = {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
        assert arguments - {"tokenizer"} <= layer.get_config().keys()  # the tokenizer is an asset of its own
        clone = type(layer).from_config(layer.get_config())
        assert clone.get_config() == layer.get_config()
        self.call(clone, self.inputs)
        clone.set_weights(layer.get_weights())
        same(self.call(clone, self.inputs), self.call(layer, self.inputs))

    def test_saved_and_loaded(self, tmp_path):
        _, model = self.build()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert len(loaded.weights) == len(model.weights)
        same(compiled(loaded)(self.inputs), compiled(model)(self.inputs), tolerance=0)

    def test_compiled_by_xla(self):
        _, model = self.build()
        model.compile(jit_compile=True)
        same(model.predict_on_batch(self.inputs), model(self.inputs))

    @pytest.mark.parametrize("policy", LOW_PRECISION)
    def test_low_precision(self, policy):
        (layer, model), (exact_layer, exact) = self.build(dtype=policy), self.build()
        layer.set_weights(exact_layer.get_weights())
        dtypes = {keras.DTypePolicy(policy).compute_dtype} | self.more_dtypes
        for low, high in pairs(compiled(model)(self.inputs), compiled(exact)(self.inputs)):
            assert keras.backend.standardize_dtype(low.dtype) in dtypes
            low, high = to_numpy(low), to_numpy(high)
            assert np.isfinite(low).all()
            assert np.sqrt(np.mean((low - high) ** 2)) < 0.03 * np.abs(high).max()

    @pytest.mark.one_backend
    @pytest.mark.parametrize("policy", LOW_PRECISION)
    def test_a_step_of_training_in_low_precision(self, policy):
        _, model = self.build(dtype=policy)
        train(model, self.inputs)
        assert all(np.isfinite(to_numpy(weight)).all() for weight in model.weights)

    def test_a_step_of_training_changes_every_weight(self):
        _, model = self.build()
        before = [to_numpy(weight) for weight in model.trainable_weights]
        train(model, self.inputs)
        for weight, old in zip(model.trainable_weights, before, strict=True):
            assert np.isfinite(to_numpy(weight)).all(), weight.path
            blind = weight.path.endswith("key/bias")  # adds the same to all scores of a query, which softmax takes away
            assert blind or not np.array_equal(to_numpy(weight), old), weight.path

    @pytest.mark.one_backend
    def test_low_rank_adaptation(self):
        layer, model = self.build()
        expected = model(self.inputs)
        for part in dense_layers(layer):
            part.enable_lora(2)
        same(model(self.inputs), expected)
        before = [(to_numpy(part._kernel), to_numpy(part.lora_kernel_b)) for part in dense_layers(layer)]
        train(model, self.inputs)
        for part, (kernel, low_rank) in zip(dense_layers(layer), before, strict=True):
            assert np.array_equal(to_numpy(part._kernel), kernel), part.path
            assert not np.array_equal(to_numpy(part.lora_kernel_b), low_rank), part.path

    @pytest.mark.one_backend
    def test_quantised_to_int8_saved_and_loaded_again(self, tmp_path):
        layer, model = self.build()
        expected = model(self.inputs)
        with cheap_garbage_collection():
            model.quantize("int8")
        for part in dense_layers(layer):
            assert keras.backend.standardize_dtype(part._kernel.dtype) == "int8"
        for low, high in pairs(model(self.inputs), expected):
            low, high = to_numpy(low), to_numpy(high)
            assert np.sqrt(np.mean((low - high) ** 2)) < 0.03 * np.abs(high).max()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        same(compiled(loaded)(self.inputs), compiled(model)(self.inputs), tolerance=0)


class MaskOf(keras.layers.Layer):
    """Returns the implicit mask that Keras attached to its input."""

    supports_masking = True

    def call(self, x, mask=None):
        return mask


class PassesMasks(LayerChecks):
    """For a layer that passes on Keras's implicit masks. Its first input is (B, T, D)."""

    def test_an_implicit_mask_is_passed_on(self):
        layer, _ = self.build()
        name, x = next(iter(self.inputs.items()))
        tokens = IS_TOKEN.astype(bool)
        outputs = self.call(layer, self.inputs | {name: keras.layers.Masking()(x * tokens[..., None])})
        assert np.array_equal(to_numpy(MaskOf()(keras.tree.flatten(outputs)[0])), tokens)


class AttendsUnderMasks(LayerChecks):
    """For a layer that attends, with the argument `attention_mask`."""

    num_heads: typing.ClassVar = 2
    keys: typing.ClassVar = "x"  # the input that is attended to, (B, S, D)
    padding_mask: typing.ClassVar = "padding_mask"  # the argument with its padding mask

    def without_masks(self):
        """A layer, its inputs but for the masks, and what else `call` takes: where it attends to both, all of x."""
        layer, _ = self.build()
        return layer, {name: array for name, array in self.inputs.items() if "mask" not in name}

    def test_attention_masks_of_every_rank(self):
        layer, vectors = self.without_masks()
        for axes in ((3, self.num_heads, 5, 5), (3, 1, 5, 5), (3, 1, 5, 1), (1, 1, 5, 5), (1, 1, 1, 5)):
            mask = np.random.default_rng(4).random(axes) < 0.6
            forms = [mask, *[mask[:, 0]] * (axes[1] == 1), *[mask[0, 0]] * (axes[:2] == (1, 1))]
            full = np.broadcast_to(mask, (3, self.num_heads, 5, 5))
            expected = self.call(layer, vectors | {"attention_mask": full})
            for form in forms:
                same(self.call(layer, vectors | {"attention_mask": form}), expected)

    @pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
    def test_padding_masks(self, dtype):
        layer, vectors = self.without_masks()
        plain, mask = self.call(layer, vectors), {self.padding_mask: IS_TOKEN.astype(dtype)}
        masked = self.call(layer, vectors | mask)
        changed = vectors | {self.keys: vectors[self.keys] + 9 * (1 - IS_TOKEN[..., None])}
        tokens = np.ones_like(IS_TOKEN) if self.keys != next(iter(vectors)) else IS_TOKEN
        for output, other in pairs(masked, self.call(layer, changed | mask)):
            if output.shape == (3, 5, 8):  # no hidden states of what is padding, and no weights
                same(to_numpy(output)[tokens > 0], to_numpy(other)[tokens > 0])
        first, unmasked = (to_numpy(keras.tree.flatten(part)[0]) for part in (masked, plain))
        assert np.abs(first - unmasked)[1, :3].max() > 1e-3 and np.abs(first - unmasked)[0].max() < 1e-5
        if self.padding_mask == "padding_mask":  # it is one more mask beside the others
            own = np.random.default_rng(4).random((5, 5)) < 0.6
            every = own & np.tril(np.ones((5, 5), bool)) & (IS_TOKEN[:, None, None, :] > 0)
            together = {"attention_mask": own, "use_causal_mask": True}
            same(self.call(layer, vectors | mask | together), self.call(layer, vectors | {"attention_mask": every}))

    @pytest.mark.parametrize(("embedded", "policy"), [(True, "float32"), (False, "mixed_bfloat16")])
    def test_implicit_masks_of_keras(self, embedded, policy):
        """What comes from `Embedding(mask_zero=True)` and from `Masking`, eagerly and in a functional model."""
        layer, vectors = self.build(dtype=policy)[0], self.without_masks()[1]
        width = vectors[self.keys].shape[-1]
        tolerance = 1e-5 if policy == "float32" else 0.15  # four steps of bfloat16 from 4 on
        maker = keras.layers.Embedding(6, width, mask_zero=True, dtype=policy) if embedded else keras.layers.Masking()
        given = IS_TOKEN * np.array([[3, 1, 2, 5, 4]], "int32")
        if embedded:
            maker.build()
            randomize(maker)
        else:
            given = vectors[self.keys] * (given[..., None] > 0)
        x = to_numpy(maker(given))
        expected = self.call(layer, vectors | {self.keys: x, self.padding_mask: IS_TOKEN})
        unmasked = self.call(layer, vectors | {self.keys: x})
        assert max(np.abs(to_numpy(a) - to_numpy(b)).max() for a, b in pairs(expected, unmasked)) > 0.05
        same(self.call(layer, vectors | {self.keys: maker(given)}), expected, tolerance)

        inputs = vectors | {self.keys: given}
        symbols = {name: symbol(array, name) for name, array in inputs.items()}
        model = keras.Model(symbols, self.call(layer, symbols | {self.keys: maker(symbols[self.keys])}))
        same(compiled(model)(inputs), expected, tolerance)

        everything = {self.padding_mask: np.ones_like(IS_TOKEN)}  # a mask that is given comes first
        same(self.call(layer, vectors | everything | {self.keys: maker(given)}), unmasked, tolerance)

    def test_masks_of_other_shapes_are_refused(self):
        layer, vectors = self.without_masks()
        cut = {name: array[:2] for name, array in vectors.items()}
        for name, shape, numbers in (
            ("attention_mask", (2, 5), "(B, S)"),  # of two rows: no (T, S)
            ("attention_mask", (5,), "(5,)"),
            ("attention_mask", (3, 5, 5), "(3, 5, 5)"),
            ("attention_mask", (2, 5, 4), "(2, 5, 4)"),
            ("attention_mask", (2, self.num_heads + 1, 5, 5), str(self.num_heads + 1)),
            ("attention_mask", (1, 2, self.num_heads, 5, 5), "(1, 2,"),
            (self.padding_mask, (3, 5), "(3, 5)"),
            (self.padding_mask, (2, 4), "(2, 4)"),
            (self.padding_mask, (2, 1, 5), "(2, 1, 5)"),
        ):
            with pytest.raises(ValueError) as error:
                self.call(layer, cut | {name: np.ones(shape, bool)})
            assert numbers in str(error.value) and "padding_mask" in str(error.value)


def config_tells(make, **changes):
    """Each change of an argument is in the config, and nothing else changes: a saved layer keeps its rate of dropout,
    which no output shows."""
    plain = make(name="layer").get_config()
    assert plain["name"] == "layer"
    for name, value in changes.items():
        config = make(name="layer", **{name: value}).get_config()
        assert {key for key in config if config[key] != plain[key]} == {name}


def symbol(array, name):
    """An input of which neither the number of rows nor the length, here 5, is known."""
    return keras.Input([None if size == 5 else size for size in array.shape[1:]], dtype=array.dtype.name, name=name)


def shortened(array):
    return array[(slice(2), *(slice(3 if size == 5 else size) for size in array.shape[1:]))]


def randomize(layer, scale=0.3):
    """Adds noise to every weight: biases of zero, scales of one and tiny kernels would hide mistakes."""
    generator = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(ops.cast(to_numpy(weight) + generator.normal(scale=scale, size=weight.shape), weight.dtype))


def dense_layers(layer):
    return [part for part in layer._flatten_layers() if isinstance(part, keras.layers.Dense)]


def compiled(function):
    """For speed, on JAX: it compiles each operation by itself, for each shape, unless it is given them all at once."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


def train(model, inputs):
    """One step towards random targets."""
    outputs = compiled(model)(inputs)
    targets = keras.tree.map_structure(lambda output: rng.normal(size=output.shape).astype("float32"), outputs)
    model.compile(keras.optimizers.SGD(0.1), keras.tree.map_structure(lambda _: "mse", targets))
    model.run_eagerly = keras.backend.backend() == "tensorflow"  # which takes longer to compile a step than to take it
    model.fit(inputs, targets, batch_size=3, verbose=0)


def to_numpy(x):
    return np.asarray(ops.convert_to_numpy(x)).astype("float32")


def pairs(outputs, expected):
    return zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True)


def same(outputs, expected, tolerance=1e-5):
    for output, other in pairs(outputs, expected):
        np.testing.assert_allclose(to_numpy(output), to_numpy(other), atol=tolerance, rtol=0)


def stack_by_formula(stack, attentions):
    """Gives a built stack random weights, and computes from `X` what it returns, in float64 but for attention.

    Args:
        stack: a `TransformerStack` with the activation "relu".
        attentions: from a block to its attentions, each with its norm and the arguments that it is called with.

    Returns:
        A dict with `sequence_output` and `hidden_states`.
    """
    randomize(stack)

    def normalized(x, norm):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.epsilon)
        return x * to_numpy(norm.gamma) + to_numpy(norm.beta)

    def dense(x, layer):
        return x @ to_numpy(layer.kernel) + to_numpy(layer.bias)

    x = X.astype("float64")
    states = [x]
    for block in stack.blocks:
        sublayers = [
            (lambda x, layer=layer, arguments=arguments: to_numpy(layer(x.astype("float32"), **arguments)), norm)
            for layer, norm, arguments in attentions(block)
        ]
        two = block.feed_forward
        sublayers.append(
            (
                lambda x, two=two: dense(np.maximum(dense(x, two.intermediate), 0), two.output_projection),
                block.feed_forward_norm,
            )
        )
        for sublayer, norm in sublayers:
            x = x + sublayer(normalized(x, norm)) if stack.norm else normalized(x + sublayer(x), norm)
        states.append(x)
    return {"sequence_output": normalized(x, stack.norm) if stack.norm else x, "hidden_states": tuple(states)}
