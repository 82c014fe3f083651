"""GPT-2's `bytes_to_unicode`: bytes as printable characters, so that tokens can be written as text.

    b" the"  ↔  "Ġthe"

A printable byte is written as the character with the same code point; every other byte, the space among them, as
U+0100, U+0101, … So every token, even one that is an incomplete UTF-8 sequence, is a text without whitespace.

OpenAI's encoder.py (GPT-2).
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

# The printable bytes, and all bytes in GPT-2's order: the printable ones first.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTE_ORDER = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_TO_UNICODE = {
    byte: chr(byte) if byte in PRINTABLE else chr(256 + index - len(PRINTABLE)) for index, byte in enumerate(BYTE_ORDER)
}
UNICODE_TO_BYTE = {character: byte for byte, character in BYTE_TO_UNICODE.items()}
NO_BYTE = 256
_ALPHABET = np.full(max(map(ord, UNICODE_TO_BYTE)) + 2, NO_BYTE, np.uint16)  # the last entry: all higher code points
_ALPHABET[list(map(ord, UNICODE_TO_BYTE))] = list(UNICODE_TO_BYTE.values())


def token_to_unicode(token: bytes) -> str:
    """b" the" → "Ġthe"."""
    return "".join(BYTE_TO_UNICODE[byte] for byte in token)


def unicode_to_token(text: str) -> bytes:
    """ "Ġthe" → b" the"; raises ValueError for a character that represents no byte."""
    try:
        return bytes([UNICODE_TO_BYTE[character] for character in text])
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} in {text!r} represents no byte in GPT-2's alphabet") from None


def unicode_to_tokens(texts: Sequence[str]) -> list[bytes]:
    """`unicode_to_token` of many texts, all characters in one array operation."""
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    numbers = _ALPHABET.take(np.minimum(characters, len(_ALPHABET) - 1))
    if (numbers == NO_BYTE).any():
        return [unicode_to_token(text) for text in texts]  # raises ValueError with the first such character
    data, ends = numbers.astype(np.uint8).tobytes(), list(accumulate(map(len, texts)))
    return [data[start:end] for start, end in zip([0, *ends], ends)]
