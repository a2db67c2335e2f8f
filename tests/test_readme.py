"""The README's ten lines from a CSV file to a saved classifier, run as they stand."""

import csv
import pathlib
import re

import keras
import pytest

pytestmark = pytest.mark.one_backend

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
PLACES = ["the kitchen", "the hall", "my room", "the office", "our shop", "the lobby", "the cellar", "the garage"]
MESSAGES = {
    "delivery": ["The parcel has not reached {}.", "When will my order be delivered to {}?"],
    "heating": ["The radiator in {} is cold.", "It is far too hot in {}, please turn the heating down."],
}


def test_from_a_csv_file_to_a_saved_classifier(tmp_path, monkeypatch, capsys):
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if ".csv" in block)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10
    with open(tmp_path / "messages.csv", "w", newline="") as stream:
        rows = [(text.format(place), label) for label, texts in MESSAGES.items() for text in texts for place in PLACES]
        csv.writer(stream).writerows([("message", "topic"), *rows])
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    variables = {}
    exec(block, variables)
    assert "delivery" in capsys.readouterr().out
    loaded = keras.saving.load_model(tmp_path / "messages.keras")
    texts, labels = zip(*rows, strict=True)
    assert [prediction.label for prediction in loaded.predict(texts[::5], verbose=0)] == list(labels[::5])
