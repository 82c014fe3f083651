"""The ways to scale RoPE's frequencies, as typed objects: an option of the RoPE configuration.

    RoPE(theta=1e6, scaling=YaRNScaling(factor=4.0, original_length=32768))

Each has `frequencies(rotary_dim, theta, num_positions)` and `amplitude`, a factor of queries and keys. The formulas and
their sources are in rope_frequencies.py.

With DynamicNTKScaling and LongRoPEScaling the frequencies depend on the length of the text. In generation they are
those of the length at each step; keys that are already in the key-value cache keep the frequencies of theirs.
"""

from dataclasses import dataclass

import numpy as np

from npllm.attention.variants.rope_frequencies import (
    check_factor,
    check_low_high,
    dynamic_ntk_frequencies,
    interpolated_frequencies,
    llama3_frequencies,
    longrope_amplitude,
    ntk_aware_frequencies,
    rotary_frequencies,
    yarn_amplitude,
    yarn_frequencies,
)
from npllm.core.checks import check_above_zero, check_list, check_positive


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation: every frequency is divided by `factor`."""

    factor: float

    def __post_init__(self) -> None:
        check_factor(self.factor)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """See interpolated_frequencies."""
        return interpolated_frequencies(rotary_dim, theta, self.factor)

    @property
    def amplitude(self) -> float:
        """1: the lengths of queries and keys do not change."""
        return 1.0


@dataclass(frozen=True)
class NTKScaling:
    """The "NTK-aware" larger theta, for texts `factor` times longer."""

    factor: float

    def __post_init__(self) -> None:
        check_factor(self.factor)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """See ntk_aware_frequencies."""
        return ntk_aware_frequencies(rotary_dim, theta, self.factor)

    @property
    def amplitude(self) -> float:
        """1: the lengths of queries and keys do not change."""
        return 1.0


@dataclass(frozen=True)
class DynamicNTKScaling:
    """A theta that grows with the number of positions beyond the `original_length` of training."""

    factor: float
    original_length: int

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_positive(original_length=self.original_length)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """See dynamic_ntk_frequencies."""
        return dynamic_ntk_frequencies(rotary_dim, theta, self.factor, self.original_length, num_positions)

    @property
    def amplitude(self) -> float:
        """1: the lengths of queries and keys do not change."""
        return 1.0


@dataclass(frozen=True)
class YaRNScaling:
    """YaRN, for texts `factor` times longer than the `original_length` of training.

    attention_factor          the amplitude; that of yarn_amplitude unless given
    truncate                  round the limits of the blend to whole pairs
    mscale, mscale_all_dim    see yarn_amplitude
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_positive(original_length=self.original_length)
        check_above_zero("beta_fast", self.beta_fast)
        check_above_zero("beta_slow", self.beta_slow)
        _check_above_zero(attention_factor=self.attention_factor)
        yarn_amplitude(self.factor, self.mscale, self.mscale_all_dim)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """See yarn_frequencies."""
        return yarn_frequencies(
            rotary_dim, theta, self.factor, self.original_length, self.beta_fast, self.beta_slow, self.truncate
        )

    @property
    def amplitude(self) -> float:
        """`attention_factor`, else yarn_amplitude."""
        if self.attention_factor is not None:
            return float(self.attention_factor)
        return yarn_amplitude(self.factor, self.mscale, self.mscale_all_dim)


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's scaling, for texts `factor` times longer than the `original_length` of training."""

    factor: float
    original_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_positive(original_length=self.original_length)
        check_low_high(self.low_freq_factor, self.high_freq_factor)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """See llama3_frequencies."""
        return llama3_frequencies(
            rotary_dim, theta, self.factor, self.original_length, self.low_freq_factor, self.high_freq_factor
        )

    @property
    def amplitude(self) -> float:
        """1: the lengths of queries and keys do not change."""
        return 1.0


@dataclass(frozen=True)
class LongRoPEScaling:
    """f_i / short_factor_i up to `original_length` positions, f_i / long_factor_i for longer texts.

    short_factor, long_factor   one number for each rotated pair of channels
    factor                      the ratio of the new to the original length, which the amplitude depends on
    attention_factor            the amplitude; that of longrope_amplitude unless given
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_length: int
    factor: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_positive(original_length=self.original_length)
        _check_above_zero(attention_factor=self.attention_factor)
        for name in ("short_factor", "long_factor"):
            for divisor in check_list(name, getattr(self, name)):
                _check_above_zero(**{name: divisor})
        if self.attention_factor is None:
            longrope_amplitude(self.factor, self.original_length)

    def frequencies(self, rotary_dim: int, theta: float, num_positions: int = 0) -> np.ndarray:
        """The frequencies for a text of num_positions. Raises ValueError unless there is a factor for each pair."""
        name = "long_factor" if num_positions > self.original_length else "short_factor"
        for each in ("short_factor", "long_factor"):
            if len(getattr(self, each)) != rotary_dim // 2:
                raise ValueError(
                    f"{each} has {len(getattr(self, each))} numbers; it must have {rotary_dim // 2}, one for each pair "
                    f"of {rotary_dim} rotated channels"
                )
        return rotary_frequencies(rotary_dim, theta) / np.array(getattr(self, name))

    @property
    def amplitude(self) -> float:
        """`attention_factor`, else longrope_amplitude."""
        if self.attention_factor is not None:
            return float(self.attention_factor)
        return longrope_amplitude(self.factor, self.original_length)


RoPEScaling = LinearScaling | NTKScaling | DynamicNTKScaling | YaRNScaling | Llama3Scaling | LongRoPEScaling


def _check_above_zero(**numbers: float | None) -> None:
    """Raise ValueError unless every named number that is given is greater than 0 and finite."""
    for name, value in numbers.items():
        if value is not None:
            check_above_zero(name, value)
