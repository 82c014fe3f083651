r"""A split pattern for Hugging Face's tokenizers, and back: they have Oniguruma's regular expressions, we Python's.

What both read alike may pass, and the end of the text, which is $ here and \z there, where $ is the end of a line.
The rest is refused: ^, \w, \b, (?m), x{2}+ and more, which both know and read differently. Case is left aside in the
contractions alone: there no two letters are one in capitals, as ss and ß are for Oniguruma and not for Python. The
classes are those of `split`, Unicode's on both sides.
"""

import re

from npllm.tokenizers.byte_pair.pretokenize import CLASSES, compile_pattern

CONTRACTIONS = ("(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)")
TOKENS = re.compile(
    "|".join(map(re.escape, CONTRACTIONS))
    + r"|\\[pP]\{\^?\w+\}|\\.|\(\?[:!]?|\{\d+(?:,\d*)?\}[+?]?|\[\^?\]?|&&|--|\|\||~~|.",
    re.DOTALL,
)
SAME_ESCAPES = {*CLASSES, r"\S", r"\r", r"\n", r"\t"}
NOT_IN_BRACKETS = {"[", "[^", "&&", "--", "||", "~~"}  # sets of sets, in Oniguruma and in a Python to come
NOT_OUTSIDE = {"^", "$", "(?", "{", "[]", "[^]"}


def to_oniguruma(pattern):
    """Python's spelling → Oniguruma's; raises ValueError for what they do not have in common."""
    respelled = _respell(pattern, "$", r"\z")
    _must_match_something(pattern)
    return respelled


def from_oniguruma(pattern):
    """Oniguruma's spelling → Python's; raises ValueError for what they do not have in common."""
    pattern = _respell(pattern, r"\z", "$")
    _must_match_something(pattern)
    return pattern


def _respell(pattern, end, other_end):
    """The pattern with another spelling of the text's end."""
    respelled, inside = [], False
    for token in TOKENS.findall(pattern):
        if token == end and not inside:
            token = other_end
        elif _is_strange(token, inside):
            raise ValueError(f"pattern has {token}, which Python and Hugging Face's tokenizers do not read alike")
        elif token in ("[", "[^", "]"):
            inside = token != "]"
        respelled.append(token)
    return "".join(respelled)


def _is_strange(token, inside):
    if token[0] == "\\":  # a mark stands for itself
        return token not in SAME_ESCAPES and (len(token) == 1 or token[1].isalnum())
    if inside:
        return token in NOT_IN_BRACKETS or token in CONTRACTIONS
    return token in NOT_OUTSIDE or token[-2:] in ("}+", "}?")


def _must_match_something(pattern):
    """After an empty match the two go on at different places."""
    if compile_pattern(pattern).match(""):
        raise ValueError(f"pattern is {pattern!r:.80}; it must not match where there is nothing")
