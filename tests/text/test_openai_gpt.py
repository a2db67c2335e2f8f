"""BPE on characters: the ids of the `tokenizers` library, put together as `transformers` does for the first GPT."""

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import TEXTS, is_old
from tokenizers import models, normalizers, pre_tokenizers, trainers

from course_lib.data import reviews
from course_lib.text.openai_gpt import UNKNOWN_TOKEN, OpenAIGPTTokenizer

pytestmark = pytest.mark.one_backend

MORE_TEXTS = TEXTS | {
    "capitals and accents": "ÉCOLE Straße İstanbul ǅ Ångström ﬁn Σίσυφος",
    "the unknown token": "a<unk>b <unk> c<unk><unk> <unk <UNK> < unk > <unk></w>",
    "the mark": "</w> a</w>b dog</w> </w></w>",
}


def library(model):
    """The first GPT's tokenizer, put together from the library's parts."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.BPEDecoder(suffix="</w>")
    tokenizer.add_special_tokens([UNKNOWN_TOKEN])
    return tokenizer


@pytest.fixture(scope="module")
def theirs():
    """Trained by the library on sentences, with characters that no piece has in the other texts."""
    tokenizer = library(models.BPE(unk_token=UNKNOWN_TOKEN, end_of_word_suffix="</w>"))
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=[UNKNOWN_TOKEN], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator([*reviews.rotten_tomatoes().train.texts[:2000], "<unk> </w> e\u0301 狗"], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs.save(str(folder / "tokenizer.json"))
    return OpenAIGPTTokenizer.from_preset(folder)


def small():
    pieces = ["<unk>", "d", "o", "g", "s</w>", "g</w>", "do", "dog</w>"]
    return OpenAIGPTTokenizer(pieces, [("d", "o"), ("do", "g</w>")])


def test_by_hand():
    tokenizer = small()
    assert tokenizer.tokenize("Dog DÖGS dox") == ["dog</w>", "do", "g", "s</w>", "do", "<unk>"]
    assert tokenizer.encode("dog<unk>dogs xx") == [7, 0, 6, 3, 4, 0, 0]
    assert tokenizer.decode([7, 6, 3, 4]) == "dog dogs"
    assert tokenizer.decode([6, 3]) == "dog" and tokenizer.decode(np.array([7])) == "dog" and tokenizer.decode([]) == ""
    assert tokenizer.decode([7, 0, 7]) == "dog <unk>dog" and tokenizer.decode([7, 0, 7], True) == "dog dog"
    assert (tokenizer.vocabulary_size, tokenizer.unknown_token_id, tokenizer.end_token_id) == (8, 0, None)


@pytest.mark.parametrize("kind", MORE_TEXTS)
def test_every_kind_of_text_has_the_ids_of_the_library(ours, theirs, kind):
    encoding = theirs.encode(MORE_TEXTS[kind])
    assert ours.encode(MORE_TEXTS[kind]) == encoding.ids
    assert ours.tokenize(MORE_TEXTS[kind]) == encoding.tokens
    for skip in (False, True):
        assert ours.decode(encoding.ids, skip) == theirs.decode(encoding.ids, skip_special_tokens=skip)


def test_reviews_have_the_ids_of_the_library(ours, theirs):
    texts = reviews.rotten_tomatoes().test.texts + reviews.imdb().test.texts[:100]
    ids = [ours.encode(text) for text in texts]
    assert ids == [encoding.ids for encoding in theirs.encode_batch_fast(texts)]
    assert [ours.decode(row) for row in ids] == theirs.decode_batch(ids, skip_special_tokens=False)
    assert np.mean([len(row) for row in ids]) < np.mean([len(text) for text in texts]) / 3, (
        "most words are of few pieces"
    )


pieces = st.lists(st.sampled_from([*MORE_TEXTS.values(), " ", "<unk>", "</w>", "film", "É", "e\u0301"])).map("".join)


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=("Cs", "Cn")).filter(is_old)) | pieces)
def test_any_text_has_the_ids_of_the_library(ours, theirs, text):
    encoding = theirs.encode(text)
    assert ours.encode(text) == encoding.ids
    assert ours.decode(encoding.ids) == theirs.decode(encoding.ids, skip_special_tokens=False)


def test_a_batch_is_padded_to_its_longest_row():
    batch = small()(["dog dogs", "", "dog"])
    assert {name: array.dtype.name for name, array in batch.items()} == dict.fromkeys(batch, "int32")
    assert batch["token_ids"].tolist() == [[7, 6, 3, 4], [0, 0, 0, 0], [7, 0, 0, 0]]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert small()("dogs dogs", max_length=2)["token_ids"].tolist() == [[6, 3]]


def test_saved_and_read_again(ours, tmp_path):
    ours.save(tmp_path)
    again = OpenAIGPTTokenizer.from_preset(tmp_path)
    assert (again.vocabulary, again.merges) == (ours.vocabulary, ours.merges)
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    other = library(models.BPE.from_file(*files, unk_token=UNKNOWN_TOKEN, end_of_word_suffix="</w>"))
    for text in MORE_TEXTS.values():
        assert again.encode(text) == other.encode(text).ids


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model", {"end_of_word_suffix": None}, r"BPE on characters in .*'end_of_word_suffix': None"),
        ("model", {"fuse_unk": True}, r"'fuse_unk': True"),
        ("model", {"unk_token": None}, r"'unk_token': None"),
        ("normalizer", {"lowercase": False}, r"'lowercase': False"),
        ("pre_tokenizer", {"type": "Whitespace"}, r"'pre_tokenizer': 'Whitespace'"),
    ],
)
def test_another_tokenizer_is_refused(theirs, tmp_path, part, change, message):
    changed = json.loads(theirs.to_str())
    changed[part] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=message):
        OpenAIGPTTokenizer.from_preset(tmp_path)


def test_settings_that_cannot_be_honoured_are_refused(tmp_path):
    small().save(tmp_path)
    for setting, message in (
        ({"unk_token": "[UNK]"}, r"unk_token to be '<unk>' in .*; got '\[UNK\]'"),
        ({"eos_token": {"content": "</s>"}}, r"eos_token to be None in .*'</s>'"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(setting))
        with pytest.raises(ValueError, match=message):
            OpenAIGPTTokenizer.from_preset(tmp_path)


@pytest.mark.parametrize("text", [None, 3, b"dog", ["dog"], float("nan")])
def test_what_is_no_text_is_named(text):
    for attempt in (lambda: small().encode(text), lambda: small().tokenize(text), lambda: small()(["dog", text])):
        with pytest.raises(ValueError, match=f"text of type str; got .* of type {type(text).__name__}"):
            attempt()


def test_bad_input_is_named():
    for attempt in (small().encode, small()):
        with pytest.raises(ValueError, match=r"lone surrogate U\+D83D"):
            attempt("dog \ud83d")
    for ids in ([3, 8], [-1]):
        with pytest.raises(ValueError, match=rf"ids from 0 to 7; got \[{ids[-1]}\]"):
            small().decode(ids)
    with pytest.raises(ValueError, match="at least one text; got none"):
        small()([])
    with pytest.raises(ValueError, match="max_length of 1 or more; got 0"):
        small()(["dog"], max_length=0)
    with pytest.raises(ValueError, match="vocabulary with <unk>"):
        OpenAIGPTTokenizer(["a"], [])
    with pytest.raises(ValueError, match="each piece once; 1 occur again"):
        OpenAIGPTTokenizer(["<unk>", "a", "a"], [])
    with pytest.raises(ValueError, match="merges of pieces into a piece; got 'a' and 'b'"):
        OpenAIGPTTokenizer(["<unk>", "a", "b"], [("a", "b")])
