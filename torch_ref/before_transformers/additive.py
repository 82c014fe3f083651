"""Additive attention in PyTorch."""

import torch
from torch import nn

from torch_ref.before_transformers.alignment import weighted_average


def additive_scores(q, k, v):
    """vᵀ tanh(q_t + k_s) of all pairs."""
    return torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) @ v


class AdditiveAttention(nn.Module):
    """Attention with the scores vᵀ tanh(W_query q + W_key k)."""

    def __init__(self, query_size, key_size, hidden_size):
        super().__init__()
        self.W_query = nn.Linear(query_size, hidden_size, bias=False)
        self.W_key = nn.Linear(key_size, hidden_size, bias=False)
        self.v = nn.Parameter(torch.empty(hidden_size).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))

    def forward(self, q, k, v, *, mask=None):
        """The context vectors."""
        return weighted_average(additive_scores(self.W_query(q), self.W_key(k), self.v), v, mask)
