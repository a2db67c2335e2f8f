"""JupyterLab's interface in three languages: read whole, without what is not translated, and split by its hash."""

import hashlib
import json

import pytest

from course_lib import assets
from course_lib.data import jupyterlab_translations

pytestmark = pytest.mark.one_backend

CHINESE = {
    "": {"language": "zh-CN"},
    "Close": ["关闭"],
    "menu\x04Close": ["关闭它"],
    "%1  Item": ["%1 项", ""],
    "Python": ["Python"],
    "Open": ["打开"],
    "Run": [""],
    "...": ["……"],
    "Only here": ["只在这里"],
}
FRENCH = {
    "": {"language": "fr-FR"},
    "Close": ["Fermer"],
    "menu\x04Close": ["Fermer"],
    "%1  Item": ["%1\n élément", "%1 éléments"],
    "Python": ["Le Python"],
    "Open": ["Open"],
    "Run": ["Exécuter"],
    "...": ["…"],
}


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """Two small packs, where the real ones would lie."""
    for asset, pack in (("jupyterlab-chinese", CHINESE), ("jupyterlab-french", FRENCH)):
        (tmp_path / asset).mkdir()
        (tmp_path / asset / "a.json").write_text(json.dumps(pack), encoding="utf-8")
    monkeypatch.setattr(
        assets, "registry", lambda: {name: {"files": {"a.json": {}}} for name in ("jupyterlab-chinese",)}
    )
    monkeypatch.setattr(assets, "fetch", lambda name: tmp_path / name)


def test_what_is_translated_into_every_language_is_read(packs):
    found = {text.place: (text.english, text.translations) for text in jupyterlab_translations.texts()}
    assert found == {
        "a.json Close": ("Close", ("关闭", "Fermer")),
        "a.json menu\x04Close": ("Close", ("关闭它", "Fermer")),
        "a.json %1  Item": ("%1 Item", ("%1 项", "%1 élément")),
    }


def test_of_texts_that_are_one_the_first_is_kept(packs):
    splits = jupyterlab_translations.jupyterlab(test=1, validation=0)
    texts = splits.test + splits.validation + splits.train
    assert [text.place for text in sorted(texts, key=lambda text: text.english)] == ["a.json %1  Item", "a.json Close"]
    assert len(splits.test) == 1 and not splits.validation
    assert [*jupyterlab_translations.jupyterlab(longest=5, test=0, validation=0).train] == [
        t for t in texts if t.english == "Close"
    ]


@pytest.mark.parametrize(
    ("english", "key"), [("Close_all Tabs…", "close all tabs"), ("%1/%2 Cells?", "1 2 cells"), ("Été", "été")]
)
def test_case_and_punctuation_make_no_other_text(english, key):
    assert jupyterlab_translations.Text(english, ("a", "b"), "").key == key


def test_the_interface():
    splits = jupyterlab_translations.jupyterlab()
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1925, 200, 400]
    keys = [text.key for part in (splits.test, splits.validation, splits.train) for text in part]
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert digests == sorted(set(digests))
    assert len(jupyterlab_translations.texts()) == 3251
    for text in splits.train:
        assert len(text.english) <= 60 and text.english not in text.translations and all(text.translations)


def test_pairs():
    texts = [
        jupyterlab_translations.Text("Close", ("关闭", "Fermer"), "a"),
        jupyterlab_translations.Text("Open", ("打开", "Ouvrir"), "b"),
    ]
    assert texts[0]["French"] == "Fermer" and texts[0]["Chinese"] == "关闭"
    assert jupyterlab_translations.pairs(texts) == (
        ["Chinese: Close", "Chinese: Open", "French: Close", "French: Open"],
        ["关闭", "打开", "Fermer", "Ouvrir"],
    )
    assert jupyterlab_translations.pairs(texts, ["French"]) == (["French: Close", "French: Open"], ["Fermer", "Ouvrir"])
    with pytest.raises(ValueError, match=r"languages of \['Chinese', 'French'\]; got \['German'\]"):
        jupyterlab_translations.pairs(texts, ["German"])
