"""Added tokens: texts that are a token each, found before anything is merged.

    [text → added tokens | text between them] → normalization → [added tokens | …] → characters → …

Two searches are made, as in Hugging Face's library. Tokens that are not `normalized` are found in the text as given.
What is between them is normalized, and then the other added tokens are found in the result. Among tokens that begin at
the same position, the longest one is taken.

Hugging Face, tokenizers: documentation of AddedToken.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby


@dataclass(frozen=True)
class AddedToken:
    """A text with an id of its own.

    special      True for a control token, which a text must not contain unless it is allowed
    normalized   True if it is found in the normalized text, as `pattern`
    lstrip       True if whitespace before it belongs to it
    rstrip       True if whitespace behind it belongs to it
    single_word  True if it is found only where no letter, digit or _ is next to it
    pattern      what is searched for, if that is not the text
    """

    text: str
    id: int
    special: bool = False
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    pattern: str | None = None


Part = tuple[AddedToken | None, int, int]  # a token, or None for text between tokens; first character, end


def find_added_tokens(tokens: frozenset[AddedToken], text: str) -> Iterator[Part]:
    """Divide a text into added tokens and the text between them, which is never empty."""
    position = 0
    if tokens:
        pattern, by_text = compile_tokens(tokens)
        for match in pattern.finditer(text):
            token, (first, end) = by_text[match.group()], match.span()
            if token.single_word and (_is_word(text[first - 1 : first]) or _is_word(text[end : end + 1])):
                continue
            if token.lstrip:
                first = max(len(text[:first].rstrip()), position)
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip())
            if position < first:
                yield None, position, first
            yield token, first, end
            position = end
    if position < len(text):
        yield None, position, len(text)


@lru_cache(maxsize=64)
def compile_tokens(tokens: frozenset[AddedToken]) -> tuple[re.Pattern, dict[str, AddedToken]]:
    """A regular expression that matches the longest token at a position, and the tokens by what it matches."""
    by_text = {token.text if token.pattern is None else token.pattern: token for token in tokens}
    return re.compile(prefix_tree_pattern(by_text)), by_text


def prefix_tree_pattern(texts: Iterable[str]) -> str:
    """A regular expression for the longest of the texts at a position, in which common beginnings stand once.

    ["<a>", "<b>", "<b"] → <(?:a>|b>?). With thousands of texts it is much faster than an alternation, which tries one
    after another.
    """
    return _tree_pattern(sorted(set(texts)), 0)


def _tree_pattern(texts, depth):
    """The pattern for sorted texts that agree up to `depth`, from there on."""
    end = depth
    while len(texts[0]) > end and texts[-1].startswith(texts[0][: end + 1]):
        end += 1  # the first and the last of sorted texts agree as far as all of them do
    common = re.escape(texts[0][depth:end])
    is_complete = len(texts[0]) == end
    longer = texts[1:] if is_complete else texts
    if not longer:
        return common
    branches = [_tree_pattern([*group], end) for _, group in groupby(longer, lambda text: text[end])]
    return f"{common}(?:{'|'.join(branches)}){'?' if is_complete else ''}"


def _is_word(character):
    """True for letters, digits, _ and combining marks; False at the end of the text."""
    return bool(re.fullmatch(r"\w", character)) or bool(character) and _is_mark(character)


def _is_mark(character):
    return unicodedata.category(character)[0] == "M"
