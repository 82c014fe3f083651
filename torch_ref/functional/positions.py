"""Sinusoidal positions in PyTorch."""

import torch


def sinusoidal_positions(num_positions, d_model, base=10000.0, dtype=torch.float32):
    """Sines on the even channels, cosines on the odd ones, slower from pair to pair."""
    positions = torch.arange(num_positions, dtype=torch.float64)[:, None]
    table = torch.zeros(num_positions, d_model, dtype=torch.float64)
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    angles = positions * torch.exp(-even / d_model * torch.log(torch.tensor(base, dtype=torch.float64)))
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles[:, : d_model // 2].cos()
    return table.to(dtype)
