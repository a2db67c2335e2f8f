"""What the README and `docs/your_own_text.md` tell users to do, done as it stands in an empty folder."""

import csv
import pathlib
import re
import shlex

import keras
import pytest

from course_lib.training.pretrain.__main__ import main

pytestmark = pytest.mark.one_backend

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
PLACES = ["the kitchen", "the hall", "my room", "the office", "our shop", "the lobby", "the cellar", "the garage"]
MESSAGES = {
    "delivery": ["The parcel has not reached {}.", "When will my order be delivered to {}?"],
    "heating": ["The radiator in {} is cold.", "It is far too hot in {}, please turn the heating down."],
}


def write_messages(folder):
    """Writes `messages.csv`, and returns its rows."""
    rows = [(text.format(place), label) for label, texts in MESSAGES.items() for text in texts for place in PLACES]
    with open(folder / "messages.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("message", "topic"), *rows])
    return rows


def test_from_a_csv_file_to_a_saved_classifier(tmp_path, monkeypatch, capsys):
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if ".csv" in block)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 11
    rows = write_messages(tmp_path)
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    variables = {}
    exec(block.replace("epochs=20", "epochs=6"), variables)
    printed = capsys.readouterr().out
    assert "delivery" in printed and "Confusion matrix" in printed
    loaded = keras.saving.load_model(tmp_path / "messages.keras")
    texts, labels = zip(*rows, strict=True)
    assert [prediction.label for prediction in loaded.predict(texts[::5], verbose=0)] == list(labels[::5])


def test_your_own_text_from_a_file_to_an_exported_model(tmp_path, monkeypatch, capsys):
    """Every block of the page, in its order; TOML blocks are written to the file that their first line names."""
    page = (README.parent / "docs" / "your_own_text.md").read_text()
    write_messages(tmp_path)
    parts = [f"{first} {text}" for texts in MESSAGES.values() for text in texts for first in ("We:", "They:")]
    places = [(a, b) for a in PLACES for b in PLACES if a != b]
    documents = [". ".join(part.format(place) for part in parts for place in pair) + "." for pair in places]
    (tmp_path / "my_text.txt").write_text("\n\n".join(documents))
    monkeypatch.chdir(tmp_path)
    variables = {}
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        if language == "toml":
            name = re.match(r"# (\S+\.toml)\n", block)[1]
            small = "steps = 2\njit_compile = false\nevaluation_steps = 1"
            (tmp_path / name).write_text(block.replace("steps = 40", small).replace("batch_size = 8", "batch_size = 2"))
        elif language == "shell":
            python, *module, recipe, corpus, text, folder, run = shlex.split(block)
            assert (python, module) == ("python", ["-m", "course_lib.training.pretrain"])
            main([recipe, corpus, text, folder, run])
        else:
            small = block.replace("epochs=10", "epochs=1").replace("max_new_tokens=40", "max_new_tokens=4")
            exec(small.replace('"all-MiniLM-L6-v2"', '"bert-mini"'), variables)
    printed = capsys.readouterr().out
    assert "Confusion matrix" in printed and "Prediction(label=" in printed
    expected = variables["classifier"](variables["classifier"].tokenizer(["Where is my parcel?"]))
    assert abs(variables["exported"].serve(variables["ids"]).numpy() - expected.numpy()).max() < 1e-4
