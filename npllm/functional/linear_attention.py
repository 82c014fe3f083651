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
"""

import numpy as np

from npllm.functional.cache import Cache
from npllm.functional.checks import floats, given, not_half, output_gradient
from npllm.functional.masks import causal_mask, document_begins, document_mask


def elu_plus_one(x):
    """φ(x) = x + 1 where x > 0, else exp(x)      (...) → (...)

    Positive everywhere, so that weights are positive and the sum by which they are divided is not 0.
    """
    x = floats(x=x)
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def elu_plus_one_forward(x):
    """The value, which is all that the derivative needs."""
    y = elu_plus_one(x)
    return y, Cache(y=y)


def elu_plus_one_backward(dy, cache):
    """dx = dy min(φ(x), 1)      (...) → (...)

    The slope is 1 where x > 0, where φ is above 1; elsewhere it is exp(x), which is φ itself.
    """
    return output_gradient(dy, cache.y.shape, cache.y.dtype) * np.minimum(cache.y, 1)


def linear_attention(q, k, v, documents=None):
    """y = A v / A 1,  A = causal(q kᵀ)      (..., T, D), (..., T, D), (..., T, E), (..., T) → (..., T, E)

    The parallel form. q and k are features, such as elu_plus_one gives them: not negative. A position that takes
    nothing from any other (A 1 = 0) gets zeros.

    documents   integers, broadcastable to the leading dimensions and T: nothing passes from one document to the next

    Raises ValueError for shapes that do not meet, TypeError for mixed dtypes.
    """
    return linear_attention_forward(q, k, v, documents)[0]


def linear_attention_forward(q, k, v, documents=None):
    """The value, and in the cache q, k, the values with their ones, the table A as `products`, and what divides it."""
    q, k, v = floats(q=q, k=k, v=v)
    check_one_length(q, k, v)
    check_documents(documents, q.shape[:-1])
    mask = causal_mask(q.shape[-2], q.shape[-2]) if documents is None else document_mask(documents)
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


def linear_attention_recurrent(q, k, v, state=None, documents=None):
    """y_t = q_tᵀ S_t / q_tᵀ z_t,  [S_t | z_t] = [S | z]_{t−1} + k_t [v_t | 1]ᵀ      (..., T, D), (..., T, D), (..., T, E), (..., D, E + 1), (..., T) → (..., T, E), (..., D, E + 1)

    The recurrent form: the same y, and the state after the last position, with which the next piece of the text begins.

    state       [S | z] before the first position; zeros if left out
    documents   as in linear_attention: a new document begins with a state of zeros. A state that was handed in
                belongs to the first one.
    """  # noqa: E501
    return linear_attention_recurrent_forward(q, k, v, state, documents)[0]


def linear_attention_recurrent_forward(q, k, v, state=None, documents=None):
    """Both values, and in the cache the inputs and what was divided by: no state but the first."""
    q, k, v, state = floats(q=q, k=k, v=v, state=state)
    check_one_length(q, k, v)
    values = _with_ones(v)
    first = first_state(state, q, values)
    carried = state_carried(documents, q.shape[:-1], q.dtype)
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
    return given(dq, dk, dvalues[..., :-1], drunning if cache.has_state else None)


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
    dy = output_gradient(dy, cache.y.shape, cache.y.dtype)
    ddivisor = -(dy * cache.y).sum(axis=-1, keepdims=True) * cache.inverse
    return np.concatenate([dy * cache.inverse, ddivisor], axis=-1)


# What every layer with a state shares; the delta rule uses it too.


def state_carried(documents, shape, dtype):
    """1 where the state of the position before goes on, 0 where another document begins: (..., T)."""
    if documents is None:
        return np.ones(shape[-1], dtype)
    check_documents(documents, shape)
    begins = document_begins(documents)
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
    return np.zeros_like(state) if dstate is None else output_gradient(dstate, state.shape, state.dtype)


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
    not_half(q)


def check_documents(documents, shape):
    """Raise ValueError unless documents, if there are any, broadcast to one number for every position of (..., T)."""
    if documents is None:
        return
    found = np.shape(documents)
    try:
        fits = found[-1:] == shape[-1:] and np.broadcast_shapes(found, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"documents has shape {found}; it must have one number for every position, {shape}")
