"""Which characters of the text does a token stand for?

    text → ids → [the place in the text of each]

Tokens are bytes, and a byte-level tokenizer loses none: the tokens of a text are its bytes in UTF-8, one token behind
the other. So a token's place in bytes is a running sum of lengths, and its place in characters follows from where the
bytes of each character begin. A token that has only some bytes of a character is given the whole character; so the
places of tokens that share one overlap.
"""

import numpy as np

from npllm.tokenizers.vectorized.char_classes import read_characters


def offsets_of(text, repaired, lengths):
    """The first character of each token and the one behind its last: bytes of each token (n,) → (n, 2) int64.

    `repaired` is the text without surrogates, of which the tokens were made; the places are those in `text`. Raises
    ValueError if the tokens do not make up the text, as with a pattern that leaves out some of it.
    """
    data, _, begins = read_characters(repaired)
    if begins is None:
        begins = np.arange(len(data) + 1)
    ends = np.cumsum(lengths, dtype=np.int64)
    if len(data) != (ends[-1] if len(ends) else 0):
        raise ValueError("the pattern leaves out part of the text, so the places of its tokens are not known")
    first = np.searchsorted(begins, ends - lengths, side="right") - 1
    last = np.searchsorted(begins, ends, side="left")
    places = np.stack([first, last], axis=1)
    return places if len(text) == len(repaired) else _places_in_original(text, repaired)[places]


def _places_in_original(text, repaired):
    """Where each character of the repaired text begins in the one given: two halves of a pair have become one."""
    places, place = [], 0
    for character in repaired:
        places.append(place)
        place += 1 if text[place] == character or character == "\ufffd" else 2
    return np.array([*places, place])
