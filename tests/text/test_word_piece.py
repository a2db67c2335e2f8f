"""WordPiece: the ids of the `tokenizers` library, on every review and on whatever Hypothesis thinks of."""

import sys
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers, processors, trainers

from course_lib import WordPieceTokenizer, assets
from course_lib.data import reviews
from course_lib.text.packing import truncate_longest_first
from course_lib.text.word_piece import SPECIAL_TOKENS, Normalizer

pytestmark = pytest.mark.one_backend

VARIANTS = [
    {"lowercase": lowercase, "strip_accents": strip_accents, "split_chinese": split_chinese}
    for lowercase in (True, False)
    for strip_accents in (None, True, False)
    for split_chinese in (True, False)
]
WORDS = [
    "dog",
    "##s",
    "##!",
    "Dog",
    "un",
    "##aff",
    "##able",
    "é",
    "e",
    "猫",
    "!",
    ".",
    "a",
    "##a",
    "##猫",
    "Ａ",
    "ß",
]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]
TEXTS = {
    "Chinese": "我的猫喜欢 BERT，你呢？狗cat狗 𠀀𫠝豈",
    "Japanese and Korean": "吾輩は猫である。ネコ 안녕하세요",
    "accents": "Café naïve Ångström ÉLÉGANCE é ǆ İstanbul ß ﬁ",
    "control characters": "a\x00b\x07c\x7f\x85d\u200be\ufefff\u00adg\ufffdh\u2028i\u2029j\u00a0k\tl\r\nm\x0bn\x1co",
    "emoji": "I ❤️ dogs 🐕‍🦺👩‍👩‍👧 🇫🇷 ☕!",
    "special tokens": "[CLS] my [MASK] is[MASK]cute[SEP] [PAD][UNK] [mask] [ MASK ] [[MASK]]",
    "punctuation": "don't!!! $5.00 (50%) a_b #tag @you ~^`|<>=+ “quoted”—dash… ¿qué? ·",
    "long words": f"{'a' * 100} {'b' * 101} {'ab' * 100} {'é' * 100} {'é' * 101} {'!' * 200} x",
    "not in Latin": "Привет мир Ελληνικά γειά שלום مرحبا हिन्दी ไทย",
    "spaces": "  two  words\n\n",
    "nothing": "",
    "only spaces": " \t\n \u3000 ",
}


@pytest.fixture(scope="module")
def ours():
    return WordPieceTokenizer.from_preset(assets.fetch("all-MiniLM-L6-v2"))


@pytest.fixture(scope="module")
def theirs():
    tokenizer = tokenizers.Tokenizer.from_file(str(assets.fetch("all-MiniLM-L6-v2") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def library(vocabulary, lowercase=True, strip_accents=None, split_chinese=True):
    """The same tokenizer, put together from the library's parts."""
    model = tokenizers.models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def library_words(text, variant):
    normalizer = library(VOCABULARY, **variant).normalizer
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalizer.normalize_str(text))]


def test_greedy_longest_match_by_hand():
    tokenizer = WordPieceTokenizer(VOCABULARY)
    assert tokenizer.tokenize("Dogs unaffable unaffables!") == "dog ##s un ##aff ##able un ##aff ##able ##s !".split()
    assert tokenizer.tokenize("unab dogx") == ["[UNK]", "[UNK]"], "a word whose rest is unknown is unknown as a whole"
    assert tokenizer.tokenize("unaa") == ["un", "##a", "##a"], "##a where no longer piece fits"
    assert tokenizer.encode("Dogs [MASK]") == [2, 5, 6, 4, 3]
    assert tokenizer.vocabulary_size == len(VOCABULARY)


def test_golden_ids(ours):
    assert ours.encode("Hello, my dog is cute") == [101, 7592, 1010, 2026, 3899, 2003, 10140, 102]
    pair = ours("Is [MASK] cute?", "My dog.")
    assert pair["token_ids"].tolist() == [[101, 2003, 103, 10140, 1029, 102, 2026, 3899, 1012, 102]]
    assert pair["segment_ids"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("name", ["rotten_tomatoes", "imdb"])
def test_every_review_has_the_ids_of_the_library(ours, theirs, name):
    texts = getattr(reviews, name)().all_texts
    for start in range(0, len(texts), 1000):
        batch = texts[start : start + 1000]
        for text, encoding in zip(batch, theirs.encode_batch_fast(batch), strict=True):
            assert ours.encode(text) == encoding.ids, text


@pytest.mark.parametrize("kind", TEXTS)
def test_every_kind_of_text_has_the_ids_of_the_library(ours, theirs, kind):
    assert ours.encode(TEXTS[kind]) == theirs.encode(TEXTS[kind]).ids
    encoding = theirs.encode(TEXTS[kind], TEXTS["Chinese"])
    pair = ours(TEXTS[kind], TEXTS["Chinese"])
    assert pair["token_ids"].tolist() == [encoding.ids] and pair["segment_ids"].tolist() == [encoding.type_ids]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_has_the_ids_of_the_library(ours, variant):
    mine, other = WordPieceTokenizer(ours.vocabulary, **variant), library(ours.vocabulary, **variant)
    for text in TEXTS.values():
        assert mine.encode(text) == other.encode(text).ids, text


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[1], VARIANTS[2], VARIANTS[6], VARIANTS[7]], ids=str)
def test_every_character_is_treated_as_in_the_library(variant):
    """Every character that was assigned in Unicode 3.2; of what came later, library and Python know different parts."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if is_old(chr(code))]
    assert len(characters) > 200_000
    words = Normalizer(**variant).words
    for start in range(0, len(characters), 20_000):
        chunk = characters[start : start + 20_000]
        text = " ".join(f"a{character}b" for character in chunk)
        if words(text) != library_words(text, variant):
            assert [hex(ord(c)) for c in chunk if words(f"a{c}b") != library_words(f"a{c}b", variant)] == []


def is_old(character):
    changed = "\u166d\u1734\u1885\u1886"  # have another category since; the library still has the old one
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs") and character not in changed


def test_the_chinese_characters_are_those_of_google(ours):
    """Where the library departs from Google's table: it takes U+2B820 to U+2B91F for letters."""
    blocks = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F)]
    for low, high in [*blocks, (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF)]:
        for code in (low, high):
            assert len(Normalizer().words(f"a{chr(code)}b")) == 3
    assert Normalizer().words("a\u3042b") == ["a\u3042b"], "Hiragana is not split"


old_text = st.text(st.characters(exclude_categories=("Cs", "Cn"), max_codepoint=0x2FFFF).filter(is_old))
pieces = st.lists(st.sampled_from([*VOCABULARY, " ", "dog", "Dogs", "unaffable", "é", "e\u0301", "[MASK", "x"])).map(
    "".join
)


@settings(max_examples=300)
@given(old_text | pieces, st.none() | old_text | pieces, st.sampled_from(VARIANTS))
def test_any_text_has_the_ids_of_the_library(text, pair, variant):
    encoding = library(VOCABULARY, **variant).encode(text, pair)
    assert WordPieceTokenizer(VOCABULARY, **variant).encode(text, pair) == encoding.ids


@settings(max_examples=300)
@given(st.integers(0, 30), st.integers(0, 30) | st.none(), st.integers(2, 64))
def test_truncation_is_that_of_the_library(first, second, max_length):
    text, pair = "dog " * first, None if second is None else "a " * second
    mine, other = WordPieceTokenizer(VOCABULARY), library(VOCABULARY)
    if pair is not None and max_length < 3:
        with pytest.raises(ValueError, match="max_length"):
            mine.encode(text, pair, max_length=max_length)
        return
    other.enable_truncation(max_length, strategy="longest_first")
    encoding = other.encode(text, pair)
    assert mine.encode(text, pair, max_length=max_length) == encoding.ids
    assert mine(text, pair, max_length=max_length)["segment_ids"].tolist() == [encoding.type_ids]


@given(st.lists(st.integers()), st.lists(st.integers()), st.integers(0, 30))
def test_truncation_keeps_beginnings_and_fills_the_room(first, second, room):
    a, b = truncate_longest_first(first, second, room)
    assert first[: len(a)] == a and second[: len(b)] == b
    assert len(a) + len(b) == min(room, len(first) + len(second))


@given(st.lists(st.sampled_from([word for word in WORDS if not word.startswith("##")])))
def test_words_of_the_vocabulary_come_back(words):
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=False)
    ids = tokenizer.encode(" ".join(words))
    assert tokenizer.decode(ids) == " ".join(words)
    assert tokenizer.decode(ids, skip_special_tokens=False) == " ".join(["[CLS]", *words, "[SEP]"])


def test_decoding(ours):
    assert ours.decode(ours.encode("Unaffable dogs")) == "unaffable dogs"
    assert ours.decode(np.array(ours.encode("a [MASK]"))) == "a"
    for ids in ([3, 30522], [-1]):
        with pytest.raises(ValueError, match=rf"ids from 0 to 30521; got \[{ids[-1]}\]"):
            ours.decode(ids)


def test_a_batch_is_padded_to_its_longest_row():
    tokenizer = WordPieceTokenizer(["x", *VOCABULARY])  # so that the padding is not zero
    batch = tokenizer(["dog", "", "dogs a [PAD]"], ["a", "a a", ""])
    assert {name: array.dtype.name for name, array in batch.items()} == dict.fromkeys(batch, "int32")
    assert batch["token_ids"].tolist() == [
        [3, 6, 4, 18, 4, 1, 1],
        [3, 4, 18, 18, 4, 1, 1],
        [3, 6, 7, 18, 1, 4, 4],
    ]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]
    single = tokenizer("dog")
    assert single["token_ids"].tolist() == [[3, 6, 4]] and not single["segment_ids"].any()


def test_texts_that_are_next_to_nothing():
    tokenizer = WordPieceTokenizer(VOCABULARY)
    for text in ("", " ", "\t \n", "\u200b"):
        assert tokenizer.encode(text) == [2, 3] and tokenizer.tokenize(text) == []
        assert tokenizer(text)["token_ids"].tolist() == [[2, 3]]
    assert tokenizer.encode("", "") == [2, 3, 3]


def test_ten_thousand_words_are_not_cut_unless_asked():
    tokenizer = WordPieceTokenizer(VOCABULARY)
    text = "dogs " * 10_000
    assert len(tokenizer.encode(text)) == 20_002
    assert tokenizer(text, max_length=512)["token_ids"].shape == (1, 512)
    assert tokenizer.encode(text, max_length=5) == [2, 5, 6, 5, 3]


@pytest.mark.parametrize("text", [None, 3, b"dog", ["dog"], float("nan")])
def test_what_is_no_text_is_named(text):
    tokenizer = WordPieceTokenizer(VOCABULARY)
    for attempt in (
        lambda: tokenizer.encode(text),
        lambda: tokenizer.tokenize(text),
        lambda: tokenizer(["dog", text]),
        lambda: tokenizer(["dog"], [text]) if text is not None else tokenizer.encode(text),
    ):
        with pytest.raises(ValueError, match=f"text of type str; got .* of type {type(text).__name__}"):
            attempt()


def test_bad_input_is_named():
    tokenizer = WordPieceTokenizer(VOCABULARY)
    with pytest.raises(ValueError, match=r"lone surrogate U\+D800"):
        tokenizer.encode("dog \ud800")
    with pytest.raises(ValueError, match="at least one text; got none"):
        tokenizer([])
    with pytest.raises(ValueError, match="as many pairs as texts, 1; got 2"):
        tokenizer(["dog"], ["a", "a"])
    with pytest.raises(ValueError, match="as many pairs as texts, 2; got 1"):
        tokenizer(["dog", "a"], "a")
    for pair, max_length in ((None, 1), ("a", 2), (None, -5)):
        with pytest.raises(ValueError, match=f"max_length that holds the special tokens; got {max_length}"):
            tokenizer.encode("dog", pair, max_length=max_length)
    with pytest.raises(ValueError, match=r"lacks \['\[MASK\]'\]"):
        WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    with pytest.raises(ValueError, match="each piece once; 1 occur again"):
        WordPieceTokenizer([*VOCABULARY, "dog"])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_saved_and_read_again(tmp_path, variant):
    tokenizer = WordPieceTokenizer(VOCABULARY, **variant)
    tokenizer.save(tmp_path)
    again = WordPieceTokenizer.from_preset(tmp_path)
    assert again.vocabulary == tokenizer.vocabulary
    assert [again.encode(text) for text in TEXTS.values()] == [tokenizer.encode(text) for text in TEXTS.values()]
    assert {name: getattr(again, name) for name in variant} == variant


# Training


def trained_library(texts, vocabulary_size, **variant):
    tokenizer = library(SPECIAL_TOKENS, **variant)
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False),
    )
    return tokenizer


def test_a_vocabulary_by_hand():
    tokenizer = WordPieceTokenizer.train(["Low low LOWER [MASK] new"], 17)
    # l·##o and ##o·##w occur 3 times, of which l·##o has the smaller ids; then lo·##w occurs 3 times
    alphabet = ["e", "l", "n", "o", "r", "w", "##e", "##o", "##r", "##w"]
    assert tokenizer.vocabulary == (*SPECIAL_TOKENS, *alphabet, "lo", "low")
    assert tokenizer.tokenize("lower towel") == ["low", "##e", "##r", "[UNK]"]


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[-1]], ids=str)
def test_a_trained_vocabulary_is_as_good_as_the_library_s(variant):
    data = reviews.rotten_tomatoes()
    ours = WordPieceTokenizer.train(data.train.texts, 4096, **variant)
    theirs = trained_library(data.train.texts, 4096, **variant)
    assert ours.vocabulary_size == theirs.get_vocab_size() == 4096
    # The library's ids of the "##" characters, and with them its ties, come in the order of a hash map.
    assert len(set(ours.vocabulary) & set(theirs.get_vocab())) > 0.98 * 4096
    lengths = [(len(ours.encode(text)), len(theirs.encode(text).ids)) for text in data.test.texts]
    mine, other = np.sum(lengths, axis=0)
    assert mine == pytest.approx(other, rel=0.02)


def test_training_asks_neither_for_an_order_nor_for_a_list():
    texts = reviews.rotten_tomatoes().test.texts
    vocabulary = WordPieceTokenizer.train(texts, 1000).vocabulary
    assert WordPieceTokenizer.train(reversed(texts), 1000).vocabulary == vocabulary
    assert WordPieceTokenizer.train(" ".join(texts), 1000).vocabulary == vocabulary


def test_what_was_trained_on_is_known(tmp_path):
    text = TEXTS["Chinese"] + TEXTS["accents"] + TEXTS["not in Latin"]
    tokenizer = WordPieceTokenizer.train([text], 10_000, lowercase=False, strip_accents=False, split_chinese=False)
    words = Normalizer(False, False, False).words(text)
    assert tokenizer.tokenize(text) == words, "with room for everything, each word is a piece"
    assert tokenizer.vocabulary_size < 10_000
    tokenizer.save(tmp_path)
    again = WordPieceTokenizer.from_preset(tmp_path)
    assert again.encode(text) == tokenizer.encode(text) and again.vocabulary == tokenizer.vocabulary


def test_what_cannot_be_trained_on_is_named():
    for texts in ([], [""], [" \n", "[MASK]"], iter(())):
        with pytest.raises(ValueError, match="texts with at least one word; got none"):
            WordPieceTokenizer.train(texts, 100)
    for text in (None, 3, b"dog"):
        with pytest.raises(ValueError, match=f"text of type str; got .* of type {type(text).__name__}"):
            WordPieceTokenizer.train(["dog", text], 100)
    with pytest.raises(ValueError, match=r"lone surrogate U\+D800"):
        WordPieceTokenizer.train(["dog \ud800"], 100)
    with pytest.raises(ValueError, match="holds the 5 special tokens and the alphabet of 5; got 9"):
        WordPieceTokenizer.train(["dog"], 9)
    assert WordPieceTokenizer.train(["dog"], 10).vocabulary == (*SPECIAL_TOKENS, "d", "g", "o", "##g", "##o")
