"""Byte-level BPE with other splits: the ids of the `tokenizers` library; and conversations, written by a template."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import TEXTS
from tokenizers import models, pre_tokenizers

from course_lib import BytePairTokenizer, ChatTokenizer
from course_lib.data import reviews
from course_lib.text.byte_pair import BYTE_CHARACTERS
from course_lib.text.chat_tokenizer import PATTERNS

pytestmark = pytest.mark.one_backend

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}\n"
    "{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)
MORE_TEXTS = TEXTS | {
    "special tokens": "<|im_start|>user 12<|im_end|> <|im_end|>3",
    "digits and space": " 1  2\n\n3 \t4 a1 ",
}


@pytest.fixture(scope="module")
def trained():
    """Vocabulary and merges of a byte-level BPE that never saw some bytes."""
    tokenizer = BytePairTokenizer.train([*reviews.rotten_tomatoes().train.texts[:1000], "狗 é ½ ²"], 600)
    used = set("".join(piece for piece in tokenizer.vocabulary[256:])) | set(BYTE_CHARACTERS[32:127])
    return [*SPECIAL, *(piece for piece in tokenizer.vocabulary[:-1] if set(piece) <= used)], tokenizer.merges


@pytest.fixture(scope="module", params=PATTERNS)
def pair(request, trained):
    """Ours, and the library's."""
    vocabulary, merges = trained
    ours = ChatTokenizer(vocabulary, merges, SPECIAL, "<|im_end|>", pre_tokenizer=request.param, chat_template=TEMPLATE)
    theirs = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(vocabulary)}, list(merges)))
    parts = [pre_tokenizers.Digits(individual_digits=True)] if request.param == "smollm" else []
    theirs.pre_tokenizer = pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_tokens(SPECIAL)
    return ours, theirs


@pytest.mark.parametrize("text", MORE_TEXTS.values(), ids=MORE_TEXTS.keys())
def test_ids_are_those_of_the_library(pair, text):
    ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text).ids, skip_special_tokens=False)


@settings(max_examples=300)
@given(st.text(st.sampled_from("a 1\n\t'sé狗½Ⅷ₂!<|>\u00a0x9")))
def test_ids_of_any_text_are_those_of_the_library(pair, text):
    ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text).ids


def test_what_is_saved_is_read_by_the_library_and_by_us(pair, tmp_path):
    ours, theirs = pair
    ours.save(tmp_path)
    read, again = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")), ChatTokenizer.from_preset(tmp_path)
    for text in MORE_TEXTS.values():
        assert read.encode(text).ids == theirs.encode(text).ids == again.encode(text)
    assert (again.pre_tokenizer, again.chat_template, again.end_token_id) == (
        ours.pre_tokenizer,
        ours.chat_template,
        ours.end_token_id,
    )


def test_the_real_tokenizer_gives_the_ids_of_the_library():
    ours = ChatTokenizer.from_preset("smollm2-135m-instruct")
    theirs = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(ours.vocabulary)}, list(ours.merges)))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    theirs.add_special_tokens([token.content for token in ours.added_tokens])
    texts = [*MORE_TEXTS.values(), *reviews.rotten_tomatoes().test.texts, *reviews.imdb().validation.texts[:200]]
    for text, found in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.encode(text) == found.ids
    assert ours.vocabulary_size == 49_152 and len(set(BYTE_CHARACTERS) - set(ours.vocabulary)) == 21
    assert ours.tokenize("In 2024") == ["In", "Ġ", "2", "0", "2", "4"]


# Chats


def test_a_conversation_is_written_by_the_template(trained):
    tokenizer = ChatTokenizer(*trained, SPECIAL, "<|im_end|>", chat_template=TEMPLATE)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ 7 * 7 }}"}]
    assert tokenizer.write_chat(messages) == (
        "<|im_start|>system Be brief.<|im_end|><|im_start|>user {{ 7 * 7 }}<|im_end|><|im_start|>assistant "
    )


@pytest.mark.parametrize(
    ("messages", "facts"),
    [
        ([], "list of messages"),
        ("Hello", "list of messages"),
        ([{"role": "user"}], "role and content"),
        ([{"role": "user", "content": "a", "name": "b"}], "role and content"),
        ([{"role": "tool", "content": "a"}], "system, user, assistant; got 'tool'"),
        ([{"role": "user", "content": 1}], "string; got 1"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "user's message at the end"),
    ],
)
def test_a_conversation_of_another_form_is_refused(trained, messages, facts):
    tokenizer = ChatTokenizer(*trained, SPECIAL, "<|im_end|>", chat_template=TEMPLATE)
    with pytest.raises(ValueError, match=facts):
        tokenizer.write_chat(messages)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{% for %}", "Expected"),
        ("{% include 'passwords' %}", "Expected"),
    ],
)
def test_a_template_may_not_do_what_it_likes(trained, template, message):
    tokenizer = ChatTokenizer(*trained, SPECIAL, "<|im_end|>", chat_template=template)
    with pytest.raises(ValueError, match=message):
        tokenizer.write_chat([{"role": "user", "content": "a"}])


def test_a_tokenizer_without_a_template_says_so(trained):
    with pytest.raises(ValueError, match="has none.*generate"):
        ChatTokenizer(*trained, SPECIAL, "<|im_end|>").write_chat([{"role": "user", "content": "a"}])


# What is wrong


def test_another_split_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="gpt-2.*smollm.*got 'qwen2'"):
        ChatTokenizer(*trained, SPECIAL, pre_tokenizer="qwen2")
    ChatTokenizer(*trained, SPECIAL, "<|im_end|>").save(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described | {"pre_tokenizer": split}))
    with pytest.raises(ValueError, match="pre_tokenizer.*Split"):
        ChatTokenizer.from_preset(tmp_path)


def test_tokens_that_begin_every_text_are_refused(trained, tmp_path):
    ChatTokenizer(*trained, SPECIAL, "<|im_end|>").save(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    start = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    described["post_processor"] = {"type": "TemplateProcessing", "single": start}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"'<\|im_start\|>', 'A'"):
        ChatTokenizer.from_preset(tmp_path)


def test_a_vocabulary_without_its_special_tokens_is_refused(trained):
    vocabulary, merges = trained
    with pytest.raises(ValueError, match=r"lacks \['<\|end\|>'\]"):
        ChatTokenizer(vocabulary, merges, end_token="<|end|>")
