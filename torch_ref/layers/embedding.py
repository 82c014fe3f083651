"""Embeddings and positions in PyTorch."""

import torch
from torch import nn
from torch.nn import Embedding

from torch_ref.functional.positions import sinusoidal_positions

__all__ = ["Embedding", "LearnedPositions", "SinusoidalPositions", "TokenPositionEmbedding"]


class LearnedPositions(nn.Module):
    """A learned row for every position."""

    def __init__(self, context_length, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(context_length, d_model))

    def forward(self, num_positions):
        """The first `num_positions` rows."""
        return self.weight[:num_positions]


class SinusoidalPositions(nn.Module):
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
        self.wpe = LearnedPositions(context_length, d_model) if is_learned else SinusoidalPositions(d_model)

    def forward(self, ids):
        """The sum for every position of every sequence."""
        return self.wte(ids) + self.wpe(ids.shape[-1])
