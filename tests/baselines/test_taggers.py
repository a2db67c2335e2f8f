"""Baselines that label words: a dictionary of what was seen, and a conditional random field on features of words."""

import pytest

from course_lib.baselines.taggers import CRFTagger, DictionaryTagger, shape, word_features

pytestmark = pytest.mark.one_backend

WORDS = [("New", "York"), ("New", "York", "Times"), ("May", "sings"), ("I", "may"), ("it", "may")]
LABELS = [
    ("B-place", "I-place"),
    ("B-paper", "I-paper", "I-paper"),
    ("B-person", "O"),
    ("O", "O"),
    ("O", "O"),
]


def test_the_dictionary_takes_the_longest_entry_from_left_to_right():
    tagger = DictionaryTagger(WORDS, LABELS)
    assert tagger([("the", "new", "YORK", "times", "of", "New", "York", "New")]) == [
        ["O", "B-paper", "I-paper", "I-paper", "O", "B-place", "I-place", "O"]
    ]
    assert tagger([()]) == [[]]


@pytest.mark.parametrize(
    ("lowercase", "fraction", "found"),
    [(True, 0.3, "B-person"), (True, 0.4, "O"), (False, 1.0, "O"), (False, 0.0, "O")],
)
def test_what_is_rarely_an_entity_is_left_out(lowercase, fraction, found):
    assert DictionaryTagger(WORDS, LABELS, lowercase, fraction)([("may",)]) == [[found]]


def test_capitals_count_where_they_are_regarded():
    tagger = DictionaryTagger(WORDS, LABELS, lowercase=False, fraction=1.0)
    assert tagger([("May", "may", "new", "york")]) == [["B-person", "O", "O", "O"]]


def test_the_most_frequent_type_of_an_entry_counts():
    labels = [("B-place", "I-place"), ("B-team", "I-team"), ("B-team", "I-team")]
    assert DictionaryTagger([("New", "York")] * 3, labels)([("New", "York")]) == [["B-team", "I-team"]]


def test_no_entity_no_entry():
    assert DictionaryTagger([("a",)], [("O",)])([("a", "b")]) == [["O", "O"]]


def test_features_by_hand():
    found = word_features(["See", "McDonald", "2022"], 1)
    assert {"word 0: mcdonald", "word -1: see", "word 2: ", "shape 0: XxXx", "shape 1: 0", "begins: mcdo"} <= set(found)
    assert {"ends: ld", "always"} <= set(found) and len(found) == 1 + 2 * 5 + 2 * 4
    assert not [name for name in word_features(["See", "McDonald"], 1, lowercase=True) if "X" in name or "M" in name]
    assert shape("McDonald's") == "XxXx'x" and shape("2022") == "0" and shape("") == ""


@pytest.mark.parametrize("lowercase", [False, True])
def test_a_random_field_learns_from_capitals_if_it_is_shown_them(lowercase):
    names = ["Ann", "Bob", "Cleo", "Dora", "Egon", "Fred"]
    words = [("so", name, "sang") for name in names] + [("so", name.lower(), "sang") for name in names]
    labels = [("O", "B-x", "O")] * 6 + [("O", "O", "O")] * 6
    tagger = CRFTagger(words, labels, lowercase, l1=0.1, l2=0.01)
    found = tagger([("so", "Gina", "sang"), ("so", "gina", "sang")])
    assert (found == [["O", "B-x", "O"], ["O", "O", "O"]]) == (not lowercase)
    assert (found[0] == found[1]) == lowercase


def test_a_random_field_gives_valid_labels():
    words, labels = [("a", "b", "c")] * 5, [("B-x", "I-x", "I-x")] * 5
    assert CRFTagger(words, labels)([("b", "c"), ()]) == [["B-x", "I-x"], []]


@pytest.mark.parametrize("tagger", [DictionaryTagger, CRFTagger])
def test_a_tagger_needs_a_label_for_each_word(tagger):
    for names in (("O",), ("O", "B-x", "I-x")):
        with pytest.raises(ValueError, match=f"each word; sentence 1 has 2 words and {len(names)} labels"):
            tagger([("a",), ("a", "b")], [("O",), names])
    with pytest.raises(ValueError, match="labels for each of 2 sentences; got 1"):
        tagger([("a",), ("a", "b")], [("O",)])
