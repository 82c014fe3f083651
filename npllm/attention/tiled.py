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
from npllm.attention.tile_plan import BLOCK, SPAN, TilePlan
from npllm.attention.tiled_head import MAX_SCORE, Head, Index, backward_heads, forward_heads
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, check_given, check_gradient, check_number, reject_half
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.threads import parallel

SCORES = 1 << 17  # of the tiles of a few heads that are computed at a time
MIN_GROUPS = 4  # of heads, for the threads


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
    if y.size and k.size and _products_are_finite(q, k, v):
        cache.is_bounded = array is None and table is None and _largest_score(q, k, scale, softcap) <= MAX_SCORE
        parallel(lambda head: _forward(head, y[_where(head)], log_sum_exp[_where(head)]), list(_heads(cache)))
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
            at = _where(head)
            _backward(
                head, dy[at], cache.y[at], cache.log_sum_exp[at], [gradient[at] for gradient in gradients], into
            )  # fmt: skip

    parallel(run, list(groups.values()))
    dq, dk, dv = (_sum_shared(gradient, x.shape) for gradient, x in zip(gradients, (q, k, v)))
    return dq, dk, dv, *([] if bias is None or dbias is None else [_as_gradient(dbias, bias)])


def _forward(head: Head, y: np.ndarray, log_sum_exp: np.ndarray) -> None:
    if isinstance(head.plan, TilePlan):
        forward_heads(head, y, log_sum_exp)
        return
    for i in range(len(head.q)):
        forward_parts(head.single(i), head.plan, y[i], log_sum_exp[i])


def _backward(
    head: Head,
    dy: np.ndarray,
    y: np.ndarray,
    log_sum_exp: np.ndarray,
    gradients: list[np.ndarray],
    dbias: np.ndarray | None,
) -> None:
    if isinstance(head.plan, TilePlan):
        backward_heads(head, dy, y, log_sum_exp, gradients, dbias)
        return
    for i in range(len(head.q)):
        of_head = [gradient[i] for gradient in gradients]
        backward_parts(head.single(i), head.plan, dy[i], y[i], log_sum_exp[i], of_head, dbias)


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
    """The heads of every sequence, a few at a time."""
    leading, full = cache.leading, (cache.q.shape[-2], cache.k.shape[-2])
    mask_leading, plans = _leading_of_mask(cache.mask), dict[Index, TilePlan | list[SmallTiles]]()
    size, bias = _heads_at_a_time(cache, full), cache.bias
    for index in np.ndindex(*leading[:-1], *(-(-heads // size) for heads in leading[-1:])):
        index = (*index[:-1], *(i * size for i in index[-1:]))  # of the first head
        at = _aligned(index, leading, mask_leading)
        if at not in plans:
            plans[at] = plan_of_mask(_mask_element(cache.mask, at, full), *full)
        if isinstance(bias, DistanceBias):
            of_head = bias.head(index)
        else:
            of_head = None if bias is None else np.broadcast_to(bias[_shared(index, leading, bias)], full)
        q, k, v = (_of_heads(x, index, leading, size) for x in (cache.q, cache.k, cache.v))
        dropout_mask = cache.dropout_mask
        if dropout_mask is not None:
            dropout_mask = np.broadcast_to(dropout_mask, (*dropout_mask.shape[:-2], *full))
            dropout_mask = _of_heads(dropout_mask, index, leading, size)
        yield Head(
            index, q, k, v, of_head, dropout_mask, cache.scale, cache.softcap, cache.is_bounded, plans[at]
        )  # fmt: skip


def _heads_at_a_time(cache: TiledCache, full: tuple[int, int]) -> int:
    """The more, the shorter the sequences are: the tiles of all together stay in the L2 cache."""
    if cache.bias is not None or _leading_of_mask(cache.mask)[-1:] not in ((), (1,)):
        return 1
    tile = min(full[0], BLOCK) * min(max(full), SPAN)
    return max(min(SCORES // tile, math.prod(cache.leading) // MIN_GROUPS, *cache.leading[-1:]), 1)


def _of_heads(x: np.ndarray, index: Index, leading: tuple[int, ...], size: int) -> np.ndarray:
    """Some heads of an array that may have fewer leading axes, or heads that are shared      (…, T, D) → (g, T, D)"""
    own = x.shape[:-2]
    heads = range(index[-1], min(index[-1] + size, leading[-1])) if leading else range(1)
    if not own:
        return np.broadcast_to(x, (len(heads), *x.shape))
    x = x[_aligned(index[:-1], leading[:-1], own[:-1])]
    if len(x) == leading[-1]:
        return x[heads.start : heads.stop]
    return x[[head * len(x) // leading[-1] for head in heads]]


def _where(head: Head) -> tuple[int | slice | None, ...]:
    """The index of the heads in an array (..., H, T, D), or (T, D)."""
    *batch, first = head.index or (None,)
    return (*batch, None if first is None else slice(first, first + len(head.q)))


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


def _products_are_finite(*arrays: np.ndarray) -> bool:
    """False if a number is not finite, or if a product of rows could overflow: |x · y| ≤ |x| |y| (Cauchy-Schwarz)."""
    return all(math.isfinite(float(np.einsum(x, range(x.ndim), x, range(x.ndim), ()))) for x in arrays)


def _largest_score(q: np.ndarray, k: np.ndarray, scale: float, softcap: float | None) -> float:
    """A bound of all scores: the cap, or the greatest |q| |k| · scale."""
    lengths = (math.sqrt(float(np.einsum("...d,...d->...", x, x).max())) for x in (q, k))
    return min(math.prod(lengths) * abs(scale), math.inf if softcap is None else softcap)


def _plain_forward(cache: TiledCache) -> tuple[np.ndarray, Cache]:
    options = (cache.mask, cache.bias, cache.scale, cache.dropout_mask, cache.softcap)
    return plain_attention_forward(cache.q, cache.k, cache.v, *options)
