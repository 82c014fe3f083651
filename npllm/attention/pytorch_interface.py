"""torch.nn.functional.scaled_dot_product_attention with its options, on the core of scaled_dot_product.py.

PyTorch's options are converted to the arguments of the core: an additive attn_mask is a bias, is_causal is a mask.
Options that PyTorch does not have (softcap, bias, window, sinks, offset) come after PyTorch's.
"""

import numpy as np

from npllm.attention.mask_rule import MaskRule
from npllm.attention.masks import check_counts
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.attention.scaled_dot_product import check_broadcasts
from npllm.attention.softcap import check_cap
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, check_given, check_positive, drop_none, reject_half


def scaled_dot_product_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    attn_mask: np.ndarray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    softcap: float | None = None,
    dropout_mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    window: int | None = None,
    sinks: int = 0,
    offset: int = 0,
) -> np.ndarray:
    """y = softmax(q kᵀ · scale + mask) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    Leading axes (batch, heads, …) broadcast. Options with PyTorch's meaning:

    attn_mask     boolean (True: may attend) or additive (floating point), broadcastable to (..., T, S)
    is_causal     query t attends to the keys 0 … t, counted from the upper left corner also where T ≠ S
    scale         1/√D unless given
    enable_gqa    k and v may have fewer heads (axis −3): H/K consecutive query heads use one key head
    softcap       the scores become softcap · tanh(scores / softcap), before the mask
    dropout_mask  factors 0 or 1/(1 − p) for the weights, broadcastable to (..., T, S)

    and further ones:

    bias          is added to the scores after the cap, beside any mask; broadcastable to (..., T, S)
    window        with is_causal: the query's own key and the window − 1 before it
    sinks         with a window: the first keys, to which every query attends
    offset        with is_causal: the position of the first query among the keys

    A query that may attend to no key gets zeros. Raises ValueError for shapes that do not fit and for options that do
    not go together, TypeError for mixed dtypes or an integer mask.
    """
    return scaled_dot_product_attention_forward(
        q, k, v, attn_mask, is_causal, scale, enable_gqa, softcap, dropout_mask, bias, window, sinks, offset
    )[0]


def scaled_dot_product_attention_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    attn_mask: np.ndarray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    softcap: float | None = None,
    dropout_mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    window: int | None = None,
    sinks: int = 0,
    offset: int = 0,
) -> tuple[np.ndarray, Cache]:
    """y, and the cache of the core as `attention`: q, k, v, the `weights` (..., T, S), and the options."""
    check_given(q=q, k=k, v=v)
    q, k, v = as_floats(q=q, k=k, v=v)
    reject_half(q)
    scores_shape = _check_shapes(q, k, v, enable_gqa)
    attn_mask = _check_attn_mask(attn_mask, is_causal, q.dtype, scores_shape)
    bias = _check_addend("bias", bias, q.dtype, scores_shape)
    dropout_mask = _check_addend("dropout_mask", dropout_mask, q.dtype, scores_shape)
    if softcap is not None:
        check_cap(softcap, q.dtype)
    check_counts(offset=offset, sinks=sinks)
    if window is not None:
        check_positive(window=window)
    if is_causal:
        num_queries, num_keys = scores_shape[-2:]
        queries, keys = np.arange(offset, offset + num_queries), np.arange(num_keys)
        mask, added = MaskRule(queries, keys, window, sinks), None
    else:
        _check_needs_causal(window=window, sinks=sinks, offset=offset)
        is_boolean = attn_mask is not None and attn_mask.dtype == bool
        mask, added = (attn_mask, None) if is_boolean else (None, attn_mask)

    total = bias if added is None else added if bias is None else added + bias
    y, attention = masked_attention_forward(q, k, v, mask, total, scale, dropout_mask, softcap)
    shapes = [None if array is None else array.shape for array in (added, bias)]
    return y, Cache(attention=attention, addend_shapes=shapes)


def scaled_dot_product_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq, dk, dv      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)

    An additive attn_mask and a bias are inputs, too: scores = scores + attn_mask + bias, so each has the gradient
    dscores, summed to its shape.
    """
    dq, dk, dv, *dtotal = masked_attention_backward(dy, cache.attention)
    dadded, dbias = (None if shape is None else unbroadcast(dtotal[0], shape) for shape in cache.addend_shapes)
    return drop_none(dq, dk, dv, dadded, dbias)


def _check_shapes(q: np.ndarray, k: np.ndarray, v: np.ndarray, enable_gqa: bool) -> tuple[int, ...]:
    """The shape of the scores; raises ValueError with PyTorch's rules for heads."""
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"{shapes}: each must have at least two axes, (..., length, channels)")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"{shapes}: the last axis of q and k, D, must be the same")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"{shapes}: k and v must have one length S (axis -2), a value for every key")
    leading = [x.shape[:-2] for x in (q, k, v)]
    if enable_gqa:
        _check_groups(q, k, v, shapes)
        leading = [(*x.shape[:-3], q.shape[-3]) for x in (q, k, v)]
    try:
        batch = np.broadcast_shapes(*leading)
    except ValueError:
        hint = "" if enable_gqa else " (fewer heads in k and v than in q need enable_gqa=True)"
        raise ValueError(f"{shapes}: the leading axes do not broadcast{hint}") from None
    return (*batch, q.shape[-2], k.shape[-2])


def _check_groups(q: np.ndarray, k: np.ndarray, v: np.ndarray, shapes: str) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 3:
        raise ValueError(f"{shapes}: enable_gqa needs a head axis, (..., heads, length, channels)")
    heads, kv_heads = q.shape[-3], k.shape[-3]
    if kv_heads != v.shape[-3] or 0 in (heads, kv_heads) or heads % kv_heads:
        raise ValueError(
            f"{shapes}: with enable_gqa the heads of k and v (axis -3) must be equal and divide those of q"
        )


def _check_attn_mask(attn_mask, is_causal, dtype, scores_shape):
    if attn_mask is None:
        return None
    if is_causal:
        raise ValueError("attn_mask and is_causal are both set; put the causal part into attn_mask, or leave one out")
    attn_mask = as_array("attn_mask", attn_mask)
    if attn_mask.dtype not in (np.dtype(bool), dtype):
        raise TypeError(f"attn_mask has dtype {attn_mask.dtype}; it must be bool or that of q, {dtype}")
    check_broadcasts("attn_mask", attn_mask, scores_shape)
    return attn_mask


def _check_needs_causal(**options):
    for name, value in options.items():
        if value is not None and value != 0:
            raise ValueError(
                f"{name} is {value} but is_causal is False; it is relative to each query's position, so it needs "
                "is_causal=True"
            )


def _check_addend(name, array, dtype, scores_shape):
    """Return the array, floating point and broadcastable to the scores; None stays None."""
    if array is None:
        return None
    array = as_array(name, array)
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be that of q, {dtype}")
    check_broadcasts(name, array, scores_shape)
    return array
