"""Rotary positions in PyTorch, as a multiplication of complex numbers."""

import torch


def rotary(x, positions, frequencies, layout="halves", amplitude=1.0):
    """Each pair of channels is a complex number, and is multiplied by amplitude · exp(i · place · frequency)."""
    number = len(frequencies)
    angles = torch.as_tensor(positions)[..., None].double() * torch.as_tensor(frequencies)
    complex_dtype = torch.complex64 if x.dtype == torch.float32 else torch.complex128
    turn = torch.polar(torch.full_like(angles, amplitude), angles).to(complex_dtype)
    turned, rest = x[..., : 2 * number], x[..., 2 * number :]
    if layout == "halves":
        turned = turned.unflatten(-1, (2, number)).transpose(-1, -2)
    else:
        turned = turned.unflatten(-1, (number, 2))
    turned = torch.view_as_real(torch.complex(turned[..., 0], turned[..., 1]) * turn)
    if layout == "halves":
        turned = turned.transpose(-1, -2)
    return torch.cat([turned.flatten(-2), rest], dim=-1)
