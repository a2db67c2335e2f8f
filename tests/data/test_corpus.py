"""A corpus: what is read, what is held out, and what cannot be read."""

import pytest

from course_lib.data import corpus, reviews

pytestmark = pytest.mark.one_backend


def test_a_text_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(f"Document {number}.\nIts second line." for number in range(40)) + "\n \n\n")
    documents = corpus.read(path, held_out=10)
    assert len(documents.train) == 36 and len(documents.held_out) == 4
    assert set(documents.train + documents.held_out) == {f"Document {n}.\nIts second line." for n in range(40)}
    path.write_text("\n\n".join(f"Document {number}.\nIts second line." for number in reversed(range(40))))
    reversed_documents = corpus.read(path, held_out=10)
    assert set(reversed_documents.held_out) == set(documents.held_out)  # drawn by the text, wherever it stands
    assert reversed_documents.sha256 != documents.sha256


def test_a_small_file_has_two_documents_held_out(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("One.\n\nTwo.\n\nThree.\n\nFour.")
    assert len(corpus.read(path).train) == len(corpus.read(path).held_out) == 2


def test_the_hash_tells_where_texts_and_parts_end():
    parts = [(["ab"], []), (["a", "b"], []), (["a"], ["b"]), ([], ["a", "b"]), ([], ["ab"])]
    assert len({corpus.Documents(*part).sha256 for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least four documents .* has 0"),
        (b"One. Two.\n", "has 1"),
        (b"One.\n\nOne.\n\nOne.\n\nOne.", "has 1"),
        ("Où.".encode("latin-1"), "UTF-8; .* at byte 1"),
    ],
)
def test_files_that_are_no_corpus(tmp_path, content, message):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpus.read(path)


def test_the_reviews_held_out_are_in_no_other_part():
    documents, data = corpus.imdb(), reviews.imdb()
    assert len(documents.train) == 21_152 and len(documents.held_out) == 1_250
    assert not set(documents.train) & {*documents.held_out, *data.test.texts}
