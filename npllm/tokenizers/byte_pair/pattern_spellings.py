r"""Several spellings of one pattern.

    pattern of a file → [canonical pattern] → pre-tokens

Published files write the same pattern in several ways: with possessive quantifiers (`\p{L}++`), which `re` of Python
3.10 does not have, with the contractions as "(?i:'s|'t|…)" or as "'(?i:[sdmt]|ll|ve|re)", or with escapes that are not
needed. All spellings of a pattern in PATTERNS are replaced by that pattern, so that they are as fast as it is.
"""

from typing import TypeVar

from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.published_patterns import DEEPSEEK_V3_PATTERN, GPT2_OLD_SPELLING

Pattern = TypeVar("Pattern")
CONTRACTIONS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)")
SLASH = (r"[\r\n/]", r"[\r\n\/]")
# of openai_public.py, a module of tiktoken
POSSESSIVE_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
POSSESSIVE_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)


def _spellings():
    spellings = {
        GPT2_OLD_SPELLING: GPT2_PATTERN,
        POSSESSIVE_GPT2: GPT2_PATTERN,
        POSSESSIVE_CL100K: CL100K_PATTERN,
        O200K_PATTERN.replace(*SLASH): O200K_PATTERN,
        DEEPSEEK_V3_PATTERN.replace(r"\r\n", "\r\n"): DEEPSEEK_V3_PATTERN,
    }
    for pattern in PATTERNS.values():
        for one, other in (CONTRACTIONS, CONTRACTIONS[::-1]):
            spellings[pattern.replace(one, other)] = pattern
    return spellings


SPELLINGS = _spellings()


def canonical_pattern(pattern: Pattern) -> Pattern:
    """The pattern of PATTERNS with this meaning, if there is one; otherwise the pattern itself, or the steps."""
    return SPELLINGS.get(pattern, pattern)
