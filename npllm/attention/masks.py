"""Masks: who may look at whom. True where a query may look at a key.

    q, k → scores → [mask] → softmax → weights → context

Every query and every key has a place, its number in the sequence. Most masks are a rule on two places: no looking
ahead, not too far back, every so many steps. Others are a rule on what stands there: filling, another document.
Boolean masks are combined by `&` and broadcast like any array, (..., T, S).

Sliding window: Beltagy et al. 2020, Longformer, section 3.1; sinks: Xiao et al. 2023, StreamingLLM, section 3.2;
strided: Child et al. 2019, Sparse Transformers, section 4.3; blocks: Zaheer et al. 2020, Big Bird, section 2; packing:
Krell et al. 2021, Efficient Sequence Packing without Cross-contamination, section 3.2.
"""

import numpy as np

from npllm.core.checks import check_positive


def distances(query_positions, key_positions):
    """distance[t, s] = t − s, positive towards the past      (..., T), (..., S) → (..., T, S)"""
    return np.asarray(query_positions)[..., :, None] - np.asarray(key_positions)[..., None, :]


def position_mask(query_positions, key_positions, window=None, sinks=0):
    """mask[t, s] = (0 ≤ s ≤ t) and (t − s < window or s < sinks)      (..., T), (..., S) → (..., T, S)

    t and s are places. A negative place is filling: nobody looks at it. With a `window` a query sees its own place
    and the window − 1 before it, and besides the first `sinks` places, which softmax needs as somewhere to look when
    there is nothing to see.
    """
    window, sinks = _check_window(window, sinks)
    query, key = np.asarray(query_positions)[..., :, None], np.asarray(key_positions)[..., None, :]
    seen = (key >= 0) & (key <= query)
    if window is not None:
        seen &= (query - key < window) | (key < sinks)
    return seen


def causal_mask(num_queries, num_keys, offset=0, window=None, sinks=0):
    """mask[t, s] = (s ≤ offset + t), and within the window: True where position t may look      an array (T, S)

    `offset` is the place of the first query; keys that were there before (a cache) make it greater than 0.
    """
    if offset < 0:
        raise ValueError(f"offset is {offset}; it must be at least 0, the place of the first query among the keys")
    return position_mask(np.arange(offset, offset + num_queries), np.arange(num_keys), window, sinks)


def padding_mask(lengths, num_keys):
    """mask[b, s] = (s < lengths[b])      (B) → (B, 1, 1, S)

    For sequences of different lengths, filled up at the end: no query of any head looks at the filling.
    """
    return (np.arange(num_keys) < np.asarray(lengths)[:, None])[:, None, None, :]


def document_mask(document_ids):
    """mask[t, s] = (t and s stand in one document) and s ≤ t      (..., T) → (..., T, T)

    Several documents in one row, one after the other, each attending to itself as if it stood alone. `documents` gives
    every position the number of its document; a document begins where the number differs from the one before.
    """
    number = np.cumsum(document_starts(document_ids), axis=-1)
    length = number.shape[-1]
    return (number[..., :, None] == number[..., None, :]) & causal_mask(length, length)


def document_positions(document_ids):
    """places[t] = t − (where the document of t begins)      (..., T) → (..., T)"""
    begins = document_starts(document_ids)
    place = np.arange(begins.shape[-1])
    return place - np.maximum.accumulate(np.where(begins, place, 0), axis=-1)


def document_starts(document_ids):
    """begins[t] = (t = 0 or documents[t] ≠ documents[t − 1])      (..., T) → (..., T)"""
    document_ids = np.asarray(document_ids)
    if document_ids.ndim == 0:
        raise ValueError("documents is a single number; it must have one for every position, (T) or (B, T)")
    begins = np.ones(document_ids.shape, bool)
    begins[..., 1:] = document_ids[..., 1:] != document_ids[..., :-1]
    return begins


def strided_mask(query_positions, key_positions, stride):
    """mask[t, s] = (t − s < stride or (t − s) mod stride = 0)      (..., T), (..., S) → (..., T, S)

    The last `stride` places, and before them every stride-th: two layers of it, with `visible`, connect any two places,
    at a cost of T √T instead of T² for a stride of √T.
    """
    check_positive(stride=stride)
    distance = distances(query_positions, key_positions)
    return (distance < stride) | (distance % stride == 0)


def block_mask(query_positions, key_positions, block, layout):
    """mask[t, s] = layout[t // block, s // block]      (..., T), (..., S) → (..., T, S)

    `layout` (blocks of queries, blocks of keys) is a small boolean table: what is forbidden is forbidden a block at a
    time, so that a kernel may skip it whole. Filling counts as block 0. Raises ValueError if the table is too small.
    """
    check_positive(block=block)
    layout = np.asarray(layout, bool)
    rows, columns = (np.maximum(positions, 0) // block for positions in (query_positions, key_positions))
    needed = (int(rows.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1)
    if layout.ndim != 2 or layout.shape[0] < needed[0] or layout.shape[1] < needed[1]:
        raise ValueError(f"layout has shape {layout.shape}; for these places in blocks of {block} it must be {needed}")
    return layout[rows[..., :, None], columns[..., None, :]]


def _check_window(window, sinks):
    if window is not None:
        check_positive(window=window)
    elif sinks:
        raise ValueError(f"sinks is {sinks} but window is None; without a window everything before is seen anyway")
    if sinks < 0:
        raise ValueError(f"sinks is {sinks}; it must be at least 0")
    return window, sinks
