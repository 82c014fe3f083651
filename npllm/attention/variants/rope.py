"""Rotary positions: turn each pair of channels by an angle that grows with the place.

    x → linear → q, k → [turn by place] → scores → softmax → weights

Two vectors that are turned by t·f and s·f meet at an angle that depends on t − s alone. So the score of a query and a
key knows how far apart they are, and not where: a relative position, without a table and without a term in the score.

Su et al. 2021, RoFormer, section 3.2; stretched for longer contexts: Chen et al. 2023, Position Interpolation,
section 3.2; "NTK-aware" (bloc97 2023), and YaRN: Peng et al. 2023, sections 3.1 to 3.4; Llama 3.1: Grattafiori et
al. 2024, The Llama 3 Herd of Models, section 3.2.

Rotary positions as a part of attention: queries and keys are turned by an angle that grows with their place.

    x → q, k → [turn] → scores → softmax → …

Over plain attention: nothing is added to the vectors at the bottom of the model, and nothing to the scores; every layer
tells distances by itself, at any place. What is remembered of a text are the turned keys.

Su et al. 2021, RoFormer; see functional/rotary.py for the formula and for the stretched forms.
"""

import math

import numpy as np

from npllm.attention.variants.hooks import AttentionHook
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_positive


def rotary(x, positions, frequencies, layout="halves", amplitude=1.0):
    """(a, b) ← amplitude · (a cos φ − b sin φ, a sin φ + b cos φ),  φ = place · frequency      (..., T, D), (..., T), (F) → (..., T, D)

    The first 2 F channels are turned, in pairs; the rest, if any, stay as they are (partial rotary).

    layout      "halves": channel i goes with i + F (Llama, GPT-NeoX); "pairs": 2i with 2i + 1 (the paper, GPT-J)
    places      broadcastable to the leading dimensions of x and T: (T), or (B, 1, T) where each sequence has its own
    amplitude   YaRN's sharpening of the scores, see yarn_amplitude

    Angles are computed in float64 and rounded once. Raises ValueError for more than D / 2 frequencies.
    """  # noqa: E501
    return rotary_forward(x, positions, frequencies, layout, amplitude)[0]


def rotary_forward(x, positions, frequencies, layout="halves", amplitude=1.0):
    """The value, and in the cache the cosines and sines."""
    x, frequencies = as_floats(x=x), np.asarray(frequencies, np.float64)
    if frequencies.ndim != 1 or x.ndim < 2 or 2 * len(frequencies) > x.shape[-1]:
        raise ValueError(
            f"frequencies has shape {frequencies.shape} and x {x.shape}; they must be (F) and (..., T, D) with 2 F ≤ D"
        )
    positions = np.asarray(positions)
    if positions.ndim == 0 or positions.shape[-1] != x.shape[-2]:
        raise ValueError(f"places has shape {positions.shape}; its last axis must be the {x.shape[-2]} positions of x")
    angles = positions[..., None] * frequencies
    cos, sin = ((amplitude * wave(angles)).astype(x.dtype) for wave in (np.cos, np.sin))
    return _turn(x, cos, sin, layout), Cache(cos=cos, sin=sin, layout=layout, shape=x.shape)


def rotary_backward(dy, cache):
    """dx = dy turned back by the same angle      (..., T, D) → (..., T, D)

    A rotation R is linear, so dx = Rᵀ dy, and Rᵀ is the rotation by −φ. The amplitude is a factor in both.
    """
    dy = check_gradient(dy, cache.shape, cache.cos.dtype)
    return _turn(dy, cache.cos, -cache.sin, cache.layout)


def _turn(x, cos, sin, layout):
    """Turn the pairs of channels; what is behind them is copied."""
    turned = x.copy()
    first, second = _pairs(cos.shape[-1], layout)
    a, b = x[..., first], x[..., second]
    turned[..., first] = a * cos - b * sin
    turned[..., second] = a * sin + b * cos
    return turned


def _pairs(number, layout):
    """Where the first and the second channels of all pairs stand."""
    if layout == "halves":
        return slice(0, number), slice(number, 2 * number)
    if layout == "pairs":
        return slice(0, 2 * number, 2), slice(1, 2 * number, 2)
    raise ValueError(f'layout is {layout!r}; it must be "halves" or "pairs"')


def halves_from_pairs(width):
    """order = (0, 2, 4, …, 1, 3, 5, …): x[..., order] has in halves what x has in pairs      an array (D)

    Weights trained with one layout run with the other when the rows of the query and key projections are put in this
    order, head by head; scores do not change, for both sides of every dot product are reordered alike.
    """
    return np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])


def rotary_frequencies(width, base=10000.0):
    """f_i = base^(−2i/R) for i = 0 … R/2 − 1      an array (R/2) in radians a place

    From one radian a place down to about 1/base: fast hands tell neighbours apart, slow ones distant places. R =
    `width` channels are turned; raises ValueError unless it is even and at least 2.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width is {width}; it must be even and at least 2, since channels are turned in pairs")
    if not base > 1.0:
        raise ValueError(f"base is {base}; it must be greater than 1, or the later pairs would not turn slower")
    return float(base) ** (-np.arange(0, width, 2) / width)


def interpolated_frequencies(width, base, factor):
    """f_i / factor: places are squeezed, so that a text `factor` times longer ends at an angle seen in training."""
    return rotary_frequencies(width, base) / _check_factor(factor)


def ntk_aware_frequencies(width, base, factor):
    """frequencies of base · factor^(R/(R−2)): the slowest is divided by the factor, the fastest stays as it is."""
    if width == 2:
        return interpolated_frequencies(width, base, factor)
    return rotary_frequencies(width, base * _check_factor(factor) ** (width / (width - 2)))


def yarn_frequencies(width, base, factor, original_length, fast=32.0, slow=1.0):
    """f_i (1 − γ_i) / factor + f_i γ_i, with γ from 0 (fewer than `slow` turns) to 1 (more than `fast`)      an array (R/2)

    A pair that turned many times within the `original_length` tells neighbours apart and is left alone; one that did
    not even complete a turn is interpolated; between them γ rises linearly with i.
    """  # noqa: E501
    plain = rotary_frequencies(width, base)
    low = max(math.floor(_pair_of_turns(fast, width, base, original_length)), 0)
    high = min(math.ceil(_pair_of_turns(slow, width, base, original_length)), width - 1)
    keep = 1.0 - np.clip((np.arange(width // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return plain * (1.0 - keep) / _check_factor(factor) + plain * keep


def yarn_amplitude(factor):
    """0.1 ln(factor) + 1, on queries and on keys: longer texts need sharper scores."""
    return 0.1 * math.log(_check_factor(factor)) + 1.0


def llama3_frequencies(width, base, factor, original_length, low_factor=1.0, high_factor=4.0):
    """As YaRN's, but γ rises linearly with the number of turns, from low_factor to high_factor      an array (R/2)"""
    plain = rotary_frequencies(width, base)
    if not high_factor > low_factor:
        raise ValueError(f"high_factor is {high_factor}; it must be greater than low_factor, {low_factor}")
    turns = original_length * plain / (2.0 * math.pi)
    keep = np.clip((turns - low_factor) / (high_factor - low_factor), 0.0, 1.0)
    return plain * (1.0 - keep) / _check_factor(factor) + plain * keep


def _pair_of_turns(turns, width, base, length):
    """The i, not rounded, whose pair makes so many turns within the length: length · base^(−2i/R) = 2π turns."""
    check_positive(original_length=length)
    return width * math.log(length / (turns * 2.0 * math.pi)) / (2.0 * math.log(base))


def _check_factor(factor):
    if not factor >= 1.0:
        raise ValueError(f"factor is {factor}; it must be at least 1, how many times longer texts may be")
    return float(factor)


STRETCHES = {  # kind: frequencies(width, base, **options)
    "linear": interpolated_frequencies,
    "ntk": ntk_aware_frequencies,
    "yarn": yarn_frequencies,
    "llama3": llama3_frequencies,
}


class RoPE(AttentionHook):
    """q_t ← R(t) q_t,  k_s ← R(s) k_s, so that  q_t · k_s  depends on t − s      (..., T, D) → (..., T, D)

    base      the slowest pair turns by about 1/base radians a place
    share     how much of each head is turned, from its first channel on (partial rotary: less than 1)
    layout    "halves" or "pairs", see functional.rotary
    stretch   None, or {"kind": "linear" | "ntk" | "yarn" | "llama3", "factor": …, …} for longer texts than trained on
    """

    def __init__(self, widths, base=10000.0, share=1.0, layout="halves", stretch=None):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share is {share}; it must be greater than 0 and at most 1")
        self.layout, self.amplitude = layout, 1.0
        self.frequencies = rotary_frequencies(int(widths.head_dim * share), base)
        if stretch is not None:
            options = dict(stretch)
            kind = options.pop("kind", None)
            if kind not in STRETCHES:
                raise ValueError(f"stretch has kind {kind!r}; it must be one of {', '.join(STRETCHES)}")
            try:
                self.frequencies = STRETCHES[kind](2 * len(self.frequencies), base, **options)
            except TypeError as error:  # an option that this kind lacks, or does not have
                raise ValueError(f"stretch is {stretch}; {error}") from None
            self.amplitude = yarn_amplitude(options["factor"]) if kind == "yarn" else 1.0

    def turn_forward(self, q, k, positions):
        """Both turned, and both caches."""
        q, q_cache = rotary_forward(q, positions, self.frequencies, self.layout, self.amplitude)
        k, k_cache = rotary_forward(k, positions, self.frequencies, self.layout, self.amplitude)
        return q, k, Cache(q=q_cache, k=k_cache)

    def turn_backward(self, dq, dk, cache):
        """Both turned back."""
        return rotary_backward(dq, cache.q), rotary_backward(dk, cache.k)
