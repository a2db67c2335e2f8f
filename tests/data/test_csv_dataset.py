"""Labelled texts from CSV files: read as they are written, held out by the text, or refused."""

import pytest

from course_lib.data.csv_dataset import read_csv, train_test_split

pytestmark = pytest.mark.one_backend


@pytest.fixture
def file(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "file.csv"
        path.write_bytes(content.encode(encoding))
        return path

    return write


def test_columns_are_read_by_name(file):
    rows = 'id,label,text\r\n1,good,"A ""fine"", long\nfilm"\r\n2, bad ,Ödland 狗\r\n'
    expected = ['A "fine", long\nfilm', "Ödland 狗"], ["good", "bad"]
    assert read_csv(file(rows)) == read_csv(str(file(rows))) == expected
    assert read_csv(file("\ufeff" + rows)) == expected, "with the byte order mark that Excel writes"
    assert read_csv(file("topic;message\nx;a,b\n"), text="message", label="topic", delimiter=";") == (["a,b"], ["x"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,topic\na,b\n", r"columns 'text' and 'label' .*; \['label'\] not among \['text', 'topic'\]"),
        ("text;label\na;b\n", r"\['text', 'label'\] not among \['text;label'\]"),
        ("", r"not among \[\]"),
        ("text,label\n", "at least one row"),
        ("text,label\na,b\n,b\n", "in line 3 lacks one"),
        ('text,label\n"a\nb",c\nd\n', "in line 4 lacks one"),
        ("text,label\na, \n", "in line 2 lacks one"),
    ],
)
def test_what_is_no_table_of_labelled_texts(file, content, message):
    with pytest.raises(ValueError, match=message):
        read_csv(file(content))


def test_other_encodings_and_missing_files(file, tmp_path):
    with pytest.raises(ValueError, match="text in UTF-8"):
        read_csv(file("text,label\nÖdland,b\n", "latin-1"))
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "none.csv")


def test_what_is_held_out_depends_on_the_text_alone():
    texts = [f"text {index % 40}" for index in range(50)]
    labels = [str(index) for index in range(50)]
    train, held_out = train_test_split(texts, labels, 0.25)
    assert len(set(held_out[0])) == 10 and not set(train[0]) & set(held_out[0])
    assert sorted(zip(*train, strict=True)) + sorted(zip(*held_out, strict=True)) != []
    pairs = [*zip(*train, strict=True), *zip(*held_out, strict=True)]
    assert sorted(pairs) == sorted(zip(texts, labels, strict=True))
    assert train[0] == [text for text in texts if text in set(train[0])], "the order stays"
    assert set(train_test_split(texts[::-1], labels, 0.25)[1][0]) == set(held_out[0])


def test_each_class_gives_the_same_fraction():
    labels = ["rare"] * 10 + ["common"] * 90 + ["single"]
    texts = [f"text {index}" for index in range(101)]
    train, held_out = train_test_split(texts, labels, 0.2)
    counts = [held_out[1].count(name) for name in ("rare", "common", "single")]
    assert abs(counts[0] - 2) <= 1 and abs(counts[1] - 18) <= 1 and sum(counts) == 20
    words = [text.split() for text in texts]  # labels of words are no classes
    train, held_out = train_test_split(words, [["O", "O"]] * 101, 0.2)
    assert len(held_out[0]) == 20 and all(isinstance(each, list) for each in train[0])


def test_what_cannot_be_split():
    for share in (0, 1):
        with pytest.raises(ValueError, match=f"between 0 and 1; got {share}"):
            train_test_split(["a", "b"], ["x", "y"], share)
    with pytest.raises(ValueError, match="each of 2 texts; got 1"):
        train_test_split(["a", "b"], ["x"])
    with pytest.raises(ValueError, match="both parts; got 1 different"):
        train_test_split(["a", "a"], ["x", "y"])
