"""The position in the text of each token.

    text → ids → [first and last character of each]

Tokens are bytes. Where the tokens of a text are its UTF-8 bytes, in order, the position of a token in bytes is a
running sum of lengths, and its position in characters follows from the byte at which each character begins. A token
that has only some bytes of a character is assigned the whole character, so the positions of tokens that share a
character overlap.

This does not hold for a text that is normalized, or of which bytes or characters are left out. For such a text the
position of every character is carried along through all steps, with the rules of Hugging Face's library: a composed
character has the position of the first of its parts, and all parts of a decomposed character have its position. (Behind
a byte without a token, that library counts only the bytes that are left; here the positions are those of the
characters.)
"""

from collections.abc import Iterable

import numpy as np

from npllm.tokenizers.byte_pair.added_tokens import Found, Part
from npllm.tokenizers.byte_pair.bytes_to_unicode import unicode_to_token
from npllm.tokenizers.byte_pair.pre_tokenizers import ByteAlphabet, PrefixSpace, Split
from npllm.tokenizers.dispatch import AdaptiveDecoder, AdaptiveEncoder
from npllm.tokenizers.vectorized.char_classes import text_to_arrays


def encode_aligned(
    parts: Iterable[Part | Found], encoder: AdaptiveEncoder, decoder: AdaptiveDecoder, prefix_space: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a text, (n,) int64, and the first character of each token and the one after its last, (n, 2) int64.

    parts         the text divided by `AddedTokens.split_aligned`
    prefix_space  whether every ordinary text begins with a space, which is added if necessary
    """
    ids, offsets = [np.empty(0, np.int64)], [np.empty((0, 2), np.int64)]
    for part in parts:
        if len(part) == 3:
            part_ids, part_offsets = np.array(part[:1]), np.array([part[1:]])
        else:
            text, positions = PrefixSpace().split_aligned(*part)[0] if prefix_space else part
            part_ids, part_offsets = _encode_ordinary(text, encoder, decoder)
            source = np.arange(positions.start, positions.stop) if isinstance(positions, range) else np.array(positions)
            part_offsets = np.stack([source[part_offsets[:, 0]], source[part_offsets[:, 1] - 1] + 1], axis=1)
        ids.append(part_ids)
        offsets.append(part_offsets)
    return np.concatenate(ids), np.concatenate(offsets)


def _encode_ordinary(text, encoder, decoder):
    """Ids (n,) and offsets (n, 2) of a text without added tokens."""
    plain = encoder.plain
    ids = np.concatenate([np.asarray(block, np.int64) for block in encoder.encode_blocks(text)])
    offsets = offsets_of(text, decoder.vectorized.lengths_of(ids))
    if offsets is None or (plain.missing and plain.unknown is not None):
        return _encode_pretokens(plain, text)
    return ids, offsets


def offsets_of(text: str, lengths: np.ndarray) -> np.ndarray | None:
    """The first character of each token and the one after its last: number of bytes of each token (n,) → (n, 2) int64.

    None if the tokens do not make up the text.
    """
    data, _, char_starts = text_to_arrays(text)
    if char_starts is None:  # one byte for each character
        char_starts = np.arange(len(data) + 1)
    ends = np.cumsum(lengths, dtype=np.int64)
    if len(data) != (ends[-1] if len(ends) else 0):
        return None
    first = np.searchsorted(char_starts, ends - lengths, side="right") - 1
    last = np.searchsorted(char_starts, ends, side="left")
    return np.stack([first, last], axis=1)


def _encode_pretokens(plain, text):
    """The ids of a text and their offsets in it, one pre-token after another."""
    ids, offsets = [], []
    for data, positions in _pretokens_aligned(plain.pattern, text):
        for token_id, indices in plain.encode_pretoken_with_bytes(data):
            ids.append(token_id)
            offsets.append((positions[indices[0]], positions[indices[-1]] + 1))
    return np.array(ids, np.int64), np.array(offsets, np.int64).reshape(-1, 2)


def _pretokens_aligned(pattern, text):
    """The pre-tokens of `pretokenize` as bytes, with the positions of the characters that the bytes belong to."""
    steps = (Split(pattern, "removed", invert=True),) if isinstance(pattern, str) else pattern
    aligned = [(text, list(range(len(text))))] if text else []
    for step in steps if ByteAlphabet() in steps else (*steps, ByteAlphabet()):
        aligned = [part for pretoken, positions in aligned for part in step.split_aligned(pretoken, positions)]
    return [(unicode_to_token(pretoken), positions) for pretoken, positions in aligned]


def trim_spaces(offsets: np.ndarray, tokens: Iterable[bytes], keep_prefix: bool) -> np.ndarray:
    """Offsets (n, 2) that leave out the spaces at the ends of each token, as Hugging Face's `trim_offsets`.

    keep_prefix  one space of the first token is kept, as the one that was added before the text
    """
    trimmed = []
    for index, ((first, end), token) in enumerate(zip(offsets.tolist(), tokens)):
        left, right = len(token) - len(token.lstrip(b" ")), len(token) - len(token.rstrip(b" "))
        left -= bool(left and keep_prefix and (index == 0 or first == 0))
        first = min(first + left, end)
        trimmed.append((first, max(end - right, first) if end >= right else end))
    return np.array(trimmed, np.int64).reshape(-1, 2)


def original_positions(text: str, encodable_text: str) -> np.ndarray:
    """The position in `text` of each character of `encodable_text`, in which a pair of surrogates is one character.

    (n + 1,) int64; the last is the number of characters of `text`.
    """
    positions, position = [], 0
    for character in encodable_text:
        positions.append(position)
        position += 1 if text[position] == character or character == "\ufffd" else 2
    return np.array([*positions, position])
