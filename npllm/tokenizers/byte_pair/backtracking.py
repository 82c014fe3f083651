r"""Refuse patterns from a file whose matching may take exponential time.

Python's `re` tries all ways in which a pattern may match. (a+)+b has 2ⁿ of them in n letters a, so a vocabulary file
with it would stop a program at the first text. A pattern is accepted if

    1  what is repeated more than once has a fixed length and no alternatives, such as \p{L}+ or (?:\d\d)*;
    2  no alternative has more than MAX_VARIABLE repetitions of variable length, of which MAX_UNBOUNDED have no limit.

Then there are at most n to the power of MAX_UNBOUNDED ways from one position, times a constant. All published patterns
have this form. Patterns that a program passes as an argument are not checked.

Davis et al. 2018, The Impact of Regular Expression Denial of Service (ReDoS) in Practice, section 2.
"""

import sys
from collections.abc import Iterable
from typing import Any

from npllm.tokenizers.byte_pair.normalizers import Normalizer
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, translate_pattern

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

MAX_UNBOUNDED, MAX_VARIABLE = 2, 8
BOUNDED = 64  # a repetition with a higher limit counts as one without a limit
MAX_CHARACTERS = 100_000  # of a pattern


def check_patterns(pattern: str | Iterable[Any], normalizers: Iterable[Normalizer] = ()) -> None:
    """Raise ValueError if a pattern, or one of a step or a normalizer, may take exponential time."""
    steps = [pattern] if isinstance(pattern, str) else list(pattern)
    for step in [*steps, *normalizers]:
        text = step if isinstance(step, str) else getattr(step, "pattern", None)
        if text is not None and text not in PATTERNS.values():
            check_pattern(text)


def check_pattern(pattern: str) -> None:
    """Raise ValueError if matching this regular expression may take exponential time."""
    if len(pattern) > MAX_CHARACTERS:
        raise ValueError(f"pattern has {len(pattern)} characters; it must have at most {MAX_CHARACTERS}")
    try:
        unbounded, variable = _count(parser.parse(translate_pattern(pattern, 0x7F)))
    except (_Ambiguous, RecursionError):
        raise ValueError(
            f"pattern is {pattern!r:.80}; what it repeats must have a fixed length and no alternatives, because its "
            "matching may take exponential time otherwise"
        ) from None
    except parser.error as error:
        raise ValueError(f"pattern is {pattern!r:.80}; it must be a regular expression ({error})") from None
    if unbounded > MAX_UNBOUNDED or variable > MAX_VARIABLE:
        raise ValueError(
            f"pattern is {pattern!r:.80}; an alternative must have at most {MAX_VARIABLE} repetitions of variable "
            f"length, {MAX_UNBOUNDED} of them without a limit, because its matching may take too long otherwise"
        )


class _Ambiguous(Exception):
    pass


def _count(parsed):
    """The numbers of repetitions without a limit and of variable length: their highest in any alternative."""
    unbounded = variable = 0
    for operation, argument in parsed:
        name, inner = str(operation), []
        if name.endswith("_REPEAT"):
            low, high, body = argument
            low_width, high_width = body.getwidth()
            if high > 1 and (low_width != high_width or _has_alternatives(body)):
                raise _Ambiguous
            unbounded += high > BOUNDED and low != high
            variable += low != high
            inner = [[body]]
        elif name == "BRANCH":
            inner = [argument[1]]
        elif name == "SUBPATTERN":
            inner = [[argument[-1]]]
        elif name in ("ASSERT", "ASSERT_NOT"):
            inner = [[argument[1]]]
        elif name == "ATOMIC_GROUP":
            inner = [[argument]]
        elif name == "GROUPREF_EXISTS":
            inner = [[part for part in argument[1:] if part is not None]]
        for alternatives in inner:
            counts = [_count(alternative) for alternative in alternatives]
            unbounded += max(count[0] for count in counts)
            variable += max(count[1] for count in counts)
    return unbounded, variable


def _has_alternatives(parsed):
    return any(
        str(operation) == "BRANCH" or str(operation) == "SUBPATTERN" and _has_alternatives(argument[-1])
        for operation, argument in parsed
    )
