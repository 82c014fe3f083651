"""The delta rule for a chunk of positions at a time: the same numbers as the recurrent algorithm, from matrix products.

    q, k, v, β → chunks of C positions → [triangular system in each] → y

The recurrent algorithm of delta_net.py takes one position at a time:

    u_t = β_t (v_t − S_{t−1}ᵀ k_t),      S_t = S_{t−1} + k_t u_tᵀ,      y_t = S_tᵀ q_t

In a chunk that starts with the state S, the state before position r is S + Σ_{i<r} k_i u_iᵀ, so the u of a chunk solve
a triangular system:

    u_r + β_r Σ_{i<r} (k_r·k_i) u_i = β_r (v_r − Sᵀ k_r)      that is      L U = β (V − K S),  L = I + tril(β K Kᵀ, −1)

Then Y = Q S + tril(Q Kᵀ) U, and the state after the chunk is S + Kᵀ U. (L⁻¹ β K is the W of the WY representation,
which writes a product of matrices I − β k kᵀ as one I − Kᵀ W.) Only the products with S and U wait for the chunk
before; time and memory grow linearly with the length.

Yang, Wang, Zhang, Shen, Kim 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, sec. 3.
"""

from functools import partial

import numpy as np

from npllm.attention.variants.chunks import (
    ChunkedCache,
    advance,
    each_chunk,
    for_head_groups,
    starts_of_documents,
    states_before_chunks,
    times,
)
from npllm.attention.variants.recurrence import check_delta_rule_inputs, initial_state, last_state_gradient
from npllm.attention.variants.triangular import unit_lower_inverse
from npllm.core.cache import Cache
from npllm.core.checks import check_gradient, check_positive, drop_none


def delta_rule_chunked(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
    chunk: int = 32,
) -> tuple[np.ndarray, np.ndarray]:
    """Y = Q S + tril(Q Kᵀ) U,  U = L⁻¹ β (V − K S),  L = I + tril(β K Kᵀ, −1)

    (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E), (..., T) → (..., T, E), (..., D, E)

    The chunked algorithm for delta_rule, with `chunk` positions at a time; the last chunk may be shorter. The other
    arguments and the values are those of delta_rule.
    """
    return delta_rule_chunked_forward(q, k, v, beta, state, document_ids, chunk)[0]


def delta_rule_chunked_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
    chunk: int = 32,
) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
    """Y and the last state; the cache holds the inputs, the first state, L⁻¹ and the `error` v_t − S_{t−1}ᵀ k_t."""
    q, k, v, beta, state = check_delta_rule_inputs(q, k, v, beta, state)
    check_positive(chunk=chunk)
    start, starts = initial_state(state, k, v), starts_of_documents(document_ids, q.shape[:-1])
    has_state, beta = state is not None, beta[..., None]
    y, error, last = np.empty_like(v), np.empty_like(v), start.copy()
    inverse = np.empty((*k.shape[:-1], min(chunk, max(k.shape[-2], 1))), k.dtype)

    for_head_groups(partial(_forward_group, chunk), q, k, v, beta, y, error, inverse, last, starts)
    cache = ChunkedCache(
        q=q,
        k=k,
        beta=beta,
        error=error,
        inverse=inverse,
        start=start,
        starts=starts,
        chunk=chunk,
        has_state=has_state,
    )
    return (y, last), cache


def delta_rule_chunked_backward(doutputs: tuple[np.ndarray, np.ndarray | None], cache: Cache) -> tuple[np.ndarray, ...]:
    """dU = L⁻ᵀ (tril(Q Kᵀ)ᵀ dY + K dS′),  dV = β dU

    (..., T, E), (..., D, E) → (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E)

    S′ = S + Kᵀ U is the state after the chunk; the loop goes from the last chunk to the first and carries dS′. U is
    used by Y, by S′ and by the later rows of U = β (V − K S − tril(K Kᵀ, −1) U); the last gives the factor L⁻ᵀ. With
    the error E in the brackets, dβ is the product of dU and E, and dV = β dU is the gradient of E. S is used there and
    in Y, so dS = Qᵀ dY + dS′ − Kᵀ dV. Both factors of k_r·k_i get a gradient from −tril(dV Uᵀ, −1). The states before
    the chunks are computed again.
    """
    dy, dlast = doutputs
    dy = check_gradient(dy, cache.error.shape, cache.error.dtype)
    dq, dk, dv, dbeta = (np.empty_like(x) for x in (cache.q, cache.k, cache.error, cache.beta))
    dstart = last_state_gradient(dlast, cache.start).copy()

    arrays = (cache.q, cache.k, cache.beta, cache.error, cache.inverse, cache.start, cache.starts)
    for_head_groups(partial(_backward_group, cache.chunk), *arrays, dy, dq, dk, dv, dbeta, dstart)
    return drop_none(dq, dk, dv, dbeta[..., 0], dstart if cache.has_state else None)


def _forward_group(
    chunk: int,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    beta: np.ndarray,
    y: np.ndarray,
    error: np.ndarray,
    inverse: np.ndarray,
    state: np.ndarray,
    starts: np.ndarray | None,
) -> None:
    """Y, the error, L⁻¹ and the last state of a group of heads, written into `y`, `error`, `inverse` and `state`."""
    for rows, reach in each_chunk(k, starts, chunk):
        q_c, k_c, size = q[:, rows], k[:, rows], rows.stop - rows.start
        overlaps, scores = k_c @ k_c.mT, q_c @ k_c.mT
        overlaps *= reach.before  # k_r·k_i for i < r
        scores *= reach.within
        inverse[:, rows, :size] = solve = unit_lower_inverse(beta[:, rows] * overlaps)
        right = v[:, rows] - times(k_c, reach.from_start) @ state
        written = solve @ (beta[:, rows] * right)
        error[:, rows] = right - overlaps @ written
        y[:, rows] = times(q_c, reach.from_start) @ state + scores @ written
        advance(state, k_c, written, reach)


def _backward_group(
    chunk: int,
    q: np.ndarray,
    k: np.ndarray,
    beta: np.ndarray,
    error: np.ndarray,
    inverse: np.ndarray,
    start: np.ndarray,
    starts: np.ndarray | None,
    dy: np.ndarray,
    dq: np.ndarray,
    dk: np.ndarray,
    dv: np.ndarray,
    dbeta: np.ndarray,
    dstate: np.ndarray,
) -> None:
    """The gradients of a group of heads, written into dq to dbeta and, from that of the last state, `dstate`."""
    states = states_before_chunks(start, k, lambda rows: beta[:, rows] * error[:, rows], starts, chunk)
    for n, (rows, reach) in zip(reversed(range(len(states))), each_chunk(k, starts, chunk, last_first=True)):
        q_c, k_c, dy_c, size = q[:, rows], k[:, rows], dy[:, rows], rows.stop - rows.start
        written = beta[:, rows] * error[:, rows]
        scores, dscores = q_c @ k_c.mT, dy_c @ written.mT
        scores *= reach.within
        dscores *= reach.within
        dwritten = inverse[:, rows, :size].mT @ (scores.mT @ dy_c + times(k_c, reach.to_end) @ dstate)
        dbeta[:, rows] = (dwritten * error[:, rows]).sum(axis=-1, keepdims=True)  # written = beta * error
        dv[:, rows] = derror = beta[:, rows] * dwritten  # error = v - k @ state - overlaps @ written
        doverlaps = derror @ written.mT
        doverlaps *= reach.before
        dq[:, rows] = dscores @ k_c + times(dy_c @ states[n].mT, reach.from_start)
        dk_c = dscores.mT @ q_c - (doverlaps + doverlaps.mT) @ k_c
        dk_c += times(written @ dstate.mT, reach.to_end)
        dk_c -= times(derror @ states[n].mT, reach.from_start)
        dk[:, rows] = dk_c
        if reach.across is not None:
            dstate *= reach.across
        dstate += times(q_c, reach.from_start).mT @ dy_c
        dstate -= times(k_c, reach.from_start).mT @ derror
