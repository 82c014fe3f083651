"""Relative positions: a score that knows how far apart a query and a key are.

    q, k → scores [+ a term for the distance] → mask → softmax → weights

Three ways, from the simplest: ALiBi subtracts a fixed slope times the distance; T5 learns a number for each of a few
ranges of distances; Shaw et al. learn a vector for each distance, which the query is compared with like a key, and
another that is averaged like a value. All depend on t − s alone, wherever the two stand.

Press, Smith, Lewis 2021, Train Short, Test Long (ALiBi), section 3; Raffel et al. 2019 (T5), section 2.1; Shaw,
Uszkoreit, Vaswani 2018, Self-Attention with Relative Position Representations, sections 3.1 and 3.2.
"""

import math

import numpy as np

from npllm.functional.attention import sum_to_shape
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, floats, given, integers, not_half, output_gradient, same_size
from npllm.functional.masks import distances
from npllm.functional.softmax import softmax_backward, softmax_forward


def alibi_slopes(num_heads):
    """slope_h = 2^(−8 (h + 1)/H)      an array (H)

    From 1/2 (for 8 heads) down to 1/256: some heads look near, others far. Where H is no power of 2, those of the
    power below, and between them every second one of the power above.
    """
    at_least_one(num_heads=num_heads)
    power = 2 ** int(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([slopes, between[: num_heads - power]])


def alibi_bias(slopes, query_places, key_places, dtype=np.float32):
    """bias[h, t, s] = −slope_h |t − s|      (H), (..., T), (..., S) → (..., H, T, S)

    Places are (T), or (B, 1, T) with one row for all heads. Nothing is learned, so there is no backward.
    """
    distance = np.abs(distances(query_places, key_places))
    return (-np.asarray(slopes)[:, None, None] * distance).astype(dtype)


def t5_buckets(query_places, key_places, num_buckets=32, max_distance=128, causal=True):
    """The range that each distance falls into      (..., T), (..., S) → (..., T, S)

    The first half of the buckets hold one distance each, 0, 1, 2, …; the others ranges that grow like a logarithm, the
    last of them everything from `max_distance` on. With causal=False half of all buckets are for keys that come later.
    """
    distance = distances(query_places, key_places)
    start = 0
    if not causal:
        num_buckets //= 2
        start = np.where(distance < 0, num_buckets, 0)
    distance = np.abs(distance) if not causal else np.maximum(distance, 0)
    exact = num_buckets // 2
    if not 1 <= exact < max_distance:
        raise ValueError(
            f"num_buckets is {num_buckets} and max_distance is {max_distance}; half of the buckets of a direction must "
            "be at least 1 and less than max_distance"
        )
    # in float32, as T5 was trained: at the edges of the ranges float64 rounds to the other side
    growth = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / math.log(max_distance / exact)
    large = np.minimum(exact + (growth * (num_buckets - exact)).astype(np.int64), num_buckets - 1)
    return start + np.where(distance < exact, distance, large)


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
    q, k, v, key_table, value_table, dropout_mask = floats(
        q=q, k=k, v=v, key_table=key_table, value_table=value_table, dropout_mask=dropout_mask
    )
    not_half(q)
    same_size("the width of q", q.shape[-1], **{"the width of k": k.shape[-1], "of key_table": key_table.shape[-1]})
    same_size("the rows of key_table", len(key_table), **{"the rows of value_table": len(value_table)})
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
    dy = output_gradient(dy, cache.shape, q.dtype)
    dv = cache.averaged.mT @ dy  # y = averaged @ v + by_bucket @ value_table
    dvalue_table = sum_to_shape(cache.by_bucket.mT @ dy, value_table.shape)
    daveraged = dy @ v.mT + np.take_along_axis(dy @ value_table.T, cache.buckets, axis=-1)
    dweights = daveraged if cache.dropout_mask is None else daveraged * cache.dropout_mask
    dscores = softmax_backward(dweights, cache.softmax) * cache.scale
    by_bucket = _sum_by_bucket(dscores, cache.buckets, len(key_table))  # q @ key_table.T, picked out
    dq = dscores @ k + by_bucket @ key_table
    dk = dscores.mT @ q
    dkey_table = sum_to_shape(by_bucket.mT @ q, key_table.shape)
    return given(dq, dk, dv, dkey_table, dvalue_table)


def _check_boolean(attn_mask):
    attn_mask = np.asarray(attn_mask)
    if attn_mask.dtype != bool:
        raise TypeError(f"attn_mask has dtype {attn_mask.dtype}; it must be bool, True where a query may look")
    return attn_mask


def _check_buckets(buckets, num_buckets, scores_shape):
    buckets = integers("buckets", buckets, 0, num_buckets)
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
