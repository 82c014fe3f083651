"""Differential attention in PyTorch: the difference of two attention maps as one matrix."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class DifferentialAttention(nn.Module):
    """(softmax(q₁ k₁ᵀ / √D) − λ softmax(q₂ k₂ᵀ / √D)) v in each head."""

    def __init__(self, d_model, context_length, dropout, num_heads, lambda_init=0.8):
        super().__init__()
        self.num_heads, self.lambda_init = num_heads, lambda_init
        head_dim = d_model // (2 * num_heads)
        self.lambda_q1 = nn.Parameter(0.1 * torch.randn(head_dim))
        self.lambda_k1 = nn.Parameter(0.1 * torch.randn(head_dim))
        self.lambda_q2 = nn.Parameter(0.1 * torch.randn(head_dim))
        self.lambda_k2 = nn.Parameter(0.1 * torch.randn(head_dim))
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.norm = RMSNorm(2 * head_dim, eps=1e-5)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        _, mask = positions_and_mask(x.shape[-2], document_ids, x.device)
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        (q1, q2), (k1, k2) = q.chunk(2, dim=-1), k.chunk(2, dim=-1)
        first, second = (
            torch.softmax((q_i @ k_i.mT / q_i.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf), dim=-1)
            for q_i, k_i in ((q1, k1), (q2, k2))
        )
        lam = torch.exp(self.lambda_q1 @ self.lambda_k1) - torch.exp(self.lambda_q2 @ self.lambda_k2) + self.lambda_init
        weights = self.dropout((first - lam * second).unsqueeze(-3)).squeeze(-3)  # npllm's mask has this axis
        return self.o_proj(join_heads((1 - self.lambda_init) * self.norm(weights @ v)))
