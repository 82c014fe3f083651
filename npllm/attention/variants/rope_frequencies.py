"""The frequencies of rotary position embedding, and how they are scaled for texts longer than those of training.

    f_i = theta^(−2i/R)      the angle of pair i at position t is t f_i

Longer texts have angles that did not occur in training. Position interpolation divides all frequencies by a factor.
NTK-aware scaling increases theta, so that high frequencies hardly change; in its dynamic form theta grows with the
length of the text. YaRN and Llama 3 keep the high frequencies, interpolate the low ones, and blend between them.
LongRoPE divides each frequency by a number of its own, found by search. The objects that choose one of these are in
rope_scaling.py.

Su et al. 2021, RoFormer, section 3.2; Chen et al. 2023, Position Interpolation, section 3.2; "NTK-aware" (bloc97 2023)
and YaRN: Peng et al. 2023, sections 3.1 to 3.4; Llama 3.1: Grattafiori et al. 2024, The Llama 3 Herd of Models,
section 3.2; Ding et al. 2024, LongRoPE, section 3.
"""

import math
import sys

import numpy as np

from npllm.core.checks import check_above_zero, check_integer, check_number, check_positive, check_real


def rotary_frequencies(rotary_dim: int, theta: float = 10000.0) -> np.ndarray:
    """f_i = theta^(−2i/R) for i = 0 … R/2 − 1      an array (R/2), in radians per position

    From 1 down to about 1/theta: the fast pairs distinguish neighbours, the slow ones distant positions. `rotary_dim`
    is R, the number of channels that are rotated. Raises ValueError unless it is even and at least 2.
    """
    check_positive(rotary_dim=rotary_dim)
    if rotary_dim % 2:
        raise ValueError(f"rotary_dim is {rotary_dim}; it must be even and at least 2: channels are rotated in pairs")
    check_theta(theta)
    return float(theta) ** (-np.arange(0, rotary_dim, 2) / rotary_dim)


def interpolated_frequencies(rotary_dim: int, theta: float, factor: float) -> np.ndarray:
    """f_i / factor: position interpolation. A text `factor` times longer ends at an angle that occurred in training."""
    return rotary_frequencies(rotary_dim, theta) / check_factor(factor)


def ntk_aware_frequencies(rotary_dim: int, theta: float, factor: float) -> np.ndarray:
    """Frequencies for theta · factor^(R/(R−2)): the lowest is divided by the factor, the highest is unchanged."""
    check_factor(factor)
    if rotary_dim == 2:
        return interpolated_frequencies(rotary_dim, theta, factor)
    rotary_frequencies(rotary_dim, theta)  # raises for another rotary_dim or theta
    exponent = math.log(theta) + math.log(factor) * (rotary_dim / (rotary_dim - 2))
    if not exponent < math.log(sys.float_info.max):
        raise ValueError(f"factor is {factor}; theta · factor^(R/(R−2)) must be finite, with theta {theta}")
    return rotary_frequencies(rotary_dim, theta * float(factor) ** (rotary_dim / (rotary_dim - 2)))


def dynamic_ntk_frequencies(
    rotary_dim: int, theta: float, factor: float, original_length: int, num_positions: int
) -> np.ndarray:
    """NTK-aware frequencies for a factor of  factor · n / L − (factor − 1),  n = max(num_positions, L)

    An array (R/2). L is `original_length`. Up to L positions the frequencies are those of training; for `factor` · L
    positions the lowest is divided by factor² − factor + 1.
    """
    check_positive(original_length=original_length)
    check_integer("num_positions", num_positions, 0)
    ratio = max(num_positions, original_length) / original_length
    return ntk_aware_frequencies(rotary_dim, theta, check_factor(factor) * ratio - (factor - 1.0))


def yarn_frequencies(
    rotary_dim: int,
    theta: float,
    factor: float,
    original_length: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> np.ndarray:
    """f_i (1 − γ_i) / factor + f_i γ_i,  0 ≤ γ_i ≤ 1      an array (R/2)

    γ is 1 for pairs with more than `beta_fast` rotations within `original_length`: they distinguish neighbours and stay
    as they are. It is 0 for fewer than `beta_slow` rotations: these are interpolated. Between them it is linear in i.
    With `truncate` the two limits of i are rounded outwards to integers.
    """
    plain = rotary_frequencies(rotary_dim, theta)
    check_above_zero("beta_fast", beta_fast)
    check_above_zero("beta_slow", beta_slow)
    low = _index_of_rotations(beta_fast, rotary_dim, theta, original_length)
    high = _index_of_rotations(beta_slow, rotary_dim, theta, original_length)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    distance = high - low if high != low else 0.001  # a step where both limits are one index
    gamma = 1.0 - np.clip((np.arange(rotary_dim // 2) - low) / distance, 0.0, 1.0)
    return plain * (1.0 - gamma) / check_factor(factor) + plain * gamma


def yarn_amplitude(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """0.1 ln(factor) + 1, a factor of queries and of keys: the softmax over more keys needs larger scores.

    With both `mscale` and `mscale_all_dim`:  (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1).
    """
    log_factor = 0.1 * math.log(check_factor(factor))
    for name, value in (("mscale", mscale), ("mscale_all_dim", mscale_all_dim)):
        if value is not None and check_number(name, value) < 0:
            raise ValueError(f"{name} is {value}; it must be at least 0")
    if mscale and mscale_all_dim:
        return (mscale * log_factor + 1.0) / (mscale_all_dim * log_factor + 1.0)
    return log_factor + 1.0


def longrope_amplitude(factor: float, original_length: int) -> float:
    """√(1 + ln(factor) / ln(L)), a factor of queries and of keys; L is `original_length`."""
    check_positive(original_length=original_length)
    if original_length < 2:
        raise ValueError(f"original_length is {original_length}; it must be at least 2")
    return math.sqrt(1.0 + math.log(check_factor(factor)) / math.log(original_length))


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
    check_low_high(low_freq_factor, high_freq_factor)
    check_positive(original_length=original_length)
    rotations = original_length * plain / (2.0 * math.pi)
    gamma = np.clip((rotations - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0)
    return plain * (1.0 - gamma) / check_factor(factor) + plain * gamma


def check_theta(theta: float) -> None:
    """Raise ValueError unless theta is greater than 1 and finite."""
    check_real("theta", theta)
    if not 1.0 < theta < math.inf:
        raise ValueError(f"theta is {theta}; it must be greater than 1 and finite, for frequencies that decrease")


def check_low_high(low_freq_factor: float, high_freq_factor: float) -> None:
    """Raise ValueError unless high_freq_factor is the greater."""
    check_number("low_freq_factor", low_freq_factor)
    if not check_number("high_freq_factor", high_freq_factor) > low_freq_factor:
        raise ValueError(
            f"high_freq_factor is {high_freq_factor}; it must be greater than low_freq_factor, {low_freq_factor}"
        )


def check_factor(factor: float) -> float:
    """Return the factor as a float; raise ValueError unless it is at least 1 and finite."""
    check_real("factor", factor)
    if not 1.0 <= factor < math.inf:
        raise ValueError(
            f"factor is {factor}; it must be at least 1 and finite, the ratio of the new to the original length"
        )
    return float(factor)


def _index_of_rotations(rotations: float, rotary_dim: int, theta: float, length: int) -> float:
    """The i, not rounded, of the pair with this many rotations: length · theta^(−2i/R) = 2π rotations."""
    check_positive(original_length=length)
    return rotary_dim * math.log(length / (rotations * 2.0 * math.pi)) / (2.0 * math.log(theta))
