"""Linear attention: softmax is replaced by a feature map φ, and all earlier positions are summarized in one matrix.

    x → q, k, v → split into heads → φ(q), φ(k) → [linear attention in each] → join the heads → projection

Softmax attention averages the values with weights exp(q_t·k_s). With φ(q_t)·φ(k_s) instead of the exponential, φ(q_t)
can be taken out of the sum over s, and what remains is a sum that grows by one term at each position:

    y_t = φ(q_t)ᵀ S_t / φ(q_t)ᵀ z_t,      S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ,      z_t = Σ_{s ≤ t} φ(k_s)

There are two algorithms for the same numbers. The parallel one computes all T × T weights, as softmax attention does.
The recurrent one carries S and z from position to position, as a recurrent network does. Its state has D × (E + 1)
numbers for any length of the text, so generation needs no key-value cache that grows. For all but short sequences the
layer uses a third one, which is parallel within a chunk and recurrent between chunks: linear_attention_chunked.py.

S and z are stored as one matrix [S | z]: each value gets one more channel, which holds a 1.

Katharopoulos, Vyas, Pappas, Fleuret 2020, Transformers are RNNs, sections 3.2 to 3.4 and algorithm 1.
"""

from dataclasses import dataclass
from typing import Literal

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
from npllm.attention.masks import causal_mask, document_mask
from npllm.attention.variants.chunks import ChunkedCache, takes_chunks
from npllm.attention.variants.linear_attention_chunked import (
    linear_attention_chunked_backward,
    linear_attention_chunked_forward,
)
from npllm.attention.variants.normalizer import append_ones, divide, divide_backward
from npllm.attention.variants.recurrence import (
    check_document_ids,
    check_qkv,
    initial_state,
    keep_factors,
    last_state_gradient,
    outer,
    time_first,
    time_last,
    vector_times,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_given, check_gradient, check_heads, check_positive, drop_none
from npllm.core.module import Module, as_generator
from npllm.core.row_blocks import map_elements
from npllm.layers.linear import Linear

MODES = ("parallel", "recurrent")
LEAST_CHUNKED = {"parallel": 128, "recurrent": 4}  # from this length on, chunks are faster than the algorithm


def elu_plus_one(x: np.ndarray) -> np.ndarray:
    """φ(x) = x + 1 where x > 0, else exp(x)      (...) → (...)

    Positive everywhere, so the weights are positive and their sum, the divisor, is not 0.
    """
    return map_elements(lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))), as_floats(x=x))


def elu_plus_one_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """φ(x); the cache holds it."""
    y = elu_plus_one(x)
    return y, Cache(y=y)


def elu_plus_one_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy min(φ(x), 1)      (...) → (...)

    The derivative is 1 where x > 0, where φ is above 1; elsewhere it is exp(x), which is φ itself.
    """
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    return map_elements(lambda dy, y: dy * np.minimum(y, 1), dy, cache.y)


def linear_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, document_ids: np.ndarray | None = None) -> np.ndarray:
    """y = A v / A 1,  A = causal(q kᵀ)      (..., T, D), (..., T, D), (..., T, E), (..., T) → (..., T, E)

    The parallel algorithm. q and k are not negative: they are φ(q) and φ(k). A position whose weights are all 0
    (A 1 = 0) gets zeros.

    document_ids   integers, broadcastable to the axes of q before D: no position attends to another document

    Raises ValueError for shapes that do not fit, TypeError for mixed dtypes.
    """
    return linear_attention_forward(q, k, v, document_ids)[0]


def linear_attention_forward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, document_ids: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """y; the cache holds q, k, [v | 1] as `values`, the `mask`, the `weights` A, and y with the inverse divisor."""
    check_given(q=q, k=k, v=v)
    q, k, v = as_floats(q=q, k=k, v=v)
    check_qkv(q, k, v)
    check_document_ids(document_ids, q.shape[:-1])
    length = q.shape[-2]
    mask = causal_mask(length, length) if document_ids is None else document_mask(document_ids)
    values = append_ones(v)
    weights = q @ k.mT * mask
    y, division = divide(weights @ values)
    return y, Cache(q=q, k=k, values=values, mask=mask, weights=weights, division=division)


def linear_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq = dA k,  dk = dAᵀ q,  dv = Aᵀ dn      (..., T, E) → (..., T, D), (..., T, D), (..., T, E)

    [n | d] = A [v | 1] and y = n / d, so dn = dy / d and dd = −Σ dy y / d (see normalizer.py). Then
    dA = [dn | dd] [v | 1]ᵀ where the mask is true, and A = q kᵀ gives dq and dk.
    """
    dsums = divide_backward(dy, cache.division)
    dweights = dsums @ cache.values.mT * cache.mask  # sums = weights @ values
    dvalues = cache.weights.mT @ dsums
    return dweights @ cache.k, dweights.mT @ cache.q, dvalues[..., :-1]


def linear_attention_recurrent(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """y_t = q_tᵀ S_t / q_tᵀ z_t,  [S_t | z_t] = [S | z]_{t−1} + k_t [v_t | 1]ᵀ

    (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1), (..., T) → (..., T, E), (..., D, E + 1)

    The recurrent algorithm: the same y, and the state after the last position, from which the next chunk continues.

    state          [S | z] before the first position; zeros if left out
    document_ids   as in linear_attention: the state is set to zeros where a document starts. A state that is given
                   belongs to the first document.
    """
    return linear_attention_recurrent_forward(q, k, v, state, document_ids)[0]


def linear_attention_recurrent_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    state: np.ndarray | None = None,
    document_ids: np.ndarray | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray], Cache]:
    """y and the last state; the cache holds the inputs, the divisors and the first state, but no later state."""
    check_given(q=q, k=k, v=v)
    q, k, v, state = as_floats(q=q, k=k, v=v, state=state)
    check_qkv(q, k, v)
    values = append_ones(v)
    start, keep = initial_state(state, k, values), keep_factors(document_ids, q.shape[:-1], q.dtype)
    cache = Cache(q=q, k=k, values=values, start=start, keep=keep, has_state=state is not None)

    q, k, values = time_first(q, k, values)
    sums, state = np.empty((*q.shape[:-1], values.shape[-1]), q.dtype), start
    for t in range(len(q)):
        state = keep[t] * state + outer(k[t], values[t])
        sums[t] = vector_times(q[t], state)
    y, cache.division = divide(time_last(sums))
    return (y, state.copy()), cache


def linear_attention_recurrent_backward(
    doutputs: tuple[np.ndarray, np.ndarray | None], cache: Cache
) -> tuple[np.ndarray, ...]:
    """dq_t = S_t dn_t,  dk_t = dS_t v_t,  dv_t = dS_tᵀ k_t

    (..., T, E), (..., D, E + 1) → (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1)

    `doutputs` is the pair of the gradients of y and of the last state; None for the latter means zeros. S is [S | z].
    n_t = S_tᵀ q_t, so dq_t needs S_t; the states are not in the cache and are computed again, first to last. S_t is
    used by n_t and, within a document, by S_{t+1}: dS_t = q_t dn_tᵀ + dS_{t+1}, computed last to first. What remains
    before the first position is the gradient of the first state.
    """
    dy, dlast = doutputs
    dsums = divide_backward(dy, cache.division)
    q, k, values, dsums = time_first(cache.q, cache.k, cache.values, dsums)
    dq, dk, dvalues = np.empty_like(q), np.empty_like(k), np.empty_like(values)
    state, keep = cache.start, cache.keep
    for t in range(len(q)):
        state = keep[t] * state + outer(k[t], values[t])
        dq[t] = vector_times(dsums[t], state.mT)  # sums = qᵀ state
    dstate = last_state_gradient(dlast, cache.start)
    for t in reversed(range(len(q))):
        dstate = dstate + outer(q[t], dsums[t])
        dk[t] = vector_times(values[t], dstate.mT)  # state = keep * state + k valuesᵀ
        dvalues[t] = vector_times(k[t], dstate)
        dstate = keep[t] * dstate
    dq, dk, dv = time_last(dq), time_last(dk), time_last(dvalues)[..., :-1]
    return drop_none(dq, dk, dv, dstate if cache.has_state else None)


class LinearAttention(Module):
    """y = join(φ(q)ᵀ S / φ(q)ᵀ z) W_oᵀ,  φ = elu + 1      (..., T, C) → (..., T, C)

    `mode` selects the algorithm for short sequences without kv_cache, "parallel" or "recurrent"; long ones are computed
    in chunks unless `attention_path("plain")` forbids it. The values are the same. Raises ValueError for another mode,
    and if num_heads does not divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        num_heads: int,
        mode: str = "parallel",
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length)
        if not isinstance(mode, str) or mode not in MODES:
            raise ValueError(f'mode is {mode!r}; it must be "parallel" or "recurrent"')
        self.context_length, self.num_heads, self.mode = context_length, num_heads, mode
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(d_model, d_model, bias=False, dtype=dtype, init=False) for _ in range(4)
        )
        if init:
            self.init_weights(as_generator(rng))

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> RecurrentState:
        """A cache for a sequence that is processed in chunks: it holds [S | z], whatever the length."""
        return RecurrentState(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: RecurrentState | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of both feature maps and of the core. `rng` is not used.

        kv_cache       x follows what has been processed with it; the state after x is stored in it
        document_ids   integers (..., T), several documents in one sequence; the state is set to zeros where one starts
        """
        document_ids = per_head(document_ids, x)
        query_positions(
            x, self.context_length, kv_cache, document_ids, (RecurrentState,)
        )  # raises ValueError beyond the context
        (q, k, v), projections = project_forward(x, (self.q_proj, self.k_proj, self.v_proj))
        q, q_map = elu_plus_one_forward(q)
        k, k_map = elu_plus_one_forward(k)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        if kv_cache is not None:
            k = kv_cache.zero_padding(k)
        mode = self.mode if kv_cache is None else "recurrent"
        state = None if kv_cache is None else kv_cache.state
        if takes_chunks(q.shape[-2], LEAST_CHUNKED[mode]):
            (context, state), attention = linear_attention_chunked_forward(q, k, v, state, document_ids)
        elif mode == "recurrent":
            (context, state), attention = linear_attention_recurrent_forward(q, k, v, state, document_ids)
        else:
            context, attention = linear_attention_forward(q, k, v, document_ids)
        if kv_cache is not None and state is not None:
            kv_cache.advance(q.shape[-2], state)
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(projections=projections, q_map=q_map, k_map=k_map, attention=attention, o_proj=o_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        if isinstance(cache.attention, ChunkedCache):
            dq, dk, dv = linear_attention_chunked_backward((dcontext, None), cache.attention)
        elif self.mode == "recurrent":
            dq, dk, dv = linear_attention_recurrent_backward((dcontext, None), cache.attention)
        else:
            dq, dk, dv = linear_attention_backward(dcontext, cache.attention)
        dq, dk, dv = (join_heads(gradient) for gradient in (dq, dk, dv))
        dq, dk = elu_plus_one_backward(dq, cache.q_map), elu_plus_one_backward(dk, cache.k_map)
        return project_backward((dq, dk, dv), cache.projections, (self.q_proj, self.k_proj, self.v_proj))


@dataclass(frozen=True)
class LinearAttn:
    """The configuration of LinearAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    mode: Literal["parallel", "recurrent"] = "parallel"

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> LinearAttention:
        """The layer; it has no dropout, so that argument has no effect."""
        return LinearAttention(d_model, context_length, **vars(self), rng=rng, dtype=dtype, init=init)
