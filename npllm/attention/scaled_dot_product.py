"""Scaled dot-product attention: each position looks back, weighs what it sees, and averages it.

    ids → embedding → q, k, v → [attention] → context → logits → loss

A query is compared with every key; softmax turns the scores into weights; the values are averaged by them.
Every attention layer in npllm.attention is this one function between linear maps.

Vaswani et al. 2017, Attention Is All You Need, section 3.2.1; grouped heads: Ainslie et al. 2023, GQA; soft cap:
Gemma Team 2024, Gemma 2, section 2.
"""

import math

import numpy as np

from npllm.attention.masks import causal_mask
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, drop_none, reject_half
from npllm.layers.softmax import softmax_backward, softmax_forward


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False, softcap=None, dropout_mask=None,
    bias=None, window=None, sinks=0, offset=0,
):  # fmt: skip
    """y = softmax(q kᵀ · scale + mask) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    Leading dimensions (batch, heads, …) broadcast. Options have PyTorch's meaning:

    attn_mask     boolean (True: may look) or additive (floating point), broadcastable to (..., T, S)
    is_causal     position t sees keys 0 … t, counted from the upper left corner also where T ≠ S
    scale         1/√D unless given; keeps the scores' variance at 1 for random q and k
    enable_gqa    heads, on axis −3, may be fewer in k and v: H/K queries in a row share one key/value head
    softcap       scores become softcap · tanh(scores/softcap), before the mask
    dropout_mask  factors 0 or 1/(1 − p) for the weights, broadcastable to (..., T, S)

    and these, which PyTorch does not have by name:

    bias          (..., T, S) is added to the scores, after the cap and beside any mask: a term for each head, say
    window        with is_causal: no further back than window − 1 keys
    sinks         with a window: the first keys, which are always seen
    offset        with is_causal: keys that were there before the first query; query t stands at offset + t

    A query that may look nowhere gets zeros. Raises ValueError for shapes that do not meet and for options that do not
    go together, TypeError for mixed dtypes or an integer mask.
    """
    return scaled_dot_product_attention_forward(
        q, k, v, attn_mask, is_causal, scale, enable_gqa, softcap, dropout_mask, bias, window, sinks, offset
    )[0]


def scaled_dot_product_attention_forward(
    q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False, softcap=None, dropout_mask=None,
    bias=None, window=None, sinks=0, offset=0,
):  # fmt: skip
    """The value, and in the cache q, k, v, the `weights` (..., T, S), and what was multiplied into or added to them."""
    q, k, v = as_floats(q=q, k=k, v=v)
    reject_half(q)
    softcap = _check_softcap(softcap, q.dtype)
    groups, scores_shape = _check_shapes(q, k, v, enable_gqa)
    attn_mask = _check_attn_mask(attn_mask, is_causal, q.dtype, scores_shape)
    seen = attn_mask
    if is_causal:
        seen = causal_mask(*scores_shape[-2:], offset, window, sinks)
    else:
        _check_needs_causal(window, sinks, offset)
    bias = _check_addend("bias", bias, q.dtype, scores_shape)
    scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)

    scores = split_groups(stack_groups(q, groups) @ k.mT, groups) * scale
    cap_slope = None
    if softcap is not None:
        squashed = np.tanh(scores / softcap)
        scores, cap_slope = softcap * squashed, 1.0 - squashed * squashed
    scores = _add(scores, bias)
    scores = _apply_mask(scores, seen)
    weights, softmax_cache = softmax_forward(scores)
    dropout_mask = _check_addend("dropout_mask", dropout_mask, q.dtype, scores_shape)
    averaged = weights if dropout_mask is None else weights * dropout_mask
    y = split_groups(stack_groups(averaged, groups) @ v, groups)
    cache = Cache(
        q=q, k=k, v=v, weights=weights, softmax=softmax_cache, averaged=averaged,
        dropout_mask=dropout_mask, cap_slope=cap_slope, attn_mask=attn_mask, scale=scale, groups=groups,
        bias=bias, shape=y.shape,
    )  # fmt: skip
    return y, cache


def scaled_dot_product_attention_backward(dy, cache):
    """dq = dS k · scale,  dk = dSᵀ q · scale,  dv = Aᵀ dy      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)

    An additive attn_mask and a bias are inputs too, and get a further gradient each, dS summed to their shape.
    y = A v, so dv = Aᵀ dy and dA = dy vᵀ; A = softmax(S) gives dS (see softmax_backward), 0 wherever the mask
    made A 0. S = q kᵀ · scale, so dq = dS k · scale and dk = dSᵀ q · scale. Grouped queries stand below each
    other as rows, so the products that give dk and dv sum over the group by themselves.
    """
    q, k, v, groups = cache.q, cache.k, cache.v, cache.groups
    dweights = weights_backward(dy, cache)
    dv = stack_groups(cache.averaged, groups).mT @ stack_groups(dy, groups)  # y = averaged @ v
    dscores = softmax_backward(dweights, cache.softmax)
    dmask = None  # scores = scores + attn_mask
    if cache.attn_mask is not None and cache.attn_mask.dtype != bool:
        dmask = unbroadcast(dscores, cache.attn_mask.shape)
    dbias = None if cache.bias is None else unbroadcast(dscores, cache.bias.shape)  # scores = scores + bias
    if cache.cap_slope is not None:
        dscores = dscores * cache.cap_slope  # scores = softcap * tanh(scores / softcap)
    dproduct = stack_groups(dscores * cache.scale, groups)  # scores = q @ k.mT * scale
    dq = split_groups(dproduct @ k, groups)
    dk = dproduct.mT @ stack_groups(q, groups)
    return drop_none(unbroadcast(dq, q.shape), unbroadcast(dk, k.shape), unbroadcast(dv, v.shape), dmask, dbias)


def weights_backward(dy, cache):
    """dA = dy vᵀ      (..., T, E) → (..., T, S)"""
    dy = check_gradient(dy, cache.shape, cache.q.dtype)
    dweights = split_groups(stack_groups(dy, cache.groups) @ cache.v.mT, cache.groups)
    if cache.dropout_mask is not None:
        dweights = dweights * cache.dropout_mask  # averaged = weights * dropout_mask
    return unbroadcast(dweights, cache.weights.shape)  # one table of weights may average several v


def stack_groups(x, groups):
    """Put the queries of the heads that share one key head below each other: (..., K·G, T, D) → (..., K, G·T, D)."""
    if groups == 1:
        return x
    *batch, heads, length, width = x.shape
    return x.reshape(*batch, heads // groups, groups * length, width)


def split_groups(x, groups):
    """Undo stack_groups: (..., K, G·T, D) → (..., K·G, T, D)."""
    if groups == 1:
        return x
    *batch, heads, rows, width = x.shape
    return x.reshape(*batch, heads * groups, rows // groups, width)


def unbroadcast(gradient, shape):
    """Add up a gradient over the axes along which its input was broadcast."""
    extra = gradient.ndim - len(shape)
    stretched = tuple(extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1)
    axes = tuple(range(extra)) + stretched
    return gradient.sum(axis=axes, keepdims=True).reshape(shape) if axes else gradient


def _add(scores, bias):
    return scores if bias is None else scores + bias


def _apply_mask(scores, attn_mask):
    """A forbidden score becomes −inf, which softmax turns into a weight of exactly 0."""
    if attn_mask is None or attn_mask.dtype != bool:
        return _add(scores, attn_mask)
    return np.where(attn_mask, scores, -np.inf)


def _check_shapes(q, k, v, enable_gqa):
    """The number of query heads for each key head, and the shape of the scores."""
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"{shapes}: each must have at least two dimensions, (..., length, width)")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"{shapes}: q and k must have one width D (the last axis), or they cannot be compared")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"{shapes}: k and v must have one length S (axis -2), a value for every key")
    groups, leading = 1, [x.shape[:-2] for x in (q, k, v)]
    if enable_gqa:
        groups = _queries_for_each_key_head(q, k, v, shapes)
        leading = [(*x.shape[:-3], q.shape[-3]) for x in (q, k, v)]
    try:
        batch = np.broadcast_shapes(*leading)
    except ValueError:
        hint = "" if enable_gqa else " (fewer heads in k and v than in q need enable_gqa=True)"
        raise ValueError(f"{shapes}: the leading dimensions do not broadcast{hint}") from None
    return groups, (*batch, q.shape[-2], k.shape[-2])


def _queries_for_each_key_head(q, k, v, shapes):
    if min(q.ndim, k.ndim, v.ndim) < 3:
        raise ValueError(f"{shapes}: enable_gqa needs a head axis, (..., heads, length, width)")
    heads, key_heads = q.shape[-3], k.shape[-3]
    if key_heads != v.shape[-3] or 0 in (heads, key_heads) or heads % key_heads:
        raise ValueError(
            f"{shapes}: with enable_gqa the heads of k and v (axis -3) must be equal and divide those of q"
        )
    return heads // key_heads


def _check_softcap(softcap, dtype):
    if softcap is None:
        return None
    limits = np.finfo(dtype)
    if not limits.tiny <= softcap <= limits.max:
        raise ValueError(f"softcap is {softcap}; it must be greater than 0 and finite in {dtype}, or None for no cap")
    return float(softcap)


def _check_attn_mask(attn_mask, is_causal, dtype, scores_shape):
    if attn_mask is None:
        return None
    if is_causal:
        raise ValueError("attn_mask and is_causal are both set; put the causal part into attn_mask, or leave one out")
    attn_mask = np.asarray(attn_mask)
    if attn_mask.dtype not in (np.dtype(bool), dtype):
        raise TypeError(f"attn_mask has dtype {attn_mask.dtype}; it must be bool or that of q, {dtype}")
    _check_broadcasts("attn_mask", attn_mask, scores_shape)
    return attn_mask


def _check_needs_causal(window, sinks, offset):
    for name, value in {"window": window, "sinks": sinks, "offset": offset}.items():
        if value:
            raise ValueError(f"{name} is {value} but is_causal is False; it is counted from each query's own place, "
                             "so it needs is_causal=True")  # fmt: skip


def _check_addend(name, array, dtype, scores_shape):
    """Return the array, floating-point and broadcastable to the scores; None stays None."""
    if array is None:
        return None
    array = np.asarray(array)
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be that of q, {dtype}")
    _check_broadcasts(name, array, scores_shape)
    return array


def _check_broadcasts(name, mask, scores_shape):
    try:
        fits = np.broadcast_shapes(mask.shape, scores_shape) == scores_shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {mask.shape}; it must broadcast to the scores' {scores_shape}")
