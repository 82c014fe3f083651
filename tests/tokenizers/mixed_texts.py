"""Texts over mixed alphabets: marks, Hangul, digits, emoji, code, control characters; no surrogates."""

from hypothesis import strategies as st

ALPHABETS = (
    "abcdefABCXYZ  ",
    " \t\n\r\u00a0\u2003\u3000",
    "0123456789\u0663\u00b2\u2167\u00bd\U00011de0",
    "eaoAo\u0301\u0323\u0308\u0338\u0345\u212b\u00e9\u1e69\u0344",  # letters with marks, in several orders
    "\u1100\u1161\u11a8\uac00\uac01\u1175\u11c2",  # Hangul, jamo and syllables
    "\ufb01\ufdfa\u2122\u3300\uff21\uff76\uff9e\u00a8\u32ff",  # compatibility characters
    "\u0915\u094d\u0937\u093f\u093c\u0958\u0e33\u304b\u3099\u0f73",
    "\u4e00\u4e2d\u9fa5\uff0c\u3002\U00020000\uf900",
    "!?.,;:'\"()[]{}<>|/\\+-*=_#$%^&~`@\u20ac\u2190",
    "\U0001f600\u200d\ufe0f\U0001f3fd\U0001f1e9",
    "\x00\x04\x06\x1b\x7f\x85\u200b\ufeff\ufffd",
    "\u1dfa\u08d3\U0001e2ec\u1ac1\U00011938\U00011935\U00011930",  # newer than Unicode 9.0
)
FRAGMENTS = [
    "<|x|>",
    "<|y|>",
    "<|x|",
    "lowest",
    "newer",
    "'s",
    "'LL",
    "don't",
    "  ",
    "return x12",
    "\r\n",
    "HTTPServer",
]

_characters = st.one_of([st.sampled_from(alphabet) for alphabet in ALPHABETS])
mixed_texts = st.lists(_characters | st.sampled_from(FRAGMENTS), max_size=25).map("".join)
