"""Learned and sinusoidal absolute positions."""

import math

import torch
from torch import nn


def sinusoidal_positions(num_positions, d_model, base=10000.0, dtype=torch.float32):
    """sin(t / base^(2i/C)) on the even channels 2i, the cosine of the same angle on the odd channels 2i + 1."""
    t = torch.arange(num_positions, dtype=torch.float64)
    frequencies = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(base) / d_model))
    angles = torch.outer(t, frequencies)
    encoding = torch.empty(num_positions, d_model, dtype=torch.float64)
    encoding[:, 0::2] = torch.sin(angles)
    encoding[:, 1::2] = torch.cos(angles)[:, : d_model // 2]
    return encoding.to(dtype)


class LearnedPositionalEmbedding(nn.Module):
    """A learned vector for each position."""

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
    """The sum of token embedding and position embedding."""

    def __init__(self, vocab_size, context_length, d_model, positions="learned"):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, d_model)
        if positions == "learned":
            self.wpe = LearnedPositionalEmbedding(context_length, d_model)
        else:
            self.wpe = SinusoidalPositionalEncoding(d_model)

    def forward(self, ids):
        """wte[ids] + wpe[0 … T − 1]."""
        return self.wte(ids) + self.wpe(ids.shape[-1])
