"""Texts that stand for themselves, such as <|endoftext|>: they cut a text first, and are never merged.

    [text → special tokens | text between them] → pieces → …

Control tokens mean something to a model, so a text from outside should not be able to speak in them unnoticed. What is
to become of one that stands in a text is said with every call: it may be allowed (it becomes its own id), disallowed
(an error), or neither (it is plain text).

As in tiktoken; of special tokens that begin at one place the longest counts.
"""

import re
from functools import lru_cache


@lru_cache
def special_pattern(special_tokens):
    """A pattern that finds any of a frozenset of texts, the longest first where several begin; None if it is empty."""
    if not special_tokens:
        return None
    return re.compile("|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True)))


def find_special(special_tokens, texts):
    """The first of a frozenset of special tokens that stands in one of the texts, as a match; None if none does."""
    pattern = special_pattern(special_tokens)
    return pattern and next(filter(None, map(pattern.search, texts)), None)


def resolve_special(special_tokens, allowed, disallowed):
    """Of a frozenset of special tokens those that are allowed, and those that are disallowed: two frozensets.

    "all" means every one, for `disallowed` those that are not allowed. Raises TypeError for another text, which would
    be taken for a set of its letters.
    """
    for name, chosen in (("allowed_special", allowed), ("disallowed_special", disallowed)):
        if isinstance(chosen, str) and chosen != "all":
            raise TypeError(f"{name} is the text {chosen!r}; it must be 'all' or a set of special tokens")
    allowed = special_tokens if allowed == "all" else special_tokens.intersection(allowed)
    if disallowed == "all":
        return allowed, special_tokens - allowed if allowed else special_tokens
    return allowed, frozenset(disallowed)


def split_on_special(special_tokens, text):
    """The texts between special tokens, one more than these, and the special tokens: two lists."""
    pattern = special_pattern(special_tokens)
    return (pattern.split(text), pattern.findall(text)) if pattern else ([text], [])


def check_no_special(special_tokens, texts):
    """Raise ValueError, saying what to do, if one of a frozenset of special tokens stands in one of the texts."""
    if found := find_special(special_tokens, texts):
        token = found.group()
        raise ValueError(
            f"the text has {token!r}, which reads like a special token.\n"
            f"To encode it as that token, pass allowed_special={{{token!r}}} (or 'all').\n"
            f"To encode it as plain text, pass disallowed_special=tokenizer.special_tokens.keys() - {{{token!r}}}.\n"
            f"To encode every special token as plain text, pass disallowed_special=()."
        )
