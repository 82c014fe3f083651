"""Linear attention: without the softmax, all of the past fits into one matrix.

    q, k → features φ(q), φ(k); with v → [linear attention] → context

Softmax attention averages the values with weights exp(q_t·k_s). With φ(q_t)·φ(k_s) in place of the exponential, φ(q_t)
moves out of the sum over s, and what is left of the past is a sum that grows by one term a position:

    y_t = φ(q_t)ᵀ S_t / φ(q_t)ᵀ z_t,      S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ,      z_t = Σ_{s ≤ t} φ(k_s)

The same numbers in two forms. The parallel one fills the T × T table of weights, as softmax attention does: all
positions at once. The recurrent one carries S and z from position to position, as a recurrent network does: a state of
D × (E + 1) numbers however long the text, and in the backward no more memory than that.

S and z are one matrix [S | z] here: each value gets one more channel that holds a 1, and the sum of those is what the
others are divided by.

Katharopoulos, Vyas, Pappas, Fleuret 2020, Transformers are RNNs, sections 3.2 to 3.4 and algorithm 1.

Linear attention as a layer: multi-head attention whose past is a matrix of fixed size.

    x → q, k, v → split into heads → φ(q), φ(k) → [linear attention in each] → join the heads → projection

Over `multi_head`, the exponential of a query's product with a key gives way to the product of their features,
φ(x) = elu(x) + 1. That takes away the sharpness of softmax, and the T × T table with it: a text may be trained in
parallel, and is then read and written by a recurrent network whose state has D × (D + 1) numbers a head, at the
millionth token as at the first.

    y_t = φ(q_t)ᵀ S_t / φ(q_t)ᵀ z_t,      S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ,      z_t = Σ_{s ≤ t} φ(k_s)

Katharopoulos, Vyas, Pappas, Fleuret 2020, Transformers are RNNs, section 3.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from npllm.attention.base import document_ids_per_head, join_heads, reject_document_ids, split_heads
from npllm.attention.kv_cache import RecurrentState
from npllm.attention.masks import causal_mask, document_mask, document_starts
from npllm.core.cache import Cache
from npllm.core.checks import (
    as_floats,
    as_sequence,
    check_context_length,
    check_gradient,
    check_heads,
    check_positive,
    drop_none,
    reject_half,
)
from npllm.core.module import Module, as_generator
from npllm.layers.linear import Linear

MODES = ("parallel", "recurrent")


def elu_plus_one(x):
    """φ(x) = x + 1 where x > 0, else exp(x)      (...) → (...)

    Positive everywhere, so that weights are positive and the sum by which they are divided is not 0.
    """
    x = as_floats(x=x)
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def elu_plus_one_forward(x):
    """The value, which is all that the derivative needs."""
    y = elu_plus_one(x)
    return y, Cache(y=y)


def elu_plus_one_backward(dy, cache):
    """dx = dy min(φ(x), 1)      (...) → (...)

    The slope is 1 where x > 0, where φ is above 1; elsewhere it is exp(x), which is φ itself.
    """
    return check_gradient(dy, cache.y.shape, cache.y.dtype) * np.minimum(cache.y, 1)


def linear_attention(q, k, v, document_ids=None):
    """y = A v / A 1,  A = causal(q kᵀ)      (..., T, D), (..., T, D), (..., T, E), (..., T) → (..., T, E)

    The parallel form. q and k are features, such as elu_plus_one gives them: not negative. A position that takes
    nothing from any other (A 1 = 0) gets zeros.

    documents   integers, broadcastable to the leading dimensions and T: nothing passes from one document to the next

    Raises ValueError for shapes that do not meet, TypeError for mixed dtypes.
    """
    return linear_attention_forward(q, k, v, document_ids)[0]


def linear_attention_forward(q, k, v, document_ids=None):
    """The value, and in the cache q, k, the values with their ones, the table A as `products`, and what divides it."""
    q, k, v = as_floats(q=q, k=k, v=v)
    check_one_length(q, k, v)
    check_documents(document_ids, q.shape[:-1])
    mask = causal_mask(q.shape[-2], q.shape[-2]) if document_ids is None else document_mask(document_ids)
    values = _with_ones(v)
    products = q @ k.mT * mask
    y, division = _divide(products @ values)
    return y, Cache(q=q, k=k, values=values, mask=mask, products=products, division=division)


def linear_attention_backward(dy, cache):
    """dq = dA k,  dk = dAᵀ q,  dv = Aᵀ dn      (..., T, E) → (..., T, D), (..., T, D), (..., T, E)

    [n | d] = A [v | 1] and y = n / d. So dn = dy / d and dd = −Σ dy y / d (see _divide_backward), dA = [dn | dd] [v | 1]ᵀ
    where the mask let A stand, and A = q kᵀ shares it out to both factors.
    """  # noqa: E501
    dsums = _divide_backward(dy, cache.division)
    dproducts = dsums @ cache.values.mT * cache.mask  # sums = products @ values
    dvalues = cache.products.mT @ dsums
    return dproducts @ cache.k, dproducts.mT @ cache.q, dvalues[..., :-1]


def linear_attention_recurrent(q, k, v, state=None, document_ids=None):
    """y_t = q_tᵀ S_t / q_tᵀ z_t,  [S_t | z_t] = [S | z]_{t−1} + k_t [v_t | 1]ᵀ      (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1), (..., T) → (..., T, E), (..., D, E + 1)

    The recurrent form: the same y, and the state after the last position, with which the next piece of the text begins.

    state       [S | z] before the first position; zeros if left out
    documents   as in linear_attention: a new document begins with a state of zeros. A state that was handed in
                belongs to the first one.
    """  # noqa: E501
    return linear_attention_recurrent_forward(q, k, v, state, document_ids)[0]


def linear_attention_recurrent_forward(q, k, v, state=None, document_ids=None):
    """Both values, and in the cache the inputs and what was divided by: no state but the first."""
    q, k, v, state = as_floats(q=q, k=k, v=v, state=state)
    check_one_length(q, k, v)
    values = _with_ones(v)
    first = first_state(state, q, values)
    carried = state_carried(document_ids, q.shape[:-1], q.dtype)
    running, sums = first, np.empty((*q.shape[:-1], values.shape[-1]), q.dtype)
    for t in range(q.shape[-2]):
        running = _next_state(running, carried, k, values, t)
        sums[..., t, :] = row_times(q, t, running)
    y, division = _divide(sums)
    cache = Cache(q=q, k=k, values=values, first=first, carried=carried, division=division, has_state=state is not None)
    return (y, running.copy()), cache


def linear_attention_recurrent_backward(dy, cache):
    """dq_t = S_t dn_t,  dk_t = dS_t v_t,  dv_t = dS_tᵀ k_t      (..., T, E), (..., D, E + 1) → (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1)

    dy is the pair of the gradients of y and of the last state; None for the latter says that nobody used it.
    n_t = S_tᵀ q_t, so q_t needs S_t, and the states are built up once more, first to last: none was kept. S_t is used by
    n_t and, where the document goes on, by S_{t+1}: dS_t = q_t dn_tᵀ + dS_{t+1}, which is built up last to first, the
    same sum with the arrow of time turned. The first state gets what is left over at the beginning, and here S is [S | z].
    """  # noqa: E501
    q, k, values, carried = cache.q, cache.k, cache.values, cache.carried
    dy, dstate = dy
    dsums = _divide_backward(dy, cache.division)
    dq, dk, dvalues = np.empty_like(q), np.empty_like(k), np.empty_like(values)
    running = cache.first
    for t in range(q.shape[-2]):
        running = _next_state(running, carried, k, values, t)
        dq[..., t, :] = row_times(dsums, t, running.mT)  # sums = q @ state
    drunning = last_state_gradient(dstate, cache.first)
    for t in reversed(range(q.shape[-2])):
        drunning = drunning + outer(q, dsums, t)
        dk[..., t, :] = row_times(values, t, drunning.mT)  # state = carried * state + k valuesᵀ
        dvalues[..., t, :] = row_times(k, t, drunning)
        drunning = carried[..., t, None, None] * drunning
    return drop_none(dq, dk, dvalues[..., :-1], drunning if cache.has_state else None)


def state_carried(document_ids, shape, dtype):
    """1 where the state of the position before goes on, 0 where another document begins: (..., T)."""
    if document_ids is None:
        return np.ones(shape[-1], dtype)
    check_documents(document_ids, shape)
    begins = document_starts(document_ids)
    begins[..., :1] = False  # whatever state was handed in belongs to the first document
    return (~begins).astype(dtype)


def first_state(state, keys, values):
    """The state before the first position, (..., D, E): the given one, or zeros."""
    shape = (*keys.shape[:-2], keys.shape[-1], values.shape[-1])
    if state is None:
        return np.zeros(shape, keys.dtype)
    if state.shape != shape:
        raise ValueError(f"state has shape {state.shape}; it must be {shape}, keys by values")
    return state


def last_state_gradient(dstate, state):
    """The gradient of the last state; zeros for None, when nobody used it."""
    return np.zeros_like(state) if dstate is None else check_gradient(dstate, state.shape, state.dtype)


def row_times(x, t, matrix):
    """x_tᵀ M: row t of x (..., T, D) times M (..., D, E) → (..., E)."""
    return (x[..., t, None, :] @ matrix)[..., 0, :]


def outer(x, y, t):
    """x_t y_tᵀ: (..., T, D), (..., T, E) → (..., D, E)."""
    return x[..., t, :, None] * y[..., t, None, :]


def check_one_length(q, k, v):
    """Raise unless there is a query, a key and a value for every position, queries and keys of one width."""
    if q.ndim < 2 or q.shape != k.shape or q.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"q {q.shape}, k {k.shape}, v {v.shape}: they must be (..., T, D), (..., T, D), (..., T, E)")
    reject_half(q)


def check_documents(document_ids, shape):
    """Raise ValueError unless documents, if there are any, broadcast to one number for every position of (..., T)."""
    if document_ids is None:
        return
    found = np.shape(document_ids)
    try:
        fits = found[-1:] == shape[-1:] and np.broadcast_shapes(found, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"documents has shape {found}; it must have one number for every position, {shape}")


@dataclass(frozen=True)
class LinearAttn:
    """The configuration of LinearAttention."""

    num_heads: int
    mode: Literal["parallel", "recurrent"] = "parallel"

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> "LinearAttention":
        """The layer; it has no dropout, so the argument has no effect."""
        return LinearAttention(d_model, context_length, **vars(self), rng=rng, dtype=dtype)


class LinearAttention(Module):
    """y = join(φ(q)ᵀ S / φ(q)ᵀ z) W_oᵀ,  φ = elu + 1      (..., T, C) → (..., T, C)

    `mode` says how: "parallel" with a table of T × T weights, "recurrent" with a state that goes from position to
    position; the values are the same. Raises ValueError for another form, and if num_heads does not divide d_model.
    """

    def __init__(self, d_model, context_length, num_heads, mode="parallel", *, rng=None, dtype="float32"):
        check_heads(num_heads, d_model=d_model)
        if mode not in MODES:
            raise ValueError(f'mode is {mode!r}; it must be "parallel" or "recurrent"')
        check_positive(context_length=context_length)
        rng = as_generator(rng)
        self.context_length, self.num_heads, self.mode = context_length, num_heads, mode
        self.q_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past: it will hold [S | z], however much is read."""
        return RecurrentState(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it."""
        if kv_cache is None:
            return self.forward(x, document_ids=document_ids)[0]
        reject_document_ids(document_ids)
        q, k, v = (
            split_heads(layer(as_sequence(x)), self.num_heads) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = elu_plus_one(q), kv_cache.without_filling(elu_plus_one(k))
        context, state = linear_attention_recurrent(q, k, v, kv_cache.state)
        kv_cache.advance(q.shape[-2], state)
        return self.o_proj(join_heads(context))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of the projections, of the features and of the core; nothing is drawn from `rng`.

        documents   integers (..., T): several documents in a row, the state being zeros again at each one's beginning
        """
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        q, q_features = elu_plus_one_forward(q)
        k, k_features = elu_plus_one_forward(k)
        if self.mode == "parallel":
            context, attention = linear_attention_forward(q, k, v, document_ids)
        else:
            (context, _), attention = linear_attention_recurrent_forward(q, k, v, document_ids=document_ids)
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(
            q_proj=q_proj,
            k_proj=k_proj,
            v_proj=v_proj,
            q_features=q_features,
            k_features=k_features,
            attention=attention,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        if self.mode == "parallel":
            dq, dk, dv = linear_attention_backward(dcontext, cache.attention)
        else:
            dq, dk, dv = linear_attention_recurrent_backward((dcontext, None), cache.attention)
        dq = elu_plus_one_backward(dq, cache.q_features)
        dk = elu_plus_one_backward(dk, cache.k_features)
        dx = self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)


def _next_state(state, carried, k, values, t):
    return carried[..., t, None, None] * state + outer(k, values, t)


def _with_ones(v):
    """Each value with one more channel, which holds a 1: (..., T, E) → (..., T, E + 1)."""
    return np.concatenate([v, np.ones((*v.shape[:-1], 1), v.dtype)], axis=-1)


def _divide(sums):
    """y = n / d for sums = [n | d], and 0 where d is 0: (..., T, E + 1) → (..., T, E)."""
    divisor = sums[..., -1:]
    inverse = np.divide(1, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    y = sums[..., :-1] * inverse
    return y, Cache(y=y, inverse=inverse)


def _divide_backward(dy, cache):
    """dn = dy / d,  dd = −Σ dy n / d² = −Σ dy y / d."""
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    ddivisor = -(dy * cache.y).sum(axis=-1, keepdims=True) * cache.inverse
    return np.concatenate([dy * cache.inverse, ddivisor], axis=-1)
