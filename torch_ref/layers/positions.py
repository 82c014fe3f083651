"""Sinusoidal positions in PyTorch."""

import torch
from torch import nn
from torch.nn import Embedding


def sinusoidal_positions(num_positions, d_model, base=10000.0, dtype=torch.float32):
    """Sines on the even channels, cosines on the odd ones, slower from pair to pair."""
    positions = torch.arange(num_positions, dtype=torch.float64)[:, None]
    table = torch.zeros(num_positions, d_model, dtype=torch.float64)
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    angles = positions * torch.exp(-even / d_model * torch.log(torch.tensor(base, dtype=torch.float64)))
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles[:, : d_model // 2].cos()
    return table.to(dtype)


class LearnedPositionalEmbedding(nn.Module):
    """A learned row for every position."""

    def __init__(self, context_length, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(context_length, d_model))

    def forward(self, num_positions):
        """The first `num_positions` rows."""
        return self.weight[:num_positions]


class SinusoidalPositionalEncoding(nn.Module):
    """The fixed table of sines and cosines."""

    def __init__(self, d_model):
        super().__init__()
        self.d_model = d_model
        self.register_buffer("like", torch.zeros(()), persistent=False)  # follows .to(dtype) and .to(device)

    def forward(self, num_positions):
        """The rows of the first `num_positions` positions."""
        return sinusoidal_positions(num_positions, self.d_model, dtype=self.like.dtype).to(self.like.device)


class TokenPositionEmbedding(nn.Module):
    """Token plus position."""

    def __init__(self, vocab_size, context_length, d_model, positions="learned"):
        super().__init__()
        self.wte = Embedding(vocab_size, d_model)
        is_learned = positions == "learned"
        self.wpe = (
            LearnedPositionalEmbedding(context_length, d_model) if is_learned else SinusoidalPositionalEncoding(d_model)
        )

    def forward(self, ids):
        """The sum for every position of every sequence."""
        return self.wte(ids) + self.wpe(ids.shape[-1])
