"""Luong's attention in PyTorch; each score is written as in the paper, concat with the pairs really put together."""

import torch
from torch import nn

from torch_ref.before_transformers.alignment import weighted_average


class LuongAttention(nn.Module):
    """Attention by one of three scores."""

    def __init__(self, query_size, key_size, kind="general", hidden_size=None):
        super().__init__()
        self.score = SCORES[kind](query_size, key_size, query_size if hidden_size is None else hidden_size)

    def forward(self, q, k, v, mask=None):
        """The context vectors."""
        return weighted_average(self.score(q, k), v, mask)


class DotScore(nn.Module):
    """qᵀ k."""

    def __init__(self, query_size, key_size, hidden_size):
        super().__init__()

    def forward(self, q, k):
        """The scores of all pairs."""
        return torch.einsum("...td,...sd->...ts", q, k)


class GeneralScore(nn.Module):
    """qᵀ W k."""

    def __init__(self, query_size, key_size, hidden_size):
        super().__init__()
        self.W = nn.Linear(key_size, query_size, bias=False)

    def forward(self, q, k):
        """The scores of all pairs."""
        return torch.einsum("...tq,qk,...sk->...ts", q, self.W.weight, k)


class ConcatScore(nn.Module):
    """vᵀ tanh(W [q; k])."""

    def __init__(self, query_size, key_size, hidden_size):
        super().__init__()
        self.W = nn.Linear(query_size + key_size, hidden_size, bias=False)
        self.v = nn.Parameter(torch.empty(hidden_size).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))

    def forward(self, q, k):
        """The scores of all pairs."""
        num_queries, num_keys = q.shape[-2], k.shape[-2]
        q = q.unsqueeze(-2).expand(*q.shape[:-1], num_keys, q.shape[-1])
        k = k.unsqueeze(-3).expand(*k.shape[:-2], num_queries, *k.shape[-2:])
        return torch.tanh(self.W(torch.cat([q, k], dim=-1))) @ self.v


SCORES = {"dot": DotScore, "general": GeneralScore, "concat": ConcatScore}
