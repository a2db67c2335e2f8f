"""Checks for the exercises of chapter 11, fine-tuning for tokens."""

from course_lib.exercises import Exercise, Property, close

# 1. Spans: labels → a list of (type, start, end)


def _spans(answer, text):
    return [tuple(span) for span in answer(text.split())]


spans = Exercise(
    Property(
        "one word that is an entity ends before the next word",
        lambda answer: _spans(answer, "O B-person O") == [("person", 1, 2)],
        "A span is (type, start, end), and the end is exclusive: words[start:end] are its words.",
    ),
    Property(
        "an entity goes on as long as its I labels do",
        lambda answer: _spans(answer, "B-person I-person I-person O B-movie O") == [("person", 0, 3), ("movie", 4, 5)],
        "An I label of the same type as the label before it moves the end of the entity by one.",
    ),
    Property(
        "an entity may reach to the last word",
        lambda answer: _spans(answer, "O B-person I-person") == [("person", 1, 3)],
        "Behind the last word no O comes to end an entity: end it after the loop.",
    ),
    Property(
        "two entities of one type side by side are two",
        lambda answer: _spans(answer, "B-person B-person I-person") == [("person", 0, 1), ("person", 1, 3)],
        "A B label begins a new entity, whatever came before it: that is what it is for.",
    ),
    Property(
        "a type may have a hyphen",
        lambda answer: _spans(answer, "B-geo-loc I-geo-loc") == [("geo-loc", 0, 2)],
        "The type is all that follows the first hyphen: label[2:].",
    ),
    Property(
        "an I label of another type begins an entity",
        lambda answer: _spans(answer, "B-person I-movie I-movie") == [("person", 0, 1), ("movie", 1, 3)],
        "Compare the types: where they differ, the entity before ends and another begins.",
    ),
    Property(
        "an I label behind O begins one, too",
        lambda answer: _spans(answer, "I-person O I-movie O") == [("person", 0, 1), ("movie", 2, 3)],
        "Where there is nothing to go on with, read I as B, as seqeval does.",
    ),
    Property(
        "where all is O there is none",
        lambda answer: _spans(answer, "O O") == [] == _spans(answer, ""),
        "No entity: an empty list.",
    ),
)

# 2. Alignment: words, the ids of their labels, a function that cuts a word into pieces → pieces, ids, weights

_WORDS, _IDS = ["unseen", "", "is", "seldom"], [3, 2, 1, 4]  # a word of which nothing is left among them
_PIECES = ["[CLS]", "uns", "##een", "[UNK]", "is", "sel", "##dom", "[SEP]"]
_FIRST = [1, 3, 4, 5]


def _cut(word):
    return [("##" if start else "") + word[start : start + 3] for start in range(0, len(word), 3)]


def _aligned(answer, words=_WORDS, ids=_IDS):
    pieces, labels, weights = answer(list(words), list(ids), _cut)
    return list(pieces), list(labels), list(weights)


align = Exercise(
    Property(
        "pieces, ids and weights are of one length",
        lambda answer: len({len(part) for part in _aligned(answer, ["seldom"], [4])}) == 1,
        "Each piece has an id and a weight, [CLS] and [SEP] included.",
    ),
    Property(
        "the pieces stand between [CLS] and [SEP]",
        lambda answer: _aligned(answer, ["seldom"], [4])[0] == ["[CLS]", "sel", "##dom", "[SEP]"],
        "[CLS] comes first, then all pieces of all words, then [SEP].",
    ),
    Property(
        "a word's label stands at its first piece",
        lambda answer: _aligned(answer, ["seldom", "is"], [4, 1])[1][1::2] == [4, 1],
        "[CLS] moves every word by one place, and each further piece moves the words behind it by another.",
    ),
    Property(
        "the first pieces have weight 1",
        lambda answer: close(_aligned(answer, ["seldom", "is"], [4, 1])[2][1::2], [1, 1]),
        "Where there is a label to learn, the weight is 1.",
    ),
    Property(
        "[CLS] and [SEP] have weight 0",
        lambda answer: close([_aligned(answer, ["is"], [1])[2][place] for place in (0, -1)], [0, 0]),
        "Special tokens stand for no word, so that there is nothing to learn at them.",
    ),
    Property(
        "so have the further pieces of a word",
        lambda answer: close(_aligned(answer, ["seldom"], [4])[2], [0, 1, 0, 0]),
        "With a weight on each piece a word of many pieces would count many times.",
    ),
    Property(
        "a word of which nothing is left becomes [UNK], and keeps its label",
        lambda answer: (
            _aligned(answer)[0] == _PIECES
            and [_aligned(answer)[1][place] for place in _FIRST] == _IDS
            and close(_aligned(answer)[2], [float(place in _FIRST) for place in range(len(_PIECES))])
        ),
        "Without a piece the label has no place, and every later label would slip by one: put [UNK] there.",
    ),
)

# 3. F1 by entity: for each sentence the right spans, for each sentence those predicted → a number

_RIGHT = [[("person", 0, 2), ("movie", 4, 5), ("person", 6, 7)]]
_FOUND = [[("person", 0, 2), ("movie", 6, 7)]]


f1 = Exercise(
    Property(
        "what is right in all is 1",
        lambda answer: close(answer(_RIGHT, _RIGHT), 1.0),
        "Precision and recall are both 1 then, and so is 2 P R / (P + R).",
    ),
    Property(
        "one of three found, with two predictions, is 2/5",
        lambda answer: close(answer(_RIGHT, _FOUND), 2 / 5),
        "P = 1/2 and R = 1/3, so that F1 = 2 P R / (P + R) = 2/5. The type has to be right, too.",
    ),
    Property(
        "half of an entity is none",
        lambda answer: close(answer([[("person", 0, 2)]], [[("person", 0, 1)]]), 0.0),
        "An entity counts if its start and its end are both right; parts of it do not.",
    ),
    Property(
        "a span counts in its own sentence alone",
        lambda answer: close(answer([[("person", 0, 1)], []], [[], [("person", 0, 1)]]), 0.0),
        "Spans of different sentences may be equal triples: compare sentence by sentence.",
    ),
    Property(
        "every entity counts the same, in whichever sentence",
        lambda answer: close(
            answer([[("x", 0, 1)], [("x", i, i + 1) for i in range(4)]], [[("x", 0, 1)], [("x", 3, 4)]]), 4 / 7
        ),
        "Add up the counts over all sentences first; the mean of the sentences' F1 is another number.",
    ),
    Property(
        "where nothing is found, F1 is 0",
        lambda answer: close(answer(_RIGHT, [[]]), 0.0) and close(answer([[]], [[]]), 0.0),
        "Precision is 0/0 then. 2 · both / (right + predicted) is the same F1 with one division to guard.",
    ),
)
