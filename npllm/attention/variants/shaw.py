"""Relative positions by Shaw et al.: a vector for each distance, compared like a key and averaged like a value.

    x → q, k, v → [attention over k + a(distance), v + b(distance)] → join the heads → projection

Over `multi_head`: where T5 learns one number for a distance, here are two vectors, so a query may ask for "the noun two
back", and what is brought home may say from how far it comes. Beyond `max_distance` all distances look alike.

Shaw, Uszkoreit, Vaswani 2018, Self-Attention with Relative Position Representations, section 3.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.base import Attention, document_ids_per_head, join_heads, reject_document_ids, split_heads
from npllm.attention.kv_cache import KVCache
from npllm.attention.masks import causal_mask, distances, document_mask, position_mask
from npllm.core.broadcasting import unbroadcast
from npllm.core.cache import Cache
from npllm.core.checks import (
    as_floats,
    as_indices,
    as_sequence,
    check_context_length,
    check_gradient,
    check_heads,
    check_positive,
    check_size,
    drop_none,
    reject_half,
)
from npllm.core.module import Parameter, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.softmax import softmax_backward, softmax_forward


def relative_attention(q, k, v, key_table, value_table, buckets, attn_mask=None, dropout_mask=None):
    """y_t = Σ_s A_ts (v_s + b_ts),  A = softmax((q_t · (k_s + a_ts)) / √D)      (..., T, D), (..., S, D), (..., S, E), (R, D), (R, E) → (..., T, E)

    a_ts = key_table[buckets[t, s]] and b_ts = value_table[buckets[t, s]], shared by all heads. The vectors a are never
    laid out for all pairs: q is compared with the R rows of the table, and the result picked out by bucket.

    buckets     integers in [0, R), broadcastable to (..., T, S)
    attn_mask   boolean, True: may look; broadcastable to (..., T, S)
    """  # noqa: E501
    return relative_attention_forward(q, k, v, key_table, value_table, buckets, attn_mask, dropout_mask)[0]


def relative_attention_forward(q, k, v, key_table, value_table, buckets, attn_mask=None, dropout_mask=None):
    """The value, and in the cache the `weights` (..., T, S) and their sums by bucket (..., T, R)."""
    q, k, v, key_table, value_table, dropout_mask = as_floats(
        q=q, k=k, v=v, key_table=key_table, value_table=value_table, dropout_mask=dropout_mask
    )
    reject_half(q)
    check_size("the width of q", q.shape[-1], **{"the width of k": k.shape[-1], "of key_table": key_table.shape[-1]})
    check_size("the rows of key_table", len(key_table), **{"the rows of value_table": len(value_table)})
    scale = 1.0 / math.sqrt(q.shape[-1])
    scores = q @ k.mT
    buckets = _check_buckets(buckets, len(key_table), scores.shape)
    scores = (scores + np.take_along_axis(q @ key_table.T, buckets, axis=-1)) * scale
    if attn_mask is not None:
        scores = np.where(_check_boolean(attn_mask), scores, -np.inf)
    weights, softmax = softmax_forward(scores)
    averaged = weights if dropout_mask is None else weights * dropout_mask
    by_bucket = _sum_by_bucket(averaged, buckets, len(value_table))
    y = averaged @ v + by_bucket @ value_table
    cache = Cache(
        q=q, k=k, v=v, key_table=key_table, value_table=value_table, buckets=buckets, weights=weights, softmax=softmax,
        averaged=averaged, by_bucket=by_bucket, dropout_mask=dropout_mask, scale=scale, shape=y.shape,
    )  # fmt: skip
    return y, cache


def relative_attention_backward(dy, cache):
    """dq = dS (k + a) · scale, dk = dSᵀ q · scale, dv = Aᵀ dy, da = Σ dS q · scale, db = Σ A dy      (..., T, E) → (..., T, D), (..., S, D), (..., S, E), (R, D), (R, E)

    As in plain attention; the tables are further keys and values, and picking out by bucket becomes, on the way back,
    adding up by bucket. With P_tr = Σ_s dS_ts [bucket_ts = r]:  dq += P key_table,  dkey_table = Σ_t Pᵀ q.
    """  # noqa: E501
    q, k, v, key_table, value_table = cache.q, cache.k, cache.v, cache.key_table, cache.value_table
    dy = check_gradient(dy, cache.shape, q.dtype)
    dv = cache.averaged.mT @ dy  # y = averaged @ v + by_bucket @ value_table
    dvalue_table = unbroadcast(cache.by_bucket.mT @ dy, value_table.shape)
    daveraged = dy @ v.mT + np.take_along_axis(dy @ value_table.T, cache.buckets, axis=-1)
    dweights = daveraged if cache.dropout_mask is None else daveraged * cache.dropout_mask
    dscores = softmax_backward(dweights, cache.softmax) * cache.scale
    by_bucket = _sum_by_bucket(dscores, cache.buckets, len(key_table))  # q @ key_table.T, picked out
    dq = dscores @ k + by_bucket @ key_table
    dk = dscores.mT @ q
    dkey_table = unbroadcast(by_bucket.mT @ q, key_table.shape)
    return drop_none(dq, dk, dv, dkey_table, dvalue_table)


@dataclass(frozen=True)
class Shaw:
    """The configuration of ShawAttention."""

    num_heads: int
    max_distance: int = 16

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> "ShawAttention":
        """The layer."""
        return ShawAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype)


class ShawAttention(Attention):
    """y = join(Σ_s A_ts (v_s + b_{t−s})) W_oᵀ,  A = softmax(causal(q_t · (k_s + a_{t−s}) / √D))      (..., T, C) → (..., T, C)

    `key_table` and `value_table` (max_distance + 1, D), shared by all heads, hold a and b; the last row is for every
    distance from max_distance on.
    """  # noqa: E501

    def __init__(self, d_model, context_length, dropout, num_heads, max_distance=16, *, rng=None, dtype="float32"):
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length, max_distance=max_distance)
        rng, width = as_generator(rng), d_model // num_heads
        self.context_length, self.num_heads, self.max_distance = context_length, num_heads, max_distance
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype) for _ in range(4)
        )
        bound = 1.0 / math.sqrt(width)
        self.key_table, self.value_table = (
            Parameter(rng.uniform(-bound, bound, (max_distance + 1, width)).astype(dtype)) for _ in range(2)
        )
        self.dropout = Dropout(dropout)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past: keys and values, as in plain attention."""
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added."""
        if kv_cache is None:
            return self.forward(x, None, document_ids)[0]
        reject_document_ids(document_ids)
        positions = kv_cache.positions(as_sequence(x).shape[-2])
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        k, v, key_positions = kv_cache.extend(k, v)
        context = relative_attention(
            q, k, v, self.key_table.data, self.value_table.data, self._buckets(positions, key_positions),
            position_mask(positions, key_positions),
        )  # fmt: skip
        return self.o_proj(join_heads(context))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of the projections and of the core; `documents`: see GroupedQueryAttention."""
        length = as_sequence(x).shape[-2]
        check_context_length(length, self.context_length)
        positions, document_ids = np.arange(length), document_ids_per_head(document_ids, x)
        seen = causal_mask(length, length) if document_ids is None else document_mask(document_ids)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        mask = self.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
        context, attention = relative_attention_forward(
            q, k, v, self.key_table.data, self.value_table.data, self._buckets(positions, positions), seen, mask
        )
        y, o_proj = self.o_proj.forward(join_heads(context))
        dropout = Cache(dropout_mask=mask)
        return y, Cache(
            q_proj=q_proj, k_proj=k_proj, v_proj=v_proj, dropout=dropout, attention=attention, o_proj=o_proj
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dk, dv, dkey_table, dvalue_table = relative_attention_backward(dcontext, cache.attention)
        self.key_table.add_grad(dkey_table)
        self.value_table.add_grad(dvalue_table)
        dx = self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)

    def _buckets(self, positions, key_positions):
        """The row of the tables for each pair; what lies ahead is masked, and may have any row."""
        return np.clip(distances(positions, key_positions), 0, self.max_distance)


def _check_boolean(attn_mask):
    attn_mask = np.asarray(attn_mask)
    if attn_mask.dtype != bool:
        raise TypeError(f"attn_mask has dtype {attn_mask.dtype}; it must be bool, True where a query may look")
    return attn_mask


def _check_buckets(buckets, num_buckets, scores_shape):
    buckets = as_indices("buckets", buckets, 0, num_buckets)
    try:
        return np.broadcast_to(buckets, scores_shape)
    except ValueError:
        raise ValueError(
            f"buckets has shape {buckets.shape}; it must broadcast to the scores' {scores_shape}"
        ) from None


def _sum_by_bucket(values, buckets, num_buckets):
    """sums[..., t, r] = Σ_s values[..., t, s] where bucket[..., t, s] = r: (..., T, S) → (..., T, R)."""
    rows = np.arange(values.size // max(values.shape[-1], 1)).reshape(*values.shape[:-1], 1)
    flat = (rows * num_buckets + buckets).ravel()
    sums = np.bincount(flat, values.ravel(), rows.size * num_buckets)
    return sums.reshape(*values.shape[:-1], num_buckets).astype(values.dtype)
