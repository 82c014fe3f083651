"""Added tokens: texts that are a token each, found before anything is merged.

    [text → added tokens | text between them] → normalization → [added tokens | …] → characters → …

Two searches are made, as in Hugging Face's library. Tokens that are not `normalized` are found in the text as given.
What is between them is normalized, and then the other added tokens are found in the result. Among tokens that begin at
the same position, the longest one is taken. `byte_pair.added_tokens` does the same for byte-level vocabularies; here
there may be thousands of added tokens, so they are found by a pattern in the form of a tree.

Hugging Face, tokenizers: documentation of AddedToken.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import groupby

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.pretokenize import compile_pattern

Part = tuple[AddedToken | None, int, int]  # a token, or None for text between tokens; first character, end


class TokenTable(dict[str, AddedToken]):
    """A dict from what is searched for to the tokens, with the pattern that finds them, compiled once."""

    @cached_property
    def pattern(self) -> re.Pattern:
        """A regular expression that matches the longest of the texts at a position."""
        return compile_tokens(frozenset(self))


def find_added_tokens(tokens: TokenTable, text: str) -> Iterator[Part]:
    """Divide a text into added tokens and the text between them, which is never empty."""
    position = 0
    for match in tokens.pattern.finditer(text) if tokens else ():
        token, (first, end) = tokens[match.group()], match.span()
        if token.single_word and not _is_single_word(text, first, end):
            continue
        if token.lstrip:
            first = max(_spaces_before().search(text, 0, first).start(), position)
        if token.rstrip:
            end = _spaces().match(text, end).end()
        if position < first:
            yield None, position, first
        yield token, first, end
        position = end
    if position < len(text):
        yield None, position, len(text)


@lru_cache(maxsize=64)
def compile_tokens(texts: frozenset[str]) -> re.Pattern:
    """A regular expression that matches the longest of the texts at a position."""
    return re.compile(prefix_tree_pattern(texts))


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


def _is_single_word(text, first, end):
    word = compile_pattern(r"\w")
    return not (word.match(text[max(0, first - 1) : first]) or word.match(text[end : end + 1]))


def _spaces():
    return compile_pattern(r"\s*")


def _spaces_before():
    return compile_pattern(r"\s*$")
