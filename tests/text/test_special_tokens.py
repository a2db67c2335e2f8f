"""Tokens at which texts are cut first: where they are found, against the `tokenizers` library."""

import json
import pathlib

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from course_lib import BytePairTokenizer, WordPieceTokenizer
from course_lib.models.bert import Bert
from course_lib.text import AddedToken
from course_lib.text.masking import Masking
from course_lib.text.openai_gpt import OpenAIGPTTokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CLASSES = {"bert": WordPieceTokenizer, "gpt2": BytePairTokenizer, "openai-gpt": OpenAIGPTTokenizer}
CONTENTS = ("[ENT]", "the", "Éa", "a b", "[MASK]", "[ENT][ENT]", "is ")

pytestmark = pytest.mark.one_backend

tokens = st.lists(
    st.builds(AddedToken, st.sampled_from(CONTENTS), *[st.booleans()] * 5), max_size=3, unique_by=lambda t: t.content
)
texts = st.lists(st.sampled_from((*CONTENTS, " ", "a", "x", "É", ".", "\u0301", "the", "_"))).map("".join)


@pytest.mark.parametrize("name", CLASSES)
@given(tokens=tokens, text=texts)
def test_as_the_library(name, tokens, text):
    plain = CLASSES[name].from_preset(GOLDEN / name)
    known = {"lowercase": plain.lowercase} if name == "bert" else {"merges": plain.merges}
    ours = CLASSES[name](plain.vocabulary, **known, added_tokens=tokens)
    theirs = tokenizers.Tokenizer.from_file(str(GOLDEN / name / "tokenizer.json"))
    for token in tokens:
        fields = {flag: getattr(token, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
        added = tokenizers.AddedToken(token.content, **fields, special=token.special)
        (theirs.add_special_tokens if token.special else theirs.add_tokens)([added])
    assert ours.encode(text) == theirs.encode(text).ids


def test_an_added_token_gives_way_to_no_longer_one_and_is_masked_unless_it_is_special():
    plain = WordPieceTokenizer.from_preset(GOLDEN / "bert")
    added = [AddedToken("[E]", special=True), "[E][E]"]
    tokenizer = WordPieceTokenizer(plain.vocabulary, added_tokens=added)
    special, longer = plain.vocabulary_size, plain.vocabulary_size + 1
    assert tokenizer.encode("[E][E][E]")[1:-1] == [longer, special]
    regular = set(Masking.of(tokenizer, positions=2).regular_ids)
    assert longer in regular and not regular & {special, *plain.special_ids}


@pytest.mark.parametrize("content", ["", None, 3])
def test_what_is_no_token_is_refused(content):
    with pytest.raises(ValueError, match="added token to be a string that is not empty"):
        AddedToken(content)


def test_a_model_reads_added_tokens(tmp_path):
    bert = Bert.from_preset(GOLDEN / "bert")
    bert.save_to_preset(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[ENT]": bert.tokenizer.vocabulary_size}))
    assert Bert.from_preset(tmp_path).tokenizer.encode("[ENT]")[1] == bert.tokenizer.vocabulary_size
