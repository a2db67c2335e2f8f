"""Special tokens, and tokens added to a vocabulary later. A tokenizer first splits a text at these."""

import dataclasses
import re
import unicodedata


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text before the text is split into words.

    The fields are those of `tokenizers.AddedToken`.

    Attributes:
        content: the token as it is written in a text.
        special: whether `decode(..., skip_special_tokens=True)` leaves out the token.
        normalized: whether to search the normalised text, where "[ENT]" may have become "[ent]", and not the original
            one.
        single_word: whether it is ignored where a letter, a digit or an underscore is next to it.
        lstrip: whether it includes the white space before it.
        rstrip: whether it includes the white space after it.
    """

    content: str
    special: bool = False
    normalized: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False

    def __post_init__(self):
        if not isinstance(self.content, str) or not self.content:
            raise ValueError(f"Expected an added token to be a string that is not empty; got {self.content!r}.")


class TokenSplitter:
    """Splits texts at tokens: first at tokens in the original text, then at those in the normalised text.

    Where two tokens begin at the same position, the longer one is used.

    Args:
        tokens: sequence of `AddedToken`.
        normalize: function from a string to its normalised form. By default, texts are not normalised.
    """

    def __init__(self, tokens, normalize=str):
        tokens = sorted(tokens, key=lambda token: -len(token.content))
        self._normalize = normalize
        self._verbatim = {token.content: token for token in tokens if not token.normalized}
        self._normalized = {normalize(token.content): token for token in tokens if token.normalized}
        self._pattern, self._normalized_pattern = (
            re.compile("|".join(map(re.escape, written))) for written in (self._verbatim, self._normalized)
        )

    def __call__(self, text):
        """Splits a text at the tokens.

        Args:
            text: a string.

        Yields:
            Pairs: a part of the text and None, or a token's content and its `AddedToken`.

        Raises:
            ValueError: if `text` is not a string.
        """
        if not isinstance(text, str):
            raise ValueError(f"Expected a text of type str; got {text!r} of type {type(text).__name__}.")
        for part, token in _cut(text, self._verbatim, self._pattern):
            if token is None and self._normalized:
                yield from _cut(self._normalize(part), self._normalized, self._normalized_pattern)
            else:
                yield part, token


def _cut(text, tokens, pattern):
    end = 0
    for match in pattern.finditer(text) if tokens else ():
        token, (start, stop) = tokens[match[0]], match.span()
        if token.single_word and (_is_in_word(text[start - 1 : start]) or _is_in_word(text[stop : stop + 1])):
            continue
        if token.lstrip:
            start = max(end, len(text[:start].rstrip()))
        if token.rstrip:
            stop = len(text) - len(text[stop:].lstrip())
        yield text[end:start], None
        yield token.content, token
        end = stop
    yield text[end:], None


def _is_in_word(character):
    category = unicodedata.category(character or " ")
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc")


def place_tokens(vocabulary, own, added):
    """Assigns an id to each token at which texts are split: its id in the vocabulary, or else the next free id.

    Args:
        vocabulary: the pieces in the order of their ids.
        own: strings, the special tokens that every tokenizer of this kind has.
        added: further tokens, each an `AddedToken`, a dict of its fields, or a string. It replaces an own token of the
            same content.

    Returns:
        The tokens, a dict from contents to `AddedToken`; their ids, a dict from contents to integers; and a tuple with
        the contents of the tokens that are not in the vocabulary.
    """
    tokens = {content: AddedToken(content, special=True) for content in own}
    for token in added:
        if not isinstance(token, AddedToken):
            token = AddedToken(**token) if isinstance(token, dict) else AddedToken(token)
        tokens[token.content] = token
    places = {piece: index for index, piece in enumerate(vocabulary)}
    new = tuple(content for content in tokens if content not in places)
    places |= {content: len(vocabulary) + index for index, content in enumerate(new)}
    return tokens, {content: places[content] for content in tokens}, new
