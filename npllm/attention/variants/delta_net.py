"""DeltaNet: linear attention whose state is updated by the delta rule, which replaces the value stored for a key.

    x → q, k, v, β → split into heads → |q| = |k| = 1 → [delta rule in each] → norm → join the heads → projection

Linear attention only adds to its state S: values stored for the same key add up, and similar keys interfere. The delta
rule computes the value that S predicts for k_t, and adds β_t times the difference between v_t and the prediction:

    u_t = β_t (v_t − S_{t−1}ᵀ k_t),      S_t = S_{t−1} + k_t u_tᵀ,      y_t = S_tᵀ q_t

This is one step of gradient descent on ½ |Sᵀ k_t − v_t|² with the learning rate β_t. With |k_t| = 1 and β_t = 1 the
old value is replaced by v_t; with β_t = 0 the state does not change.

The recurrent algorithm below computes these three lines for each position. The layer uses it for a few positions, and
otherwise the chunked algorithm, which computes the same numbers, see delta_rule_chunked.py.

The layer computes β with a fourth projection and a sigmoid, and normalizes q and k to length 1 instead of a feature map
and a divisor. The published network also has a convolution over four positions and SiLU after the projections of q, k
and v; they are left out here.

Schlag, Irie, Schmidhuber 2021, Linear Transformers Are Secretly Fast Weight Programmers, section 4.2; Yang, Wang,
Zhang, Shen, Kim 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, sections 2.2 and 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.base import (
    join_heads,
    per_head,
    project_backward,
    project_forward,
    query_positions,
    split_heads,
)
from npllm.attention.kv_cache import RecurrentState
from npllm.attention.variants.chunks import ChunkedCache, takes_chunks
from npllm.attention.variants.delta_rule_chunked import delta_rule_chunked_backward, delta_rule_chunked_forward
from npllm.attention.variants.recurrence import (
    check_delta_rule_inputs,
    initial_state,
    keep_factors,
    last_state_gradient,
    outer,
    time_first,
    time_last,
    vector_times,
)
from npllm.core.cache import Cache
from npllm.core.checks import check_gradient, check_heads, check_positive, drop_none
from npllm.core.module import Module, as_generator
from npllm.layers.activations import sigmoid_backward, sigmoid_forward
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm, l2_normalize_backward, l2_normalize_forward

LEAST_CHUNKED = 4  # positions; for fewer the recurrent algorithm is faster


def delta_rule(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """y_t = S_tᵀ q_t,  S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ

    (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E), (..., T) → (..., T, E), (..., D, E)

    The recurrent algorithm. Returns y and the state after the last position, from which the next chunk continues.

    beta           the fraction of the difference that is written; for |k| = 1, from 0 to 1 (up to 2 the state does not
                   grow)
    state          S before the first position; zeros if left out
    document_ids   integers, broadcastable to the axes of q before D: the state is set to zeros where a document starts.
                   A state that is given belongs to the first document.

    Raises ValueError for shapes that do not fit, TypeError for mixed dtypes.
    """
    return delta_rule_forward(q, k, v, beta, state, document_ids)[0]


def delta_rule_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    beta: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
    """y and the last state; the cache holds the inputs, the first state and the `error` v_t − S_{t−1}ᵀ k_t."""
    q, k, v, beta, state = check_delta_rule_inputs(q, k, v, beta, state)
    start, keep = initial_state(state, k, v), keep_factors(document_ids, q.shape[:-1], q.dtype)
    cache = Cache(q=q, k=k, beta=beta, start=start, keep=keep, has_state=state is not None)

    q, k, v, beta = time_first(q, k, v, beta[..., None])
    y, error, state = np.empty_like(v), np.empty_like(v), start
    for t in range(len(q)):
        state = keep[t] * state
        error[t] = v[t] - vector_times(k[t], state)
        state = state + outer(k[t], beta[t] * error[t])
        y[t] = vector_times(q[t], state)
    cache.error = time_last(error)
    return (time_last(y), state.copy()), cache


def delta_rule_backward(doutputs: tuple[np.ndarray, np.ndarray | None], cache: Cache) -> tuple[np.ndarray, ...]:
    """dv_t = β_t dS_tᵀ k_t,  dS_{t−1} = dS_t − k_t dv_tᵀ

    (..., T, E), (..., D, E) → (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E)

    `doutputs` is the pair of the gradients of y and of the last state; None for the latter means zeros.
    Last to first: dS_t gets q_t dy_tᵀ. S_t = S_{t−1} + k_t u_tᵀ with u_t = β_t (v_t − S_{t−1}ᵀ k_t) gives
    du_t = dS_tᵀ k_t, hence dβ_t and dv_t = β_t du_t, and the opposite sign for S_{t−1}ᵀ k_t. The terms with the states
    themselves, dq_t = S_t dy_t and −S_{t−1} dv_t of dk_t, follow first to last: the states are not in the cache and
    are computed again.
    """
    dy, dlast = doutputs
    dy = check_gradient(dy, cache.error.shape, cache.error.dtype)
    q, k, error, beta, dy = time_first(cache.q, cache.k, cache.error, cache.beta[..., None], dy)
    written = beta * error  # u
    dq, dk, dv, dbeta = np.empty_like(q), np.empty_like(k), np.empty_like(error), np.empty_like(beta)
    keep, dstate = cache.keep, last_state_gradient(dlast, cache.start)
    for t in reversed(range(len(q))):
        dstate = dstate + outer(q[t], dy[t])  # y = qᵀ state
        dk[t] = vector_times(written[t], dstate.mT)  # state = state + k writtenᵀ
        dwritten = vector_times(k[t], dstate)
        dbeta[t] = (dwritten * error[t]).sum(axis=-1, keepdims=True)  # written = beta * error
        dv[t] = beta[t] * dwritten  # error = v - kᵀ state
        dstate = keep[t] * (dstate - outer(k[t], dv[t]))
    state = cache.start
    for t in range(len(q)):
        state = keep[t] * state
        dk[t] -= vector_times(dv[t], state.mT)  # error = v - kᵀ state
        state = state + outer(k[t], written[t])
        dq[t] = vector_times(dy[t], state.mT)  # y = qᵀ state
    dq, dk, dv, dbeta = (time_last(gradient) for gradient in (dq, dk, dv, dbeta))
    return drop_none(dq, dk, dv, dbeta[..., 0], dstate if cache.has_state else None)


class DeltaNet(Module):
    """y = join(norm(S_tᵀ q_t)) W_oᵀ,  S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ      (..., T, C) → (..., T, C)

    `chunk` positions are computed at a time, and one under `attention_path("plain")`; the values do not depend on it.
    Raises ValueError if num_heads does not divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        num_heads: int,
        chunk: int = 32,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length, chunk=chunk)
        self.context_length, self.num_heads, self.chunk = context_length, num_heads, chunk
        self.q_proj, self.k_proj, self.v_proj = (
            Linear(d_model, d_model, bias=False, dtype=dtype, init=False) for _ in range(3)
        )
        self.b_proj = Linear(d_model, num_heads, bias=False, dtype=dtype, init=False)
        self.o_norm = RMSNorm(d_model // num_heads, dtype=dtype, init=False)
        self.o_proj = Linear(d_model, d_model, bias=False, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> RecurrentState:
        """A cache for a sequence that is processed in chunks: it holds S, whatever the length."""
        return RecurrentState(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: RecurrentState | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of q's and k's normalization, of β, of the rule and of the norm.

        kv_cache       x follows what has been processed with it; the state after x is stored in it
        document_ids   integers (..., T), several documents in one sequence; the state is set to zeros where one starts

        `rng` is not used: there is no dropout.
        """
        document_ids = per_head(document_ids, x)
        query_positions(
            x, self.context_length, kv_cache, document_ids, (RecurrentState,)
        )  # raises ValueError beyond the context
        (q, k, v, b), projections = project_forward(x, self._projections)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        q, q_unit = l2_normalize_forward(_swap(q))  # rows in the order of the memory
        k, k_unit = l2_normalize_forward(_swap(k))
        q, k = _swap(q), _swap(k)
        beta, sigmoid = sigmoid_forward(b.mT)  # (..., T, H) → (..., H, T)
        if kv_cache is not None:
            k = kv_cache.zero_padding(k)
        state = None if kv_cache is None else kv_cache.state
        if takes_chunks(q.shape[-2], LEAST_CHUNKED):
            (context, state), rule = delta_rule_chunked_forward(q, k, v, beta, state, document_ids, self.chunk)
        else:
            (context, state), rule = delta_rule_forward(q, k, v, beta, state, document_ids)
        if kv_cache is not None:
            kv_cache.advance(q.shape[-2], state)
        context, o_norm = self.o_norm.forward(_swap(context))
        y, o_proj = self.o_proj.forward(join_heads(_swap(context)))
        return y, Cache(
            projections=projections,
            q_unit=q_unit,
            k_unit=k_unit,
            sigmoid=sigmoid,
            rule=rule,
            o_norm=o_norm,
            o_proj=o_proj,
        )

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dcontext = _swap(self.o_norm.backward(_swap(dcontext), cache.o_norm))
        rule_backward = delta_rule_chunked_backward if isinstance(cache.rule, ChunkedCache) else delta_rule_backward
        dq, dk, dv, dbeta = rule_backward((dcontext, None), cache.rule)
        db = sigmoid_backward(dbeta, cache.sigmoid).mT
        dq = _swap(l2_normalize_backward(_swap(dq), cache.q_unit))
        dk = _swap(l2_normalize_backward(_swap(dk), cache.k_unit))
        gradients = [*(join_heads(gradient) for gradient in (dq, dk, dv)), db]
        return project_backward(gradients, cache.projections, self._projections)

    @property
    def _projections(self) -> tuple[Linear, ...]:
        return self.q_proj, self.k_proj, self.v_proj, self.b_proj


def _swap(x: np.ndarray) -> np.ndarray:
    """(..., H, T, D) → (..., T, H, D) and back."""
    return x.swapaxes(-3, -2)


@dataclass(frozen=True)
class Delta:
    """The configuration of DeltaNet: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    chunk: int = 32

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> DeltaNet:
        """The layer; it has no dropout, so that argument has no effect."""
        return DeltaNet(d_model, context_length, **vars(self), rng=rng, dtype=dtype, init=init)
