"""A viewer of attention weights for notebooks, in the manner of BertViz (Vig, 2019, https://arxiv.org/abs/1906.05714).

It is one piece of HTML that needs nothing from elsewhere. Where scripts do not run, a still picture of one layer shows.

Shapes: L layers, N heads, T target (query) length, S source (key) length.
"""

import base64
import hashlib
import html
import json

import numpy as np

from course_lib.interpretability.attention import attention_maps

ROW, WIDTH, COLUMN = 20, 560, 190  # height of a token, width of the picture, where the lines begin and end
MOST_BYTES = 4_000_000


class AttentionView:
    """What `view_attention` returns. A notebook shows it, and `save` writes it to a file.

    Args:
        maps: a dict of `AttentionMap`, as `attention_maps` returns it.
        layer: the layer that is shown first.

    Raises:
        ValueError: if there is no such layer, or there are too many weights to show.
    """

    def __init__(self, maps, layer=0):
        self.maps = maps
        layers = len(next(iter(maps.values())).weights)
        if not -layers <= layer < layers:
            raise ValueError(f"Expected a layer from 0 to {layers - 1}; got {layer}.")
        size = sum(each.weights.size for each in maps.values())
        if size > MOST_BYTES:
            raise ValueError(f"Expected a text with at most {MOST_BYTES:,} weights to show; got {size:,}. Shorten it.")
        self.layer = layer % layers

    def save(self, path):
        """Writes a page that any browser shows.

        Args:
            path: path of the file.
        """
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"<!doctype html>\n<meta charset='utf-8'>\n<title>Attention</title>\n{self._repr_html_()}")

    def _repr_html_(self):
        data = {
            name: {
                "shape": each.weights.shape,
                "queries": each.queries,
                "keys": each.keys,
                "weights": base64.b64encode(np.round(each.weights * 255).astype("uint8").tobytes()).decode(),
            }
            for name, each in self.maps.items()
        }
        text = json.dumps({"layer": self.layer, "maps": data}).replace("<", "\\u003c")
        identifier = "attention-" + hashlib.sha256(text.encode()).hexdigest()[:12]  # the same for the same weights
        picture = base64.b64encode(self.picture().encode()).decode()
        name, first = next(iter(self.maps.items()))
        label = html.escape(f"{name} weights of layer {self.layer}, mean of the heads, from {' '.join(first.queries)}")
        return (
            f'<div class="{identifier}"><img alt="{label}" src="data:image/svg+xml;base64,{picture}"></div>\n'
            f"<script>{_SCRIPT.replace('IDENTIFIER', identifier).replace('DATA', text)}</script>"
        )

    def picture(self):
        """Draws the mean of the heads of the first layer shown, as SVG.

        Returns:
            A string.
        """
        name, first = next(iter(self.maps.items()))
        weights = first.weights[self.layer].mean(axis=0)  # (T, S)
        height = ROW * (max(weights.shape) + 2)
        parts = [f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
        parts.append(_text(8, 0, f"{name}, layer {self.layer}, mean of {first.weights.shape[1]} heads", "start"))
        for (query, key), weight in np.ndenumerate(weights):
            if weight >= 0.02:
                parts.append(
                    f'<line x1="{COLUMN}" y1="{_y(query)}" x2="{WIDTH - COLUMN}" y2="{_y(key)}" stroke="#1f77b4" '
                    f'stroke-width="2" stroke-opacity="{weight:.2f}"/>'
                )
        parts += [_text(COLUMN - 8, index + 1, token, "end") for index, token in enumerate(first.queries)]
        parts += [_text(WIDTH - COLUMN + 8, index + 1, token, "start") for index, token in enumerate(first.keys)]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
            f'font-size="13">{"".join(parts)}</svg>'
        )


def view_attention(model, text, target=None, layer=0):
    """Shows the attention weights of a text: every layer and head, with lines from each token to what it attends to.

    Args:
        model: a `Backbone` or a `Task`, with a tokenizer.
        text: a string; for a `Seq2SeqLM`, the source.
        target: the translation that a `Seq2SeqLM` reads. Defaults to the one that it generates.
        layer: the layer that is shown first, and in the still picture.

    Returns:
        An `AttentionView`, which a notebook shows if it is a cell's last value.

    Raises:
        ValueError: as `attention_maps` says; or if there is no such layer, or the text is too long to show.
    """
    return AttentionView(attention_maps(model, text, target), layer)


def _y(index):
    return ROW * (index + 1.5)


def _text(x, row, text, anchor):
    shown = html.escape(text if text.strip() else repr(text)[1:-1].replace(" ", "␣"))
    return f'<text x="{x}" y="{ROW * (row + 0.5) + 4.5}" text-anchor="{anchor}" fill="#222222">{shown}</text>'


_SCRIPT = """
(function () {
  const data = DATA, row = 20, width = 560, column = 190;
  const colours = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22",
                   "#17becf"];
  const make = (tag, attributes, parent, text) => {
    const space = ["svg", "line", "text", "g", "rect"].includes(tag) ? "http://www.w3.org/2000/svg"
                                                                    : "http://www.w3.org/1999/xhtml";
    const node = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  function start(root) {
    root.textContent = "";
    root.dataset.ready = "true";
    const names = Object.keys(data.maps), state = {name: names[0], layer: data.layer, heads: null, query: null};
    const weights = Object.fromEntries(names.map((name) => [name, bytes(data.maps[name].weights)]));
    const bar = make("div", {style: "margin:4px 0;font:13px sans-serif"}, root);
    const choose = (label, options, onchange) => {
      const box = make("select", {}, make("label", {style: "margin-right:1em"}, bar, label + " "));
      options.forEach((option) => make("option", {value: option}, box, option));
      box.addEventListener("change", () => { onchange(box.value); draw(); });
      return box;
    };
    if (names.length > 1) choose("Attention", names, (value) => { state.name = value; state.query = null; });
    const layers = data.maps[state.name].shape[0], numHeads = data.maps[state.name].shape[1];
    choose("Layer", [...Array(layers).keys()], (value) => { state.layer = Number(value); }).value = state.layer;
    make("span", {}, bar, "Heads ");
    state.heads = new Set(Array(numHeads).keys());
    const boxes = [...state.heads].map((head) => {
      const box = make("button", {type: "button", title: "head " + head + ": click to show or hide, double-click for " +
        "this head alone", style: "width:22px;height:22px;margin-right:2px;padding:0;font-size:11px;color:#fff;" +
        "border:1px solid #888;background:" + colours[head % colours.length]}, bar, head);
      box.addEventListener("click", () => {
        if (!state.heads.delete(head)) state.heads.add(head);
        draw();
      });
      box.addEventListener("dblclick", () => { state.heads = new Set([head]); draw(); });
      return box;
    });
    const every = make("button", {type: "button", style: "font-size:11px;height:22px"}, bar, "all");
    every.addEventListener("click", () => { state.heads = new Set(Array(numHeads).keys()); draw(); });
    const svg = make("svg", {width: width, style: "font:13px sans-serif"}, root);

    function draw() {
      const map = data.maps[state.name], [, N, T, S] = map.shape, shown = [...state.heads];
      boxes.forEach((box, head) => { box.style.opacity = state.heads.has(head) ? 1 : 0.25; });
      svg.textContent = "";
      svg.setAttribute("height", row * (Math.max(T, S) + 1));
      const y = (index) => row * (index + 0.5);
      for (const head of shown) for (let t = 0; t < T; t++) {
        if (state.query !== null && state.query !== t) continue;
        for (let s = 0; s < S; s++) {
          const weight = weights[state.name][((state.layer * N + head) * T + t) * S + s] / 255;
          if (weight < 0.02) continue;
          make("line", {x1: column, y1: y(t), x2: width - column, y2: y(s), "stroke-width": 2,
            stroke: colours[head % colours.length],
            "stroke-opacity": state.query === null ? weight / Math.sqrt(shown.length) : weight}, svg);
        }
      }
      const word = (text) => text.trim() ? text : text.replace(/ /g, "\\u2423").replace(/\\n/g, "\\u21b5");
      map.queries.forEach((token, t) => {
        const node = make("text", {x: column - 8, y: y(t) + 4.5, "text-anchor": "end", fill: "currentColor",
          style: "cursor:pointer" + (state.query === t ? ";font-weight:bold" : "")}, svg, word(token));
        node.addEventListener("mouseenter", () => { if (state.query !== t) { state.query = t; draw(); } });
      });
      map.keys.forEach((token, s) => {
        make("text", {x: width - column + 8, y: y(s) + 4.5, fill: "currentColor"}, svg, word(token));
      });
    }
    svg.addEventListener("mouseleave", () => { state.query = null; draw(); });
    draw();
  }
  document.querySelectorAll(".IDENTIFIER:not([data-ready])").forEach(start);
})();
"""
