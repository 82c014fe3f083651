"""Cross-attention in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.layers.dropout import Dropout


class CrossAttention(nn.Module):
    """Queries from x, keys and values from a context."""

    def __init__(self, d_model, num_heads, d_context=None, dropout=0.0, qkv_bias=False):
        super().__init__()
        d_context = d_context or d_model
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.k_proj = nn.Linear(d_context, d_model, bias=qkv_bias)
        self.v_proj = nn.Linear(d_context, d_model, bias=qkv_bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, context, mask=None):
        """The projected weighted averages of the context's values."""
        q, k, v = (split_heads(t, self.num_heads) for t in (self.q_proj(x), self.k_proj(context), self.v_proj(context)))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return self.o_proj(join_heads(self.dropout(torch.softmax(scores, dim=-1)) @ v))
