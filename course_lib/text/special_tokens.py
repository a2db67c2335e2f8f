"""Special tokens, and tokens that were added to a vocabulary later: a tokenizer first cuts a text at them."""

import dataclasses
import re
import unicodedata


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text as it stands, before the text is cut into words.

    The fields are those of `tokenizers.AddedToken`.

    Attributes:
        content: what is written in the text.
        special: whether `decode(..., skip_special_tokens=True)` leaves it out.
        normalized: whether it is looked for in the normalised text, where "[ENT]" may have become "[ent]".
        single_word: whether it counts only where no letter or digit stands next to it.
        lstrip: whether it swallows the white space before it.
        rstrip: whether it swallows the white space after it.
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
    """Cuts texts at tokens: first at those in the text as it is, then at those in the normalised text.

    Where two tokens begin at one place, the longer one is taken.

    Args:
        tokens: `AddedToken`, several.
        normalize: a function from a string to a string. By default texts are not normalised.
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
        """Cuts a text.

        Args:
            text: a string.

        Yields:
            Pairs: a part of the text and None, or the content of a token and its `AddedToken`.

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
    """Gives an id to each token at which texts are cut: its id in the vocabulary, or else the next one that is free.

    Args:
        vocabulary: the pieces in the order of their ids.
        own: contents of the special tokens that every tokenizer of this kind has.
        added: `AddedToken`, dicts of their fields, or their contents. One with the content of an own token replaces it.

    Returns:
        The tokens, a dict from contents to `AddedToken`; their ids, a dict from contents to integers; and the contents
        of those that the vocabulary lacks, a tuple.
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
