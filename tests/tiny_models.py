"""A tiny model of every kind, with its tokenizer, for what all of them must do."""

from course_lib import (
    GPT2,
    Bert,
    BertConfig,
    BertPretrainer,
    BytePairTokenizer,
    ChatTokenizer,
    GPT2CausalLM,
    GPT2Config,
    Llama,
    LlamaCausalLM,
    LlamaConfig,
    OpenAIGPT,
    OpenAIGPTCausalLM,
    OpenAIGPTConfig,
    Roberta,
    RobertaConfig,
    RobertaTokenizer,
    SentenceEncoder,
    Seq2Seq,
    Seq2SeqConfig,
    Seq2SeqLM,
    TextClassifier,
    TokenClassifier,
    WordPieceTokenizer,
)
from course_lib.text.openai_gpt import OpenAIGPTTokenizer

LETTERS = "abcdefghijklm"
WORD_PIECES = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "##n", "##o"])
BYTE_PAIRS = BytePairTokenizer.train(["a b c d a e f a b c " * 3], 260)
ENCODER_PAIRS = RobertaTokenizer.train(["a b c d a e f a b c " * 3], 264)
CHAT_PAIRS = ChatTokenizer(
    BYTE_PAIRS.vocabulary,
    BYTE_PAIRS.merges,
    ["<|user|>", "<|assistant|>"],
    pre_tokenizer="smollm",
    chat_template="{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
)
CHARACTER_PAIRS = OpenAIGPTTokenizer(
    ["<unk>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ab</w>"], [("a", "b</w>")]
)
SIZES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


def bert(tokenizer=WORD_PIECES, dtype=None, **changes):
    sizes = SIZES | {"num_layers": 1, "vocabulary_size": 20, "max_sequence_length": 8}
    return Bert(BertConfig(**sizes | NO_DROPOUT | changes), tokenizer, dtype=dtype)


def roberta(tokenizer=ENCODER_PAIRS, dtype=None, **changes):
    sizes = SIZES | {"num_layers": 1, "vocabulary_size": ENCODER_PAIRS.vocabulary_size, "max_sequence_length": 8}
    return Roberta(RobertaConfig(**sizes | NO_DROPOUT | changes), tokenizer, dtype=dtype)


def gpt2(tokenizer=BYTE_PAIRS, dtype=None, **changes):
    sizes = SIZES | {"vocabulary_size": BYTE_PAIRS.vocabulary_size, "max_sequence_length": 8}
    return GPT2(GPT2Config(**sizes | NO_DROPOUT | {"embedding_dropout": 0.0} | changes), tokenizer, dtype=dtype)


def openai_gpt(tokenizer=CHARACTER_PAIRS, dtype=None, **changes):
    sizes = SIZES | {"vocabulary_size": CHARACTER_PAIRS.vocabulary_size, "max_sequence_length": 8}
    sizes["intermediate_dim"] = None  # Hugging Face's config has no place for another
    config = OpenAIGPTConfig(**sizes | NO_DROPOUT | {"embedding_dropout": 0.0} | changes)
    return OpenAIGPT(config, tokenizer, dtype=dtype)


def llama(tokenizer=CHAT_PAIRS, dtype=None, **changes):
    sizes = SIZES | {"vocabulary_size": CHAT_PAIRS.vocabulary_size, "max_sequence_length": 8, "num_key_value_heads": 1}
    sizes |= {"head_dim": 6, "rotary_base": 100.0, "end_token_id": CHAT_PAIRS.end_token_id}
    return Llama(LlamaConfig(**sizes | changes), tokenizer, dtype=dtype)


def llama_causal_lm(dtype=None, **changes):
    return LlamaCausalLM(llama(dtype=dtype, **changes), dtype=dtype)


def seq2seq(tokenizer=BYTE_PAIRS, dtype=None, **changes):
    sizes = SIZES | {"num_layers": 1, "vocabulary_size": BYTE_PAIRS.vocabulary_size}
    return Seq2Seq(Seq2SeqConfig(**sizes | NO_DROPOUT | changes), tokenizer, dtype=dtype)


def bert_pretrainer(dtype=None, **changes):
    return BertPretrainer(bert(dtype=dtype, **changes), dtype=dtype)


def gpt2_causal_lm(dtype=None, **changes):
    return GPT2CausalLM(gpt2(dtype=dtype, **changes), dtype=dtype)


def openai_gpt_causal_lm(dtype=None, **changes):
    return OpenAIGPTCausalLM(openai_gpt(dtype=dtype, **changes), dtype=dtype)


def seq2seq_lm(dtype=None, **changes):
    return Seq2SeqLM(seq2seq(dtype=dtype, **changes), dtype=dtype)


def text_classifier(dtype=None, backbone=bert, **changes):
    pooling = "pooled" if backbone is bert else "last"  # what Hugging Face's classifiers compute
    return TextClassifier(backbone(dtype=dtype, **changes), ["bad", "good", "neither"], pooling, dtype=dtype)


def token_classifier(dtype=None, **changes):
    return TokenClassifier(bert(dtype=dtype, **changes), ["O", "B-dog", "I-dog"], dtype=dtype)


def sentence_encoder(dtype=None, **changes):
    return SentenceEncoder(bert(dtype=dtype, **changes), dtype=dtype)
