"""A text in blocks, each cut into its pieces: enough at once for NumPy, and few enough for the processor's cache.

    [text → blocks → pieces] → keys → ids

A block must end where a piece begins for certain, whatever follows (`sure_starts`). If there is no such place in it,
the block is doubled. So a text is read from left to right, and a single piece of many megabytes is a block by itself.
Short texts share a block.
"""

from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN
from npllm.tokenizers.vectorized.char_classes import kind_table, read_characters
from npllm.tokenizers.vectorized.pretoken_cache import PADDING
from npllm.tokenizers.vectorized.pretokenize_gpt2 import NO_BREAKS, gpt2_starts
from npllm.tokenizers.vectorized.pretokenize_gpt4 import CL100K, O200K, modern_starts
from npllm.tokenizers.vectorized.safe_split_points import sure_starts

BLOCK = 1 << 19  # in characters; smaller blocks are lost in calls of NumPy, larger ones fall out of the cache
STARTS = {
    GPT2_PATTERN: gpt2_starts,
    CL100K_PATTERN: lambda codes, breaks: modern_starts(codes, CL100K, breaks),
    O200K_PATTERN: lambda codes, breaks: modern_starts(codes, O200K, breaks),
}


class Block(NamedTuple):
    """The bytes of a text, (n,) uint8 with PADDING behind, and the pieces in it: first byte and length, (pieces,)."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def blocks_of(text, starts_of):
    """A text without surrogates as Blocks; `starts_of` is one of STARTS."""
    position, size = 0, BLOCK
    while position < len(text):
        data, codes, offsets = read_characters(text[position : position + size])
        last = position + size >= len(text)
        end = len(codes) if last else last_sure_start(codes)
        if end == 0:
            size *= 2
            continue
        starts = starts_of(codes, NO_BREAKS)
        starts = starts[: np.searchsorted(starts, end)]
        yield _block(data, offsets, starts, end)
        position, size = position + end, BLOCK


def joined_block(texts, starts_of):
    """Texts in one Block, with a line break behind each that is no part of them; and which pieces those breaks are."""
    data, codes, offsets = read_characters("\n".join([*texts, ""]))
    breaks = np.cumsum([len(text) + 1 for text in texts]) - 1
    starts = starts_of(codes, breaks)
    return _block(data, offsets, starts, len(codes)), np.searchsorted(starts, breaks)


def bundles(texts):
    """Lists of texts in their order: a long one alone, or as many short ones as make a block."""
    waiting, size = [], 0
    for text in texts:
        if waiting and size + len(text) >= BLOCK:
            yield waiting
            waiting, size = [], 0
        waiting.append(text)
        size += len(text) + 1
    if waiting:
        yield waiting


def last_sure_start(codes):
    """The last place of a block where a piece begins whatever follows and whatever came before, 0 if there is none."""
    for size in (1 << 8, len(codes)):  # mostly there is one near the end
        tail = codes[-size:]
        found = np.flatnonzero(sure_starts(tail, kind_table().take(tail)))
        if len(found):
            return len(codes) - len(tail) + int(found[-1])
    return 0


def _block(data, offsets, starts, end):
    """A Block of the first `end` characters; places in characters become places in bytes."""
    if offsets is not None:
        starts, end = offsets.take(starts), offsets[end]
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = end - starts[-1]
    return Block(np.frombuffer(data + PADDING, np.uint8), starts, lengths)
