"""Rotary position embedding in PyTorch, as a multiplication of complex numbers."""

import math

import torch


def rotary(x, positions, frequencies, layout="halves", amplitude=1.0):
    """Each pair of channels is a complex number; multiply it by amplitude · exp(i · position · frequency)."""
    num_pairs = len(frequencies)
    angles = torch.as_tensor(positions)[..., None].double() * torch.as_tensor(frequencies)
    complex_dtype = torch.complex64 if x.dtype == torch.float32 else torch.complex128
    factor = torch.polar(torch.full_like(angles, amplitude), angles).to(complex_dtype)
    pairs, rest = x[..., : 2 * num_pairs], x[..., 2 * num_pairs :]
    if layout == "halves":
        pairs = pairs.unflatten(-1, (2, num_pairs)).transpose(-1, -2)
    else:
        pairs = pairs.unflatten(-1, (num_pairs, 2))
    pairs = torch.view_as_real(torch.complex(pairs[..., 0], pairs[..., 1]) * factor)
    if layout == "halves":
        pairs = pairs.transpose(-1, -2)
    return torch.cat([pairs.flatten(-2), rest], dim=-1)


def rotary_frequencies(dim, theta=10000.0, scaling=None, num_positions=0):
    """theta^(−2i/dim) for each pair i, scaled as the configuration says (its class's name is the method)."""
    i = torch.arange(dim // 2, dtype=torch.float64)
    plain = theta ** (-2 * i / dim)
    method = type(scaling).__name__
    if scaling is None:
        return plain
    if method == "LinearScaling":
        return plain / scaling.factor
    if method == "NTKScaling":
        return ntk_aware(dim, theta, scaling.factor)
    if method == "DynamicNTKScaling":
        # α(n) = factor · n / L − (factor − 1) beyond the L positions of training
        n = max(num_positions, scaling.original_length)
        return ntk_aware(dim, theta, scaling.factor * n / scaling.original_length - (scaling.factor - 1))
    if method == "YaRNScaling":
        # r(i) = L · f_i / 2π rotations; solved for i. The ramp is linear in i between the two limits.
        def index(rotations):
            return dim * math.log(scaling.original_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low, high = index(scaling.beta_fast), index(scaling.beta_slow)
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        ramp = ((i - low) / (high - low if high != low else 0.001)).clamp(0, 1)
        return torch.lerp(plain, plain / scaling.factor, ramp)
    if method == "LongRoPEScaling":
        is_long = num_positions > scaling.original_length
        return plain / torch.tensor(scaling.long_factor if is_long else scaling.short_factor, dtype=torch.float64)
    if method == "Llama3Scaling":
        wavelength = 2 * math.pi / plain
        low_wavelength = scaling.original_length / scaling.low_freq_factor
        high_wavelength = scaling.original_length / scaling.high_freq_factor
        smooth = (scaling.original_length / wavelength - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        between = (1 - smooth) * plain / scaling.factor + smooth * plain
        scaled = torch.where(wavelength > low_wavelength, plain / scaling.factor, plain)
        is_between = (wavelength <= low_wavelength) & (wavelength >= high_wavelength)
        return torch.where(is_between, between, scaled)
    raise ValueError(f"scaling is {scaling!r}")


def ntk_aware(dim, theta, factor):
    """theta' = theta · factor^(dim/(dim − 2)): the last frequency is divided by the factor."""
    i = torch.arange(dim // 2, dtype=torch.float64)
    if dim == 2:
        return theta ** (-2 * i / dim) / factor
    return (theta * factor ** (dim / (dim - 2))) ** (-2 * i / dim)


def rotary_amplitude(scaling):
    """The factor of queries and keys: √(1/t) in YaRN's paper, √(1 + ln s / ln L) in LongRoPE's, else 1."""
    method = type(scaling).__name__
    if method not in ("YaRNScaling", "LongRoPEScaling"):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if method == "LongRoPEScaling":
        return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_length))
    if scaling.mscale and scaling.mscale_all_dim:
        one, other = (0.1 * m * math.log(scaling.factor) + 1.0 for m in (scaling.mscale, scaling.mscale_all_dim))
        return one / other
    return 0.1 * math.log(scaling.factor) + 1.0


def apply_rope(q, k, positions, rope):
    """Rotate queries and keys as the RoPE configuration says."""
    dim = int(q.shape[-1] * rope.partial_rotary_factor)
    f = rotary_frequencies(dim, rope.theta, rope.scaling, int(positions.max()) + 1)
    return tuple(rotary(x, positions, f, rope.layout, rotary_amplitude(rope.scaling)) for x in (q, k))
