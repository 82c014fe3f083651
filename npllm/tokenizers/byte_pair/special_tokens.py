"""Special tokens such as <|endoftext|>: they split a text before anything else, and are never split or merged.

    [text → special tokens | ordinary text between them] → pre-tokens → …

A model treats special tokens as control tokens, so text from an untrusted source must not be able to insert them
unnoticed. Every call says what happens to a special token in the text: it can be allowed (it becomes its own id),
disallowed (an error), or neither (it is encoded as ordinary text).

As in tiktoken, except that among special tokens that begin at the same position the longest one is taken.
"""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Literal

from npllm.core.checks import check_text

SpecialTokenSet = Collection[str] | Literal["all"]


def resolve_special(
    special_tokens: frozenset[str], allowed: SpecialTokenSet, disallowed: SpecialTokenSet
) -> tuple[frozenset[str], frozenset[str]]:
    """The allowed and the disallowed special tokens, two frozensets.

    "all" means every special token; for `disallowed`, every one that is not allowed. Raises TypeError for any other
    str, which would be read as a set of its characters.
    """
    for name, chosen in (("allowed_special", allowed), ("disallowed_special", disallowed)):
        if isinstance(chosen, str) and chosen != "all":
            raise TypeError(f"{name} is the text {chosen!r}; it must be 'all' or a set of special tokens")
    allowed = special_tokens if allowed == "all" else special_tokens.intersection(allowed)
    if disallowed == "all":
        return allowed, special_tokens - allowed if allowed else special_tokens
    return allowed, frozenset(disallowed)


def split_on_special(special_tokens: frozenset[str], text: str) -> tuple[list[str], list[str]]:
    """The ordinary texts between special tokens, and the special tokens: lists of n + 1 and n texts."""
    pattern = special_pattern(special_tokens)
    return (pattern.split(text), pattern.findall(text)) if pattern else ([text], [])


def find_special(special_tokens: frozenset[str], texts: Iterable[str]) -> re.Match | None:
    """The first special token in the first text that contains one, as a match; None if no text does."""
    pattern = special_pattern(special_tokens)
    return pattern and next(filter(None, map(pattern.search, texts)), None)


def check_no_special(special_tokens: frozenset[str], texts: Iterable[str]) -> None:
    """Raise ValueError, with the possible remedies, if one of the texts contains one of the special tokens."""
    if found := find_special(special_tokens, texts):
        raise disallowed_error(found.group())


def disallowed_error(token: str) -> ValueError:
    """The error for a special token that a text must not contain, with the possible remedies."""
    return ValueError(
        f"the text contains the special token {token!r}.\n"
        f"To encode it as that token, pass allowed_special={{{token!r}}} (or 'all').\n"
        f"To encode it as ordinary text, pass disallowed_special=tokenizer.special_tokens.keys() - {{{token!r}}}.\n"
        f"To encode every special token as ordinary text, pass disallowed_special=()."
    )


@lru_cache
def special_pattern(special_tokens: frozenset[str]) -> re.Pattern | None:
    """A pattern that matches the special tokens, the longest first; None if there are none."""
    if not special_tokens:
        return None
    for token in special_tokens:
        check_text("a special token", token)
    return re.compile("|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True)))
