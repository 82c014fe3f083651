"""Rotary position embedding (RoPE): rotate each pair of channels of q and k by an angle proportional to the position.

    x → q, k → [rotate by position] → scores → softmax → weights

If two vectors are rotated by t·f and s·f, their dot product depends on t − s alone. So a score depends on the relative
position of query and key, without a table and without a term added to it. The key-value cache holds rotated keys.

The scaled frequencies extend a trained model to longer texts than it was trained on.

Su et al. 2021, RoFormer, section 3.2. Scaling: Chen et al. 2023, Position Interpolation, section 3.2; "NTK-aware"
(bloc97 2023) and YaRN: Peng et al. 2023, sections 3.1 to 3.4; Llama 3.1: Grattafiori et al. 2024, The Llama 3 Herd of
Models, section 3.2.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_positive


def rotary(
    x: np.ndarray, positions: Any, frequencies: np.ndarray, layout: str = "halves", amplitude: float = 1.0
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
    x: np.ndarray, positions: Any, frequencies: np.ndarray, layout: str = "halves", amplitude: float = 1.0
) -> tuple[np.ndarray, Cache]:
    """The value; the cache holds the cosines and sines (..., T, F), times the amplitude."""
    x = as_floats(x=x)
    frequencies, positions = np.asarray(frequencies, np.float64), np.asarray(positions)
    if frequencies.ndim != 1 or x.ndim < 2 or 2 * len(frequencies) > x.shape[-1]:
        raise ValueError(
            f"frequencies has shape {frequencies.shape} and x {x.shape}; they must be (F) and (..., T, D) with 2 F ≤ D"
        )
    if positions.ndim == 0 or positions.shape[-1] != x.shape[-2]:
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


def rotary_frequencies(rotary_dim: int, theta: float = 10000.0) -> np.ndarray:
    """f_i = theta^(−2i/R) for i = 0 … R/2 − 1      an array (R/2), in radians per position

    From 1 down to about 1/theta: the fast pairs distinguish neighbours, the slow ones distant positions. `rotary_dim`
    is R, the number of channels that are rotated. Raises ValueError unless it is even and at least 2.
    """
    if rotary_dim < 2 or rotary_dim % 2:
        raise ValueError(f"rotary_dim is {rotary_dim}; it must be even and at least 2: channels are rotated in pairs")
    _check_theta(theta)
    return float(theta) ** (-np.arange(0, rotary_dim, 2) / rotary_dim)


def interpolated_frequencies(rotary_dim: int, theta: float, factor: float) -> np.ndarray:
    """f_i / factor: position interpolation. A text `factor` times longer ends at an angle that occurred in training."""
    return rotary_frequencies(rotary_dim, theta) / _check_factor(factor)


def ntk_aware_frequencies(rotary_dim: int, theta: float, factor: float) -> np.ndarray:
    """Frequencies for theta · factor^(R/(R−2)): the lowest is divided by the factor, the highest is unchanged."""
    if rotary_dim == 2:
        return interpolated_frequencies(rotary_dim, theta, factor)
    return rotary_frequencies(rotary_dim, theta * _check_factor(factor) ** (rotary_dim / (rotary_dim - 2)))


def yarn_frequencies(
    rotary_dim: int,
    theta: float,
    factor: float,
    original_length: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
) -> np.ndarray:
    """f_i (1 − γ_i) / factor + f_i γ_i,  0 ≤ γ_i ≤ 1      an array (R/2)

    γ is 1 for pairs with more than `beta_fast` rotations within `original_length`: they distinguish neighbours and stay
    as they are. It is 0 for fewer than `beta_slow` rotations: these are interpolated. Between them it is linear in i.
    """
    plain = rotary_frequencies(rotary_dim, theta)
    low = max(math.floor(_index_of_rotations(beta_fast, rotary_dim, theta, original_length)), 0)
    high = min(math.ceil(_index_of_rotations(beta_slow, rotary_dim, theta, original_length)), rotary_dim - 1)
    gamma = 1.0 - np.clip((np.arange(rotary_dim // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return plain * (1.0 - gamma) / _check_factor(factor) + plain * gamma


def yarn_amplitude(factor: float) -> float:
    """0.1 ln(factor) + 1, a factor of queries and of keys: the softmax over more keys needs larger scores."""
    return 0.1 * math.log(_check_factor(factor)) + 1.0


def llama3_frequencies(
    rotary_dim: int,
    theta: float,
    factor: float,
    original_length: int,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 4.0,
) -> np.ndarray:
    """f_i (1 − γ_i) / factor + f_i γ_i,  0 ≤ γ_i ≤ 1      an array (R/2)

    As in YaRN, but γ is linear in the number of rotations within `original_length`, from 0 at `low_freq_factor` to 1 at
    `high_freq_factor`.
    """
    plain = rotary_frequencies(rotary_dim, theta)
    _check_low_high(low_freq_factor, high_freq_factor)
    check_positive(original_length=original_length)
    rotations = original_length * plain / (2.0 * math.pi)
    gamma = np.clip((rotations - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0)
    return plain * (1.0 - gamma) / _check_factor(factor) + plain * gamma


def halves_from_pairs(head_dim: int) -> np.ndarray:
    """order = (0, 2, 4, …, 1, 3, 5, …): x[..., order] has in layout "halves" what x has in "pairs"      an array (D)

    Weights trained with one layout work with the other if the rows of the query and key projections are permuted so,
    head by head. Scores do not change: both sides of every dot product are permuted alike.
    """
    return np.concatenate([np.arange(0, head_dim, 2), np.arange(1, head_dim, 2)])


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation: every frequency is divided by `factor`."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def frequencies(self, rotary_dim: int, theta: float) -> np.ndarray:
        """See interpolated_frequencies."""
        return interpolated_frequencies(rotary_dim, theta, self.factor)


@dataclass(frozen=True)
class NTKScaling:
    """The "NTK-aware" larger theta, for texts `factor` times longer."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def frequencies(self, rotary_dim: int, theta: float) -> np.ndarray:
        """See ntk_aware_frequencies."""
        return ntk_aware_frequencies(rotary_dim, theta, self.factor)


@dataclass(frozen=True)
class YaRNScaling:
    """YaRN, for texts `factor` times longer than the `original_length` of training."""

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        check_positive(original_length=self.original_length)

    def frequencies(self, rotary_dim: int, theta: float) -> np.ndarray:
        """See yarn_frequencies."""
        return yarn_frequencies(rotary_dim, theta, self.factor, self.original_length, self.beta_fast, self.beta_slow)


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's scaling, for texts `factor` times longer than the `original_length` of training."""

    factor: float
    original_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        check_positive(original_length=self.original_length)
        _check_low_high(self.low_freq_factor, self.high_freq_factor)

    def frequencies(self, rotary_dim: int, theta: float) -> np.ndarray:
        """See llama3_frequencies."""
        return llama3_frequencies(
            rotary_dim, theta, self.factor, self.original_length, self.low_freq_factor, self.high_freq_factor
        )


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
    scaling: LinearScaling | NTKScaling | YaRNScaling | Llama3Scaling | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.partial_rotary_factor <= 1.0:
            raise ValueError(
                f"partial_rotary_factor is {self.partial_rotary_factor}; it must be greater than 0 and at most 1"
            )
        _check_theta(self.theta)
        check_layout(self.layout)

    def frequencies(self, head_dim: int) -> np.ndarray:
        """The frequencies of all pairs, for heads of head_dim channels."""
        rotary_dim = int(head_dim * self.partial_rotary_factor)
        if self.scaling is None:
            return rotary_frequencies(rotary_dim, self.theta)
        return self.scaling.frequencies(rotary_dim, self.theta)

    @property
    def amplitude(self) -> float:
        """The factor of queries and keys: 1 except for YaRN."""
        return yarn_amplitude(self.scaling.factor) if isinstance(self.scaling, YaRNScaling) else 1.0


def rope_forward(
    q: np.ndarray, k: np.ndarray, positions: np.ndarray, rope: RoPE
) -> tuple[np.ndarray, np.ndarray, Cache]:
    """q ← R q,  k ← R k      (..., H, T, D), (..., K, T, D), (..., T) → (..., H, T, D), (..., K, T, D)

    The cache holds those of both rotations.
    """
    frequencies = rope.frequencies(q.shape[-1])
    q, q_cache = rotary_forward(q, positions, frequencies, rope.layout, rope.amplitude)
    k, k_cache = rotary_forward(k, positions, frequencies, rope.layout, rope.amplitude)
    return q, k, Cache(q=q_cache, k=k_cache)


def rope_backward(dq: np.ndarray, dk: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dq ← Rᵀ dq,  dk ← Rᵀ dk"""
    return rotary_backward(dq, cache.q), rotary_backward(dk, cache.k)


def check_layout(layout: str) -> None:
    """Raise ValueError unless the layout is "halves" or "pairs"."""
    if layout not in ("halves", "pairs"):
        raise ValueError(f'layout is {layout!r}; it must be "halves" or "pairs"')


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, layout: str) -> np.ndarray:
    """Rotate the pairs of channels; the channels behind them are copied."""
    check_layout(layout)
    num_pairs = cos.shape[-1]
    if layout == "halves":
        first, second = slice(0, num_pairs), slice(num_pairs, 2 * num_pairs)
    else:
        first, second = slice(0, 2 * num_pairs, 2), slice(1, 2 * num_pairs, 2)
    a, b = x[..., first], x[..., second]
    y = x.copy()
    y[..., first] = a * cos - b * sin
    y[..., second] = a * sin + b * cos
    return y


def _index_of_rotations(rotations: float, rotary_dim: int, theta: float, length: int) -> float:
    """The i, not rounded, of the pair with this many rotations: length · theta^(−2i/R) = 2π rotations."""
    check_positive(original_length=length)
    return rotary_dim * math.log(length / (rotations * 2.0 * math.pi)) / (2.0 * math.log(theta))


def _check_low_high(low_freq_factor: float, high_freq_factor: float) -> None:
    if not high_freq_factor > low_freq_factor:
        raise ValueError(
            f"high_freq_factor is {high_freq_factor}; it must be greater than low_freq_factor, {low_freq_factor}"
        )


def _check_theta(theta: float) -> None:
    if not theta > 1.0:
        raise ValueError(f"theta is {theta}; it must be greater than 1, for frequencies that decrease")


def _check_factor(factor: float) -> float:
    if not factor >= 1.0:
        raise ValueError(f"factor is {factor}; it must be at least 1, the ratio of the new to the original length")
    return float(factor)
