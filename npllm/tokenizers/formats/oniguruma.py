r"""Translate pre-token patterns between Python's `re` and Oniguruma, which Hugging Face's tokenizers use.

Syntax that has the same meaning in both is kept. The end of the text is $ in npllm's patterns and \z in Oniguruma.
There, $ is the end of a line, and brackets inside of brackets add their characters to those of the outer ones. Syntax
that both accept with different meanings is refused: ^, \w, \b, (?m), x{2}+ and more. Matching without regard to case,
(?i:…), is accepted only in the contractions: for other letters the two differ
(Oniguruma matches ß with ss, Python does not). The classes are those of `byte_pair.pretokenize`, Unicode's on both
sides.
"""

import re

from npllm.tokenizers.byte_pair.pretokenize import CLASSES, compile_pattern

CONTRACTIONS = ("(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)")
TOKENS = re.compile(
    "|".join(map(re.escape, CONTRACTIONS))
    + r"|\\[pP]\{\^?\w+\}|\\.|\(\?[:!=]?|\{\d+(?:,\d*)?\}[+?]?|\[\^?\]?|&&|--|\|\||~~|.",
    re.DOTALL,
)
DIFFERENT_CLASSES = {r"\w", r"\p{P8}"}  # \w: ² is a word character in Oniguruma
SAME_ESCAPES = {*CLASSES, r"\S", r"\D", r"\r", r"\n", r"\t"} - DIFFERENT_CLASSES
NOT_IN_BRACKETS = {"[", "[^", "&&", "--", "||", "~~"}  # set operations in Oniguruma, reserved for them in Python
NOT_OUTSIDE = {"^", "$", "(?", "{", "[]", "[^]"}


def to_oniguruma(pattern: str) -> str:
    """Python's syntax → Oniguruma's; raises ValueError for syntax with different meanings."""
    translated = _translate(pattern, "$", r"\z")
    _check_no_empty_match(pattern)
    return translated


def from_oniguruma(pattern: str) -> str:
    """Oniguruma's syntax → Python's; raises ValueError for syntax with different meanings."""
    pattern = _translate(_without_nested_brackets(pattern), r"\z", "$", {"$": r"(?=\n|$)"})
    _check_no_empty_match(pattern)
    return pattern


def _translate(pattern, end, other_end, others=None):
    """The pattern with `other_end` in place of `end`, the end of the text, and `others` outside of brackets."""
    translated, in_brackets, replacements = [], False, {end: other_end, **(others or {})}
    for token in TOKENS.findall(pattern):
        if token in replacements and not in_brackets:
            token = replacements[token]
        elif _is_ambiguous(token, in_brackets):
            raise ValueError(f"pattern has {token}, which Python and Hugging Face's tokenizers interpret differently")
        elif token in ("[", "[^", "]"):
            in_brackets = token != "]"
        translated.append(token)
    return "".join(translated)


def _without_nested_brackets(pattern):
    """The pattern without brackets inside of brackets, unless they are negated: [a[bc]] → [abc]."""
    kept, depth = [], 0
    for token in TOKENS.findall(pattern):
        if token in ("[", "[^") and not (depth and token == "[^"):
            depth += 1
        elif token == "]" and depth:
            depth -= 1
        kept.append("" if (depth > 1 and token == "[") or (depth and token == "]") else token)
    return "".join(kept)


def _is_ambiguous(token, in_brackets):
    if token[0] == "\\":  # escaped punctuation is literal in both
        return token not in SAME_ESCAPES and (len(token) == 1 or token[1].isalnum())
    if in_brackets:
        return token in NOT_IN_BRACKETS or token in CONTRACTIONS
    return token in NOT_OUTSIDE or token[-2:] in ("}+", "}?")


def _check_no_empty_match(pattern):
    """Refuse patterns with empty matches, after which the two continue at different positions."""
    if compile_pattern(pattern).match(""):
        raise ValueError(f"pattern is {pattern!r:.80}; it must not match the empty text")
