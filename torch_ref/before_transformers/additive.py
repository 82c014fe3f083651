"""Additive attention in PyTorch."""

import torch
from torch import nn

from torch_ref.before_transformers.alignment import weighted_average


class AdditiveAttention(nn.Module):
    """A network with one hidden layer scores every query with every key."""

    def __init__(self, query_size, key_size, hidden_size):
        super().__init__()
        self.W_query = nn.Linear(query_size, hidden_size, bias=False)
        self.W_key = nn.Linear(key_size, hidden_size, bias=False)
        self.v = nn.Parameter(torch.empty(hidden_size).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))

    def forward(self, q, k, v, mask=None):
        """The context vectors."""
        hidden = torch.tanh(self.W_query(q).unsqueeze(-2) + self.W_key(k).unsqueeze(-3))
        return weighted_average(hidden @ self.v, v, mask)


def additive_scores(q, k, v):
    """A network with one hidden layer scores every pair."""
    return torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) @ v
