"""Relative positions: a score that knows how far apart a query and a key are.

    q, k → scores [+ a term for the distance] → mask → softmax → weights

Three ways, from the simplest: ALiBi subtracts a fixed slope times the distance; T5 learns a number for each of a few
ranges of distances; Shaw et al. learn a vector for each distance, which the query is compared with like a key, and
another that is averaged like a value. All depend on t − s alone, wherever the two stand.

Press, Smith, Lewis 2021, Train Short, Test Long (ALiBi), section 3; Raffel et al. 2019 (T5), section 2.1; Shaw,
Uszkoreit, Vaswani 2018, Self-Attention with Relative Position Representations, sections 3.1 and 3.2.

ALiBi, attention with linear biases: the further back a key stands, the lower its score, by a slope for each head.

    scores → [− slope · distance] → softmax → …

Over plain attention: positions without anything learned. Because the penalty is the same rule at any distance, a model
trained on short texts can read longer ones.

Press, Smith, Lewis 2021, Train Short, Test Long: Attention with Linear Biases, section 3.

T5's relative positions: a learned number for each head and each range of distances is added to the scores.

    scores → [+ table[bucket(distance), head]] → softmax → …

Over ALiBi: the penalty is learned, and need not be a straight line. Near distances have a bucket each, far ones share.
(T5 itself leaves out the factor 1/√D; here it stays, since its initial weights are not T5's.)

Raffel et al. 2019, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, section 2.1.
"""

import math

import numpy as np

from npllm.attention.masks import distances
from npllm.attention.scaled_dot_product import unbroadcast
from npllm.attention.variants.hooks import AttentionHook
from npllm.core.checks import check_positive
from npllm.layers.embedding import Embedding


def alibi_slopes(num_heads):
    """slope_h = 2^(−8 (h + 1)/H)      an array (H)

    From 1/2 (for 8 heads) down to 1/256: some heads look near, others far. Where H is no power of 2, those of the
    power below, and between them every second one of the power above.
    """
    check_positive(num_heads=num_heads)
    power = 2 ** int(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([slopes, between[: num_heads - power]])


def alibi_bias(slopes, query_positions, key_positions, dtype=np.float32):
    """bias[h, t, s] = −slope_h |t − s|      (H), (..., T), (..., S) → (..., H, T, S)

    Places are (T), or (B, 1, T) with one row for all heads. Nothing is learned, so there is no backward.
    """
    distance = np.abs(distances(query_positions, key_positions))
    return (-np.asarray(slopes)[:, None, None] * distance).astype(dtype)


def t5_buckets(query_positions, key_positions, num_buckets=32, max_distance=128, causal=True):
    """The range that each distance falls into      (..., T), (..., S) → (..., T, S)

    The first half of the buckets hold one distance each, 0, 1, 2, …; the others ranges that grow like a logarithm, the
    last of them everything from `max_distance` on. With causal=False half of all buckets are for keys that come later.
    """
    distance = distances(query_positions, key_positions)
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


class ALiBi(AttentionHook):
    """S_hts ← S_hts − slope_h (t − s)      (H, T, S) → (H, T, S)

    The slopes are those of the paper unless given, one for each head. Slope 0 is plain attention without positions.
    """

    def __init__(self, widths, slopes=None):
        self.slopes = alibi_slopes(widths.num_heads) if slopes is None else np.asarray(slopes, np.float64)
        if self.slopes.shape != (widths.num_heads,):
            raise ValueError(f"slopes has shape {self.slopes.shape}; it must be ({widths.num_heads},), one for a head")
        if not (np.isfinite(self.slopes) & (self.slopes >= 0)).all():
            raise ValueError(f"slopes is {self.slopes}; they must be finite and at least 0: what is far counts less")

    def bias_forward(self, positions, key_positions, dtype):
        """The bias; nothing to learn, so nothing to keep."""
        return alibi_bias(self.slopes, positions, key_positions, dtype), None


class T5Bias(AttentionHook):
    """S_hts ← S_hts + weight[bucket(t − s), h]      (H, T, S) → (H, T, S)

    `relative_attention_bias.weight` is (num_buckets, H), as in T5's published weights.
    """

    def __init__(self, widths, num_buckets=32, max_distance=128, *, rng=None, dtype="float32"):
        t5_buckets([0], [0], num_buckets, max_distance)  # raises where these make no sense
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.relative_attention_bias = Embedding(num_buckets, widths.num_heads, rng=rng, dtype=dtype)

    def bias_forward(self, positions, key_positions, dtype):
        """The numbers of all pairs, and the cache of the table's lookup."""
        positions, key_positions = (
            p if p.ndim == 1 else p[..., 0, :] for p in (positions, key_positions)
        )  # a row for all heads
        buckets = t5_buckets(positions, key_positions, self.num_buckets, self.max_distance)
        bias, cache = self.relative_attention_bias.forward(buckets)
        return np.moveaxis(bias, -1, -3), cache  # (..., T, S, H) → (..., H, T, S)

    def bias_backward(self, dbias, cache):
        """Every pair's gradient goes to the number that it used."""
        dbias = np.moveaxis(dbias, -3, -1)
        self.relative_attention_bias.backward(unbroadcast(dbias, (*cache.ids.shape, dbias.shape[-1])), cache)
