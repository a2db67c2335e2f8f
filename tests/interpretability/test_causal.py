"""Interventions against arithmetic by hand: ablation, patching, the logit lens and direct attribution."""

import numpy as np
import pytest
import tiny_models
from explained_models import causal_lm, classifier, llama_lm, translator
from keras import ops

from course_lib.interpretability import (
    Question,
    ablate,
    activation_patching,
    direct_logit_attribution,
    induction_scores,
    logit_lens,
    record,
)


def block_by_hand(block, x, change=lambda heads: heads):
    """A pre-norm block of GPT-2 on (T, D), in NumPy, with a change to what its heads compute, (T, N, H)."""

    def norm(layer, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + layer.epsilon)
        return scaled * np.array(layer.gamma) + np.array(layer.beta)

    def dense(layer, x):
        return x @ np.array(layer.kernel) + np.array(layer.bias)

    attention, normed = block.attention, norm(block.attention_norm, x)
    length, heads = len(x), attention.num_heads
    q, k, v = (
        dense(layer, normed).reshape(length, heads, -1) for layer in (attention.query, attention.key, attention.value)
    )
    scores = np.einsum("tnh,snh->nts", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = change(np.einsum("nts,snh->tnh", weights, v))
    x = x + dense(attention.output_projection, mixed.reshape(length, -1))
    return x + ops.convert_to_numpy(block.feed_forward(norm(block.feed_forward_norm, x)[None].astype("float32")))[0]


def score_by_hand(lm, ids, target, against, changes=None, streams=None):
    """The difference of two logits of the next token, and the residual stream after each block."""
    x = ops.convert_to_numpy(lm.backbone.embed(np.array([ids]), np.arange(len(ids))))[0]
    x, found = (streams or {}).get(0, lambda x: x)(x), []
    for index, block in enumerate(lm.backbone.decoder.blocks):
        found.append(x)
        x = block_by_hand(block, x, (changes or {}).get(index, lambda heads: heads))
        x = (streams or {}).get(index + 1, lambda x: x)(x)
    logits = ops.convert_to_numpy(lm.score(lm.backbone.decoder.norm(x[None, -1:].astype("float32"))))[0, 0]
    return logits[target] - logits[against], [*found, x]


def test_patching_is_what_a_loop_by_hand_finds():
    lm = causal_lm()
    clean, corrupted = "a b c a", "a c c a"
    target, against = "a", "b"
    ids = [lm.tokenizer.encode(text) for text in (clean, corrupted)]
    pair = [lm.tokenizer.encode(each)[0] for each in (target, against)]
    (high, streams), (low, _) = (score_by_hand(lm, each, *pair) for each in ids)
    found = activation_patching(lm, clean, corrupted, target, against)
    np.testing.assert_allclose([found.clean, found.corrupted], [high, low], atol=1e-4)
    assert found.effects.shape == (3, len(ids[0]))
    for layer in range(3):
        for place in range(len(ids[0])):

            def patch(x, layer=layer, place=place):
                return np.where(np.arange(len(x))[:, None] == place, streams[layer], x)

            score, _ = score_by_hand(lm, ids[1], *pair, streams={layer: patch})
            np.testing.assert_allclose(found.effects[layer, place], (score - low) / (high - low), atol=1e-3)

    heads = activation_patching(lm, clean, corrupted, target, against, part="heads")
    kept = {}
    for layer in range(2):
        score_by_hand(lm, ids[0], *pair, changes={layer: lambda z, layer=layer: kept.setdefault(layer, z)})
    for layer in range(2):
        for head in range(2):

            def patch(z, layer=layer, head=head):
                return np.where(np.arange(2)[:, None] == head, kept[layer], z)

            score, _ = score_by_hand(lm, ids[1], *pair, changes={layer: patch})
            np.testing.assert_allclose(heads.effects[layer, head], (score - low) / (high - low), atol=1e-3)


def test_the_last_residual_at_the_last_place_restores_everything():
    for model in (causal_lm(), llama_lm()):
        found = activation_patching(model, "a b c a", "a c c a", "a", "b")
        np.testing.assert_allclose(found.effects[-1], np.eye(len(found.tokens))[-1], atol=1e-4)
        np.testing.assert_allclose(found.effects[0].argmax(), 1, err_msg="the embedding that differs: ' c' for ' b'")
        np.testing.assert_allclose(found.effects[0].max(), 1, atol=1e-4)


def test_patching_reaches_both_stacks_of_a_translator():
    model = translator()
    answers = [int(each) for each in Question.ask(model, ["a b c", "a c c"]).logits().argsort(axis=1)[0, -2:]]
    found = activation_patching(model, "a b c", "a c c", *answers)
    assert found.effects.shape == (3, len(found.tokens))
    np.testing.assert_allclose(found.effects[0].max(), 1, atol=1e-4)
    below = activation_patching(model, "a b c", "a c c", *answers, stack="decoder", start="a")
    np.testing.assert_allclose(below.effects[0], 0, atol=1e-4)  # both decoders read the same tokens
    np.testing.assert_allclose(below.effects[-1, -1], 1, atol=1e-4)
    heads = activation_patching(model, "a b c", "a c c", *answers, part="cross_heads")
    assert heads.effects.shape == (2, 2) and np.abs(heads.effects).max() > 0.01


def test_a_text_classifier_is_patched():
    found = activation_patching(classifier("first"), "a b c", "a d c", "bad", "good", part="feed_forward")
    assert found.effects.shape == (1, 5)


def test_ablation_by_zeros_is_what_a_loop_by_hand_finds():
    lm = causal_lm()
    question = Question.ask(lm, "a b c a", "a", "b")
    ids, pair = lm.tokenizer.encode("a b c a"), (question.targets[0], question.against[0])
    expected, _ = score_by_hand(lm, ids, *pair, changes={1: lambda z: z * np.array([1, 0])[:, None]})
    np.testing.assert_allclose(question.scores(tap=ablate(lm, [(1, 1)]))[0], expected, atol=1e-4)
    expected, _ = score_by_hand(lm, ids, *pair, changes={0: np.zeros_like})
    np.testing.assert_allclose(question.scores(tap=ablate(lm, layers=[0]))[0], expected, atol=1e-4)


def test_ablation_by_means_and_by_other_places():
    lm = causal_lm()
    other = lm.tokenizer(["a b", "c d e f"])
    values = record(lm, other, "block_1/attention/heads")["block_1/attention/heads"]
    values = values[np.array(other["padding_mask"], bool)]  # (m, N, H)
    inputs = lm.tokenizer(["a b c"])

    def heads_after(**options):
        found = {}
        chosen = ablate(lm, [(1, 0)], inputs=other, **options)

        def tap(name, x):
            x = chosen(name, x)
            found[name] = np.array(x)
            return x

        lm(inputs, tap=tap)
        return found["block_1/attention/heads"][0]

    plain = record(lm, inputs, "block_1/attention/heads")["block_1/attention/heads"][0]
    for how in ("mean", "resample"):
        found = heads_after(how=how)
        np.testing.assert_array_equal(found[:, 1], plain[:, 1])
        if how == "mean":
            np.testing.assert_allclose(found[:, 0], np.tile(values[:, 0].mean(axis=0), (len(found), 1)), atol=1e-6)
        else:
            assert all((values[:, 0] == row).all(axis=1).any() for row in found[:, 0])
            np.testing.assert_array_equal(found, heads_after(how=how))
            assert not np.array_equal(found, heads_after(how=how, seed=1))


@pytest.mark.parametrize("make", [causal_lm, llama_lm])
def test_direct_attribution_sums_to_the_difference_of_the_logits(make):
    lm = make()
    parts = direct_logit_attribution(lm, "a b c a", "a", "b")
    question = Question.ask(lm, "a b c a", "a", "b")
    np.testing.assert_allclose(sum(np.sum(part) for part in parts.values()), question.scores()[0], atol=1e-3)
    assert parts["heads"].shape == (2, lm.config.num_heads) and parts["feed_forward"].shape == (2,)
    # With the scale of the final norm held, it is what changes if the last layer's head is silenced.
    norm = lm.backbone.decoder.norm
    last = lm.backbone(question.inputs, return_hidden_states=True)["hidden_states"][-1]
    without = lm.backbone(question.inputs, return_hidden_states=True, tap=ablate(lm, [(1, 0)]))["hidden_states"][-1]
    assert not np.allclose(last, without)
    attention = record(lm, question.inputs, "block_1/attention")["block_1/attention"]
    tapped = ablate(lm, [(1, 0)])
    found = {}

    def tap(name, x):
        found[name] = np.array(x)
        return tapped(name, x)

    lm(question.inputs, tap=tap)
    change = (attention - found["block_1/attention"])[0, -1]
    x = np.array(last)[0, -1]
    centred = x - x.mean() if hasattr(norm, "beta") else x
    change = change - change.mean() if hasattr(norm, "beta") else change
    weights = np.array(norm.gamma if hasattr(norm, "beta") else norm.scale)
    scaled = change * weights / np.sqrt(np.mean(centred**2) + norm.epsilon)
    logits = np.array(lm.score(scaled[None].astype("float32")))[0]
    expected = logits[question.targets[0]] - logits[question.against[0]]
    np.testing.assert_allclose(parts["heads"][1, 0], expected, atol=1e-3)


@pytest.mark.parametrize("make", [causal_lm, llama_lm])
def test_the_logit_lens_ends_with_the_models_own_answer(make):
    lm = make()
    question = Question.ask(lm, "a b c")
    scores, tokens = logit_lens(lm, "a b c")
    assert len(scores) == len(tokens) == 3
    np.testing.assert_allclose(scores[-1], question.scores()[0], atol=1e-4)
    assert tokens[-1] == question.name_of(question.targets[0])


def test_induction_scores_are_the_weights_on_the_next_token_of_the_last_time():
    lm = causal_lm()
    scores, ids = induction_scores(lm, length=4, rows=3)
    assert scores.shape == (2, 2) and (ids[:, :4] == ids[:, 4:]).all()
    weights = np.array(lm.backbone(ids, return_attention=True)["attention"][1])
    expected = np.mean([weights[:, 1, place, place - 3] for place in range(4, 8)])
    np.testing.assert_allclose(scores[1, 1], expected, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": [(2, 0)]}, "a layer from 0 to 1; got 2"),
        ({"heads": [(0, 2)]}, "a head from 0 to 1; got 2"),
        ({"heads": [(0, -1)]}, "a head from 0 to 1; got -1"),
        ({"layers": [5]}, "a layer from 0 to 1; got 5"),
        ({}, "heads or layers to remove"),
        ({"heads": [(0, 0)], "how": "forget"}, "'zero', 'mean' or 'resample'"),
        ({"heads": [(0, 0)], "how": "mean"}, "inputs of other texts"),
        ({"heads": [(0, 0)], "stack": "encoder"}, r"a stack of \['decoder'\]"),
    ],
)
def test_what_cannot_be_ablated_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ablate(causal_lm(), **options)


def test_what_cannot_be_patched_or_read_is_refused():
    lm = causal_lm()
    with pytest.raises(ValueError, match="texts of one number of tokens"):
        activation_patching(lm, "a b", "a b x", "a", "b")
    with pytest.raises(ValueError, match="a part of"):
        activation_patching(lm, "a b", "a c", "a", "b", part="weights")
    with pytest.raises(ValueError, match="names of activations"):
        activation_patching(lm, "a b", "a c", "a", "b", part="cross_heads")  # it has no cross-attention
    with pytest.raises(ValueError, match="differs from the target"):
        activation_patching(lm, "a b", "a c", "a", "a")
    with pytest.raises(ValueError, match="names of activations, such as"):
        record(lm, lm.tokenizer(["a"]), "block_7")
    with pytest.raises(ValueError, match="a length from 1 to 4"):
        induction_scores(lm, length=5)
    for function in (logit_lens, direct_logit_attribution):
        with pytest.raises(ValueError, match="normalises before each sublayer"):
            function(tiny_models.openai_gpt_causal_lm(), "a b", "a", "b")
    with pytest.raises(ValueError, match="Expected a CausalLM"):
        induction_scores(classifier())
