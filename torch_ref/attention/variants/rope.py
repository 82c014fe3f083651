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


def rotary_frequencies(dim, theta=10000.0, scaling=None):
    """theta^(−2i/dim) for each pair i, scaled as the configuration says (its class's name is the method)."""
    i = torch.arange(dim // 2, dtype=torch.float64)
    plain = theta ** (-2 * i / dim)
    method = type(scaling).__name__
    if scaling is None:
        return plain
    if method == "LinearScaling":
        return plain / scaling.factor
    if method == "NTKScaling":
        # theta' = theta · factor^(dim/(dim − 2)): the last frequency is divided by the factor
        if dim == 2:
            return plain / scaling.factor
        return (theta * scaling.factor ** (dim / (dim - 2))) ** (-2 * i / dim)
    if method == "YaRNScaling":
        # r(i) = L · f_i / 2π rotations; solved for i. The ramp is linear in i between the two limits.
        def index(rotations):
            return dim * math.log(scaling.original_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(index(scaling.beta_fast)), 0)
        high = min(math.ceil(index(scaling.beta_slow)), dim - 1)
        ramp = ((i - low) / max(high - low, 0.001)).clamp(0, 1)
        return torch.lerp(plain, plain / scaling.factor, ramp)
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


def rotary_amplitude(scaling):
    """YaRN multiplies queries and keys by 0.1 ln(factor) + 1, which is √(1/t) in the paper."""
    return 0.1 * math.log(scaling.factor) + 1.0 if type(scaling).__name__ == "YaRNScaling" else 1.0


def apply_rope(q, k, positions, rope):
    """Rotate queries and keys as the RoPE configuration says."""
    dim = int(q.shape[-1] * rope.partial_rotary_factor)
    f = rotary_frequencies(dim, rope.theta, rope.scaling)
    return tuple(rotary(x, positions, f, rope.layout, rotary_amplitude(rope.scaling)) for x in (q, k))
