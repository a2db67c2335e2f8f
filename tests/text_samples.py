"""Texts on which tokenizers are compared with those of other libraries, and the characters that all of them know."""

import itertools
import unicodedata

TEXTS = {
    "runs of spaces": "a  b   c    d \t\t e  \n  f\n\n\n\ng   ",
    "code": "def f(x):\n    if x:\n\treturn x**2  # done\n\n\n        pass\r\n    \r\n",
    "contractions": "I'm sure you're, we've, he'd, she'll, it's, don't; I'M YOU'RE ''s 's't 'tis ’s",
    "digits": "3.14 007 1,000,000 ١٢٣ ²³ ½ Ⅷ 2nd x1y2",
    "Chinese": "我的猫喜欢 GPT，你呢？狗cat狗 𠀀𫠝豈",
    "Japanese and Korean": "吾輩は猫である。ネコ 안녕하세요",
    "emoji with joiners": "I ❤️ dogs 🐕‍🦺👩‍👩‍👧‍👦 🇫🇷 ☕! 👍🏽",
    "combining marks": "e\u0301 n\u0303o Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d a\u20dd हिन्दी ไทย \u0301",
    "control characters": "a\x00b\x07c\x1b[0m\x7f\x85d\u200be\ufefff\u00adg\ufffdh\u2028i\u2029j\x0bk\x0cl\x1cm\x1fn",
    "spaces of all kinds": "a\u00a0b \u00a0c\u2003\u2003d\u3000e \u202ff\u180eg\u200b h\u1680i",
    "special token": "one<|endoftext|>two <|endoftext|> three<|endoftext|><|endoftext|> <|endoftext <|ENDOFTEXT|>",
    "characters that stand for bytes": "Ġ Ċ Ġthe ĉĠ Ń ¡ÿ",
    "not in Latin": "Привет мир Ελληνικά γειά שלום مرحبا",
    "signs": "!!!... ~^`|<>=+ “quoted”—dash… ¿qué? · #!$%&() a_b_ __init__ -> != ===========",
    "a long word": "ab" * 500 + "=" * 300 + " " * 300 + "x",
    "noncharacters": "\ufffe\uffff\U0010ffff\ue000\U000f0000",
    "space": " ",
    "spaces": "     ",
    "line break": "\n",
    "nothing": "",
}


def is_old(character):
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs")


# A small corpus of our own: documents of three sentences.
NOUNS = ("dog", "cat", "bird", "boat", "king", "song")
CORPUS = "\n\n".join(
    f"The {a} saw a {b}. Then the {b} left the {c}. Nobody saw the {c} again."
    for a, b, c in itertools.permutations(NOUNS, 3)
)

# With documents of two short sentences, whose rows have fewer tokens, and so fewer predictions.
UNEVEN_CORPUS = CORPUS + "".join(
    f"\n\nThe {a} {verb}. The {b} sat." for a, b in itertools.permutations(NOUNS, 2) for verb in ("ran", "left", "saw")
)
