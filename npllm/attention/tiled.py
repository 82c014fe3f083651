"""Scaled dot-product attention in tiles: the scores of all pairs never stand in memory at once.

    for each head, for each block of queries: y = softmax(q kᵀ · scale where mask) v, a span of visible keys at a time

This is the function of scaled_dot_product.py by another algorithm. There the scores and weights are arrays of T × S
numbers, which are written to memory and read again several times; here a span of them stays in the cache of a core, and
memory grows with T + S. Spans that the mask hides are skipped, so a causal mask saves half of the work, and a sliding
window costs T times the window. Where little is visible, small_tiles.py and small_tile_head.py take the place of
tile_plan.py and tiled_head.py. The backward pass computes the weights again instead of keeping them. Heads are dealt
out to threads. tiled_head.py has the algorithm for one head.

Where a number is not finite, or a product could overflow, the plain form runs: inf and nan reach the same results.

Dao 2023, FlashAttention-2, section 3.1.
"""

import math
from collections.abc import Iterator

import numpy as np

from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import ArrayElement, MaskElement, MaskRule
from npllm.attention.plain import plain_attention_backward, plain_attention_forward
from npllm.attention.scaled_dot_product import check_attention_shapes
from npllm.attention.small_tile_head import backward_parts, forward_parts
from npllm.attention.small_tiles import SmallTiles, plan_of_mask
from npllm.attention.softcap import check_cap
from npllm.attention.tile_plan import TilePlan
from npllm.attention.tiled_head import Head, Index, backward_head, forward_head
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, check_given, check_gradient, check_number, reject_half
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.threads import parallel


class TiledCache(Cache):
    """q, k, v, y, the log-sum-exp of each row of scores, and the options. `weights` are computed when they are read."""

    @property
    def weights(self) -> np.ndarray:
        """The attention weights (..., T, S), by the plain form."""
        return self.plain().weights

    def plain(self) -> Cache:
        """The cache of the plain form."""
        return _plain_forward(self)[1]


@ieee_arithmetic
def tiled_attention_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | MaskRule | None = None,
    bias: np.ndarray | DistanceBias | None = None,
    scale: float | None = None,
    dropout_mask: np.ndarray | None = None,
    softcap: float | None = None,
) -> tuple[np.ndarray, Cache]:
    """y = softmax(cap(q kᵀ · scale) + bias where mask) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    The arguments and the cache are those of `plain_attention_forward`; a TiledCache computes `weights` when they are
    read. Where a number is not finite, the plain form runs.
    """
    check_given(q=q, k=k, v=v)
    table = bias if isinstance(bias, DistanceBias) else None
    array = None if isinstance(bias, DistanceBias) else bias
    q, k, v, array, dropout_mask = as_floats(q=q, k=k, v=v, bias=array, dropout_mask=dropout_mask)
    reject_half(q)
    mask = mask if mask is None or isinstance(mask, MaskRule) else as_array("mask", mask)
    mask_array = None if isinstance(mask, MaskRule) else mask
    leading = check_attention_shapes(q, k, v, mask_array, array, dropout_mask)
    if isinstance(mask, MaskRule):
        mask.check((*leading, q.shape[-2], k.shape[-2]))
    scale = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else check_number("scale", scale)
    softcap = None if softcap is None else check_cap(softcap, q.dtype)
    cache = TiledCache(
        q=q, k=k, v=v, mask=mask, bias=array if table is None else table, scale=scale, dropout_mask=dropout_mask,
        softcap=softcap, leading=leading,
    )  # fmt: skip
    y = _by_heads(leading, (q.shape[-2], v.shape[-1]), q.dtype)
    log_sum_exp = np.empty((*leading, q.shape[-2], 1), q.dtype)
    if y.size and k.size and _products_are_finite(q, k) and _products_are_finite(v, v):
        parallel(lambda head: _forward_head(head, y[head.index], log_sum_exp[head.index]), list(_heads(cache)))
        if math.isfinite(float(log_sum_exp.sum())):
            cache.y, cache.log_sum_exp, cache.shape = y, log_sum_exp, y.shape
            return y, cache
    return _plain_forward(cache)


@ieee_arithmetic
def tiled_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq, dk, dv, and dbias where there was a bias      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)"""
    if not isinstance(cache, TiledCache):
        return plain_attention_backward(dy, cache)
    dy = check_gradient(dy, cache.shape, cache.v.dtype)
    if not _products_are_finite(dy, cache.v):
        return plain_attention_backward(dy, cache.plain())
    q, k, v, bias, leading = cache.q, cache.k, cache.v, cache.bias, cache.leading
    gradients = [_by_heads(leading, x.shape[-2:], q.dtype) for x in (q, k, v)]
    dbias = _zeros_for_bias(bias)
    groups: dict[Index, list[Head]] = {}  # the heads that share a bias run in turn: they add to one gradient
    for head in _heads(cache):
        groups.setdefault(_index_of_bias(head.index, leading, bias), []).append(head)

    def run(group: list[Head]) -> None:
        for head in group:
            into = None if dbias is None else dbias[_index_of_bias(head.index, leading, bias)]
            _backward_head(
                head, dy[head.index], cache.y[head.index], cache.log_sum_exp[head.index],
                [gradient[head.index] for gradient in gradients], into,
            )  # fmt: skip

    parallel(run, list(groups.values()))
    dq, dk, dv = (_sum_shared(gradient, x.shape) for gradient, x in zip(gradients, (q, k, v)))
    return dq, dk, dv, *([] if bias is None or dbias is None else [_as_gradient(dbias, bias)])


def _forward_head(head: Head, y: np.ndarray, log_sum_exp: np.ndarray) -> None:
    if isinstance(head.plan, TilePlan):
        forward_head(head, y, log_sum_exp)
    else:
        forward_parts(head, head.plan, y, log_sum_exp)


def _backward_head(
    head: Head,
    dy: np.ndarray,
    y: np.ndarray,
    log_sum_exp: np.ndarray,
    gradients: list[np.ndarray],
    dbias: np.ndarray | None,
) -> None:
    if isinstance(head.plan, TilePlan):
        backward_head(head, dy, y, log_sum_exp, gradients, dbias)
    else:
        backward_parts(head, head.plan, dy, y, log_sum_exp, gradients, dbias)


def _zeros_for_bias(bias: np.ndarray | DistanceBias | None) -> np.ndarray | None:
    """Zeros to which the heads add: the bias with at least two axes, or a table in float64."""
    if bias is None:
        return None
    if isinstance(bias, DistanceBias):
        return np.zeros(bias.table.shape)
    return np.zeros((*[1] * (2 - bias.ndim), *bias.shape), bias.dtype)


def _as_gradient(dbias: np.ndarray, bias: np.ndarray | DistanceBias) -> np.ndarray:
    return dbias.astype(bias.table.dtype) if isinstance(bias, DistanceBias) else dbias.reshape(bias.shape)


def _index_of_bias(index: Index, leading: tuple[int, ...], bias: np.ndarray | DistanceBias | None) -> Index:
    """The index of the bias of a head; the index itself where there is no bias."""
    if bias is None:
        return index
    return index[-1:] if isinstance(bias, DistanceBias) else _shared(index, leading, bias)


def _heads(cache: TiledCache) -> Iterator[Head]:
    """Every head of every sequence."""
    q, k, v, leading = cache.q, cache.k, cache.v, cache.leading
    full = (q.shape[-2], k.shape[-2])
    mask_leading, plans = _leading_of_mask(cache.mask), dict[Index, TilePlan | list[SmallTiles]]()
    for index in np.ndindex(*leading):
        at = _aligned(index, leading, mask_leading)
        if at not in plans:
            plans[at] = plan_of_mask(_mask_element(cache.mask, at, full), *full)
        table = cache.bias.head(index) if isinstance(cache.bias, DistanceBias) else None
        bias, dropout_mask = (
            None if x is None else np.broadcast_to(x[_shared(index, leading, x)], full)
            for x in (cache.bias if table is None else None, cache.dropout_mask)
        )
        q_head, k_head, v_head = (x[_shared(index, leading, x)] for x in (q, k, v))
        yield Head(
            index,
            q_head,
            k_head,
            v_head,
            bias if table is None else table,
            dropout_mask,
            cache.scale,
            cache.softcap,
            plans[at],
        )


def _leading_of_mask(mask: np.ndarray | MaskRule | None) -> tuple[int, ...]:
    return () if mask is None else mask.leading if isinstance(mask, MaskRule) else mask.shape[:-2]


def _mask_element(
    mask: np.ndarray | MaskRule | None, index: Index, shape: tuple[int, int]
) -> MaskElement | ArrayElement | None:
    """The mask of one head without leading axes."""
    if mask is None:
        return None
    return mask.element(index) if isinstance(mask, MaskRule) else ArrayElement(np.broadcast_to(mask[index], shape))


def _aligned(index: Index, leading: tuple[int, ...], shape: tuple[int, ...]) -> Index:
    """The index into leading axes that broadcast, or that are shared by groups of heads: i · n // N."""
    pairs = zip(index[len(index) - len(shape) :], leading[len(leading) - len(shape) :], shape)
    return tuple(i * n // size for i, size, n in pairs)


def _shared(index: Index, leading: tuple[int, ...], x: np.ndarray) -> Index:
    """The index into an array (..., T, S) or (..., T, D)."""
    return _aligned(index, leading, x.shape[:-2])


def _sum_shared(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum the gradients (..., H, S, D) of all heads that share a key head, or broadcast, to this shape."""
    if len(shape) > 2 and 1 < shape[-3] < gradient.shape[-3]:
        heads = (shape[-3], gradient.shape[-3] // shape[-3])
        gradient = gradient.reshape(*gradient.shape[:-3], *heads, *gradient.shape[-2:]).sum(axis=-3)
    return unbroadcast(gradient, shape)


def _by_heads(leading: tuple[int, ...], shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """An empty array (..., H, T, D) in the memory order (..., T, H, D), in which join_heads needs no copy."""
    if not leading:
        return np.empty(shape, dtype)
    return np.empty((*leading[:-1], shape[0], leading[-1], shape[1]), dtype).swapaxes(-3, -2)


def _products_are_finite(x: np.ndarray, y: np.ndarray) -> bool:
    """False if a number is not finite, or if a product of rows could overflow: |x · y| ≤ |x| |y| (Cauchy-Schwarz)."""
    return all(math.isfinite(float(np.einsum(z, range(z.ndim), z, range(z.ndim), ()))) for z in (x, y))


def _plain_forward(cache: TiledCache) -> tuple[np.ndarray, Cache]:
    options = (cache.mask, cache.bias, cache.scale, cache.dropout_mask, cache.softcap)
    return plain_attention_forward(cache.q, cache.k, cache.v, *options)
