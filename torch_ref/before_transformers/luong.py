"""Luong's attention in PyTorch, with each score written as in the paper: concat concatenates every pair."""

import torch
from torch import nn

from torch_ref.before_transformers.alignment import weighted_average


class DotAttention(nn.Module):
    """Attention with the scores qᵀ k."""

    def forward(self, q, k, v, *, mask=None):
        """The context vectors."""
        return weighted_average(torch.einsum("...td,...sd->...ts", q, k), v, mask)


class GeneralAttention(nn.Module):
    """Attention with the scores qᵀ W k."""

    def __init__(self, query_size, key_size):
        super().__init__()
        self.W = nn.Linear(key_size, query_size, bias=False)

    def forward(self, q, k, v, *, mask=None):
        """The context vectors."""
        return weighted_average(torch.einsum("...tq,qk,...sk->...ts", q, self.W.weight, k), v, mask)


class ConcatAttention(nn.Module):
    """Attention with the scores vᵀ tanh(W [q; k])."""

    def __init__(self, query_size, key_size, hidden_size=None):
        super().__init__()
        hidden_size = query_size if hidden_size is None else hidden_size
        self.W = nn.Linear(query_size + key_size, hidden_size, bias=False)
        self.v = nn.Parameter(torch.empty(hidden_size).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))

    def forward(self, q, k, v, *, mask=None):
        """The context vectors."""
        num_queries, num_keys = q.shape[-2], k.shape[-2]
        q = q.unsqueeze(-2).expand(*q.shape[:-1], num_keys, q.shape[-1])
        k = k.unsqueeze(-3).expand(*k.shape[:-2], num_queries, *k.shape[-2:])
        scores = torch.tanh(self.W(torch.cat([q, k], dim=-1))) @ self.v
        return weighted_average(scores, v, mask)
