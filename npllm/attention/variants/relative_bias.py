"""Relative position biases: a term that depends on t − s is added to the score of query t and key s.

    q, k → scores → [+ bias of the relative position] → mask → softmax → weights

ALiBi subtracts the distance times a fixed slope, one for each head. Nothing is learned, and the rule is the same at any
distance, so a model trained on short texts can read longer ones. T5 learns the term: a number for each head and each
range ("bucket") of distances. (T5 itself has no factor 1/√D; here it stays, since the initial weights are not T5's.)

Press, Smith, Lewis 2021, Train Short, Test Long: Attention with Linear Biases, section 3; Raffel et al. 2019, Exploring
the Limits of Transfer Learning with a Unified Text-to-Text Transformer, section 2.1.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.masks import distances
from npllm.core.cache import Cache
from npllm.core.checks import check_list, check_not_negative, check_positive, check_shape
from npllm.layers.embedding import embedding_backward, embedding_forward


def alibi_bias(
    slopes: np.ndarray, query_positions: np.ndarray, key_positions: np.ndarray, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """bias[h, t, s] = −slope_h |t − s|      (H), (..., T), (..., S) → (..., H, T, S)

    Positions are (T), or (B, 1, T), with one row for all heads. Nothing is learned, so there is no backward.
    """
    distance = np.abs(distances(query_positions, key_positions))
    slopes = np.asarray(slopes)
    if slopes.dtype.kind not in "fiu":
        raise TypeError(f"slopes has dtype {slopes.dtype}; it must be floating point")
    check_shape("slopes", slopes, "(H)")
    return (-slopes[:, None, None] * distance).astype(dtype)


def alibi_slopes(num_heads: int) -> np.ndarray:
    """slope_h = 2^(−8 (h + 1)/H)      an array (H)

    From 1/2 (for 8 heads) down to 1/256: some heads attend to near positions, others to distant ones as well. If H is
    not a power of 2: the slopes for the largest power P below H, then every second one of those for 2 P.
    """
    check_positive(num_heads=num_heads)
    power = 2 ** int(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([slopes, between[: num_heads - power]])


def t5_table_forward(weight: np.ndarray, num_distances: int, max_distance: int = 128) -> tuple[np.ndarray, Cache]:
    """table[h, d] = weight[bucket(d), h]      (N, H) → (H, num_distances)

    The bias of all pairs at distance d. The cache holds that of the embedding lookup.
    """
    buckets = t5_buckets(np.arange(num_distances), np.zeros(1, int), len(weight), max_distance)[:, 0]
    rows, embedding = embedding_forward(buckets, weight)
    return rows.T, Cache(embedding=embedding)


def t5_table_backward(dtable: np.ndarray, cache: Cache) -> np.ndarray:
    """dweight[n, h] = Σ dtable[h, d] over all distances d in bucket n      (H, num_distances) → (N, H)"""
    return embedding_backward(dtable.T, cache.embedding)


def t5_buckets(
    query_positions: np.ndarray,
    key_positions: np.ndarray,
    num_buckets: int = 32,
    max_distance: int = 128,
    causal: bool = True,
) -> np.ndarray:
    """The bucket of each relative position t − s      (..., T), (..., S) → (..., T, S)

    The first half of the buckets hold one distance each: 0, 1, 2, …. The others hold ranges that grow logarithmically;
    the last one holds all distances from `max_distance` on. With causal=False, half of all buckets are for t < s.
    """
    distance = distances(query_positions, key_positions)
    check_positive(num_buckets=num_buckets)
    start = 0
    if not causal:
        num_buckets //= 2
        start = np.where(distance < 0, num_buckets, 0)
    distance = np.abs(distance) if not causal else np.maximum(distance, 0)
    _check_buckets(num_buckets, max_distance)
    exact = num_buckets // 2
    # in float32, as T5 was trained: at the limits of the ranges float64 rounds to the other bucket
    growth = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / math.log(max_distance / exact)
    large = np.minimum(exact + (growth * (num_buckets - exact)).astype(np.int64), num_buckets - 1)
    return start + np.where(distance < exact, distance, large)


@dataclass(frozen=True)
class ALiBi:
    """S_hts ← S_hts − slope_h (t − s), an option of attention.

    slopes   one for each head, finite and at least 0; None: those of the paper. Slope 0 is attention without positions.
    """

    slopes: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.slopes is None:
            return
        slopes = (
            check_not_negative(f"slopes[{i}]", slope) for i, slope in enumerate(check_list("slopes", self.slopes))
        )
        object.__setattr__(self, "slopes", tuple(slopes))

    def check_num_heads(self, num_heads: int) -> None:
        """Raise ValueError unless there is one slope for each head."""
        if self.slopes is not None and len(self.slopes) != num_heads:
            raise ValueError(f"slopes has {len(self.slopes)} numbers; it must have {num_heads}, one for each head")

    def table(self, num_heads: int, num_distances: int, dtype: DTypeLike) -> np.ndarray:
        """The bias (H, num_distances) of all heads at all distances."""
        slopes = alibi_slopes(num_heads) if self.slopes is None else np.array(self.slopes)
        return alibi_bias(slopes, np.arange(num_distances), np.zeros(1, int), dtype)[..., 0]


@dataclass(frozen=True)
class T5Bias:
    """S_hts ← S_hts + weight[bucket(t − s), h], an option of attention; see t5_buckets."""

    num_buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        _check_buckets(self.num_buckets, self.max_distance)


def _check_buckets(num_buckets: int, max_distance: int) -> None:
    check_positive(num_buckets=num_buckets, max_distance=max_distance)
    if not 1 <= num_buckets // 2 < max_distance:
        raise ValueError(
            f"num_buckets is {num_buckets} and max_distance is {max_distance}; half of the buckets of a direction must "
            "be at least 1 and less than max_distance"
        )
