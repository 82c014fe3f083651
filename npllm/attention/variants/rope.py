"""Rotary position embedding (RoPE): rotate each pair of channels of q and k by an angle proportional to the position.

    x → q, k → [rotate by position] → scores → softmax → weights

If two vectors are rotated by t·f and s·f, their dot product depends only on t − s. So a score depends on the relative
position of query and key, without a table and without a term added to it. The key-value cache holds rotated keys.

The frequencies are in rope_frequencies.py, their scaling for longer texts than in training in rope_scaling.py.

Su et al. 2021, RoFormer, section 3.2.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from npllm.attention.masks import as_positions, check_counts
from npllm.attention.variants.rope_frequencies import check_theta, rotary_frequencies
from npllm.attention.variants.rope_scaling import RoPEScaling
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, check_gradient, check_instance, check_number, check_positive
from npllm.core.row_blocks import MIN_SIZE
from npllm.core.threads import parallel

MIN_HEAD_SIZE = 4096  # numbers in a head; smaller ones are rotated all at once, a sequence at a time


def rotary(
    x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, layout: str = "halves", amplitude: float = 1.0
) -> np.ndarray:
    """(a, b) ← amplitude · (a cos φ − b sin φ, a sin φ + b cos φ),  φ = position · frequency

    (..., T, D), (..., T), (F) → (..., T, D)

    The first 2 F channels are rotated, in pairs (a, b); the others are copied (partial rotary embedding).

    positions   integers (T), or (B, 1, T) where each sequence has its own: broadcastable to the axes of x before D
    layout      "halves": channel i is paired with i + F (Llama, GPT-NeoX); "pairs": 2i with 2i + 1 (the paper, GPT-J)
    amplitude   a factor of the result; YaRN's scaling of the scores, see yarn_amplitude

    Angles are computed in float64 and rounded once. Raises ValueError for more than D / 2 frequencies.
    """
    return rotary_forward(x, positions, frequencies, layout, amplitude)[0]


def rotary_forward(
    x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, layout: str = "halves", amplitude: float = 1.0
) -> tuple[np.ndarray, Cache]:
    """The value; the cache holds the cosines and sines (..., T, F), times the amplitude."""
    x = as_floats(x=x)
    frequencies, positions = as_frequencies(frequencies), as_positions("positions", positions)
    amplitude = check_number("amplitude", amplitude)
    if frequencies.ndim != 1 or x.ndim < 2 or 2 * len(frequencies) > x.shape[-1]:
        raise ValueError(
            f"frequencies has shape {frequencies.shape} and x {x.shape}; they must be (F) and (..., T, D) with 2 F ≤ D"
        )
    if positions.shape[-1] != x.shape[-2]:
        raise ValueError(f"positions has shape {positions.shape}; its last axis must be {x.shape[-2]}, that of x (T)")
    angles = positions[..., None] * frequencies
    cos, sin = (amplitude * np.cos(angles)).astype(x.dtype), (amplitude * np.sin(angles)).astype(x.dtype)
    return _rotate(x, cos, sin, layout), Cache(cos=cos, sin=sin, layout=layout, shape=x.shape)


def rotary_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy rotated by −φ      (..., T, D) → (..., T, D)

    y = R x with a rotation R, so dx = Rᵀ dy, and Rᵀ is the rotation by −φ. The amplitude is a factor of both.
    """
    dy = check_gradient(dy, cache.shape, cache.cos.dtype)
    return _rotate(dy, cache.cos, -cache.sin, cache.layout)


def halves_from_pairs(head_dim: int) -> np.ndarray:
    """order = (0, 2, 4, …, 1, 3, 5, …): x[..., order] has in layout "halves" what x has in "pairs"      an array (D)

    Weights trained with one layout work with the other if the rows of the query and key projections are permuted so,
    head by head. Scores do not change: both sides of every dot product are permuted alike.
    """
    check_positive(head_dim=head_dim)
    return np.concatenate([np.arange(0, head_dim, 2), np.arange(1, head_dim, 2)])


@dataclass(frozen=True)
class RoPE:
    """q_t ← R(t) q_t,  k_s ← R(s) k_s, an option of attention: q_t · k_s then depends on t − s.

    theta                   the lowest frequency is about 1/theta radians per position
    partial_rotary_factor   the fraction of each head's channels that is rotated, from the first one on
    layout                  "halves" or "pairs", see `rotary`
    scaling                 for longer texts than in training; None for none
    """

    theta: float = 10000.0
    partial_rotary_factor: float = 1.0
    layout: Literal["halves", "pairs"] = "halves"
    scaling: RoPEScaling | None = None

    def __post_init__(self) -> None:
        if not 0.0 < check_number("partial_rotary_factor", self.partial_rotary_factor) <= 1.0:
            raise ValueError(
                f"partial_rotary_factor is {self.partial_rotary_factor}; it must be greater than 0 and at most 1"
            )
        check_theta(self.theta)
        check_layout(self.layout)
        check_instance("scaling", self.scaling, *get_args(RoPEScaling), type(None))

    def frequencies(self, head_dim: int, num_positions: int = 0) -> np.ndarray:
        """The frequencies of all pairs, for heads of head_dim channels and a text of num_positions."""
        check_positive(head_dim=head_dim)
        check_counts(num_positions=num_positions)
        rotary_dim = int(head_dim * self.partial_rotary_factor)
        if self.scaling is None:
            return rotary_frequencies(rotary_dim, self.theta)
        return self.scaling.frequencies(rotary_dim, self.theta, num_positions)

    @property
    def amplitude(self) -> float:
        """The factor of queries and keys: 1 unless the scaling has another."""
        return 1.0 if self.scaling is None else self.scaling.amplitude


def rope_forward(
    q: np.ndarray, k: np.ndarray, positions: np.ndarray, rope: RoPE
) -> tuple[np.ndarray, np.ndarray, Cache]:
    """q ← R q,  k ← R k      (..., H, T, D), (..., K, T, D), (..., T) → (..., H, T, D), (..., K, T, D)

    The cache holds those of both rotations.
    """
    frequencies = rope.frequencies(q.shape[-1], text_length(positions))
    q, q_cache = rotary_forward(q, positions, frequencies, rope.layout, rope.amplitude)
    k, k_cache = rotary_forward(k, positions, frequencies, rope.layout, rope.amplitude)
    return q, k, Cache(q=q_cache, k=k_cache)


def rope_backward(dq: np.ndarray, dk: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dq ← Rᵀ dq,  dk ← Rᵀ dk"""
    return rotary_backward(dq, cache.q), rotary_backward(dk, cache.k)


def text_length(positions: np.ndarray) -> int:
    """The largest position + 1; 0 if there is none, or only padding, whose positions are negative."""
    return max(int(positions.max()) + 1, 0) if positions.size else 0


def as_frequencies(frequencies: np.ndarray) -> np.ndarray:
    """Return the frequencies as float64; raise TypeError unless they are numbers, ValueError unless they are finite."""
    frequencies = as_array("frequencies", frequencies)
    if frequencies.dtype.kind not in "fiu":
        raise TypeError(f"frequencies has dtype {frequencies.dtype}; it must be floating point")
    return frequencies.astype(np.float64, copy=False)


def check_layout(layout: str) -> None:
    """Raise ValueError unless the layout is "halves" or "pairs"."""
    if not isinstance(layout, str) or layout not in ("halves", "pairs"):
        raise ValueError(f'layout is {layout!r}; it must be "halves" or "pairs"')


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, layout: str) -> np.ndarray:
    """Rotate the pairs of channels; the channels behind them are copied."""
    check_layout(layout)
    num_pairs = cos.shape[-1]
    if layout == "halves":
        first, second = slice(0, num_pairs), slice(num_pairs, 2 * num_pairs)
    else:
        first, second = slice(0, 2 * num_pairs, 2), slice(1, 2 * num_pairs, 2)
    y = np.empty(x.shape, x.dtype)

    def rotate(index: tuple) -> None:
        a, b = x[index][..., first], x[index][..., second]
        y[index][..., first] = a * cos[index] - b * sin[index]
        y[index][..., second] = a * sin[index] + b * cos[index]

    if x.shape[-1] > 2 * num_pairs:
        y[..., 2 * num_pairs :] = x[..., 2 * num_pairs :]
    if x.size < MIN_SIZE or x.ndim == 2:
        rotate((...,))
    else:  # head by head, or sequence by sequence: their temporary arrays stay in the cache
        cos, sin = (np.broadcast_to(array, x.shape[:-1] + (num_pairs,)) for array in (cos, sin))
        leading = x.shape[:-2] if x.shape[-1] * x.shape[-2] >= MIN_HEAD_SIZE else x.shape[:1]
        parallel(rotate, np.ndindex(leading))
    return y
