"""What the chunked forms of linear attention and of the delta rule share: chunks of positions, and groups of heads.

    q, k, v → groups of heads, dealt out to threads → in each group, chunk after chunk: [matrix products] → y, state

A chunk of C positions of a group of G heads takes a few products of G small matrices. Its temporary arrays fit the
cache of a core, and no array grows with the length except arguments and results. Between chunks only the state is
carried. Time and memory grow linearly with the length.

Positions of different documents do not see each other, so the state is set to zeros where a document starts. Within a
chunk a few factors of 0 and 1 say so, see Reach.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from npllm.attention.masks import document_starts
from npllm.attention.paths import forced_path
from npllm.attention.variants.recurrence import check_document_ids
from npllm.core.cache import Cache
from npllm.core.threads import num_threads, parallel

MAX_HEADS = 8  # of a group: more, and the temporary arrays of a chunk do not fit the cache


class ChunkedCache(Cache):
    """The cache of a chunked form."""


def takes_chunks(length: int, least: int) -> bool:
    """Whether a sequence of this length is computed in chunks: from `least` on, unless `attention_path` forces a form.

    The path "plain" forces one product or one position at a time, "tiled" forces chunks.
    """
    path = forced_path()
    return length >= least if path is None else path == "tiled"


def for_head_groups(function: Callable, *arrays: np.ndarray | None) -> None:
    """function(*parts) for each group of heads, on several threads      (..., H, T, D), … → (G, T, D), …

    All arrays have the same axes before the last two, and the parts are views of them, into which the function may
    write. None stays None. An array of two axes counts as one head.
    """
    heads = [x if x is None or x.ndim > 2 else x[None] for x in arrays]
    assert heads[0] is not None
    *batch, num_heads = heads[0].shape[:-2]
    largest = min(MAX_HEADS, -(-int(np.prod(batch, dtype=int)) * num_heads // num_threads()))
    num_groups = -(-num_heads // max(largest, 1))
    size = -(-num_heads // max(num_groups, 1))
    groups = [(*where, slice(i * size, (i + 1) * size)) for where in np.ndindex(*batch) for i in range(num_groups)]
    parallel(lambda group: function(*(None if x is None else x[group] for x in heads)), groups)


class Reach(NamedTuple):
    """Factors of the state between two positions of a chunk: 0 if a document starts between them, else 1.

    None stands for a factor of 1, where no document starts.
    """

    within: np.ndarray  # (..., C, C): from position i to position r ≥ i
    before: np.ndarray  # (..., C, C): from position i to position r > i
    from_start: np.ndarray | None = None  # (..., C, 1): from the state before the chunk to position r
    to_end: np.ndarray | None = None  # (..., C, 1): from position r to the state after the chunk
    across: np.ndarray | None = None  # (..., 1, 1): from the state before the chunk to the state after it


def starts_of_documents(document_ids: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """True where a document starts, for each position      (..., T) → (..., T, 1)

    `shape` is (..., T), to which the ids broadcast. None for None. The first position is False: a state that is given
    belongs to the first document.
    """
    if document_ids is None:
        return None
    check_document_ids(document_ids, shape)
    starts = document_starts(document_ids)
    starts[..., :1] = False
    return np.broadcast_to(starts, shape)[..., None]


def each_chunk(
    k: np.ndarray, starts: np.ndarray | None, chunk: int, last_first: bool = False
) -> Iterator[tuple[slice, Reach]]:
    """The positions of each chunk of k (G, T, D), and its Reach; the last chunk may be shorter."""
    length = k.shape[-2]
    first = range(0, length, chunk)
    for start in reversed(first) if last_first else first:
        rows = slice(start, min(start + chunk, length))
        yield rows, _reach(rows.stop - start, None if starts is None else starts[:, rows], k.dtype)


def times(x: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """x · factor; x itself for a factor of None."""
    return x if factor is None else x * factor


def advance(state: np.ndarray, k: np.ndarray, v: np.ndarray, reach: Reach) -> None:
    """state = across · state + (k · to_end)ᵀ v, in place: the state after a chunk      (G, D, E)"""
    if reach.across is not None:
        state *= reach.across
    state += times(k, reach.to_end).mT @ v


def states_before_chunks(
    state: np.ndarray,
    k: np.ndarray,
    written: Callable[[slice], np.ndarray],
    starts: np.ndarray | None,
    chunk: int,
) -> np.ndarray:
    """The state before each chunk, from the first one and what each chunk has written      (G, D, E), … → (N, G, D, E)

    For the backward pass: one state for each chunk, of one group of heads, none of which is kept in the cache.
    """
    state = state.copy()
    states = np.empty((-(-k.shape[-2] // chunk), *state.shape), k.dtype)
    for n, (rows, reach) in enumerate(each_chunk(k, starts, chunk)):
        states[n] = state
        advance(state, k[:, rows], written(rows), reach)
    return states


def _reach(size: int, starts: np.ndarray | None, dtype: np.dtype) -> Reach:
    if starts is None:
        return _whole(size, dtype)
    number = np.cumsum(starts, axis=-2)  # of the document within the chunk; 0 for one that started before it
    last = number[..., -1:, :]
    same = number == number.mT
    return Reach(
        within=np.tril(same).astype(dtype),
        before=np.tril(same, -1).astype(dtype),
        from_start=(number == 0).astype(dtype),
        to_end=(number == last).astype(dtype),
        across=(last == 0).astype(dtype),
    )


@lru_cache(maxsize=16)
def _whole(size: int, dtype: np.dtype) -> Reach:
    """The factors of a chunk in which no document starts. They are shared, so they are not to be written to."""
    within, before = np.tri(size, dtype=dtype), np.tri(size, k=-1, dtype=dtype)
    within.flags.writeable = before.flags.writeable = False
    return Reach(within, before)
