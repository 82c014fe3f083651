"""Scaled dot-product attention, the core of every attention layer in npllm.

    scores  = q kᵀ · scale                                  how well each query matches each key
    weights = softmax(scores + bias where mask, else −∞)    for each query, positive and with sum 1
    y       = (weights · dropout_mask) v                    the weighted average of the values

Causality, windows, documents and padding are masks (see masks.py); relative positions are biases or rotations; grouped
heads are a reshape. PyTorch's function with its options is in pytorch_interface.py.

Vaswani et al. 2017, Attention Is All You Need, section 3.2.1; grouped heads: Ainslie et al. 2023, GQA, section 2.2.
"""

import math

import numpy as np

from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, check_given, check_gradient, check_number, reject_half
from npllm.layers.softmax import softmax_backward, softmax_forward


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
    dropout_mask: np.ndarray | None = None,
) -> np.ndarray:
    """y = softmax(q kᵀ · scale + bias where mask) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    mask          boolean, True where a query may attend to a key; broadcastable to (..., T, S)
    bias          is added to the scores; broadcastable to (..., T, S)
    scale         1/√D unless given: it keeps the variance of the scores at 1 for random q and k
    dropout_mask  factors 0 or 1/(1 − p) for the weights; broadcastable to (..., T, S)

    Leading axes (batch, heads) broadcast. k and v may have K heads (axis −3) where q has H, if K divides H: then H/K
    consecutive query heads use one key head. A query that may attend to no key gets zeros. Raises ValueError for
    shapes that do not fit, TypeError for mixed dtypes and for a mask that is not boolean.
    """
    return attention_forward(q, k, v, mask, bias, scale, dropout_mask)[0]


def attention_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
    dropout_mask: np.ndarray | None = None,
) -> tuple[np.ndarray, Cache]:
    """y, and a cache of q, k, v, the `weights` (..., T, S) and the options."""
    scores, products = scores_forward(q, k, scale)
    y, average = attend_forward(scores, v, mask, bias, dropout_mask)
    return y, Cache(**vars(products), **vars(average))


def attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq, dk, dv, and dbias where there was a bias      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)"""
    dscores, dv, *dbias = attend_backward(dy, cache)
    dq, dk = scores_backward(dscores, cache)
    return dq, dk, dv, *dbias


def scores_forward(q: np.ndarray, k: np.ndarray, scale: float | None = None) -> tuple[np.ndarray, Cache]:
    """scores = q kᵀ · scale      (..., H, T, D), (..., K, S, D) → (..., H, T, S)

    The cache holds q, k and the scale.
    """
    check_given(q=q, k=k)
    q, k = as_floats(q=q, k=k)
    reject_half(q)
    _check_queries_and_keys(q, k)
    scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else check_number("scale", scale)
    groups = _heads_per_group(q, k)
    scores = ungroup_heads(group_heads(q, groups) @ k.mT, groups) * scale
    return scores, Cache(q=q, k=k, scale=scale)


def scores_backward(dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dq = dscores k · scale,  dk = dscoresᵀ q · scale      (..., H, T, S) → (..., H, T, D), (..., K, S, D)

    The query heads of a group are rows of one matrix, so the product for dk sums over the group.
    """
    q, k = cache.q, cache.k
    groups = _heads_per_group(q, k)
    dproduct = group_heads(dscores * cache.scale, groups)  # scores = q @ k.mT * scale
    dq = ungroup_heads(dproduct @ k, groups)
    dk = dproduct.mT @ group_heads(q, groups)
    return unbroadcast(dq, q.shape), unbroadcast(dk, k.shape)


def attend_forward(
    scores: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    dropout_mask: np.ndarray | None = None,
) -> tuple[np.ndarray, Cache]:
    """y = (softmax(scores + bias where mask, else −∞) · dropout_mask) v      (..., T, S), (..., S, E) → (..., T, E)

    The cache holds the `weights` before dropout, `dropped` after it, v and the options.
    """
    check_given(scores=scores, v=v)
    scores, v, bias, dropout_mask = as_floats(scores=scores, v=v, bias=bias, dropout_mask=dropout_mask)
    mask = None if mask is None else as_array("mask", mask)
    _check_options(scores, v, mask, bias, dropout_mask)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)  # exp(−∞) = 0: the weight is exactly 0
    weights, softmax = softmax_forward(scores)
    dropped = weights if dropout_mask is None else weights * dropout_mask
    groups = _heads_per_group(weights, v)
    y = ungroup_heads(group_heads(dropped, groups) @ v, groups)
    return y, Cache(
        weights=weights, softmax=softmax, dropped=dropped, v=v, bias=bias, dropout_mask=dropout_mask, shape=y.shape
    )


def attend_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dscores, dv, and dbias where there was a bias      (..., T, E) → (..., T, S), (..., S, E)

    y = A v, so dv = Aᵀ dy and dA = dy vᵀ. A = softmax(scores) gives dscores (see softmax_backward); it is 0 where the
    mask made A 0. The bias is added to the scores, so dbias = dscores, summed to its shape.
    """
    dweights = weights_backward(dy, cache)
    groups = _heads_per_group(cache.weights, cache.v)
    dv = group_heads(cache.dropped, groups).mT @ group_heads(np.asarray(dy), groups)  # y = dropped @ v
    dscores = softmax_backward(dweights, cache.softmax)
    dbias = None if cache.bias is None else unbroadcast(dscores, cache.bias.shape)  # scores = scores + bias
    return dscores, unbroadcast(dv, cache.v.shape), *([] if dbias is None else [dbias])


def weights_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dA = dy vᵀ · dropout_mask      (..., T, E) → (..., T, S)"""
    dy = check_gradient(dy, cache.shape, cache.v.dtype)
    groups = _heads_per_group(cache.weights, cache.v)
    dweights = ungroup_heads(group_heads(dy, groups) @ cache.v.mT, groups)  # y = dropped @ v
    if cache.dropout_mask is not None:
        dweights = dweights * cache.dropout_mask  # dropped = weights * dropout_mask
    return unbroadcast(dweights, cache.weights.shape)  # v may have leading axes that the weights do not have


def group_heads(x: np.ndarray, groups: int) -> np.ndarray:
    """Stack the query heads that share a key head as rows: (..., K·G, T, D) → (..., K, G·T, D)."""
    if groups == 1:
        return x
    *batch, heads, length, channels = x.shape
    return x.reshape(*batch, heads // groups, groups * length, channels)


def ungroup_heads(x: np.ndarray, groups: int) -> np.ndarray:
    """Undo group_heads: (..., K, G·T, D) → (..., K·G, T, D)."""
    if groups == 1:
        return x
    *batch, heads, rows, channels = x.shape
    return x.reshape(*batch, heads * groups, rows // groups, channels)


def _heads_per_group(x: np.ndarray, shared: np.ndarray) -> int:
    """How many heads (axis −3) of x use one head of `shared`; 1 if the numbers are equal, or broadcast."""
    if min(x.ndim, shared.ndim) < 3:
        return 1
    heads, shared_heads = x.shape[-3], shared.shape[-3]
    divides = 0 < shared_heads < heads and heads % shared_heads == 0
    return heads // shared_heads if divides else 1


def _check_queries_and_keys(q: np.ndarray, k: np.ndarray) -> None:
    shapes = f"q has shape {q.shape} and k {k.shape}"
    if min(q.ndim, k.ndim) < 2:
        raise ValueError(f"{shapes}; each must have at least two axes, (..., length, D)")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"{shapes}; the last axis, D, must be the same in both")
    _check_leading_axes(shapes, q, k)


def _check_leading_axes(shapes: str, x: np.ndarray, shared: np.ndarray) -> tuple[int, ...]:
    """The leading axes of x and `shared` after broadcasting; raise ValueError where they do not fit."""
    leading = shared.shape[:-2]
    if _heads_per_group(x, shared) > 1:
        leading = (*shared.shape[:-3], x.shape[-3])
    try:
        return np.broadcast_shapes(x.shape[:-2], leading)
    except ValueError:
        raise ValueError(f"{shapes}; the leading axes must broadcast (heads, axis -3, may be grouped)") from None


def check_attention_shapes(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    dropout_mask: np.ndarray | None = None,
) -> tuple[int, ...]:
    """The leading axes of y; raise for shapes that do not fit, and for a mask that is not boolean."""
    _check_queries_and_keys(q, k)
    leading = _check_leading_axes(f"q has shape {q.shape} and k {k.shape}", q, k)
    scores = np.broadcast_to(q.dtype.type(0), (*leading, q.shape[-2], k.shape[-2]))  # only its shape matters
    return _check_options(scores, v, mask, bias, dropout_mask)


def _check_options(
    scores: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    bias: np.ndarray | None,
    dropout_mask: np.ndarray | None,
) -> tuple[int, ...]:
    """The leading axes of y."""
    shapes = f"the scores have shape {scores.shape} and v {v.shape}"
    if min(scores.ndim, v.ndim) < 2 or scores.shape[-1] != v.shape[-2]:
        raise ValueError(f"{shapes}; v must be (..., S, E) with one value for each of the S keys")
    leading = _check_leading_axes(shapes, scores, v)
    full = (*leading, *scores.shape[-2:])
    if mask is not None and mask.dtype != bool:
        raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean (a bias is added to the scores)")
    for name, array in {"mask": mask, "bias": bias, "dropout_mask": dropout_mask}.items():
        if array is not None:
            check_broadcasts(name, array, full)
    return leading


def check_broadcasts(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the array broadcasts to the shape of the scores, and to no larger one."""
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}; it must broadcast to the scores' {shape}")
