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

from npllm.functional.checks import at_least_one


def distances(query_places, key_places):
    """distance[t, s] = t − s, positive towards the past      (..., T), (..., S) → (..., T, S)"""
    return np.asarray(query_places)[..., :, None] - np.asarray(key_places)[..., None, :]


def visible(query_places, key_places, window=None, sinks=0):
    """mask[t, s] = (0 ≤ s ≤ t) and (t − s < window or s < sinks)      (..., T), (..., S) → (..., T, S)

    t and s are places. A negative place is filling: nobody looks at it. With a `window` a query sees its own place
    and the window − 1 before it, and besides the first `sinks` places, which softmax needs as somewhere to look when
    there is nothing to see.
    """
    window, sinks = _check_window(window, sinks)
    query, key = np.asarray(query_places)[..., :, None], np.asarray(key_places)[..., None, :]
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
    return visible(np.arange(offset, offset + num_queries), np.arange(num_keys), window, sinks)


def padding_mask(lengths, num_keys):
    """mask[b, s] = (s < lengths[b])      (B) → (B, 1, 1, S)

    For sequences of different lengths, filled up at the end: no query of any head looks at the filling.
    """
    return (np.arange(num_keys) < np.asarray(lengths)[:, None])[:, None, None, :]


def document_mask(documents):
    """mask[t, s] = (t and s stand in one document) and s ≤ t      (..., T) → (..., T, T)

    Several documents in one row, one after the other, each attending to itself as if it stood alone. `documents` gives
    every position the number of its document; a document begins where the number differs from the one before.
    """
    number = np.cumsum(document_begins(documents), axis=-1)
    length = number.shape[-1]
    return (number[..., :, None] == number[..., None, :]) & causal_mask(length, length)


def document_places(documents):
    """places[t] = t − (where the document of t begins)      (..., T) → (..., T)"""
    begins = document_begins(documents)
    place = np.arange(begins.shape[-1])
    return place - np.maximum.accumulate(np.where(begins, place, 0), axis=-1)


def document_begins(documents):
    """begins[t] = (t = 0 or documents[t] ≠ documents[t − 1])      (..., T) → (..., T)"""
    documents = np.asarray(documents)
    if documents.ndim == 0:
        raise ValueError("documents is a single number; it must have one for every position, (T) or (B, T)")
    begins = np.ones(documents.shape, bool)
    begins[..., 1:] = documents[..., 1:] != documents[..., :-1]
    return begins


def strided_mask(query_places, key_places, stride):
    """mask[t, s] = (t − s < stride or (t − s) mod stride = 0)      (..., T), (..., S) → (..., T, S)

    The last `stride` places, and before them every stride-th: two layers of it, with `visible`, connect any two places,
    at a cost of T √T instead of T² for a stride of √T.
    """
    at_least_one(stride=stride)
    distance = distances(query_places, key_places)
    return (distance < stride) | (distance % stride == 0)


def block_mask(query_places, key_places, block, layout):
    """mask[t, s] = layout[t // block, s // block]      (..., T), (..., S) → (..., T, S)

    `layout` (blocks of queries, blocks of keys) is a small boolean table: what is forbidden is forbidden a block at a
    time, so that a kernel may skip it whole. Filling counts as block 0. Raises ValueError if the table is too small.
    """
    at_least_one(block=block)
    layout = np.asarray(layout, bool)
    rows, columns = (np.maximum(places, 0) // block for places in (query_places, key_places))
    needed = (int(rows.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1)
    if layout.ndim != 2 or layout.shape[0] < needed[0] or layout.shape[1] < needed[1]:
        raise ValueError(f"layout has shape {layout.shape}; for these places in blocks of {block} it must be {needed}")
    return layout[rows[..., :, None], columns[..., None, :]]


def _check_window(window, sinks):
    if window is not None:
        at_least_one(window=window)
    elif sinks:
        raise ValueError(f"sinks is {sinks} but window is None; without a window everything before is seen anyway")
    if sinks < 0:
        raise ValueError(f"sinks is {sinks}; it must be at least 0")
    return window, sinks
