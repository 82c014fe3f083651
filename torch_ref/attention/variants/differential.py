"""Differential attention in PyTorch."""

import torch
from torch import nn

from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class DifferentialAttention(nn.Module):
    """The difference of two attention maps, as one table."""

    def __init__(self, d_model, context_length, dropout, num_heads, lambda_init=0.8):
        super().__init__()
        self.num_heads, self.lambda_init = num_heads, lambda_init
        width = d_model // (2 * num_heads)
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            setattr(self, name, nn.Parameter(0.1 * torch.randn(width)))
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.norm = RMSNorm(2 * width, eps=1e-5)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        length = x.shape[-2]
        queries, keys = (
            layer(x).unflatten(-1, (self.num_heads, 2, -1)).movedim(-4, -2) for layer in (self.q_proj, self.k_proj)
        )
        values = self.v_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        if document_ids is not None:
            begins = torch.zeros_like(document_ids)
            begins[..., 1:] = document_ids[..., 1:] != document_ids[..., :-1]
            number = begins.cumsum(-1)
            hidden = (hidden | (number[..., :, None] != number[..., None, :]))[..., None, None, :, :]
        scores = (queries @ keys.mT / queries.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        first, second = torch.softmax(scores, dim=-1).split(1, dim=-3)
        factor = torch.exp((self.lambda_q1 * self.lambda_k1).sum()) - torch.exp((self.lambda_q2 * self.lambda_k2).sum())
        weights = self.dropout(first - (factor + self.lambda_init) * second)
        context = (1 - self.lambda_init) * self.norm(weights.squeeze(-3) @ values)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))
