"""The delta rule for a chunk of positions at a time: the same numbers as the recurrent algorithm, from matrix products.

    q, k, v, β → chunks of C positions → [triangular system in each] → y

The recurrent algorithm of delta_net.py takes one position at a time:

    u_t = β_t (v_t − S_{t−1}ᵀ k_t),      S_t = S_{t−1} + k_t u_tᵀ,      y_t = S_tᵀ q_t

In a chunk that starts with the state S, the state before position r is S + Σ_{i<r} k_i u_iᵀ, so the u of a chunk solve
a triangular system:

    u_r + β_r Σ_{i<r} (k_r·k_i) u_i = β_r (v_r − Sᵀ k_r)      that is      L U = β (V − K S),  L = I + tril(β K Kᵀ, −1)

L does not depend on S and is inverted for all chunks at once. The loop over chunks is left with matrix products:
U = L⁻¹ β (V − K S), Y = Q S + tril(Q Kᵀ) U, and S + Kᵀ U for the next chunk. (L⁻¹ β K is the W of the WY
representation, which writes a product of matrices I − β k kᵀ as one I − Kᵀ W.)

Yang, Wang, Zhang, Shen, Kim 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, sec. 3.
"""

from typing import NamedTuple

import numpy as np

from npllm.attention.variants.recurrence import (
    check_delta_rule_inputs,
    initial_state,
    keep_factors,
    last_state_gradient,
)
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
    """Y and the last state; the cache holds, chunk by chunk, the inputs, L⁻¹, U as `written`, and the first states."""
    q, k, v, beta, state = check_delta_rule_inputs(q, k, v, beta, state)
    check_positive(chunk=chunk)
    start, length = initial_state(state, k, v), q.shape[-2]
    has_state, chunk = state is not None, min(chunk, max(length, 1))
    reach = _reach(keep_factors(document_ids, q.shape[:-1], q.dtype), chunk)
    q, k, v, beta = (_split_chunks(x, chunk) for x in (q, k, v, beta[..., None]))
    overlaps = k @ k.mT * np.tril(reach.within, -1)  # k_r·k_i for i < r
    inverse = _inverse(np.eye(chunk, dtype=q.dtype) + beta * overlaps)
    scores = q @ k.mT * reach.within

    state, states, written = start, np.empty((len(q), *start.shape), q.dtype), np.empty_like(v)
    for n in range(len(q)):
        states[n] = state
        written[n] = inverse[n] @ (beta[n] * (v[n] - (k[n] * reach.from_start[n]) @ state))
        state = reach.across[n] * state + (k[n] * reach.to_end[n]).mT @ written[n]
    y = (q * reach.from_start) @ states + scores @ written
    cache = Cache(
        q=q,
        k=k,
        v=v,
        beta=beta,
        overlaps=overlaps,
        inverse=inverse,
        scores=scores,
        states=states,
        written=written,
        reach=reach,
        start=start,
        length=length,
        has_state=has_state,
    )
    return (_join_chunks(y, length), state.copy()), cache


def delta_rule_chunked_backward(doutputs: tuple[np.ndarray, np.ndarray | None], cache: Cache) -> tuple[np.ndarray, ...]:
    """dU = tril(Q Kᵀ)ᵀ dY + K dS′,  G = L⁻ᵀ dU,  dV = β G

    (..., T, E), (..., D, E) → (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E)

    S′ = S + Kᵀ U is the state after the chunk; the loop goes from the last chunk to the first and carries dS. U is used
    by Y and by S′. L U = R gives dR = G = L⁻ᵀ dU and dL = −G Uᵀ. R = β (V − K S) gives dV = β G; S is used there and in
    Y, so dS = Qᵀ dY + dS′ − Kᵀ dV. β_r is a factor of v_r − Sᵀ k_r in R and of Σ_{i<r} (k_r·k_i) u_i in L, so dβ_r is
    the product of G_r with v_r − Sᵀ k_r − Σ_{i<r} (k_r·k_i) u_i. Both factors of k_r·k_i get a gradient from dL.
    """
    q, k, v, beta = cache.q, cache.k, cache.v, cache.beta
    states, written, reach = cache.states, cache.written, cache.reach
    shape = (*q.shape[1:-2], cache.length, v.shape[-1])
    dy, dlast = doutputs
    dy = _split_chunks(check_gradient(dy, shape, v.dtype), q.shape[-2])
    dwritten = cache.scores.mT @ dy  # y = (q * from_start) @ states + scores @ written
    dstates = (q * reach.from_start).mT @ dy
    dright, dnext = np.empty_like(v), np.empty_like(states)  # of R; of the state after each chunk
    dstate = last_state_gradient(dlast, cache.start)
    for n in reversed(range(len(q))):
        dnext[n] = dstate  # state = across * state + (k * to_end)ᵀ @ written
        dwritten[n] += (k[n] * reach.to_end[n]) @ dstate
        dright[n] = cache.inverse[n].mT @ dwritten[n]  # written = inverse @ R
        dstate = reach.across[n] * dstate + dstates[n]
        dstate = dstate - (k[n] * reach.from_start[n]).mT @ (beta[n] * dright[n])  # R = beta * (v - k @ state)

    dscores = dy @ written.mT * reach.within  # scores = q kᵀ
    dq = reach.from_start * (dy @ states.mT) + dscores @ k
    dv = beta * dright
    doverlaps = -beta * (dright @ written.mT) * np.tril(reach.within, -1)  # L = I + beta * overlaps
    dk = dscores.mT @ q + reach.to_end * (written @ dnext.mT) - reach.from_start * (dv @ states.mT)
    dk += doverlaps @ k + doverlaps.mT @ k  # overlaps = k kᵀ
    error = v - (k * reach.from_start) @ states - cache.overlaps @ written
    dbeta = (dright * error).sum(axis=-1, keepdims=True)
    dq, dk, dv, dbeta = (_join_chunks(gradient, cache.length) for gradient in (dq, dk, dv, dbeta))
    return drop_none(dq, dk, dv, dbeta[..., 0], dstate if cache.has_state else None)


class _Reach(NamedTuple):
    """Factors of the state between two positions of a chunk: 0 if a document starts between them, else 1."""

    within: np.ndarray  # (N, ..., C, C): from position i to position r ≥ i
    from_start: np.ndarray  # (N, ..., C, 1): from the state before the chunk to position r
    to_end: np.ndarray  # (N, ..., C, 1): from position r to the state after the chunk
    across: np.ndarray  # (N, ..., 1, 1): from the state before the chunk to the state after it


def _reach(keep: np.ndarray, chunk: int) -> _Reach:
    """The factors (T, ..., 1, 1) of keep_factors, for all pairs of positions of each chunk."""
    starts = _split_chunks(np.moveaxis(1 - keep[..., 0], 0, -2), chunk)  # 1 where a document starts
    number = np.cumsum(starts, axis=-2)  # of the document within the chunk; 0 for one that started before it
    last = number[..., -1:, :]
    return _Reach(
        within=np.tril(number == number.mT).astype(keep.dtype),
        from_start=(number == 0).astype(keep.dtype),
        to_end=(number == last).astype(keep.dtype),
        across=(last == 0).astype(keep.dtype),
    )


def _split_chunks(x: np.ndarray, chunk: int) -> np.ndarray:
    """(..., T, D) → (N, ..., C, D), the chunk axis first. The last chunk is padded with zeros, which add nothing."""
    *batch, length, channels = x.shape
    num_chunks = -(-length // chunk)  # rounded up
    padded = np.zeros((*batch, num_chunks * chunk, channels), x.dtype)
    padded[..., :length, :] = x
    return np.moveaxis(padded.reshape(*batch, num_chunks, chunk, channels), -3, 0)


def _join_chunks(x: np.ndarray, length: int) -> np.ndarray:
    """Undo _split_chunks: (N, ..., C, D) → (..., T, D)."""
    x = np.moveaxis(x, 0, -3)
    *batch, num_chunks, chunk, channels = x.shape
    return x.reshape(*batch, num_chunks * chunk, channels)[..., :length, :]


def _inverse(matrix):
    """The inverse of lower triangular matrices with ones on the diagonal; nan where a number has overflowed.

    Such a matrix always has an inverse, but not once it has infinite entries.
    """
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)
