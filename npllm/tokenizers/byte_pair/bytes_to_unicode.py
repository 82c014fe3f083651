"""Byte strings as text that can be read and printed, as GPT-2's files have them: " the" is "Ġthe".

A printable byte is written as the character of the same number, the others, a blank among them, as U+0100, U+0101, …
So every token is a word without blanks, even one that is half a character.
"""

# The bytes that are written as the character of their number; and all in GPT-2's order: those first, then the others.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTE_ORDER = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_TO_UNICODE = {
    byte: chr(byte) if byte in PRINTABLE else chr(256 + index - len(PRINTABLE)) for index, byte in enumerate(BYTE_ORDER)
}
UNICODE_TO_BYTE = {character: byte for byte, character in BYTE_TO_UNICODE.items()}


def token_to_unicode(token):
    """b" the" → "Ġthe"."""
    return "".join(BYTE_TO_UNICODE[byte] for byte in token)


def unicode_to_token(text):
    """ "Ġthe" → b" the"; raises ValueError for a character that stands for no byte."""
    try:
        return bytes([UNICODE_TO_BYTE[character] for character in text])
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} in {text!r} stands for no byte in GPT-2's alphabet") from None


def is_id_table(table):
    """Is this a table, as read from JSON, from texts to ids?"""
    return isinstance(table, dict) and all(type(index) is int and index >= 0 for index in table.values())
