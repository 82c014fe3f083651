"""The position in the text of each token.

    text → ids → [first and last character of each]

Tokens are bytes, and a byte-level tokenizer loses none: the tokens of a text are its UTF-8 bytes, in order. So the
position of a token in bytes is a running sum of lengths, and its position in characters follows from the byte at which
each character begins. A token that has only some bytes of a character is assigned the whole character, so the
positions of tokens that share a character overlap.
"""

import numpy as np

from npllm.tokenizers.vectorized.char_classes import text_to_arrays


def offsets_of(text: str, encodable_text: str, lengths: np.ndarray) -> np.ndarray:
    """The first character of each token and the one after its last: number of bytes of each token (n,) → (n, 2) int64.

    `encodable_text` is the text without surrogates, which was encoded; the offsets are positions in `text`. Raises
    ValueError if the tokens do not make up the text because the pattern leaves out part of it.
    """
    data, _, char_starts = text_to_arrays(encodable_text)
    if char_starts is None:  # one byte for each character
        char_starts = np.arange(len(data) + 1)
    ends = np.cumsum(lengths, dtype=np.int64)
    if len(data) != (ends[-1] if len(ends) else 0):
        raise ValueError("the pattern leaves out part of the text, so the offsets of its tokens are unknown")
    first = np.searchsorted(char_starts, ends - lengths, side="right") - 1
    last = np.searchsorted(char_starts, ends, side="left")
    offsets = np.stack([first, last], axis=1)
    return offsets if len(text) == len(encodable_text) else _original_positions(text, encodable_text)[offsets]


def _original_positions(text, encodable_text):
    """The position in `text` of each character of `encodable_text`, in which a pair of surrogates is one character."""
    positions, position = [], 0
    for character in encodable_text:
        positions.append(position)
        position += 1 if text[position] == character or character == "\ufffd" else 2
    return np.array([*positions, position])
