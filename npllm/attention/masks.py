"""Attention masks: boolean arrays, True where a query may attend to a key.

    q, k → scores → [mask] → softmax → weights → context

Every query and every key has a position, its index in the sequence. Most masks are rules on two positions: the key is
not later than the query, not too far back, or at a regular distance. Others depend on what a position holds: padding,
or a token of another document. Masks broadcast like any array, to (..., T, S), and are combined by `&`.

Sliding window: Beltagy et al. 2020, Longformer, section 3.1; sinks: Xiao et al. 2023, StreamingLLM, section 3.2;
strided: Child et al. 2019, Sparse Transformers, section 4.3; blocks: Zaheer et al. 2020, Big Bird, section 2; packing:
Krell et al. 2021, Efficient Sequence Packing without Cross-contamination, section 3.2.
"""

import numpy as np

from npllm.core.checks import MAX_SIZE, as_array, as_indices, check_integer, check_positive, check_shape


def distances(query_positions: np.ndarray, key_positions: np.ndarray) -> np.ndarray:
    """distance[t, s] = t − s, positive for earlier keys      (..., T), (..., S) → (..., T, S)"""
    query, key = as_positions("query_positions", query_positions), as_positions("key_positions", key_positions)
    return query[..., :, None] - key[..., None, :]


def causal_mask(
    num_queries: int, num_keys: int, offset: int = 0, window: int | None = None, sinks: int = 0
) -> np.ndarray:
    """mask[t, s] = (s ≤ offset + t), and within the window      () → (T, S)

    `offset` is the position of the first query among the keys; it is greater than 0 where keys are kept in a cache.
    """
    check_counts(num_queries=num_queries, num_keys=num_keys, offset=offset)
    return position_mask(np.arange(offset, offset + num_queries), np.arange(num_keys), window, sinks)


def position_mask(
    query_positions: np.ndarray, key_positions: np.ndarray, window: int | None = None, sinks: int = 0
) -> np.ndarray:
    """mask[t, s] = (0 ≤ s ≤ t) and (t − s < window or s < sinks)      (..., T), (..., S) → (..., T, S)

    t and s are positions. A key at a negative position is padding, and no query attends to it. With a `window` a query
    attends to its own position and the window − 1 before it, and always to the first `sinks` positions: they absorb
    the weight that softmax must put somewhere.
    """
    check_window(window, sinks)
    query = as_positions("query_positions", query_positions)[..., :, None]
    key = as_positions("key_positions", key_positions)[..., None, :]
    mask = (key >= 0) & (key <= query)
    if window is not None:
        mask &= (query - key < window) | (key < sinks)
    return mask


def padding_mask(lengths: np.ndarray, num_keys: int) -> np.ndarray:
    """mask[b, s] = (s < lengths[b])      (B) → (B, 1, 1, S)

    For sequences of different lengths that are padded at the end: no query of any head attends to the padding. Raises
    IndexError for a length that is not in [0, num_keys].
    """
    check_counts(num_keys=num_keys)
    lengths = as_indices("lengths", lengths, 0, num_keys + 1)
    check_shape("lengths", lengths, "(B)")
    return (np.arange(num_keys) < lengths[:, None])[:, None, None, :]


def document_mask(document_ids: np.ndarray) -> np.ndarray:
    """mask[t, s] = (t and s are in one document) and s ≤ t      (..., T) → (..., T, T)

    For several documents packed into one sequence: no position attends to another document. A document starts
    where its id differs from the one before.
    """
    number = np.cumsum(document_starts(document_ids), axis=-1)
    length = number.shape[-1]
    return (number[..., :, None] == number[..., None, :]) & causal_mask(length, length)


def document_positions(document_ids: np.ndarray) -> np.ndarray:
    """positions[t] = t − (start of the document of t)      (..., T) → (..., T)"""
    starts = document_starts(document_ids)
    index = np.arange(starts.shape[-1])
    return index - np.maximum.accumulate(np.where(starts, index, 0), axis=-1)


def document_starts(document_ids: np.ndarray) -> np.ndarray:
    """starts[t] = (t = 0 or document_ids[t] ≠ document_ids[t − 1])      (..., T) → (..., T)"""
    document_ids = as_positions("document_ids", document_ids)
    starts = np.ones(document_ids.shape, bool)
    starts[..., 1:] = document_ids[..., 1:] != document_ids[..., :-1]
    return starts


def strided_mask(query_positions: np.ndarray, key_positions: np.ndarray, stride: int) -> np.ndarray:
    """mask[t, s] = (t − s < stride or (t − s) mod stride = 0)      (..., T), (..., S) → (..., T, S)

    The last `stride` positions, and every stride-th before them. Two layers of it (with a causal mask) connect any two
    positions; for a stride of √T the number of scores is T √T instead of T².
    """
    check_positive(stride=stride)
    distance = distances(query_positions, key_positions)
    return (distance < stride) | (distance % stride == 0)


def block_mask(query_positions: np.ndarray, key_positions: np.ndarray, block: int, layout: np.ndarray) -> np.ndarray:
    """mask[t, s] = layout[t // block, s // block]      (..., T), (..., S) → (..., T, S)

    `layout` (query blocks, key blocks) is a small boolean table. Positions of padding count as block 0. Raises
    ValueError if the table is too small.
    """
    check_positive(block=block)
    layout = as_array("layout", layout).astype(bool)
    query, key = as_positions("query_positions", query_positions), as_positions("key_positions", key_positions)
    rows, columns = np.maximum(query, 0) // block, np.maximum(key, 0) // block
    needed = (int(rows.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1)
    if layout.ndim != 2 or layout.shape[0] < needed[0] or layout.shape[1] < needed[1]:
        raise ValueError(
            f"layout has shape {layout.shape}; for these positions in blocks of {block} it must be {needed}"
        )
    return layout[rows[..., :, None], columns[..., None, :]]


def check_window(window: int | None, sinks: int) -> None:
    """Raise ValueError unless the window is at least 1 and sinks at least 0, and 0 without a window."""
    check_integer("sinks", sinks, 0)
    if window is not None:
        check_positive(window=window)
    elif sinks:
        raise ValueError(f"sinks is {sinks} but window is None; sinks need a window")


def check_counts(**counts: int) -> None:
    """Raise TypeError unless every named count is an integer, ValueError unless it is at least 0 and below 2³¹."""
    for name, count in counts.items():
        if check_integer(name, count, 0) >= MAX_SIZE:
            raise ValueError(f"{name} is {count}; it must be less than {MAX_SIZE}")


def as_positions(name: str, positions: np.ndarray) -> np.ndarray:
    """Return an array of signed integers (..., T): unsigned ones would wrap around below 0.

    Raises TypeError for another dtype, ValueError for a single number.
    """
    positions = as_array(name, positions)
    if positions.ndim == 0:
        raise ValueError(f"{name} is a single number; it must have one for each position, (T) or (B, T)")
    if positions.dtype.kind == "i":
        return positions
    if positions.dtype.kind != "u" and positions.size:  # an empty list has the dtype float64
        raise TypeError(f"{name} has dtype {positions.dtype}; it must be an integer dtype")
    return positions.astype(np.int64)
