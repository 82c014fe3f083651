"""A text in blocks, each divided into pre-tokens: large enough for array operations, small enough for the CPU's caches.

    [text → blocks → pre-tokens] → keys → ids

A block ends at its last safe split point (see `safe_split_points`), so that the pre-tokens of the blocks are those of
the whole text. If it has none, its size is doubled. So a text is read from left to right, and a single pre-token of
many megabytes is a block by itself. Short texts share a block, with a separator after each.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.vectorized.char_classes import text_to_arrays
from npllm.tokenizers.vectorized.pretoken_table import PADDING
from npllm.tokenizers.vectorized.pretokenize_gpt2 import NO_SEPARATORS
from npllm.tokenizers.vectorized.pretokenizers import Pretokenizer
from npllm.tokenizers.vectorized.safe_split_points import last_safe_split_point

BLOCK_SIZE = 1 << 19  # characters; smaller blocks spend their time in NumPy's calls, larger ones exceed the caches


class Block(NamedTuple):
    """A text's bytes in UTF-8, (n,) uint8 and PADDING, with the first byte and the length of each pre-token, (P,)."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def split_into_blocks(text: str, pretokenizer: Pretokenizer) -> Iterator[Block]:
    """A text without surrogates as Blocks; for the pre-tokenizer see `pretokenizers`."""
    position, size = 0, BLOCK_SIZE
    while position < len(text):
        data, codes, offsets = text_to_arrays(text[position : position + size])
        at_end = position + size >= len(text)
        end = len(codes) if at_end else last_safe_split_point(codes)
        if end == 0:
            size *= 2
            continue
        starts = pretokenizer(codes, NO_SEPARATORS)
        starts = starts[: np.searchsorted(starts, end)]
        yield _block(data, offsets, starts, end)
        position, size = position + end, BLOCK_SIZE


def join_into_block(texts: Sequence[str], pretokenizer: Pretokenizer) -> tuple[Block, np.ndarray]:
    """Several texts in one Block, with a separator after each, and which of its pre-tokens are these separators."""
    data, codes, offsets = text_to_arrays("\n".join([*texts, ""]))
    separators = np.cumsum([len(text) + 1 for text in texts]) - 1
    starts = pretokenizer(codes, separators)
    return _block(data, offsets, starts, len(codes)), np.searchsorted(starts, separators)


def group_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive texts in lists of at most BLOCK_SIZE characters in total; a longer text is a list by itself."""
    group, size = [], 0
    for text in texts:
        if group and size + len(text) >= BLOCK_SIZE:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text) + 1
    if group:
        yield group


def _block(data, offsets, starts, end):
    """A Block of the first `end` characters; positions in characters become positions in bytes."""
    if offsets is not None:
        starts, end = offsets.take(starts), offsets[end]
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = end - starts[-1]
    return Block(np.frombuffer(data + PADDING, np.uint8), starts, lengths)
