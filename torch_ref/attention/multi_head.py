"""Multi-head attention in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.causal import CausalAttention, causal_attention
from torch_ref.layers.dropout import Dropout


class MultiHeadAttentionWrapper(nn.Module):
    """Several causal attention layers side by side."""

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)
        )

    def forward(self, x):
        """The heads' context vectors, concatenated."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


class MultiHeadAttention(nn.Module):
    """All heads in one layer."""

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.num_heads = num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        """The projected context vectors."""
        q, k, v = (split_heads(layer(x), self.num_heads) for layer in (self.W_query, self.W_key, self.W_value))
        return self.out_proj(join_heads(causal_attention(q, k, v, self.dropout)))


def split_heads(x, num_heads):
    """(..., T, H·D) → (..., H, T, D)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def join_heads(x):
    """(..., H, T, D) → (..., T, H·D)."""
    return x.transpose(-3, -2).flatten(-2)
