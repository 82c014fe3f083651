"""The frequencies of rotary position embedding, and how they are scaled for texts longer than those of training.

    f_i = theta^(−2i/R)      the angle of pair i at position t is t f_i

Longer texts have angles that did not occur in training. Position interpolation divides all frequencies by a factor.
NTK-aware scaling increases theta, so that high frequencies hardly change. YaRN and Llama 3 keep the high frequencies,
interpolate the low ones, and blend between them.

Su et al. 2021, RoFormer, section 3.2; Chen et al. 2023, Position Interpolation, section 3.2; "NTK-aware" (bloc97 2023)
and YaRN: Peng et al. 2023, sections 3.1 to 3.4; Llama 3.1: Grattafiori et al. 2024, The Llama 3 Herd of Models,
section 3.2.
"""

import math
from dataclasses import dataclass

import numpy as np

from npllm.core.checks import check_positive


def rotary_frequencies(rotary_dim: int, theta: float = 10000.0) -> np.ndarray:
    """f_i = theta^(−2i/R) for i = 0 … R/2 − 1      an array (R/2), in radians per position

    From 1 down to about 1/theta: the fast pairs distinguish neighbours, the slow ones distant positions. `rotary_dim`
    is R, the number of channels that are rotated. Raises ValueError unless it is even and at least 2.
    """
    if rotary_dim < 2 or rotary_dim % 2:
        raise ValueError(f"rotary_dim is {rotary_dim}; it must be even and at least 2: channels are rotated in pairs")
    check_theta(theta)
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


def check_theta(theta: float) -> None:
    """Raise ValueError unless theta is greater than 1 and finite."""
    if not 1.0 < theta < math.inf:
        raise ValueError(f"theta is {theta}; it must be greater than 1 and finite, for frequencies that decrease")


def _index_of_rotations(rotations: float, rotary_dim: int, theta: float, length: int) -> float:
    """The i, not rounded, of the pair with this many rotations: length · theta^(−2i/R) = 2π rotations."""
    check_positive(original_length=length)
    return rotary_dim * math.log(length / (rotations * 2.0 * math.pi)) / (2.0 * math.log(theta))


def _check_low_high(low_freq_factor: float, high_freq_factor: float) -> None:
    if not high_freq_factor > low_freq_factor:
        raise ValueError(
            f"high_freq_factor is {high_freq_factor}; it must be greater than low_freq_factor, {low_freq_factor}"
        )


def _check_factor(factor: float) -> float:
    if not 1.0 <= factor < math.inf:
        raise ValueError(
            f"factor is {factor}; it must be at least 1 and finite, the ratio of the new to the original length"
        )
    return float(factor)
