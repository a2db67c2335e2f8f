"""Byte-level BPE: the ids and the merges of the `tokenizers` library, and every byte back."""

import functools
import itertools
import json
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import TEXTS, is_old
from tokenizers import models, pre_tokenizers, trainers

from course_lib import BytePairTokenizer, assets
from course_lib.data import reviews
from course_lib.text.bpe import apply_merges, merge
from course_lib.text.byte_pair import BYTE_CHARACTERS, END_TOKEN, spell, split_words

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def ours():
    return BytePairTokenizer.from_preset("gpt2-vocabulary")


@pytest.fixture(scope="module")
def theirs():
    folder = assets.fetch("gpt2-vocabulary")
    return library(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))


def library(model):
    """GPT-2's tokenizer, put together from the library's parts."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([END_TOKEN])
    return tokenizer


def trained_library(texts, vocabulary_size):
    tokenizer = library(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer):
    return tuple(map(tuple, json.loads(tokenizer.to_str())["model"]["merges"]))


# Encoding


def test_golden_ids(ours):
    assert ours.encode("Hello, my dog is cute") == [15496, 11, 616, 3290, 318, 13779]
    assert ours.tokenize(" Hello\n猫") == ["ĠHello", "Ċ", "ç", "Į", "«"]
    assert (ours.vocabulary_size, ours.end_token_id, len(ours.merges)) == (50257, 50256, 50000)


def test_words_are_merged_by_rank_by_hand():
    ranks = {("a", "b"): 0, ("b", "c"): 1, ("ab", "c"): 2, ("c", "c"): 3}
    assert apply_merges("abc", ranks) == ["abc"]
    assert apply_merges("bcc", ranks) == ["bc", "c"]
    assert apply_merges("ccc", ranks) == ["cc", "c"], "the leftmost of equals"
    assert apply_merges("ababcc", ranks) == ["ab", "abc", "c"]
    assert apply_merges("x", ranks) == ["x"] and apply_merges("", ranks) == []


@pytest.mark.parametrize("name, step", [("rotten_tomatoes", 1), ("imdb", 8)])
def test_reviews_have_the_ids_of_the_library_and_come_back(ours, theirs, name, step):
    texts = getattr(reviews, name)().all_texts[::step]  # with step 1, IMDb's take a minute, and are the same
    ids = [ours.encode(text) for text in texts]
    assert ids == [encoding.ids for encoding in theirs.encode_batch_fast(texts)]
    assert [ours.decode(row) for row in ids] == texts


@pytest.mark.parametrize("kind", TEXTS)
def test_every_kind_of_text_has_the_ids_of_the_library_and_comes_back(ours, theirs, kind):
    encoding = theirs.encode(TEXTS[kind])
    assert ours.encode(TEXTS[kind]) == encoding.ids
    assert ours.tokenize(TEXTS[kind]) == encoding.tokens
    assert ours.decode(encoding.ids) == TEXTS[kind]
    assert ours.decode(encoding.ids, skip_special_tokens=True) == TEXTS[kind].replace(END_TOKEN, "")


def test_every_character_is_in_the_words_of_the_library():
    """Every character assigned in Unicode 3.2; of what came later, the two libraries may know different parts."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if is_old(chr(code))]
    assert len(characters) > 200_000
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for start in range(0, len(characters), 10_000):
        text = "".join(
            f"a{character}1{character}. {character}{character} " for character in characters[start:][:10_000]
        )
        assert list(map(spell, split_words(text))) == [word for word, _ in splitter.pre_tokenize_str(text)]


any_text = st.text(st.characters(exclude_categories=("Cs",)))
pieces = st.lists(st.sampled_from([*TEXTS.values(), " ", "\n", "'s", "the", "12", "..", "猫", "e\u0301"])).map("".join)


@settings(max_examples=300)
@given(any_text | pieces)
def test_any_text_comes_back(text):
    tokenizer = small_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(split_words(text)) == text


@settings(max_examples=300)
@given(st.text(st.characters(exclude_categories=("Cs", "Cn")).filter(is_old)) | pieces)
def test_any_text_has_the_ids_of_the_library(text):
    tokenizer = small_tokenizer()
    model = models.BPE({piece: i for i, piece in enumerate(tokenizer.vocabulary)}, list(tokenizer.merges))
    encoding = library(model).encode(text)
    assert tokenizer.encode(text) == encoding.ids


@functools.cache
def small_tokenizer():
    return BytePairTokenizer.train(TEXTS.values(), 400)


def merge_loop(symbols, ranks):
    """GPT-2's own loop."""
    symbols = list(symbols)
    while True:
        ranked = [pair for pair in itertools.pairwise(symbols) if pair in ranks]
        if not ranked:
            return symbols
        best = min(ranked, key=ranks.get)
        symbols = merge(symbols, best, "".join(best))


@given(st.lists(st.text("abc \n", max_size=20), min_size=1).filter("".join), st.text("abc", max_size=30))
def test_the_queue_merges_as_the_loop_does(corpus, word):
    merges = BytePairTokenizer.train(corpus, 300).merges
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    assert apply_merges(word, ranks) == merge_loop(word, ranks)


def test_a_word_of_a_million_bytes(ours, theirs):
    rng = np.random.default_rng(0)
    text = "".join(map(chr, rng.choice([*range(0x4E00, 0x9FA5), *range(97, 123)], 350_000)))
    assert len(split_words(text)) == 1 and len(text.encode()) > 1_000_000
    assert ours.encode(text) == theirs.encode(text).ids


# Decoding


def test_bytes_and_their_characters():
    assert len(BYTE_CHARACTERS) == len(set(BYTE_CHARACTERS)) == 256
    assert set(BYTE_CHARACTERS) == set(pre_tokenizers.ByteLevel.alphabet())
    assert BYTE_CHARACTERS.isprintable() and " " not in BYTE_CHARACTERS
    assert spell("a b\n") == "aĠbĊ" and spell("猫") == "çĮ«"


def test_decoding(ours):
    assert ours.decode(np.array(ours.encode("a b"))) == "a b"
    assert ours.decode([]) == ""
    assert ours.decode(ours.encode("猫")[:2] + ours.encode("a")) == "\ufffda", "a character cut in two"
    for ids in ([3, 50257], [-1]):
        with pytest.raises(ValueError, match=rf"ids from 0 to 50256; got \[{ids[-1]}\]"):
            ours.decode(ids)


# Batches


def test_a_batch_is_padded_to_its_longest_row(ours):
    batch = ours(["Hello, my dog", "", END_TOKEN])
    assert {name: array.dtype.name for name, array in batch.items()} == dict.fromkeys(batch, "int32")
    end = ours.end_token_id
    assert batch["token_ids"].tolist() == [[15496, 11, 616, 3290], [end] * 4, [end] * 4]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert ours("Hello")["token_ids"].tolist() == [[15496]]
    assert ours("")["token_ids"].shape == (1, 0)
    cut = ours(iter(["Hello, my dog", "Hello"]), max_length=2)
    assert cut["token_ids"].tolist() == [[15496, 11], [15496, end]] and cut["padding_mask"].tolist() == [[1, 1], [1, 0]]


# Training


@pytest.mark.parametrize("name, step, size", [("rotten_tomatoes", 1, 8192), ("imdb", 8, 4096)])
def test_trained_merges_are_those_of_the_library(name, step, size):
    texts = getattr(reviews, name)().train.texts[::step]
    tokenizer = BytePairTokenizer.train(texts, size)
    assert tokenizer.merges == merges_of(trained_library(texts, size))
    assert tokenizer.vocabulary_size == size and tokenizer.vocabulary[-1] == END_TOKEN
    joined = ["".join(pair) for pair in tokenizer.merges]
    assert tokenizer.vocabulary == (*sorted(BYTE_CHARACTERS), *joined, END_TOKEN)


def test_the_order_of_ids_is_that_of_gpt_2(ours):
    assert ours.vocabulary == (*sorted(BYTE_CHARACTERS), *("".join(pair) for pair in ours.merges), END_TOKEN)


def test_training_asks_neither_for_an_order_nor_for_a_list():
    texts = reviews.rotten_tomatoes().test.texts
    merges = BytePairTokenizer.train(texts, 600).merges
    assert BytePairTokenizer.train(reversed(texts), 600).merges == merges
    assert BytePairTokenizer.train(END_TOKEN.join(texts), 600).merges == merges


def test_training_ends_where_every_word_is_a_piece():
    tokenizer = BytePairTokenizer.train("low low lower")
    # l·o and o·w occur 3 times, of which l·o has the smaller ids; at last e·r and Ġlow·e occur once
    assert tokenizer.merges == (("l", "o"), ("lo", "w"), ("Ġ", "low"), ("e", "r"), ("Ġlow", "er"))
    assert tokenizer.vocabulary_size == 256 + 5 + 1


# Files


def test_saved_and_read_again(tmp_path, ours):
    tokenizer = small_tokenizer()
    tokenizer.save(tmp_path)
    again = BytePairTokenizer.from_preset(tmp_path)
    assert (again.vocabulary, again.merges) == (tokenizer.vocabulary, tokenizer.merges)
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    other = library(models.BPE.from_file(*files))
    for text in TEXTS.values():
        assert again.encode(text) == tokenizer.encode(text) == other.encode(text).ids
    assert ours.vocabulary_size == 50257, "the folder has the say, not what was read before"


def test_what_the_library_saves_is_read(tmp_path):
    texts = [text for text in TEXTS.values() if END_TOKEN not in text]  # which the library's trainer reads as text
    other = trained_library(texts, 400)
    other.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BytePairTokenizer.from_preset(tmp_path)
    assert tokenizer.merges == BytePairTokenizer.train(texts, 400).merges == merges_of(other)
    for text in TEXTS.values():
        assert tokenizer.encode(text) == other.encode(text).ids
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    saved["model"]["merges"] = [" ".join(merge) for merge in saved["model"]["merges"]]  # as older versions wrote them
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    assert BytePairTokenizer.from_preset(tmp_path).merges == tokenizer.merges
    tokenizer.save(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_files_in_another_order_and_without_a_first_line_are_read(tmp_path):
    tokenizer = BytePairTokenizer([*BYTE_CHARACTERS, "##", "a#", END_TOKEN], [("#", "#"), ("a", "#")])
    tokenizer.save(tmp_path)
    (tmp_path / "merges.txt").write_text("# #\na #\n")
    ids = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(dict(sorted(ids.items(), reverse=True))))
    again = BytePairTokenizer.from_preset(tmp_path)
    assert (again.vocabulary, again.merges) == (tokenizer.vocabulary, tokenizer.merges)


def test_another_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no-such-thing"):
        BytePairTokenizer.from_preset("no-such-thing")
    with pytest.raises(ValueError, match="Expected a file .*tokenizer.json; there is none"):
        BytePairTokenizer.from_preset(tmp_path)
    other = trained_library(["low"], 300)
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="GPT-2's byte-level BPE in .*tokenizer.json.*'add_prefix_space': True"):
        BytePairTokenizer.from_preset(tmp_path)
    small_tokenizer().save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    with pytest.raises(ValueError, match="eos_token to be '<|endoftext|>'"):
        BytePairTokenizer.from_preset(tmp_path)
    config.unlink()
    (tmp_path / "merges.txt").write_text("# #\na b c\n")
    with pytest.raises(ValueError, match="two pieces a line in .*merges.txt; got 'a b c'"):
        BytePairTokenizer.from_preset(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 2}')
    (tmp_path / "merges.txt").write_text("# #\n")
    with pytest.raises(ValueError, match="ids from 0 to 1, each once, in .*vocab.json"):
        BytePairTokenizer.from_preset(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ValueError, match="Expected a file .*merges.txt; there is none"):
        BytePairTokenizer.from_preset(tmp_path)


# Bad input


@pytest.mark.parametrize("text", [None, 3, b"dog", ["dog"], float("nan")])
def test_what_is_no_text_is_named(ours, text):
    for attempt in (
        lambda: ours.encode(text),
        lambda: ours.tokenize(text),
        lambda: ours(["dog", text]),
        lambda: BytePairTokenizer.train(["dog", text]),
    ):
        with pytest.raises(ValueError, match=f"text of type str; got .* of type {type(text).__name__}"):
            attempt()


def test_bad_input_is_named(ours):
    for attempt in (ours.encode, ours, BytePairTokenizer.train):
        with pytest.raises(ValueError, match=r"lone surrogate U\+D83D"):
            attempt("dog \ud83d")
    with pytest.raises(ValueError, match="at least one text; got none"):
        ours([])
    for max_length in (0, -1):
        with pytest.raises(ValueError, match=f"max_length of 1 or more; got {max_length}"):
            ours(["dog"], max_length=max_length)
    for texts in ([], [""], ["", END_TOKEN], iter(())):
        with pytest.raises(ValueError, match="texts with at least one word; got none"):
            BytePairTokenizer.train(texts)
    with pytest.raises(ValueError, match="holds <|endoftext|> and the alphabet of 256 bytes; got 256"):
        BytePairTokenizer.train(["dog"], 256)
    assert BytePairTokenizer.train(["dog"], 257).merges == ()


def test_bad_vocabularies_are_named():
    pieces = [*BYTE_CHARACTERS, "ab", END_TOKEN]
    assert BytePairTokenizer(pieces, [["a", "b"]]).encode("abb") == [pieces.index("ab"), pieces.index("b")]
    with pytest.raises(ValueError, match=r"all 256 bytes; it lacks \['<|endoftext|>'\]"):
        BytePairTokenizer(pieces[:-1], [])
    with pytest.raises(ValueError, match="all 256 bytes; it lacks"):
        BytePairTokenizer(pieces[1:], [])
    with pytest.raises(ValueError, match="each piece once; 1 occur again"):
        BytePairTokenizer([*pieces, "ab"], [])
    with pytest.raises(ValueError, match=r"characters that stand for bytes; got \['▁'\]"):
        BytePairTokenizer([*pieces, "▁the"], [])
    for pair in (("b", "a"), ("ab", "ba")):
        with pytest.raises(ValueError, match=f"merges of pieces into a piece; got '{pair[0]}' and '{pair[1]}'"):
            BytePairTokenizer(pieces, [pair])
