"""GPT-2's attention in PyTorch."""

import torch
from torch import nn

from torch_ref.layers.dropout import Dropout


class CausalSelfAttention(nn.Module):
    """All heads in one, queries, keys and values from one linear map."""

    def __init__(self, d_model, context_length, dropout, num_heads, qkv_bias=True):
        super().__init__()
        self.num_heads = num_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=qkv_bias)
        self.c_proj = nn.Linear(d_model, d_model)
        self.dropout = Dropout(dropout)
        future = torch.ones(context_length, context_length, dtype=torch.bool).triu(diagonal=1)
        self.register_buffer("future", future, persistent=False)

    def forward(self, x):
        """The projected context vectors."""
        length = x.shape[-2]
        queries, keys, values = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2) for part in self.c_attn(x).chunk(3, dim=-1)
        )
        scores = (queries @ keys.mT).masked_fill(self.future[:length, :length], -torch.inf)
        weights = self.dropout(torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1))
        return self.c_proj((weights @ values).transpose(-3, -2).flatten(-2))
