"""Attention maps and rollout against loops written by hand, and the viewer's page."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest
from explained_models import causal_lm, classifier, translator

from course_lib import causal_mask
from course_lib.interpretability import Question, attention_maps, attention_rollout, gradient_rollout, view_attention
from course_lib.interpretability.attention import attention_and_gradients
from course_lib.interpretability.viewer import AttentionView


def random_attention(seed=0, layers=3, heads=2, length=4):
    weights = np.random.default_rng(seed).uniform(size=(layers, heads, length, length))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_maps_have_a_row_for_each_token():
    (found,) = attention_maps(classifier(num_layers=2), "an b").values()
    assert found.weights.shape == (2, 2, 5, 5) and found.queries == found.keys == ("[CLS]", "a", "##n", "b", "[SEP]")
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, atol=1e-5)
    (found,) = attention_maps(causal_lm(), "a b").values()
    assert not found.weights[..., ~np.array(causal_mask(len(found.queries)))].any()


def test_a_translator_has_three_kinds_of_attention():
    model = translator()
    found = attention_maps(model, "a b c", "d e")
    source, target = len(found["encoder"].keys), len(found["decoder"].keys)
    assert "".join(found["encoder"].keys) == "a b c" and target > 1
    shapes = {name: each.weights.shape[2:] for name, each in found.items()}
    assert shapes == {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}
    assert len(attention_maps(model, "a b c")) == 3  # of what it writes itself


def test_rollout_is_the_product_over_layers():
    weights = random_attention()
    expected = np.zeros((4, 4))
    for target in range(4):  # each path from a token after the last layer to a token of the input
        for second in range(4):
            for first in range(4):
                for source in range(4):
                    step = 1.0
                    for layer, (to, origin) in enumerate([(first, source), (second, first), (target, second)]):
                        step *= 0.5 * weights[layer, :, to, origin].mean() + 0.5 * (to == origin)
                    expected[target, source] += step
    np.testing.assert_allclose(attention_rollout(weights), expected)
    np.testing.assert_allclose(attention_rollout(weights, residual=1), np.eye(4))


def test_gradient_rollout_adds_what_counts_for_the_score():
    weights, slopes = random_attention(), np.random.default_rng(1).normal(size=(3, 2, 4, 4))
    expected = np.eye(4)
    for layer in range(3):
        mean = sum(np.maximum(weights[layer, head] * slopes[layer, head], 0) for head in range(2)) / 2
        expected = expected + mean @ expected
    np.testing.assert_allclose(gradient_rollout(weights, slopes), expected)


def test_gradients_of_attention_are_those_of_finite_differences():
    model = classifier(num_layers=2)
    question = Question.ask(model, ["a b c d", "c"], "bad")
    weights, slopes = attention_and_gradients(question, 1)  # the shorter text, without its padding
    assert weights.shape == slopes.shape == (2, 2, 3, 3)
    change = np.zeros((1, 2, 3, 3), "float32")
    change[0, 1, 2, 0] = step = 1e-2
    alone = Question.ask(model, "c", "bad")

    def tap(sign):
        def move(name, x):  # padded to eight tokens
            if name != "block_0/attention/weights":
                return x
            return x + sign * np.pad(change, [(0, 0), (0, 0), (0, x.shape[2] - 3), (0, x.shape[3] - 3)])

        return move

    slope = (alone.scores(tap=tap(1)) - alone.scores(tap=tap(-1)))[0] / (2 * step)
    np.testing.assert_allclose(slopes[0, 1, 2, 0], slope, atol=1e-3)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(L, N, T, T\); got \(2, 4, 4\)"):
        attention_rollout(random_attention()[:, 0][:2])
    with pytest.raises(ValueError, match="from 0 to 1; got 2"):
        attention_rollout(random_attention(), residual=2)
    with pytest.raises(ValueError, match="weights and gradients of one shape"):
        gradient_rollout(random_attention(), random_attention(length=5))
    with pytest.raises(ValueError, match="one text, a string; got a list"):
        attention_maps(classifier(), ["a"])
    with pytest.raises(ValueError, match="at most 8 tokens"):
        attention_maps(classifier(), "a b c d e f g h")


class Page(html.parser.HTMLParser):
    """Collects the tags of a page, and the text of its script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.script, self.inside = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        self.script += data if self.inside else ""


def test_the_viewer_is_one_page_with_everything_in_it(tmp_path):
    model = classifier(num_layers=2, max_sequence_length=32)
    view = view_attention(model, "an </script> b")
    page = Page(view._repr_html_())
    assert [tag for tag, _ in page.tags] == ["div", "img", "script"]
    (_, box), (_, image), (_, script) = page.tags
    assert not script, "nothing is fetched"
    assert set(re.findall(r"https?://[^\"' ]+", page.script)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
    }
    data = json.loads(re.search(r"const data = (\{.*\}), row", page.script)[1])
    (maps,) = data["maps"].values()
    (expected,) = view.maps.values()
    found = np.frombuffer(base64.b64decode(maps["weights"]), "uint8").reshape(maps["shape"]) / 255
    np.testing.assert_allclose(found, expected.weights, atol=1 / 255)
    still = base64.b64decode(image["src"].split(",")[1]).decode()
    assert still.startswith("<svg") and "##n" in still and image["alt"]
    assert box["class"] == Page(view_attention(model, "an </script> b")._repr_html_()).tags[0][1]["class"]
    assert box["class"] != Page(view_attention(model, "an b")._repr_html_()).tags[0][1]["class"]
    view.save(tmp_path / "page.html")
    assert view._repr_html_() in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_viewer_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="a layer from 0 to 0; got 1"):
        view_attention(classifier(), "a", layer=1)
    (found,) = attention_maps(classifier(), "a").values()
    with pytest.raises(ValueError, match="Shorten it"):
        AttentionView({"attention": type(found)(np.zeros((10, 10, 300, 300)), (), ())})
