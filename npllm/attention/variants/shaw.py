"""Relative position representations (Shaw et al.): one vector per distance is added to the keys, one to the values.

    x → q, k, v → [attention with keys k + a(distance) and values v + b(distance)] → join the heads → projection

T5 learns one number for each distance. With vectors, the effect of a distance on a score can depend on the query, and
the output can depend on the distances of the values that it averages. All distances from `max_distance` on have the
same vectors.

Shaw, Uszkoreit, Vaswani 2018, Self-Attention with Relative Position Representations, section 3.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.base import (
    Attention,
    attention_mask,
    join_heads,
    per_head,
    project_backward,
    project_forward,
    query_positions,
    split_heads,
)
from npllm.attention.kv_cache import KVCache
from npllm.attention.masks import distances
from npllm.attention.scaled_dot_product import check_broadcasts
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import (
    as_array,
    as_floats,
    as_indices,
    check_given,
    check_gradient,
    check_heads,
    check_positive,
    check_probability,
    check_shape,
    drop_none,
    reject_half,
)
from npllm.core.module import Parameter, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.softmax import softmax_backward, softmax_forward


def relative_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    key_table: np.ndarray,
    value_table: np.ndarray,
    buckets: np.ndarray,
    attn_mask: np.ndarray | None = None,
    dropout_mask: np.ndarray | None = None,
) -> np.ndarray:
    """y_t = Σ_s A_ts (v_s + b_ts),  A = softmax((q_t · (k_s + a_ts)) / √D)

    (..., T, D), (..., S, D), (..., S, E), (R, D), (R, E) → (..., T, E)

    a_ts = key_table[buckets[t, s]] and b_ts = value_table[buckets[t, s]], the same for all heads. The vectors of all
    pairs (t, s) are never formed: q is multiplied by the R rows of the table, and the products are selected by bucket.

    buckets     integers in [0, R), broadcastable to (..., T, S)
    attn_mask   boolean, True where a query may attend to a key; broadcastable to (..., T, S)
    """
    return relative_attention_forward(q, k, v, key_table, value_table, buckets, attn_mask, dropout_mask)[0]


def relative_attention_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    key_table: np.ndarray,
    value_table: np.ndarray,
    buckets: np.ndarray,
    attn_mask: np.ndarray | None = None,
    dropout_mask: np.ndarray | None = None,
) -> tuple[np.ndarray, Cache]:
    """y; the cache holds the `weights` (..., T, S), `dropped` after dropout, and their sums by bucket (..., T, R)."""
    check_given(q=q, k=k, v=v, key_table=key_table, value_table=value_table)
    q, k, v, key_table, value_table, dropout_mask = as_floats(
        q=q, k=k, v=v, key_table=key_table, value_table=value_table, dropout_mask=dropout_mask
    )
    reject_half(q)
    check_shape("q", q, "(..., T, D)")
    check_shape("k", k, "(..., S, D)", D=q.shape[-1])
    check_shape("key_table", key_table, "(R, D)", D=q.shape[-1])
    check_shape("v", v, "(..., S, E)", S=k.shape[-2])
    check_shape("value_table", value_table, "(R, E)", R=len(key_table), E=v.shape[-1])
    _check_leading_axes(q, k, v)
    scale = 1.0 / math.sqrt(max(q.shape[-1], 1))
    scores = q @ k.mT
    buckets = _check_buckets(buckets, len(key_table), scores.shape)
    scores = (scores + np.take_along_axis(q @ key_table.T, buckets, axis=-1)) * scale
    if attn_mask is not None:
        scores = np.where(_check_boolean(attn_mask, scores.shape), scores, -np.inf)
    weights, softmax = softmax_forward(scores)
    dropped = weights if dropout_mask is None else weights * dropout_mask
    by_bucket = _sum_by_bucket(dropped, buckets, len(value_table))
    y = dropped @ v + by_bucket @ value_table
    cache = Cache(
        q=q,
        k=k,
        v=v,
        key_table=key_table,
        value_table=value_table,
        buckets=buckets,
        weights=weights,
        softmax=softmax,
        dropped=dropped,
        by_bucket=by_bucket,
        dropout_mask=dropout_mask,
        scale=scale,
        shape=y.shape,
    )
    return y, cache


def relative_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq = dS (k + a) · scale,  dk = dSᵀ q · scale,  dv = Aᵀ dy,  da = Σ dS q · scale,  db = Σ A dy

    (..., T, E) → (..., T, D), (..., S, D), (..., S, E), (R, D), (R, E)

    As in plain attention, with the tables as further keys and values. The derivative of selecting by bucket is summing
    by bucket: with P_tr = Σ_s dS_ts [bucket_ts = r],  dq += P key_table  and  dkey_table = Σ_t Pᵀ q.
    """
    q, k, v, key_table, value_table = cache.q, cache.k, cache.v, cache.key_table, cache.value_table
    dy = check_gradient(dy, cache.shape, q.dtype)
    dv = cache.dropped.mT @ dy  # y = dropped @ v + by_bucket @ value_table
    dvalue_table = unbroadcast(cache.by_bucket.mT @ dy, value_table.shape)
    dweights = dy @ v.mT + np.take_along_axis(dy @ value_table.T, cache.buckets, axis=-1)
    if cache.dropout_mask is not None:
        dweights = dweights * cache.dropout_mask
    dscores = softmax_backward(dweights, cache.softmax) * cache.scale
    by_bucket = _sum_by_bucket(dscores, cache.buckets, len(key_table))  # selected from q @ key_table.T
    dq = dscores @ k + by_bucket @ key_table
    dk = dscores.mT @ q
    dkey_table = unbroadcast(by_bucket.mT @ q, key_table.shape)
    return drop_none(dq, dk, dv, dkey_table, dvalue_table)


class ShawAttention(Attention):
    """y = join(Σ_s A_ts (v_s + b_{t−s})) W_oᵀ,  A = softmax(causal(q_t · (k_s + a_{t−s}) / √D))

    (..., T, C) → (..., T, C)

    `key_table` and `value_table` (max_distance + 1, D) hold a and b for all heads; the last row is for all distances
    from max_distance on. Raises ValueError if num_heads does not divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        max_distance: int = 16,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length, max_distance=max_distance)
        self.context_length, self.num_heads, self.max_distance = context_length, num_heads, max_distance
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(d_model, d_model, bias=False, dtype=dtype, init=False) for _ in range(4)
        )
        table_shape = (max_distance + 1, d_model // num_heads)
        self.key_table = Parameter(np.zeros(table_shape, dtype))
        self.value_table = Parameter(np.zeros(table_shape, dtype))
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the projections, then both tables from U(−1/√D, 1/√D)."""
        super().init_weights(rng)
        bound = 1.0 / math.sqrt(self.key_table.shape[1])
        for table in (self.key_table, self.value_table):
            table.data[...] = rng.uniform(-bound, bound, table.shape)

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> KVCache:
        """An empty cache of keys and values, without the vectors of the tables."""
        return KVCache(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: KVCache | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the dropout and of the core.

        kv_cache       x follows the positions that are in it, and its keys and values are appended
        document_ids   integers (..., T): several documents in one sequence; no position attends to another document
        """
        document_ids = per_head(document_ids, x)
        positions = query_positions(x, self.context_length, kv_cache, document_ids)
        qkv, projections = project_forward(x, (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (split_heads(projected, self.num_heads) for projected in qkv)
        k, v, key_positions = (k, v, positions) if kv_cache is None else kv_cache.append(k, v)
        mask = attention_mask(positions, key_positions, document_ids)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        buckets = np.clip(distances(positions, key_positions), 0, self.max_distance)  # any for masked pairs
        context, attention = relative_attention_forward(
            q, k, v, self.key_table.data, self.value_table.data, buckets, mask, dropout_mask
        )
        y, o_proj = self.o_proj.forward(join_heads(context))
        dropout = Cache(dropout_mask=dropout_mask)
        return y, Cache(projections=projections, dropout=dropout, attention=attention, o_proj=o_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        *dqkv, dkey_table, dvalue_table = relative_attention_backward(dcontext, cache.attention)
        self.add_grads(key_table=dkey_table, value_table=dvalue_table)
        dqkv = [join_heads(gradient) for gradient in dqkv]
        return project_backward(dqkv, cache.projections, (self.q_proj, self.k_proj, self.v_proj))


@dataclass(frozen=True)
class Shaw:
    """The configuration of ShawAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    max_distance: int = 16

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> ShawAttention:
        """The layer."""
        return ShawAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype, init=init)


def _check_leading_axes(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    try:
        np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ValueError(f"q {q.shape}, k {k.shape}, v {v.shape}: the leading axes must broadcast") from None


def _check_boolean(attn_mask: np.ndarray, scores_shape: tuple[int, ...]) -> np.ndarray:
    attn_mask = as_array("attn_mask", attn_mask)
    if attn_mask.dtype != bool:
        raise TypeError(f"attn_mask has dtype {attn_mask.dtype}; it must be bool, True where a query may attend")
    check_broadcasts("attn_mask", attn_mask, scores_shape)
    return attn_mask


def _check_buckets(buckets: np.ndarray, num_buckets: int, scores_shape: tuple[int, ...]) -> np.ndarray:
    buckets = as_indices("buckets", buckets, 0, num_buckets)
    try:
        return np.broadcast_to(buckets, scores_shape)
    except ValueError:
        raise ValueError(
            f"buckets has shape {buckets.shape}; it must broadcast to the scores' {scores_shape}"
        ) from None


def _sum_by_bucket(values: np.ndarray, buckets: np.ndarray, num_buckets: int) -> np.ndarray:
    """sums[..., t, r] = Σ_s values[..., t, s] where bucket[..., t, s] = r: (..., T, S) → (..., T, R)."""
    rows = np.arange(values.size // max(values.shape[-1], 1)).reshape(*values.shape[:-1], 1)
    flat = (rows * num_buckets + buckets).ravel()
    sums = np.bincount(flat, values.ravel(), rows.size * num_buckets)
    return sums.reshape(*values.shape[:-1], num_buckets).astype(values.dtype)
