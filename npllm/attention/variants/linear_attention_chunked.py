"""Linear attention for a chunk of positions at a time: the same numbers from matrix products, without T × T weights.

    q, k, v → chunks of C positions → [C × C weights within a chunk, the state for all positions before it] → y

The parallel algorithm of linear_attention.py computes T × T weights, the recurrent one takes a step for each position.
In a chunk that starts with the state [S | z], the sums of all positions of the chunk are

    [n | d] = Q [S | z] + tril(Q Kᵀ) [V | 1],      Y = n / d

The first term is what the recurrent algorithm reads from the state, the second one is the parallel algorithm within the
chunk. The state after the chunk is [S | z] + Kᵀ [V | 1]. The number of operations grows with T (C + D), the memory
with T.

Yang, Wang, Shen, Panda, Kim 2024, Gated Linear Attention Transformers with Hardware-Efficient Training, section 2.2.
"""

from functools import partial

import numpy as np

from npllm.attention.masks import causal_mask, document_mask
from npllm.attention.variants.chunks import (
    ChunkedCache,
    advance,
    each_chunk,
    for_head_groups,
    starts_of_documents,
    states_before_chunks,
    times,
)
from npllm.attention.variants.normalizer import append_ones, divide, divide_backward
from npllm.attention.variants.recurrence import check_qkv, initial_state, last_state_gradient
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_given, check_gradient, check_positive, drop_none

CHUNK = 64  # positions


class LinearAttentionCache(ChunkedCache):
    """The cache of the chunked form: the inputs, y, the inverse divisors and the first state, but no later state."""

    @property
    def weights(self) -> np.ndarray:
        """The weights A of the parallel algorithm, (..., T, T), computed when they are read."""
        length = self.q.shape[-2]
        mask = causal_mask(length, length) if self.document_ids is None else document_mask(self.document_ids)
        return self.q @ self.k.mT * mask


def linear_attention_chunked(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
    chunk: int = CHUNK,
) -> tuple[np.ndarray, np.ndarray]:
    """Y = n / d,  [n | d] = Q [S | z] + tril(Q Kᵀ) [V | 1]

    (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1), (..., T) → (..., T, E), (..., D, E + 1)

    The chunked algorithm for linear_attention_recurrent, with `chunk` positions at a time; the last chunk may be
    shorter. The other arguments and the values are those of linear_attention_recurrent.
    """
    return linear_attention_chunked_forward(q, k, v, state, document_ids, chunk)[0]


def linear_attention_chunked_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
    chunk: int = CHUNK,
) -> tuple[tuple[np.ndarray, np.ndarray], LinearAttentionCache]:
    """Y and the last state; the cache is a LinearAttentionCache."""
    check_given(q=q, k=k, v=v)
    q, k, v, state = as_floats(q=q, k=k, v=v, state=state)
    check_qkv(q, k, v)
    check_positive(chunk=chunk)
    start, starts = initial_state(state, k, append_ones(v[..., :0, :])), starts_of_documents(document_ids, q.shape[:-1])
    y, inverse, last = np.empty_like(v), np.empty((*v.shape[:-1], 1), v.dtype), start.copy()

    for_head_groups(partial(_forward_group, chunk), q, k, v, y, inverse, last, starts)
    cache = LinearAttentionCache(
        q=q,
        k=k,
        v=v,
        y=y,
        inverse=inverse,
        start=start,
        starts=starts,
        document_ids=document_ids,
        chunk=chunk,
        has_state=state is not None,
    )
    return (y, last), cache


def linear_attention_chunked_backward(
    doutputs: tuple[np.ndarray, np.ndarray | None], cache: Cache
) -> tuple[np.ndarray, ...]:
    """dA = tril([dn | dd] [V | 1]ᵀ),  dQ = dA K + dn Sᵀ,  dK = dAᵀ Q + V dSᵀ,  dV = tril(Q Kᵀ)ᵀ dn + K dS

    (..., T, E), (..., D, E + 1) → (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1)

    `doutputs` is the pair of the gradients of y and of the last state; None for the latter means zeros. dS is the
    gradient of the state after the chunk, where S′ = S + Kᵀ V; the loop goes from the last chunk to the first, and
    dS + Qᵀ dn is that of the state before the chunk. The states before the chunks and the weights are computed again.
    """
    dy, dlast = doutputs
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    dq, dk, dv = (np.empty_like(x) for x in (cache.q, cache.k, cache.v))
    dstart = last_state_gradient(dlast, cache.start).copy()

    arrays = (cache.q, cache.k, cache.v, cache.y, cache.inverse, cache.start, cache.starts)
    for_head_groups(partial(_backward_group, cache.chunk), *arrays, dy, dq, dk, dv, dstart)
    return drop_none(dq, dk, dv, dstart if cache.has_state else None)


def _forward_group(
    chunk: int,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    y: np.ndarray,
    inverse: np.ndarray,
    state: np.ndarray,
    starts: np.ndarray | None,
) -> None:
    """Y, 1 / d and the last state of a group of heads, written into `y`, `inverse` and `state`."""
    for rows, reach in each_chunk(k, starts, chunk):
        values = append_ones(v[:, rows])
        weights = q[:, rows] @ k[:, rows].mT
        weights *= reach.within
        sums = times(q[:, rows], reach.from_start) @ state
        sums += weights @ values
        y[:, rows], division = divide(sums)
        inverse[:, rows] = division.inverse
        advance(state, k[:, rows], values, reach)


def _backward_group(
    chunk: int,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    y: np.ndarray,
    inverse: np.ndarray,
    start: np.ndarray,
    starts: np.ndarray | None,
    dy: np.ndarray,
    dq: np.ndarray,
    dk: np.ndarray,
    dv: np.ndarray,
    dstate: np.ndarray,
) -> None:
    """The gradients of a group of heads, written into dq, dk, dv and, from that of the last state, `dstate`."""
    states = states_before_chunks(start, k, lambda rows: append_ones(v[:, rows]), starts, chunk)
    for n, (rows, reach) in zip(reversed(range(len(states))), each_chunk(k, starts, chunk, last_first=True)):
        q_c, k_c, values = q[:, rows], k[:, rows], append_ones(v[:, rows])
        dsums = divide_backward(dy[:, rows], Cache(y=y[:, rows], inverse=inverse[:, rows]))
        weights, dweights = q_c @ k_c.mT, dsums @ values.mT
        weights *= reach.within
        dweights *= reach.within
        dq[:, rows] = dweights @ k_c + times(dsums @ states[n].mT, reach.from_start)
        dk[:, rows] = dweights.mT @ q_c + times(values @ dstate.mT, reach.to_end)
        dvalues = weights.mT @ dsums + times(k_c @ dstate, reach.to_end)
        dv[:, rows] = dvalues[..., :-1]
        if reach.across is not None:
            dstate *= reach.across
        dstate += times(q_c, reach.from_start).mT @ dsums
